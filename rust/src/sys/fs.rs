//! Files and directories: open, read, write, make, remove, resolve beneath a root. No policy.

use super::constants::*;
use super::{Errno, Result, call, nr};
use core::ffi::CStr;

/// An owned descriptor; dropping it closes it. `-1` owns nothing.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    pub const NONE: Fd = Fd(-1);

    pub fn own(raw: i32) -> Fd {
        Fd(raw)
    }

    pub fn raw(&self) -> i32 {
        self.0
    }

    pub fn is_open(&self) -> bool {
        self.0 >= 0
    }

    /// Gives the number away without closing it.
    pub fn release(mut self) -> i32 {
        core::mem::replace(&mut self.0, -1)
    }

    pub fn close(&mut self) {
        if self.0 >= 0 {
            close(core::mem::replace(&mut self.0, -1));
        }
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        self.close();
    }
}

pub fn close(fd: i32) {
    // SAFETY: no pointers. An error of close says nothing that could be acted on.
    let _ = unsafe { call(nr::CLOSE, [fd as usize]) };
}

fn opened(result: Result<usize>) -> Result<Fd> {
    result.map(|fd| Fd(fd as i32))
}

pub fn openat(dir: i32, path: &CStr, flags: usize, mode: u32) -> Result<Fd> {
    // SAFETY: the path is a C string for the length of the call.
    opened(unsafe { call(nr::OPENAT, [dir as usize, path.as_ptr() as usize, flags | O_CLOEXEC, mode as usize]) })
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2): the only way in which a path that an image or a user can influence is resolved.
pub fn openat2(dir: i32, path: &CStr, flags: usize, mode: u32, resolve: u64) -> Result<Fd> {
    let how = OpenHow { flags: (flags | O_CLOEXEC) as u64, mode: mode as u64, resolve };
    let mut tries = 0;
    loop {
        let arguments = [dir as usize, path.as_ptr() as usize, &raw const how as usize, size_of::<OpenHow>()];
        // SAFETY: path and `how` live across the call.
        match opened(unsafe { call(nr::OPENAT2, arguments) }) {
            // A rename elsewhere on the system during the walk (openat2(2)); bounded, so that nobody can hold us here.
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            other => return other,
        }
    }
}

pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is ours for its length.
    unsafe { call(nr::READ, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len()]) }
}

pub fn pread(fd: i32, buffer: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: the buffer is ours for its length.
    unsafe { call(nr::PREAD64, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), offset as usize]) }
}

pub fn write(fd: i32, data: &[u8]) -> Result<usize> {
    // SAFETY: the data is readable for its length.
    unsafe { call(nr::WRITE, [fd as usize, data.as_ptr() as usize, data.len()]) }
}

pub fn pwrite(fd: i32, data: &[u8], offset: u64) -> Result<usize> {
    // SAFETY: the data is readable for its length.
    unsafe { call(nr::PWRITE64, [fd as usize, data.as_ptr() as usize, data.len(), offset as usize]) }
}

/// Reads until the buffer is full or the file ends.
pub fn read_full(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(fd, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Opens and writes a kernel file (a map, a sysctl) in one write, as such files demand.
pub fn write_file(dir: i32, path: &CStr, data: &[u8]) -> Result<()> {
    let file = openat(dir, path, O_WRONLY, 0)?;
    write(file.raw(), data).map(drop)
}

pub fn sendfile(out: i32, input: i32, offset: &mut u64, count: usize) -> Result<usize> {
    // SAFETY: the offset lives across the call.
    unsafe { call(nr::SENDFILE, [out as usize, input as usize, offset as *mut u64 as usize, count]) }
}

pub fn mkdirat(dir: i32, path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the path is a C string for the length of the call.
    unsafe { call(nr::MKDIRAT, [dir as usize, path.as_ptr() as usize, mode as usize]) }.map(drop)
}

pub fn mknodat(dir: i32, path: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: the path is a C string for the length of the call.
    unsafe { call(nr::MKNODAT, [dir as usize, path.as_ptr() as usize, mode as usize, device as usize]) }.map(drop)
}

pub fn symlinkat(target: &CStr, dir: i32, path: &CStr) -> Result<()> {
    // SAFETY: both are C strings for the length of the call.
    unsafe { call(nr::SYMLINKAT, [target.as_ptr() as usize, dir as usize, path.as_ptr() as usize]) }.map(drop)
}

pub fn unlinkat(dir: i32, path: &CStr, flags: usize) -> Result<()> {
    // SAFETY: the path is a C string for the length of the call.
    unsafe { call(nr::UNLINKAT, [dir as usize, path.as_ptr() as usize, flags]) }.map(drop)
}

/// renameat(2), which newer architectures have under this name only.
pub fn renameat2(from: i32, path: &CStr, to: i32, target: &CStr) -> Result<()> {
    // SAFETY: both are C strings for the length of the call.
    unsafe { call(nr::RENAMEAT2, [from as usize, path.as_ptr() as usize, to as usize, target.as_ptr() as usize, 0]) }
        .map(drop)
}

pub fn readlinkat(dir: i32, path: &CStr, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: path and buffer live across the call.
    unsafe { call(nr::READLINKAT, [dir as usize, path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len()]) }
}

pub fn fchown(fd: i32, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::FCHOWN, [fd as usize, uid as usize, gid as usize]) }.map(drop)
}

