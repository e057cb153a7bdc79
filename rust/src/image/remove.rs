//! Removal of a directory tree of any depth: by descriptors, without recursion, with two of them open. Follows no link.

use super::steward;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a plain user has of other ids is his steward's to remove.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let done = remove_own(parent, name);
    match done {
        Err(Errno::ACCESS | Errno::PERM) => steward::lent().map_or(done, |steward| steward.remove(parent, name)),
        _ => done,
    }
}

/// Directories are moved up beside each other and emptied one by one, so that neither a path nor a stack grows with the depth.
fn remove_own(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let top = match open(parent, name) {
        Ok(top) => top,
        Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::unlinkat(parent, name, AtFlags::empty()),
        Err(error) => return Err(error),
    };
    let mut heap = Heap { top, waiting: Vec::new(), number: 0 };
    heap.empty(None)?;
    while let Some(name) = heap.waiting.pop() {
        let directory = open(heap.top.as_fd(), &name)?;
        heap.empty(Some(directory))?;
        rustix::fs::unlinkat(&heap.top, &name, AtFlags::REMOVEDIR)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[derive(Debug)]
struct Heap {
    top: OwnedFd,
    waiting: Vec<CString>,
    number: u64,
}

impl Heap {
    /// Removes what is no directory; leaves directories in `top`, and notes them. None is `top` itself.
    fn empty(&mut self, directory: Option<OwnedFd>) -> Result<()> {
        let is_top = directory.is_none();
        let from = directory.as_ref().map_or(self.top.as_fd(), |directory| directory.as_fd());
        let mut found = Vec::new();
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match rustix::fs::unlinkat(from, name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => found.push(name.to_owned()),
                other => other?,
            }
        }
        for name in found {
            match rustix::fs::unlinkat(from, &name, AtFlags::REMOVEDIR) {
                Ok(()) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) if is_top => self.waiting.push(name),
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    let moved = move_up(from, &name, self.top.as_fd(), &mut self.number)?;
                    self.waiting.push(moved);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Gives the directory a free name in `top`.
fn move_up(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, number: &mut u64) -> Result<CString> {
    // Its ".." is rewritten, which takes a right to write to it (rename(2), EACCES).
    if is_directory(from, name) {
        let _ = rustix::fs::chmodat(from, name, Mode::RWXU, AtFlags::empty());
    }
    loop {
        *number += 1;
        let free = CString::new(format!("~{number}")).unwrap_or_default();
        match rustix::fs::renameat_with(from, name, top, &free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(free),
        }
    }
}

/// A plain user first takes back what its owner may not enter.
fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) if is_directory(parent, name) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
        other => other,
    }?;
    let _ = rustix::fs::fchmod(&opened, Mode::RWXU);
    Ok(opened)
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    let seen = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    seen.is_ok_and(|seen| FileType::from_raw_mode(seen.st_mode) == FileType::Directory)
}
