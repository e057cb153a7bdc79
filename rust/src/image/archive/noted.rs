//! Whose the entries of a plain user's tree are, noted as they come and given at the end, when nothing is changed any more.

use super::given::{capability, owner_ids};
use super::stream::Meta;
use super::tree::{Place, Tree};
use crate::error::Result;
use crate::image::owned::{Owned, Owners};
use std::collections::HashMap;
use std::os::fd::BorrowedFd;

/// An owner, and a capability or nothing.
type Note = ((u32, u32), Box<[u8]>);
/// As many are remembered; beyond them, of a hard link whose first name is replaced, the owner is lost.
const INODES_MAX: usize = 400_000;

#[derive(Default)]
pub struct Noted {
    owned: Owned,
    /// What was noted of inodes, for their other names: the first one may be another's at the end.
    by_inode: HashMap<u64, Note>,
}

impl Noted {
    /// What is no directory, and has just been made. Where a name has come twice, root's are noted too: what was noted before is undone.
    pub fn entry(&mut self, tree: &Tree<Meta>, place: (&Place, &[u8]), meta: &Meta, is_file: bool) -> Result<()> {
        let capability = capability(meta).filter(|_| is_file).unwrap_or_default();
        let note: Note = (owner_ids(meta)?, capability.into());
        if note == Note::default() && !tree.has_replaced {
            return Ok(());
        }
        if let Some(seen) = tree.look(place.0, place.1)? {
            if note == Note::default() {
                self.by_inode.remove(&seen.st_ino);
            } else if self.by_inode.len() < INODES_MAX {
                self.by_inode.insert(seen.st_ino, note.clone());
            }
        }
        self.push(tree, place, &note)
    }

    /// One more name of an inode. What was said of the name before is not said of it.
    pub fn link(&mut self, tree: &Tree<Meta>, place: (&Place, &[u8]), inode: u64) -> Result<()> {
        match self.by_inode.get(&inode).cloned() {
            Some(note) => self.push(tree, place, &note),
            None if tree.has_replaced => self.push(tree, place, &Note::default()),
            None => Ok(()),
        }
    }

    fn push(&mut self, tree: &Tree<Meta>, (parent, name): (&Place, &[u8]), (ids, capability): &Note) -> Result<()> {
        self.owned.push(tree.root(), &tree.path_of(parent, name), *ids, capability)
    }

    /// A directory, when all is in it.
    pub fn directory(&mut self, root: BorrowedFd<'_>, path: &[u8], meta: Option<&Meta>, twice: bool) -> Result<()> {
        let ids = meta.map_or(Ok((0, 0)), owner_ids)?;
        if (ids != (0, 0) || twice) && (path != b"." || is_open_to_all(meta)) {
            self.owned.push(root, path, ids, b"")?;
        }
        Ok(())
    }

    pub fn give(self, root: BorrowedFd<'_>) -> Result<Owners> {
        self.owned.give(root)
    }
}

/// The store has to be able to open a tree's root and to lock it: one that nobody but its owner may enter stays the user's.
fn is_open_to_all(meta: Option<&Meta>) -> bool {
    meta.is_none_or(|meta| meta.mode & 0o005 == 0o005)
}