pub fn fchmod(fd: i32, mode: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::FCHMOD, [fd as usize, mode as usize]) }.map(drop)
}

/// Follows a link, as the system call does.
pub fn fchmodat(dir: i32, path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the path is a C string for the length of the call.
    unsafe { call(nr::FCHMODAT, [dir as usize, path.as_ptr() as usize, mode as usize]) }.map(drop)
}

pub fn fchownat(dir: i32, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    // SAFETY: the path is a C string for the length of the call.
    unsafe { call(nr::FCHOWNAT, [dir as usize, path.as_ptr() as usize, uid as usize, gid as usize, flags]) }.map(drop)
}

/// Sets the time of the last change of the content, and leaves that of the last access. `path` None: of the descriptor itself.
pub fn set_mtime(dir: i32, path: Option<&CStr>, (seconds, nanos): (i64, u32)) -> Result<()> {
    const UTIME_OMIT: i64 = 0x3fff_fffe;
    let times = [0, UTIME_OMIT, seconds, nanos as i64];
    let (at, flags) = path.map_or((0, 0), |path| (path.as_ptr() as usize, AT_SYMLINK_NOFOLLOW));
    // SAFETY: path and times live across the call; without a path the descriptor itself is meant.
    unsafe { call(nr::UTIMENSAT, [dir as usize, at, times.as_ptr() as usize, flags]) }.map(drop)
}

pub fn lseek(fd: i32, offset: u64, whence: usize) -> Result<u64> {
    // SAFETY: no pointers.
    unsafe { call(nr::LSEEK, [fd as usize, offset as usize, whence]) }.map(|at| at as u64)
}

pub fn ftruncate(fd: i32, length: u64) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::FTRUNCATE, [fd as usize, length as usize]) }.map(drop)
}

/// The root of this process's paths becomes its working directory.
pub fn chroot_here() -> Result<()> {
    // SAFETY: the path is a C string.
    unsafe { call(nr::CHROOT, [c".".as_ptr() as usize]) }.map(drop)
}

pub fn fchdir(fd: i32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::FCHDIR, [fd as usize]) }.map(drop)
}

pub fn umask(mask: u32) {
    // SAFETY: no pointers; never fails.
    let _ = unsafe { call(nr::UMASK, [mask as usize]) };
}

/// The fields of statx(2) that the engine compares. The kernel's layout, padded to its 256 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    spare0: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    attributes_mask: u64,
    /// Of the last access, the birth, the last change of the inode and of the content: seconds, then nanoseconds in four of eight bytes.
    times: [u64; 8],
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mount_id: u64,
    spare: [u64; 13],
}

impl Statx {
    pub fn kind(&self) -> u32 {
        self.mode as u32 & S_IFMT
    }

    pub fn dev(&self) -> u64 {
        (self.dev_major as u64) << 32 | self.dev_minor as u64
    }

    /// Of the last change of the content: seconds (of the epoch, as a signed number) and nanoseconds.
    pub fn mtime(&self) -> (i64, u32) {
        (self.times[6] as i64, self.times[7] as u32)
    }

    /// Of the last change of the inode, which nobody can set.
    pub fn ctime(&self) -> (i64, u32) {
        (self.times[4] as i64, self.times[5] as u32)
    }
}

pub fn statx(dir: i32, path: &CStr, flags: usize) -> Result<Statx> {
    const BASIC_AND_MOUNT_ID: usize = 0x17ff;
    let mut out = core::mem::MaybeUninit::<Statx>::zeroed();
    let arguments = [dir as usize, path.as_ptr() as usize, flags, BASIC_AND_MOUNT_ID, out.as_mut_ptr() as usize];
    // SAFETY: the buffer has the kernel's size of struct statx, checked below.
    unsafe { call(nr::STATX, arguments) }?;
    // SAFETY: plain integers, zeroed before and filled by the kernel.
    Ok(unsafe { out.assume_init() })
}

