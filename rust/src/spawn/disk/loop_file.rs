//! A writable layer in a file system of its own: a nameless file of the store on a loop device, mounted in no namespace. The kernel frees
//! all three with the last descriptor, whoever dies of what.

use super::Missing;
use super::ext4::{self, BLOCK, Geometry};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::sys::constants::O_DIRECTORY;
use crate::sys::{Errno, disk, fs, host, mount};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How often a device may be taken by somebody else between the question for a free one and its answer.
const TRIES: usize = 64;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const ENOSPC: i32 = 28;

/// The file system, by the descriptor of its mount.
#[derive(Debug)]
pub struct LoopFile {
    mount: Ours,
    /// What was in it before the container's first file.
    ground: u64,
}

/// What has to fit into it.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub bytes: u64,
    /// Beyond the files that are usual for so many bytes.
    pub files: u64,
}

/// Beside a copy, where no container sees it.
const BALLAST: &str = "ballast";

/// Whether this process can have a loop device; looked at, not taken.
pub fn possible() -> std::result::Result<(), Missing> {
    let missing = |what: &str, errno: rustix::io::Errno| Missing {
        why: format!("the store's file system has no project quotas, and {what} answers {errno}"),
        fix: "mount the store's file system with prjquota (ext4, XFS), or let this machine have loop devices (modprobe loop; docker run --privileged), or upper=\"memory\"",
    };
    let control = open(Path::new("/dev/loop-control")).map_err(|errno| missing("/dev/loop-control", errno))?;
    let free = disk::free_loop(control.as_raw_fd()).map_err(|errno| missing("LOOP_CTL_GET_FREE", raw(errno)))?;
    let device = format!("/dev/loop{free}");
    open(Path::new(&device)).map(drop).map_err(|errno| missing(&device, errno))
}

fn raw(errno: Errno) -> rustix::io::Errno {
    rustix::io::Errno::from_raw_os_error(errno.0)
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// A file system in `store` into which so much can be written. `attributes`: of its mount.
pub fn make(store: &Path, Room { bytes, files }: Room, attributes: u64) -> Result<LoopFile> {
    // A forked copy of this process that held one of the descriptors would keep the device.
    let _gate = crate::gate::spawning();
    let too_large = || Error::Value(format!("disk: {bytes} bytes is more than a file system in a file can have"));
    let geometry = Geometry::of(bytes, files).ok_or_else(too_large)?;
    let file = nameless(store).map_err(|errno| at("make the writable layer's file", store, errno))?;
    fill(&file, &geometry).map_err(|errno| no_room(store, &geometry, errno))?;
    let (device, number) = attach(&file)?;
    let mount = mounted(number, attributes)?;
    drop(device);
    Ok(LoopFile { mount: Ours::new(mount), ground: 0 })
}

fn at(step: &str, path: &Path, errno: rustix::io::Errno) -> Error {
    Error::setup_at(step, path.display().to_string(), errno.raw_os_error())
}

fn no_room(store: &Path, geometry: &Geometry, errno: rustix::io::Errno) -> Error {
    let note = "the layer's size is set aside at the start, so that a full store is an error here and not one inside";
    Error::Setup {
        step: format!("set {} bytes aside in", geometry.blocks * BLOCK),
        path: Some(store.display().to_string()),
        errno: errno.raw_os_error(),
        note: (errno.raw_os_error() == ENOSPC).then(|| note.to_owned()),
    }
}

/// Without a name from the start; a file system that has no such files (NFS, an old overlay) gives one for a moment.
fn nameless(store: &Path) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::open(store, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        other => return other,
    }
    let path = store.join(format!("loop-{}-{}", std::process::id(), rustix::thread::gettid().as_raw_nonzero()));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&path, flags, mode)?;
    rustix::fs::unlink(&path)?;
    Ok(file)
}

/// Sets the space aside: a hole in a store that has run full would lose what the container had already written. A tmpfs would take the
/// memory at once, so it keeps its holes; and some file systems cannot.
fn fill(file: &OwnedFd, geometry: &Geometry) -> rustix::io::Result<()> {
    let size = geometry.blocks * BLOCK;
    rustix::fs::ftruncate(file, size)?;
    if rustix::fs::fstatfs(file)?.f_type as u64 != TMPFS_MAGIC {
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size)) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            other => other?,
        }
    }
    let mut uuid = [0; 16];
    rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())?;
    let target = std::fs::File::from(rustix::io::fcntl_dupfd_cloexec(file, 3)?);
    for (offset, bytes) in ext4::format(geometry, uuid) {
        let fail = |error: std::io::Error| rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or(5));
        target.write_all_at(&bytes, offset).map_err(fail)?;
    }
    Ok(())
}

