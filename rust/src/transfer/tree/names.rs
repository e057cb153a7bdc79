//! The names of the directories that are being walked, each directory's sorted, in memory that is given once.

use crate::sys::fs;
use crate::sys::{Errno, Result};

/// What getdents64 brings at once.
const RECORDS: usize = 64 * 1024;
/// Of all names, and of their order, four bytes for each: two million names of 28 bytes.
const ORDER: usize = 8 << 20;
const NAMES: usize = 56 << 20;
pub const ROOM: usize = RECORDS + ORDER + NAMES;

pub struct Names<'a> {
    records: &'a mut [u8],
    order: &'a mut [[u8; 4]],
    names: &'a mut [u8],
}

/// Those of one directory; inner ones lie behind those of outer ones.
#[derive(Clone, Copy)]
pub struct Listing {
    /// Where the names end and the order begins; how many there are, and which is next.
    names: usize,
    order: usize,
    count: usize,
    at: usize,
}

impl Listing {
    pub const NONE: Listing = Listing { names: 0, order: 0, count: 0, at: 0 };
}

impl<'a> Names<'a> {
    /// `room` has ROOM bytes.
    pub fn new(room: &'a mut [u8]) -> Names<'a> {
        let (records, room) = room.split_at_mut(RECORDS);
        let (order, names) = room.split_at_mut(ORDER);
        Names { records, order: order.as_chunks_mut().0, names }
    }

    /// All names of a directory, sorted by their bytes; `above`: of the one that it is in.
    pub fn list(&mut self, directory: i32, above: Option<&Listing>) -> Result<Listing> {
        let (names, order) = above.map_or((0, 0), |above| (above.names, above.order + above.count));
        let mut listing = Listing { names, order, count: 0, at: 0 };
        self.add(directory, &mut listing)?;
        Ok(listing)
    }

    /// The names of two directories, each once; that of `list`, and before another is listed.
    pub fn join(&mut self, directory: i32, listing: &mut Listing) -> Result<()> {
        self.add(directory, listing)?;
        let Listing { order, count, .. } = *listing;
        let mut kept = 0;
        for at in 0..count {
            let (all, order) = (&*self.names, &mut self.order[order..order + count]);
            if kept == 0 || name_at(all, order[kept - 1]) != name_at(all, order[at]) {
                order[kept] = order[at];
                kept += 1;
            }
        }
        listing.count = kept;
        Ok(())
    }

    fn add(&mut self, directory: i32, listing: &mut Listing) -> Result<()> {
        let Listing { mut names, order, mut count, .. } = *listing;
        loop {
            let filled = match fs::getdents64(directory, self.records) {
                Err(Errno::NOENT) => 0, // removed meanwhile, while it is open here
                other => other?,
            };
            if filled == 0 {
                break;
            }
            let mut at = 0;
            while let Some(found) = fs::next_entry(&self.records[..filled], &mut at) {
                let bytes = found.name.to_bytes_with_nul();
                let room = self.names.get_mut(names..names + bytes.len()).ok_or(Errno::TOOBIG)?;
                room.copy_from_slice(bytes);
                *self.order.get_mut(order + count).ok_or(Errno::TOOBIG)? = (names as u32).to_le_bytes();
                names += bytes.len();
                count += 1;
            }
        }
        let all = &*self.names;
        self.order[order..order + count].sort_unstable_by(|a, b| name_at(all, *a).cmp(name_at(all, *b)));
        (listing.names, listing.count) = (names, count);
        Ok(())
    }

    /// None at the end.
    pub fn next(&self, listing: &mut Listing) -> Option<&[u8]> {
        let more = listing.at < listing.count;
        listing.at += usize::from(more);
        more.then(|| name_at(self.names, self.order[listing.order + listing.at - 1]))
    }
}

fn name_at(names: &[u8], place: [u8; 4]) -> &[u8] {
    let rest = &names[u32::from_le_bytes(place) as usize..];
    &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(0)]
}