const _: () = assert!(size_of::<Statx>() == 256);

pub fn fstat(fd: i32) -> Result<Statx> {
    statx(fd, c"", AT_EMPTY_PATH)
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Statfs {
    pub kind: i64,
    pub block_size: i64,
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
    id: [i32; 2],
    name_length: i64,
    fragment: i64,
    pub flags: i64,
    spare: [i64; 4],
}

pub fn fstatfs(fd: i32) -> Result<Statfs> {
    let mut out = core::mem::MaybeUninit::<Statfs>::zeroed();
    // SAFETY: struct statfs of both 64-bit architectures has this layout.
    unsafe { call(nr::FSTATFS, [fd as usize, out.as_mut_ptr() as usize]) }?;
    // SAFETY: plain integers, zeroed before and filled by the kernel.
    Ok(unsafe { out.assume_init() })
}

pub fn getdents64(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is ours for its length.
    unsafe { call(nr::GETDENTS64, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len()]) }
}

/// One name of a directory.
pub struct Entry<'a> {
    pub name: &'a CStr,
    /// A DT_ word: DT_UNKNOWN where the file system does not tell.
    pub kind: u8,
    pub is_directory: bool,
}

/// The names in what getdents64 gave, without "." and "..": struct linux_dirent64 has 8 bytes of inode, 8 of offset, 2 of length, 1 of
/// kind, then the name.
pub fn entries(records: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || next_entry(records, &mut at))
}

/// The next name, for a walk that comes back: `at` moves behind it.
pub fn next_entry<'a>(records: &'a [u8], at: &mut usize) -> Option<Entry<'a>> {
    while records.len() > *at + 19 {
        let rest = &records[*at..];
        let length = u16::from_le_bytes([rest[16], rest[17]]) as usize;
        let record = &rest[..length.clamp(20, rest.len())];
        *at += record.len();
        let name = CStr::from_bytes_until_nul(&record[19..]).unwrap_or(c".");
        if name != c"." && name != c".." {
            return Some(Entry { name, kind: record[18], is_directory: record[18] == DT_DIR });
        }
    }
    None
}

/// dup3(2); where both numbers are the same, only the flag is set.
pub fn dup_onto(from: i32, to: i32, cloexec: bool) -> Result<()> {
    let flag = if cloexec { O_CLOEXEC } else { 0 };
    if from == to {
        const F_SETFD: usize = 2;
        // SAFETY: no pointers.
        return unsafe { call(nr::FCNTL, [from as usize, F_SETFD, cloexec as usize]) }.map(drop);
    }
    // SAFETY: no pointers.
    unsafe { call(nr::DUP3, [from as usize, to as usize, flag]) }.map(drop)
}

/// A copy of `fd` with a number of at least `least`, close-on-exec.
pub fn dup_above(fd: i32, least: i32) -> Result<Fd> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    // SAFETY: no pointers.
    opened(unsafe { call(nr::FCNTL, [fd as usize, F_DUPFD_CLOEXEC, least as usize]) })
}

pub fn close_range(first: u32, last: u32, cloexec_only: bool) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    let flags = if cloexec_only { CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: no pointers.
    unsafe { call(nr::CLOSE_RANGE, [first as usize, last as usize, flags]) }.map(drop)
}

pub fn ioctl(fd: i32, request: usize, argument: usize) -> Result<usize> {
    // SAFETY: callers in this room pass numbers, or pointers to live objects of the request's type.
    unsafe { call(nr::IOCTL, [fd as usize, request, argument]) }
}

/// Gives a new pty its size, unlocks it and opens its other end without a path (TIOCGPTPEER, 4.13).
pub fn pty_peer(master: i32, window: (u16, u16)) -> Result<Fd> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    let unlocked = 0i32;
    set_window(master, window)?;
    ioctl(master, TIOCSPTLCK, &raw const unlocked as usize)?;
    ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC).map(|fd| Fd(fd as i32))
}

pub fn set_controlling_terminal(fd: i32) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    ioctl(fd, TIOCSCTTY, 0).map(drop)
}

/// (rows, columns) of a terminal (TIOCGWINSZ).
pub fn window(fd: i32) -> Result<(u16, u16)> {
    const TIOCGWINSZ: usize = 0x5413;
    let mut size = [0u16; 4];
    ioctl(fd, TIOCGWINSZ, &raw mut size as usize)?;
    Ok((size[0], size[1]))
}

pub fn set_window(fd: i32, (rows, columns): (u16, u16)) -> Result<()> {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [rows, columns, 0, 0];
    ioctl(fd, TIOCSWINSZ, &raw const size as usize).map(drop)
}
