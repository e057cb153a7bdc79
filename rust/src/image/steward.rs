//! What a plain user cannot do himself among the files of his own store: they belong to ids of his range, as their images say. Whoever
//! has that range lends its power; who has none, or one id, has layers in which everything is the user's. Root needs nobody.

use super::owned::Owned;
use crate::error::{Error, Result};
use crate::security::maps::{Line, Maps, inside, outside};
use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// Whom an id stands for that the user's range has no line for.
pub const NOBODY: u32 = 65534;

pub trait Steward: Send + Sync {
    /// Which ids of this machine the ids of an image are.
    fn maps(&self) -> &Maps;
    /// Gives files beneath `root` their owners; `records` are those of one message (`wire::store::OWN`).
    fn own(&self, root: BorrowedFd<'_>, records: &[u8]) -> Result<()>;
    /// An entry of a directory, not followed; of the flags those for a path, a directory, and not waiting.
    fn open(&self, directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd>;
    /// A tree with all that is in it.
    fn remove(&self, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()>;
}

/// Finds this process's steward, or nobody.
pub type Lend = fn() -> Option<Arc<dyn Steward>>;
static LEND: OnceLock<Lend> = OnceLock::new();

/// Said once, by the room that has containers.
pub fn lend_by(lend: Lend) {
    let _ = LEND.set(lend);
}

pub fn lent() -> Option<Arc<dyn Steward>> {
    if rustix::process::geteuid().is_root() { None } else { LEND.get()?() }
}

/// Whether this user can give files to the ids that a container knows as these.
pub fn can_own(uid: u32, gid: u32) -> bool {
    let is_one_of = |steward: Arc<dyn Steward>| {
        let maps = steward.maps();
        outside(&maps.uid, uid).is_some() && outside(&maps.gid, gid).is_some()
    };
    rustix::process::geteuid().is_root() || lent().is_some_and(is_one_of)
}

/// Gives them an entry of a directory, which is not followed.
pub fn give(directory: i32, name: &[u8], (uid, gid): (u32, u32)) -> Result<()> {
    let directory = crate::sys::host::borrow(directory);
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let given = rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        return given.map_err(|errno| Error::from(("give a file its owner", errno)));
    }
    let mut owned = Owned::default();
    owned.push(directory, name, (uid, gid), b"")?;
    owned.give(directory).map(drop)
}

/// Of a file of the store: its owner and group as an image numbers them.
pub fn owner_of(seen: &Stat) -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        return (seen.st_uid, seen.st_gid);
    }
    if (seen.st_uid, seen.st_gid) == (uid.as_raw(), gid.as_raw()) {
        return (0, 0);
    }
    let steward = lent();
    let of = |lines: fn(&Maps) -> &[Line], id: u32, own: u32| match &steward {
        _ if id == own => 0,
        Some(steward) => inside(lines(steward.maps()), id).unwrap_or(NOBODY),
        None => 0,
    };
    (of(|maps| &maps.uid, seen.st_uid, uid.as_raw()), of(|maps| &maps.gid, seen.st_gid, gid.as_raw()))
}

/// statat(2), of an entry and never of what a link leads to.
pub fn look(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Stat> {
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::ACCESS) => rustix::fs::fstat(opened_for_us(directory.as_fd(), name, OFlags::PATH)?),
        other => other,
    }
}

/// openat(2) for reading.
pub fn open(directory: impl AsFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::ACCESS) => opened_for_us(directory.as_fd(), name, flags),
        other => other,
    }
}

pub fn read_link(directory: impl AsFd, name: &CStr) -> rustix::io::Result<CString> {
    match rustix::fs::readlinkat(&directory, name, Vec::new()) {
        Err(Errno::ACCESS) => {
            rustix::fs::readlinkat(opened_for_us(directory.as_fd(), name, OFlags::PATH)?, c"", Vec::new())
        }
        other => other,
    }
}

/// What is in a directory that is open.
pub fn list(directory: impl AsFd) -> rustix::io::Result<Dir> {
    match Dir::read_from(&directory) {
        Err(Errno::ACCESS) => Dir::new(opened_for_us(directory.as_fd(), c".", OFlags::DIRECTORY)?),
        other => other,
    }
}

/// Of a path without links beneath a directory.
pub fn look_beneath(directory: impl AsFd, path: &[u8]) -> rustix::io::Result<Stat> {
    match rustix::fs::statat(&directory, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    let mut at = None;
    for name in path.split(|byte| *byte == b'/') {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let from = at.as_ref().map_or(directory.as_fd(), OwnedFd::as_fd);
        at = Some(open(from, &name, OFlags::PATH)?);
    }
    rustix::fs::fstat(at.ok_or(Errno::NOENT)?)
}

fn opened_for_us(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    lent().ok_or(Errno::ACCESS)?.open(directory, name, flags)
}
