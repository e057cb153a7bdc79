//! Other owners for all of a tree that is somebody's alone: a snapshot, in which everything is but whose it is. By descriptors of directories
//! and names in them, never followed.

use super::{Owners, failed, file};
use crate::error::Result;
use crate::image::locks::{Check, interrupted};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const SET_IDS: u32 = 0o6000;

/// Of a container's: as root, who alone may.
pub fn shift(root: BorrowedFd<'_>, owners: &Owners<'_>, check: Check<'_>) -> Result<()> {
    let mut seen_already = HashSet::new();
    let mut waiting = vec![Vec::new()];
    while let Some(place) = waiting.pop() {
        let fail = |errno| failed("set owners in", &place, errno);
        let directory = open(root, &place).map_err(fail)?;
        let seen = rustix::fs::fstat(&directory).map_err(fail)?;
        let (uid, gid) = owners.of(&seen);
        rustix::fs::fchown(&directory, Some(uid), Some(gid)).map_err(fail)?;
        for entry in Dir::read_from(&directory).map_err(fail)? {
            if check() {
                return Err(interrupted());
            }
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let seen = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
            if FileType::from_raw_mode(seen.st_mode) == FileType::Directory {
                waiting.push(crate::image::union::join(&place, name));
            } else if seen.st_nlink < 2 || seen_already.insert(seen.st_ino) {
                one(directory.as_fd(), name, &seen, owners).map_err(fail)?;
            }
        }
    }
    Ok(())
}

fn open(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)
}

/// A change of owner takes set-id bits and capabilities away (chown(2)).
fn one(directory: BorrowedFd<'_>, name: &[u8], seen: &Stat, owners: &Owners<'_>) -> rustix::io::Result<()> {
    let is_file = FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile;
    // In a directory of ours that nobody else can reach.
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    let capability = if is_file { file::capability(&path, owners.root())? } else { None };
    let (uid, gid): (Uid, Gid) = owners.of(seen);
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if is_file && seen.st_mode & SET_IDS != 0 {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(seen.st_mode), AtFlags::empty())?;
    }
    capability.map_or(Ok(()), |capability| file::give_capability(&path, &capability))
}
