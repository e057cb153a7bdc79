//! A union of layers as a tree of its own, where no overlay shows one: its files copied with the owners that a container needs, or linked.
//!
//! Reads by union.rs, writes beneath one descriptor, in a directory that nobody else writes to. Decides nothing of who wants it.

mod file;
mod shift;
mod size;

use super::locks::{Check, interrupted};
use super::owned::{self, Owned};
use super::steward;
use super::union::{Cursor, Found, Merged, join, last, parent};
use crate::error::{Error, Result};
use crate::security::maps::{Line, Maps, outside};
use crate::wire::copied::NOBODY;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Inodes of one tree, as of an archive.
const OBJECTS_MAX: usize = 4_000_000;

/// What becomes of the files of a union.
pub enum Manner<'a> {
    /// Other names of the same inodes: a tree that nobody writes to. `once`: of each one name, and copies for its others.
    Linked { once: bool },
    /// Files of their own; a plain user gives nobody anything.
    Copied { owners: Owners<'a>, privileged: bool },
}

/// What an owner becomes: outside what it is inside. Without lines all ids are what they are; what there is no line for is nobody's.
pub struct Owners<'a>(pub &'a Maps);

impl Owners<'_> {
    fn of(&self, seen: &Stat) -> (Uid, Gid) {
        (Uid::from_raw(shifted(&self.0.uid, seen.st_uid)), Gid::from_raw(shifted(&self.0.gid, seen.st_gid)))
    }

    /// Who the container's root is: its file capabilities are his.
    fn root(&self) -> u32 {
        shifted(&self.0.uid, 0)
    }
}

fn shifted(lines: &[Line], id: u32) -> u32 {
    if lines.is_empty() { id } else { outside(lines, id).unwrap_or(NOBODY) }
}

pub use shift::shift;
pub use size::{Size, size};

/// What was made, and the files that only somebody with more power can read: empty so far, of a plain user (mode 0000).
#[derive(Debug, Default)]
pub struct Made {
    pub entries: u64,
    pub bytes: u64,
    pub unread: Vec<Vec<u8>>,
    pub owners: owned::Owners,
}

fn failed(step: &str, path: &[u8], errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup_at(step, format!("/{}", String::from_utf8_lossy(path)), errno.raw_os_error()),
    }
}

/// `to` is an empty directory of ours.
pub fn make(from: Merged, to: OwnedFd, manner: &Manner<'_>, check: Check<'_>) -> Result<Made> {
    let device = from.highest().and_then(|top| rustix::fs::fstat(top).ok()).map(|seen| seen.st_dev);
    let cursor = Cursor::new(Arc::new(from));
    let mut work = Work {
        cursor,
        to,
        manner,
        check,
        device,
        first: HashMap::new(),
        directories: Vec::new(),
        made: Made::default(),
        owned: Owned::default(),
    };
    work.all()?;
    work.made.owners = work.owned.give(work.to.as_fd())?;
    Ok(work.made)
}

/// What is no directory and no link: in which layer of the union it lies, and what it was seen to be.
struct Lower<'a> {
    merged: &'a Merged,
    index: usize,
    seen: &'a Stat,
}

struct Work<'a, 'c> {
    cursor: Cursor,
    to: OwnedFd,
    manner: &'a Manner<'a>,
    check: Check<'c>,
    /// An overlay shows nothing of what is mounted in its layers.
    device: Option<u64>,
    /// (device, inode) of what has several names, and the first of them here.
    first: HashMap<(u64, u64), Vec<u8>>,
    /// With what they are given when everything is in them.
    directories: Vec<(Vec<u8>, Stat)>,
    made: Made,
    /// Of a plain user's.
    owned: Owned,
}

