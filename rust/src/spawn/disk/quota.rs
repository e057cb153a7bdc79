//! A project of its own for each writable layer, where the store's file system enforces quotas of projects (ext4, XFS). What is in
//! use is what the kernel has charged to a project: nobody keeps a list.

use crate::cgroup::in_use;
use crate::error::{Error, Result};
use crate::runtime;
use crate::sys::{Errno, disk};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Far above those that people number by hand, or that other engines count up from 1 or from 2^20.
const FIRST: u32 = 0x7063_0000;
const COUNT: u32 = 0x1_0000;
/// For what the engine itself makes in the layer after the limit was set: overlayfs's own directories.
const OURS: (u64, u64) = (16 << 10, 8);
/// As for a tmpfs.
const BYTES_PER_INODE: u64 = 4096;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A project that one directory belongs to.
#[derive(Debug)]
pub struct Project {
    store: OwnedFd,
    id: u32,
    /// What it had when it was limited first: the engine's own.
    ground: Option<(u64, u64)>,
}

impl Project {
    /// Gives `directory`, an empty one in `store`, to a project that has nothing.
    pub fn claim(store: &Path, directory: &Path) -> Result<Project> {
        let fail =
            |errno: Errno| Error::setup_at("give a project of its own to", directory.display().to_string(), errno.0);
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| fail(Errno(errno.raw_os_error())))
        };
        let (store, directory) = (open(store)?, open(directory)?);
        let _lock = lock()?;
        for _ in 0..COUNT {
            let id = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            if disk::project_usage(store.as_raw_fd(), id).map_err(fail)? == (0, 0) {
                // From here on it has one inode: taken, for everybody.
                disk::set_project(directory.as_raw_fd(), id).map_err(fail)?;
                return Ok(Project { store, id, ground: None });
            }
        }
        let fix = "remove what is left in the store";
        Err(Error::unsupported("disk", "all project ids of the engine's range are in use", fix))
    }

    /// From now on `bytes` more than there were at first.
    pub fn limit(&mut self, bytes: u64) -> Result<()> {
        let fail = |errno: Errno| Error::setup("set the project quota of the writable layer", errno.0);
        let now = disk::project_usage(self.store.as_raw_fd(), self.id).map_err(fail)?;
        let (used, inodes) = *self.ground.get_or_insert(now);
        let written = now.0.saturating_sub(used);
        if written > bytes.saturating_add(OURS.0) {
            return Err(in_use("disk", bytes, written, "bytes"));
        }
        let room = bytes.max(1).next_multiple_of(BYTES_PER_INODE);
        let most = (room / BYTES_PER_INODE).max(64) + inodes + OURS.1;
        disk::limit_project(self.store.as_raw_fd(), self.id, room.saturating_add(used + OURS.0), most).map_err(fail)
    }

    /// Bytes that it had when it was limited first.
    pub fn ground(&self) -> u64 {
        self.ground.map_or(0, |(bytes, _)| bytes)
    }

    /// After its directory was removed. One that still has something keeps its limit: its files are still somewhere.
    pub fn release(self) {
        let Ok(_lock) = lock() else { return };
        if disk::project_usage(self.store.as_raw_fd(), self.id) == Ok((0, 0)) {
            let _ = disk::limit_project(self.store.as_raw_fd(), self.id, 0, 0);
        }
    }
}

/// Engines of one store take and give back one after another. Held for some microseconds.
fn lock() -> Result<OwnedFd> {
    let path = runtime::store(rustix::process::geteuid().as_raw()).join("projects.lock");
    let fail = |errno: rustix::io::Errno| Error::setup_at("lock", path.display().to_string(), errno.raw_os_error());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
    rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive)).map_err(fail)?;
    Ok(lock)
}
