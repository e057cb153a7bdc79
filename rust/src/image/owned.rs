//! Owners that files of a tree are to have, and file capabilities: noted while a plain user unpacks, given when all is there. In the order
//! in which they were said, so that of two entries of one name the later counts. However many there are, few are in memory.

use super::steward::{NOBODY, Steward, lent};
use crate::error::{Error, Result};
use crate::security::maps::{Line, Maps, outside};
use crate::wire::{Write, store};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// With one more record of any length a message is not full.
const BATCH: usize = store::MESSAGE_MAX - store::PATH_MAX - 256;
/// struct vfs_ns_cap_data is the longest.
const CAPABILITY_MAX: usize = 24;

/// What became of the owners that a tree's entries name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Owners {
    /// Root, who unpacks, gave each its own; or all are root's, whom the user stands for.
    #[default]
    Own,
    /// Everything is the user's.
    Lost,
    /// They have ids of the user's range: these lines (`named`).
    Given(String),
}

#[derive(Default)]
pub struct Owned {
    steward: Option<Arc<dyn Steward>>,
    batch: Vec<u8>,
    /// Batches that are full, one after another, and their lengths.
    spool: Option<File>,
    lengths: Vec<u32>,
    is_asked: bool,
}

/// How a record names the lines.
pub fn named(maps: &Maps) -> String {
    let kind = |lines: &[Line]| {
        let each = |line: &Line| format!("{}:{}:{}", line.inside, line.outside, line.count);
        lines.iter().map(each).collect::<Vec<_>>().join(",")
    };
    format!("{} {}", kind(&maps.uid), kind(&maps.gid))
}

fn failed(errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup("note an owner", errno.raw_os_error()),
    }
}

fn failed_io(error: &std::io::Error) -> Error {
    failed(Errno::from_io_error(error).unwrap_or(Errno::IO))
}

impl Owned {
    /// Beneath the root of its tree, `place`, which is also where notes lie that are too many.
    pub fn push(
        &mut self,
        place: BorrowedFd<'_>,
        path: &[u8],
        (uid, gid): (u32, u32),
        capability: &[u8],
    ) -> Result<()> {
        if !self.is_asked {
            (self.is_asked, self.steward) = (true, lent());
        }
        let Some(steward) = &self.steward else { return Ok(()) };
        let maps = steward.maps();
        let known =
            |lines: &[Line], id: u32| [id, NOBODY].into_iter().find(|id| outside(lines, *id).is_some()).unwrap_or(0);
        self.batch.put_u32(known(&maps.uid, uid));
        self.batch.put_u32(known(&maps.gid, gid));
        self.batch.put_bytes(path);
        self.batch.put_bytes(if capability.len() > CAPABILITY_MAX { b"" } else { capability });
        if self.batch.len() >= BATCH { self.spill(place) } else { Ok(()) }
    }

    fn spill(&mut self, place: BorrowedFd<'_>) -> Result<()> {
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None => nameless(place).map_err(failed)?,
        };
        spool.write_all(&self.batch).map_err(|error| failed_io(&error))?;
        self.spool = Some(spool);
        self.lengths.push(self.batch.len() as u32);
        self.batch.clear();
        Ok(())
    }

    /// Gives each batch of records to `body`, in their order.
    fn each(&mut self, mut body: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut at, mut batch) = (0, Vec::new());
        for length in &self.lengths {
            let Some(spool) = &self.spool else { break };
            batch.resize(*length as usize, 0);
            spool.read_exact_at(&mut batch, at).map_err(|error| failed_io(&error))?;
            at += u64::from(*length);
            body(&batch)?;
        }
        if self.batch.is_empty() { Ok(()) } else { body(&self.batch) }
    }

    /// When the tree is whole and nothing more is changed in it.
    pub fn give(mut self, root: BorrowedFd<'_>) -> Result<Owners> {
        match self.steward.clone() {
            None if self.is_asked => Ok(Owners::Lost),
            None => Ok(Owners::Own),
            Some(steward) => {
                self.each(|records| steward.own(root, records))?;
                Ok(Owners::Given(named(steward.maps())))
            }
        }
    }
}

/// A file without a name; in memory where the file system makes none.
fn nameless(place: BorrowedFd<'_>) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(place, ".", flags, Mode::RUSR | Mode::WUSR);
    opened.or_else(|_| rustix::fs::memfd_create("owners", MemfdFlags::CLOEXEC)).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::maps::Line;
    use crate::wire::Reader;
    use std::ffi::CStr;
    use std::os::fd::{AsFd, OwnedFd};

    struct Range(Maps);

    impl Steward for Range {
        fn maps(&self) -> &Maps {
            &self.0
        }
        fn own(&self, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn open(&self, _: BorrowedFd<'_>, _: &CStr, _: OFlags) -> rustix::io::Result<OwnedFd> {
            Err(Errno::ACCESS)
        }
        fn remove(&self, _: BorrowedFd<'_>, _: &CStr) -> rustix::io::Result<()> {
            Err(Errno::ACCESS)
        }
    }

    fn of(lines: Vec<Line>) -> Owned {
        Owned { steward: Some(Arc::new(Range(Maps::both(lines)))), is_asked: true, ..Owned::default() }
    }

    fn read(owned: &mut Owned) -> Vec<(u32, u32, Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let read = owned.each(|batch| {
            assert!(batch.len() < store::MESSAGE_MAX);
            let mut from = Reader::new(batch);
            while !from.is_empty() {
                let (uid, gid) = (from.u32().unwrap(), from.u32().unwrap());
                found.push((uid, gid, from.text().unwrap().to_bytes().to_vec(), from.bytes().unwrap().to_vec()));
            }
            Ok(())
        });
        read.unwrap();
        found
    }

    #[test]
    fn many_come_back_in_their_order() {
        let here = std::fs::File::open(std::env::temp_dir()).unwrap();
        let mut owned = of(vec![Line::new(0, 1000, 1), Line::new(1, 100_000, 65_535)]);
        let wanted: Vec<_> = (0..2000u32)
            .map(|i| (i, i % 7, format!("{i}{}", "x".repeat(i as usize % 3000)).into_bytes(), vec![1; i as usize % 25]))
            .collect();
        for (uid, gid, path, capability) in &wanted {
            owned.push(here.as_fd(), path, (*uid, *gid), capability).unwrap();
        }
        assert!(owned.batch.len() < store::MESSAGE_MAX && owned.lengths.len() > 50);
        assert_eq!(read(&mut owned), wanted);
    }

    #[test]
    fn an_id_beyond_the_range_is_nobody_s_or_root_s() {
        let here = std::fs::File::open(std::env::temp_dir()).unwrap();
        for (count, nobody) in [(65_535, NOBODY), (10, 0)] {
            let mut owned = of(vec![Line::new(0, 1000, 1), Line::new(1, 100_000, count)]);
            owned.push(here.as_fd(), b"a", (70_000, 3), &[0; 25]).unwrap();
            assert_eq!(read(&mut owned), [(nobody, 3, b"a".to_vec(), Vec::new())]);
        }
    }
}
