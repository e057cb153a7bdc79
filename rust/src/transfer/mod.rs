//! Files as a stream of entries, packed from one directory and unpacked into another. No allocation; each name is one component beneath
//! an open directory, and no link is followed. Shared with rust/keeper.

pub mod attributes;
pub mod copied;
pub mod input;
pub mod output;
pub mod pack;
pub mod trail;
pub mod tree;
pub mod unpack;

use crate::sys::constants::PROC_SUPER_MAGIC;
use crate::sys::fs;
use crate::sys::{Errno, Result};
use crate::wire::files::refusal;
use core::ffi::CStr;

/// Directories in directories, each kept open while it is walked.
pub const LEVELS: usize = 256;
/// What one getdents64 brings, for each level.
pub const NAMES: usize = 8 * 1024;
/// What the extended attributes of one file may take.
pub const EXTRA_MAX: usize = 128 * 1024;
/// As much as the kernel lists of the names of extended attributes (XATTR_LIST_MAX).
pub const LIST_MAX: usize = 64 * 1024;
/// Of a stream, on either side; more than an entry without its content.
pub const BUFFER: usize = 512 * 1024;
/// Of one segment of a file.
pub const SEGMENT_MAX: usize = 256 * 1024;

/// The two directions of a session's socket.
pub trait Stream {
    /// 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
    fn write(&mut self, data: &[u8]) -> Result<usize>;
}

pub const SPECIAL: Errno = Errno(refusal::SPECIAL);
pub const KERNELS: Errno = Errno(refusal::KERNELS);
pub const ELSEWHERE: Errno = Errno(refusal::ELSEWHERE);
pub const DEEP: Errno = Errno(refusal::DEEP);

/// One name in a directory: not a path, and none that leads elsewhere.
pub fn is_component(name: &CStr) -> bool {
    let bytes = name.to_bytes();
    !bytes.is_empty() && bytes.len() <= 255 && !bytes.contains(&b'/') && name != c"." && name != c".."
}

/// What the kernel makes up: reading it tells of the reader, writing it changes the machine (CVE-2025-52881).
pub fn refuse_kernels(fd: i32) -> Result<()> {
    // proc, sysfs, cgroup, cgroup2, mqueue, devpts, debugfs, tracefs, securityfs, bpf, configfs, binfmt_misc, nsfs, selinuxfs
    const MADE_UP: [i64; 14] = [
        PROC_SUPER_MAGIC,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x1980_0202,
        0x1cd1,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6265_6570,
        0x4249_4e4d,
        0x6e73_6673,
        0xf97c_ff8c,
    ];
    if MADE_UP.contains(&fs::fstatfs(fd)?.kind) { Err(KERNELS) } else { Ok(()) }
}
