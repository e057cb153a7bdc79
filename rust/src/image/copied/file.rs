//! One file's content and attributes, from an open one to another: shared with the original where the file system can, else copied, with
//! its holes.

use crate::files::tree::capability as capability_inside;
use crate::image::archive::given::CAPABILITY;
use crate::image::locks::Check;
use rustix::fs::{SeekFrom, XattrFlags};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// At a time, between two questions whether to go on.
const STRIDE: u64 = 64 << 20;
const BUFFER: usize = 256 << 10;

/// Both are at their start. False where it was ended from outside.
pub fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64, check: Check<'_>) -> rustix::io::Result<bool> {
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(true);
    }
    rustix::fs::ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break, // a hole up to its end
            Err(_) => at,              // a file system that knows of none
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        at = start;
        while at < end {
            if check() {
                return Ok(false);
            }
            let done = some(from, to, at, (end - at).min(STRIDE))?;
            if done == 0 {
                return Ok(true); // it was cut off meanwhile
            }
            at += done;
        }
    }
    Ok(true)
}

fn some(from: BorrowedFd<'_>, to: BorrowedFd<'_>, at: u64, length: u64) -> rustix::io::Result<u64> {
    let (mut source, mut target) = (at, at);
    match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length as usize) {
        // Between two file systems, or one without it (before 5.19 EXDEV): through this process.
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) | Ok(0) => {}
        other => return other.map(|done| done as u64),
    }
    let mut buffer = vec![0; BUFFER.min(length as usize)];
    let read = rustix::io::pread(from, &mut buffer, at)?;
    let mut written = 0;
    while written < read {
        written += rustix::io::pwrite(to, &buffer[written..read], at + written as u64)?;
    }
    Ok(read as u64)
}

/// Those that a layer may have (archive/given.rs, `is_taken`), of a file also its capabilities, which are those of `root`'s container.
pub fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, root: Option<u32>) -> rustix::io::Result<()> {
    let mut names = Vec::with_capacity(64 << 10);
    let Ok(_) = rustix::fs::flistxattr(from, rustix::buffer::spare_capacity(&mut names)) else { return Ok(()) };
    for name in names.split(|byte| *byte == 0).filter(|name| travels(name)) {
        let is_capability = name == CAPABILITY;
        if is_capability && root.is_none() {
            continue;
        }
        let mut value = Vec::with_capacity(64 << 10);
        match rustix::fs::fgetxattr(from, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => {}
            // Of a plain user's range, and closed to him: the kernel asks for his own right to read, whoever has opened it.
            Err(Errno::ACCESS) => continue,
            Err(errno) => return Err(errno),
        }
        let value = if is_capability { of_root(&value, root.unwrap_or(0)) } else { value };
        match rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A file's capabilities as those of the container's root; None where it has none.
pub fn capability(path: &[u8], root: u32) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = Vec::with_capacity(64);
    match rustix::fs::lgetxattr(path, CAPABILITY, rustix::buffer::spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(of_root(&value, root))),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Of a file of a plain user's, whose root it is for; empty where it has none. As an image has it: whoever sets it in the user's
/// namespace sets it for that root again.
pub fn own_capability(file: BorrowedFd<'_>) -> Vec<u8> {
    let mut value = Vec::with_capacity(64);
    match rustix::fs::fgetxattr(file, CAPABILITY, rustix::buffer::spare_capacity(&mut value)) {
        Ok(_) => capability_inside(&value, &vec![(0, rustix::process::geteuid().as_raw(), 1)]),
        Err(_) => Vec::new(),
    }
}

pub fn give_capability(path: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, CAPABILITY, value, XattrFlags::empty())
}

fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") || name == CAPABILITY
}

/// The kernel's vfs_ns_cap_data: revision 3 says whose root it is for; an idmapped mount would say it by itself.
fn of_root(value: &[u8], root: u32) -> Vec<u8> {
    const REVISION: u32 = 0xff00_0000;
    let magic = value.get(..4).map_or(0, |word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
    if root == 0 || magic & REVISION != 0x0200_0000 || value.len() != 20 {
        return value.to_vec();
    }
    [&(magic & !REVISION | 0x0300_0000).to_le_bytes()[..], &value[4..20], &root.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_become_those_of_the_containers_root() {
        let plain = [&0x0200_0001u32.to_le_bytes()[..], &[7; 16]].concat();
        let with_root = [&0x0300_0001u32.to_le_bytes()[..], &[7; 16], &1000u32.to_le_bytes()].concat();
        assert_eq!(of_root(&plain, 1000), with_root);
        assert_eq!(of_root(&plain, 0), plain);
        assert_eq!(of_root(&with_root, 5), with_root);
        assert_eq!(of_root(b"x", 5), b"x");
    }

    #[test]
    fn what_an_overlay_notes_of_its_own_stays_behind() {
        let travel: Vec<bool> =
            [&b"user.a"[..], b"user.overlay.opaque", b"trusted.overlay.opaque", b"system.posix_acl_access"]
                .map(travels)
                .into();
        assert_eq!(travel, [true, false, false, false]);
        assert!(travels(CAPABILITY));
    }
}