impl Work<'_, '_> {
    fn all(&mut self) -> Result<()> {
        let mut waiting = vec![Vec::new()];
        // Names wait, and no descriptors: a directory may have more of others in it than a process may have open.
        while let Some(place) = waiting.pop() {
            let Some(merged) = self.cursor.directory(&place).map_err(|errno| failed("list", &place, errno))? else {
                continue;
            };
            self.directory(&place, &merged)?;
            let target = self.open(&place)?;
            for name in merged.names().map_err(|errno| failed("list", &place, errno))?.keys() {
                let path = join(&place, name.to_bytes());
                match merged.look(name.to_bytes()).map_err(|errno| failed("look at", &path, errno))? {
                    Found::Nothing => {}
                    Found::Directory(found) => {
                        let fail = |errno| failed("make directory", &path, errno);
                        rustix::fs::mkdirat(&target, name, Mode::RWXU).map_err(fail)?;
                        match self.crosses(&found) {
                            true => self.directory(&path, &found)?,
                            false => waiting.push(path),
                        }
                    }
                    Found::Link(to, seen) => self.link(target.as_fd(), &path, &to, &seen)?,
                    Found::Other(index, seen) => {
                        let lower = Lower { merged: &merged, index, seen: &seen };
                        self.other(target.as_fd(), &path, &lower)?;
                    }
                }
                self.count()?;
            }
        }
        let directories = std::mem::take(&mut self.directories);
        directories.iter().rev().try_for_each(|(path, seen)| self.finish(path, seen))
    }

    fn count(&mut self) -> Result<()> {
        self.made.entries += 1;
        if self.made.entries as usize > OBJECTS_MAX {
            return Err(Error::Image(format!("more than {OBJECTS_MAX} files")));
        }
        if (self.check)() { Err(interrupted()) } else { Ok(()) }
    }

