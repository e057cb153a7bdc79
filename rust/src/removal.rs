//! Removes a directory tree by descriptors, however deep it is: follows no link, takes a fixed number of them. Shared with rust/keeper.

use crate::sys::btrfs;
use crate::sys::constants::*;
use crate::sys::fs::{self, Entry, Fd};
use crate::sys::{Errno, Result};
use crate::wire::Decimal;
use core::ffi::CStr;

/// So many levels are walked at once. What lies deeper is lifted to the top first, and walked from there.
const LEVELS: usize = 32;
/// Beyond any name of the engine's own; what has the name already is in the way only until it is removed itself.
const LIFTED: &[u8] = b".pycontainer-lifted-";
const DIRECTORY: usize = O_DIRECTORY | O_NOFOLLOW;

/// Empties and removes the directory `name`. As long as something goes it looks again: a directory that changes while it is read
/// may hide an entry.
pub fn remove(parent: i32, name: &CStr) -> Result<()> {
    let (mut lifted, mut gone) = (0, 0);
    loop {
        // Opened anew each time: a descriptor that has been read to its end tells nothing of what came later.
        let top = open(parent, name)?;
        let mut walk = Walk { open: [top.raw(); LEVELS + 1], lifted, gone };
        let emptied = walk.empty(top.raw(), LEVELS);
        match fs::unlinkat(parent, name, AT_REMOVEDIR) {
            Err(Errno::NOTEMPTY) if walk.gone > gone => (lifted, gone) = (walk.lifted, walk.gone),
            removed => return told(removed, emptied),
        }
    }
}

struct Walk {
    /// The directories that are being walked, from the top on.
    open: [i32; LEVELS + 1],
    /// How many directories were lifted, and entries removed or lifted.
    lifted: u64,
    gone: u64,
}

impl Walk {
    /// Removes what is in a directory; what resists stays, and the last error is told.
    fn empty(&mut self, dir: i32, levels: usize) -> Result<()> {
        let mut buffer = [0u8; 2048];
        let mut result = Ok(());
        self.open[LEVELS - levels] = dir;
        loop {
            let length = fs::getdents64(dir, &mut buffer)?;
            if length == 0 {
                return result;
            }
            for entry in fs::entries(&buffer[..length]) {
                match self.take(dir, &entry, levels) {
                    Ok(()) => self.gone += 1,
                    Err(Errno::NOENT) => {}
                    Err(errno) => result = Err(errno),
                }
            }
        }
    }

    fn take(&mut self, dir: i32, entry: &Entry<'_>, levels: usize) -> Result<()> {
        if !entry.is_directory {
            match with_write_access(dir, || fs::unlinkat(dir, entry.name, 0)) {
                Err(Errno::ISDIR) => {} // a file system that does not tell kinds
                other => return other,
            }
        }
        if levels == 0 {
            return self.lift(dir, entry.name);
        }
        // The root of a container that is a snapshot: at once, where it may and nothing of its own kind is in it.
        if levels == LEVELS && btrfs::destroy_subvolume(dir, entry.name).is_ok() {
            return Ok(());
        }
        let child = open(dir, entry.name)?;
        let emptied = self.empty(child.raw(), levels - 1);
        let removed = with_write_access(dir, || fs::unlinkat(dir, entry.name, AT_REMOVEDIR));
        // What is in a subvolume of a btrfs is lifted to no other one; but that itself is.
        if removed == Err(Errno::NOTEMPTY) && emptied == Err(Errno::XDEV) && self.lift(dir, entry.name).is_ok() {
            return Ok(());
        }
        told(removed, emptied)
    }

    /// To the outermost directory that takes it.
    fn lift(&mut self, dir: i32, name: &CStr) -> Result<()> {
        self.lifted += 1;
        let target = numbered(LIFTED, self.lifted);
        let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::PROTO)?;
        let mut result = Err(Errno::XDEV);
        for place in self.open.into_iter().take_while(|place| *place != dir) {
            let rename = || with_write_access(dir, || fs::renameat2(dir, name, place, target));
            result = with_write_access(place, rename);
            if result != Err(Errno::XDEV) {
                break;
            }
        }
        result
    }
}

/// The directory's own end counts: a group's files resist and go with it. Where it is not empty, what resisted in it says why.
fn told(removed: Result<()>, emptied: Result<()>) -> Result<()> {
    match removed {
        Err(Errno::NOTEMPTY) => emptied.and(removed),
        _ => removed,
    }
}

/// A C string: the prefix, then the number.
fn numbered(prefix: &[u8], number: u64) -> [u8; 48] {
    let (mut text, digits) = ([0u8; 48], Decimal::new(number));
    text[..prefix.len()].copy_from_slice(prefix);
    text[prefix.len()..prefix.len() + digits.bytes().len()].copy_from_slice(digits.bytes());
    text
}

/// Its owner may have been denied it, by itself: then it is opened without access, and given that.
fn open(parent: i32, name: &CStr) -> Result<Fd> {
    match fs::openat(parent, name, O_RDONLY | DIRECTORY, 0) {
        Err(Errno::ACCES) => {
            let found = fs::openat(parent, name, O_PATH | DIRECTORY, 0)?;
            let path = numbered(b"/proc/self/fd/", found.raw() as u64);
            fs::fchmodat(AT_FDCWD, CStr::from_bytes_until_nul(&path).map_err(|_| Errno::PROTO)?, 0o700)?;
            fs::openat(found.raw(), c".", O_RDONLY | O_DIRECTORY, 0)
        }
        other => other,
    }
}

fn with_write_access(dir: i32, change: impl Fn() -> Result<()>) -> Result<()> {
    match change() {
        Err(Errno::ACCES) => fs::fchmod(dir, 0o700).and_then(|()| change()),
        other => other,
    }
}
