//! A root that is a copy of its image: which of its files are still what they were. By the kernel's own clock: every change of an inode
//! moves its ctime, which nobody can set, beyond that of the note that was written when the copy was complete.

use crate::sys::constants::*;
use crate::sys::fs::{self, Statx};
use crate::wire::copied;

/// When a copy was complete, and how far its owners lie from those of the original.
#[derive(Clone, Copy)]
pub struct Copied {
    at: (i64, u32),
    apart: u32,
}

impl Copied {
    /// Of the directory with a container's own files; None where that is an overlay's.
    pub fn of(root: i32) -> Option<Copied> {
        let note = fs::openat(root, copied::NOTE_BESIDE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0).ok()?;
        let mut apart = [0; 4];
        if fs::read_full(note.raw(), &mut apart).ok()? < apart.len() {
            return None;
        }
        Some(Copied { at: fs::fstat(note.raw()).ok()?.ctime(), apart: u32::from_le_bytes(apart) })
    }

    /// The original as it would look with the owners of the copy.
    pub fn seen(&self, was: &mut Statx) {
        let shifted = |id: u32| match self.apart {
            0 => id,
            apart if id < copied::IDS => id.wrapping_add(apart),
            _ => copied::NOBODY,
        };
        (was.uid, was.gid) = (shifted(was.uid), shifted(was.gid));
    }

    /// Whether the container may have changed it. Where a file system moves no ctime for a new name, or the machine's clock was set back,
    /// what else can be seen mostly shows it. Times of content by the second: two file systems keep them in different grains.
    pub fn is_touched(&self, seen: &Statx, was: &Statx) -> bool {
        let same = (seen.mode, seen.uid, seen.gid, seen.mtime().0) == (was.mode, was.uid, was.gid, was.mtime().0);
        let same_size = seen.kind() == S_IFDIR || seen.size == was.size;
        seen.ctime() > self.at || !same || !same_size
    }
}