/// The device goes with its last user: this descriptor, then the mount.
fn attach(file: &OwnedFd) -> Result<(OwnedFd, u32)> {
    let control = open(Path::new("/dev/loop-control")).map_err(|errno| ("open /dev/loop-control", errno))?;
    let mut last = Errno::BUSY;
    for _ in 0..TRIES {
        let number =
            disk::free_loop(control.as_raw_fd()).map_err(|errno| Error::setup("find a loop device", errno.0))?;
        let path = format!("/dev/loop{number}");
        let device = open(Path::new(&path)).map_err(|errno| at("open the loop device", Path::new(&path), errno))?;
        match disk::attach_loop(device.as_raw_fd(), file.as_raw_fd(), BLOCK as u32) {
            Ok(()) => return Ok((device, number)),
            Err(errno) if errno == Errno::BUSY => last = errno,
            Err(errno) => return Err(Error::setup_at("attach the writable layer to", path, errno.0)),
        }
    }
    Err(Error::setup("take a loop device before somebody else does", last.0))
}

fn mounted(number: u32, attributes: u64) -> Result<OwnedFd> {
    let fail = |errno: Errno| Error::setup("mount the writable layer's file system", errno.0);
    let source = CString::new(format!("/dev/loop{number}")).unwrap_or_default();
    let context = mount::fsopen(c"ext4").map_err(fail)?;
    mount::fsconfig_string(context.raw(), c"source", &source).map_err(fail)?;
    // What is in it ends with the container, and nothing is to be found again after a power failure: no flushes, no detour by unwritten
    // extents.
    for option in [c"nobarrier", c"dioread_lock"] {
        mount::fsconfig_flag(context.raw(), option).map_err(fail)?;
    }
    mount::fsconfig_create(context.raw()).map_err(fail)?;
    let mount = mount::fsmount(context.raw(), attributes).map_err(fail)?;
    Ok(host::adopt(mount.release()))
}

impl LoopFile {
    pub fn fd(&self) -> i32 {
        self.mount.as_raw_fd()
    }

    /// Its root directory, for who fills it.
    pub fn root(&self) -> Result<OwnedFd> {
        let root = fs::openat(self.fd(), c".", O_DIRECTORY, 0);
        root.map(|root| host::adopt(root.release()))
            .map_err(|errno| Error::setup("open the layer's file system", errno.0))
    }

    /// Beside what is in it now there is room for so many bytes from here on, and no more.
    pub fn leave(&mut self, bytes: u64) -> Result<()> {
        let fail = |errno: rustix::io::Errno| Error::setup("bound the copy of the image", errno.raw_os_error());
        let root = self.root()?;
        let seen = rustix::fs::fstatfs(&root).map_err(fail)?;
        let surplus = (seen.f_bavail * BLOCK).saturating_sub(bytes.next_multiple_of(BLOCK));
        if surplus > 0 {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let ballast = rustix::fs::openat(&root, BALLAST, flags, Mode::RUSR).map_err(fail)?;
            let set_aside = || rustix::fs::fallocate(&ballast, FallocateFlags::empty(), 0, surplus);
            rustix::io::retry_on_intr(set_aside).map_err(fail)?;
        }
        let seen = rustix::fs::fstatfs(&root).map_err(fail)?;
        self.ground = (seen.f_blocks - seen.f_bfree) * BLOCK;
        Ok(())
    }

    /// Bytes that were in it when it was bounded.
    pub fn ground(&self) -> u64 {
        self.ground
    }

    /// Its content goes with it: what the container wrote and the kernel has not yet need never reach the disk.
    pub fn discard(self) {
        let _gate = crate::gate::spawning(); // as in `make`: a copy that held one of these would keep the device
        if let Ok(root) = fs::openat(self.fd(), c".", O_DIRECTORY, 0) {
            let _ = disk::shut_down(root.raw());
        }
        drop(self);
    }
}