    /// Something else is mounted on it.
    fn crosses(&self, found: &Merged) -> bool {
        let there = found.highest().and_then(|top| rustix::fs::fstat(top).ok()).map(|seen| seen.st_dev);
        matches!(self.manner, Manner::Copied { .. }) && there != self.device
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.to, path, DIRECTORY, Mode::empty(), resolve);
        opened.map_err(|errno| failed("open directory", path, errno))
    }

    /// Its attributes now, while it is ours alone; its mode and times come last: it may be one that nobody writes to.
    fn directory(&mut self, path: &[u8], found: &Merged) -> Result<()> {
        let Some(top) = found.highest() else { return Ok(()) };
        let fail = |errno| failed("look at", path, errno);
        let seen = rustix::fs::fstat(top).map_err(fail)?;
        file::attributes(top, self.open(path)?.as_fd(), None).map_err(fail)?;
        self.directories.push((path.to_vec(), seen));
        Ok(())
    }

    fn finish(&mut self, path: &[u8], seen: &Stat) -> Result<()> {
        let directory = self.open(path)?;
        let done = (|| {
            if let Some((uid, gid)) = self.owner(seen) {
                rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
            }
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(seen.st_mode))?;
            rustix::fs::futimens(&directory, &times(seen))
        })();
        done.map_err(|errno| failed("set up directory", path, errno))?;
        self.note_owner(path, seen, b"")
    }

    fn owner(&self, seen: &Stat) -> Option<(Uid, Gid)> {
        match self.manner {
            Manner::Copied { owners, privileged: true } => Some(owners.of(seen)),
            Manner::Linked { .. } if rustix::process::geteuid().is_root() => {
                Some((Uid::from_raw(seen.st_uid), Gid::from_raw(seen.st_gid)))
            }
            _ => None,
        }
    }

    /// What a plain user's file has of another's, whose name this is: given at the end.
    fn note_owner(&mut self, path: &[u8], seen: &Stat, capability: &[u8]) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        match steward::owner_of(seen) {
            (0, 0) if capability.is_empty() => Ok(()),
            ids => {
                let path = if path.is_empty() { b"." } else { path };
                self.owned.push(self.to.as_fd(), path, ids, capability)
            }
        }
    }

    /// True where the name is made: one more of an inode that is here already.
    fn is_again(&mut self, parent: BorrowedFd<'_>, path: &[u8], seen: &Stat) -> Result<bool> {
        if seen.st_nlink < 2 {
            return Ok(false);
        }
        match self.first.get(&(seen.st_dev, seen.st_ino)) {
            Some(_) if matches!(self.manner, Manner::Linked { once: true }) => Ok(false),
            None => {
                self.first.insert((seen.st_dev, seen.st_ino), path.to_vec());
                Ok(false)
            }
            Some(first) => {
                let from = self.open(self::parent(first))?;
                let linked = rustix::fs::linkat(&from, last(first), parent, last(path), AtFlags::empty());
                linked.map_err(|errno| failed("make a hard link", path, errno)).map(|()| true)
            }
        }
    }

    fn link(&mut self, parent: BorrowedFd<'_>, path: &[u8], target: &[u8], seen: &Stat) -> Result<()> {
        if self.is_again(parent, path, seen)? {
            return Ok(());
        }
        let (name, fail) = (last(path), |errno| failed("make a symbolic link", path, errno));
        rustix::fs::symlinkat(target, parent, name).map_err(fail)?;
        if let Some((uid, gid)) = self.owner(seen) {
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        rustix::fs::utimensat(parent, name, &times(seen), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        self.note_owner(path, seen, b"")
    }

    fn other(&mut self, parent: BorrowedFd<'_>, path: &[u8], lower: &Lower<'_>) -> Result<()> {
        let (name, seen) = (last(path), lower.seen);
        let Manner::Linked { once } = *self.manner else { return self.anew(parent, path, lower) };
        let several = once && seen.st_nlink > 1 && FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile;
        let again = several && self.first.insert((seen.st_dev, seen.st_ino), path.to_vec()).is_some();
        // What its owner may not read has its one inode under all names.
        if !again || lower.merged.file(lower.index, name).is_err() {
            match lower.merged.link(lower.index, name, parent) {
                // As many names as an inode may have, a file system that gives one no second name, or a file of a plain user's range,
                // or in a directory of that: a copy as it is.
                Err(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                other => return other.map_err(|errno| failed("make a hard link", path, errno)),
            }
        }
        self.anew(parent, path, lower)
    }

    fn anew(&mut self, parent: BorrowedFd<'_>, path: &[u8], lower: &Lower<'_>) -> Result<()> {
        let seen = lower.seen;
        if self.is_again(parent, path, seen)? {
            return Ok(());
        }
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::RegularFile => self.file(parent, path, lower),
            FileType::Socket => Ok(()), // nothing without its process
            kind => self.node(parent, path, kind, seen),
        }
    }

    fn file(&mut self, parent: BorrowedFd<'_>, path: &[u8], lower: &Lower<'_>) -> Result<()> {
        let fail = |errno| failed("copy", path, errno);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(parent, last(path), flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let from = match lower.merged.file(lower.index, last(path)) {
            Err(Errno::ACCESS) if !rustix::process::geteuid().is_root() => None,
            other => Some(other.map_err(fail)?),
        };
        // What was opened, whatever was looked at: a directory of the caller's may change meanwhile.
        let opened = from.as_ref().map(rustix::fs::fstat).transpose().map_err(fail)?;
        let seen = opened.as_ref().unwrap_or(lower.seen);
        match &from {
            Some(from) => {
                let went_on = file::content(from.as_fd(), to.as_fd(), seen.st_size as u64, self.check).map_err(fail)?;
                self.made.bytes += seen.st_size as u64;
                if !went_on {
                    return Err(interrupted());
                }
            }
            None => self.made.unread.push(path.to_vec()),
        }
        let done = (|| {
            // Owner first: its change clears set-id bits and capabilities (chown(2)). Time last.
            let owner = self.owner(seen);
            if let Some((uid, gid)) = owner {
                rustix::fs::fchown(&to, Some(uid), Some(gid))?;
            }
            if let Some(from) = &from {
                file::attributes(from.as_fd(), to.as_fd(), owner.map(|_| self.root()))?;
            }
            rustix::fs::fchmod(&to, Mode::from_raw_mode(seen.st_mode))?;
            rustix::fs::futimens(&to, &times(seen))
        })();
        done.map_err(fail)?;
        let capability = from.as_ref().map_or(Vec::new(), |from| file::own_capability(from.as_fd()));
        self.note_owner(path, seen, &capability)
    }

    fn root(&self) -> u32 {
        if let Manner::Copied { owners, .. } = self.manner { owners.root() } else { 0 }
    }

    /// Devices are for root to make; a plain user's layers have none. Every mount of an image is nodev.
    fn node(&mut self, parent: BorrowedFd<'_>, path: &[u8], kind: FileType, seen: &Stat) -> Result<()> {
        let (name, fail) = (last(path), |errno| failed("make a device or FIFO", path, errno));
        match rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, seen.st_rdev) {
            Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
            other => other.map_err(fail)?,
        }
        if let Some((uid, gid)) = self.owner(seen) {
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        // By name, but one that was made just above, where nobody else writes: opening a device could do anything.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(seen.st_mode), AtFlags::empty()).map_err(fail)?;
        rustix::fs::utimensat(parent, name, &times(seen), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        self.note_owner(path, seen, b"")
    }
}

fn times(seen: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: seen.st_atime as _, tv_nsec: seen.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: seen.st_mtime as _, tv_nsec: seen.st_mtime_nsec as _ },
    }
}
