//! One directory of a cgroup file system: its files by name, relative to an open fd. Never follows a path twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::buffer::spare_capacity;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Version;
use crate::error::Error;
use crate::gate::Ours;
use crate::locked;

/// linux/magic.h
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// Bytes asked for in one read of a group's file, and the most that one of its lines has (io.stat: a device and six counters).
const AT_ONCE: usize = 4096;
const LONGEST_LINE: usize = 1024;

/// A group's directory. `path` is for messages only.
#[derive(Debug)]
pub(super) struct Directory {
    /// A forked copy that kept it open would keep its lock.
    fd: Ours,
    pub(super) path: String,
    /// The file that is read again and again, from the first time on.
    again: OnceLock<(&'static str, Ours)>,
}

impl Directory {
    /// Opens a directory for use as a parent, and checks that it lies on a cgroup file system and not on something mounted over it.
    pub(super) fn open(path: &str, version: Version) -> Result<Directory, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Directory::checked(fd, path.trim_end_matches('/').to_owned(), version)
    }

    /// One that is open already, checked likewise.
    pub(super) fn checked(fd: OwnedFd, path: String, version: Version) -> Result<Directory, Errno> {
        let magic = match version {
            Version::V1 => CGROUP_SUPER_MAGIC,
            Version::V2 => CGROUP2_SUPER_MAGIC,
        };
        if rustix::fs::fstatfs(&fd)?.f_type as u64 != magic {
            return Err(Errno::NODEV);
        }
        Ok(Directory::of(Ours::new(fd), path))
    }

    /// Opens the group `name` in this one. Not O_PATH: it can be listed, locked and given to clone3.
    pub(super) fn child(&self, name: &str) -> Result<Directory, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Directory::of(Ours::new(fd), format!("{}/{name}", self.path)))
    }

    /// Makes a group that no sweep takes as long as this is open.
    pub(super) fn make(&self, name: &str) -> Result<Directory, Errno> {
        let fd = Ours::new(locked::make(self.fd.as_fd(), name, 0o755)?);
        Ok(Directory::of(fd, format!("{}/{name}", self.path)))
    }

    fn of(fd: Ours, path: String) -> Directory {
        Directory { fd, path, again: OnceLock::new() }
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// The names of the groups in this one; none where it cannot be read.
    pub(super) fn children(&self) -> Vec<String> {
        // Not Dir::read_from, which would repeat O_PATH.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        let Ok(listing) = opened.and_then(rustix::fs::Dir::new) else {
            return Vec::new();
        };
        let is_group = |entry: &rustix::fs::DirEntry| entry.file_type() == rustix::fs::FileType::Directory;
        let names = listing.filter_map(Result::ok).filter(is_group);
        names.filter_map(|e| e.file_name().to_str().ok().map(str::to_owned)).filter(|n| !n.starts_with('.')).collect()
    }

    pub(super) fn file(&self, name: &str, access: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.fd, name, access | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// The kernel takes a value in one write or not at all.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), Errno> {
        let file = self.file(name, OFlags::WRONLY)?;
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))?;
        if written == value.len() { Ok(()) } else { Err(Errno::IO) }
    }

    /// The whole of a file.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let file = self.file(name, OFlags::RDONLY).ok()?;
        whole(|text| rustix::io::read(&file, spare_capacity(text)))
    }

    /// Likewise of the one file that this directory keeps open: the one that was first asked for here.
    pub(super) fn read_again(&self, name: &'static str) -> Option<String> {
        if self.again.get().is_none() {
            let file = self.file(name, OFlags::RDONLY).ok()?;
            let _ = self.again.set((name, Ours::new(file)));
        }
        match self.again.get() {
            Some((kept, file)) if *kept == name => whole(|text| {
                let from = text.len() as u64;
                rustix::io::pread(file, spare_capacity(text), from)
            }),
            _ => self.read(name),
        }
    }

    /// A file that holds one number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.read(name)?.trim().parse().ok()
    }

    /// Whether groups can be made here, by the effective ids.
    pub(super) fn writable(&self) -> Result<(), Errno> {
        rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
    }

    /// What went wrong with a write, with the file and the value.
    pub(super) fn write_error(&self, name: &str, value: &str, errno: Errno, note: Option<String>) -> Error {
        let (step, path) = (format!("write \"{value}\" to"), Some(format!("{}/{name}", self.path)));
        Error::Setup { step, path, errno: errno.raw_os_error(), note }
    }
}

/// The kernel gives all lines that fit, so that a read which leaves room for one more has seen the end.
fn whole(mut more: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>) -> Option<String> {
    let mut text = Vec::with_capacity(AT_ONCE);
    loop {
        let got = rustix::io::retry_on_intr(|| more(&mut text)).ok()?;
        if got == 0 || text.capacity() - text.len() >= LONGEST_LINE {
            return String::from_utf8(text).ok();
        }
        text.reserve(AT_ONCE);
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
