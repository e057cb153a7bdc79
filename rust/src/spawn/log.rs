//! The host's side of a container's log: read from a file that the keeper writes. Nobody's reading takes anything from another's.

use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::wire::{Reader, log};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Kept as long as somebody may read it, also when its container is long gone.
#[derive(Debug)]
pub struct Log {
    file: Ours,
}

/// What one look at a stream gave.
#[derive(Debug, Default)]
pub struct Piece {
    pub bytes: Vec<u8>,
    /// Where the next look begins.
    pub next: u64,
    /// What had been overwritten before it could be read, and is missing before `bytes`.
    pub lost: u64,
    /// Bytes that were dropped beyond `limits.output`.
    pub dropped: u64,
    /// Nothing more will come.
    pub ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Numbers {
    total: u64,
    dropped: u64,
    ended: bool,
}

impl Log {
    /// An empty one, of which only what is written takes memory.
    pub fn make() -> Result<Log> {
        let fail = |errno: Errno| Error::from(("make the log of a container", errno));
        let file = rustix::fs::memfd_create(c"pycontainer-log", MemfdFlags::CLOEXEC).map_err(fail)?;
        rustix::fs::ftruncate(&file, log::SIZE).map_err(fail)?;
        Ok(Log { file: Ours::new(file) })
    }

    /// One that another process has made.
    pub fn of(file: OwnedFd) -> Log {
        Log { file: Ours::new(file) }
    }

    pub fn file(&self) -> &Ours {
        &self.file
    }

    /// Bytes of a stream that were dropped beyond `limits.output`.
    pub fn dropped(&self, stream: usize) -> u64 {
        self.numbers(stream).map_or(0, |numbers| numbers.dropped)
    }

    fn numbers(&self, stream: usize) -> Result<Numbers> {
        let mut bytes = [0u8; log::NUMBERS];
        self.read_at(&mut bytes, log::numbers_of(stream))?;
        let mut from = Reader::new(&bytes);
        let mut next = || from.u64().unwrap_or_default();
        Ok(Numbers { total: next(), dropped: next(), ended: next() != 0 })
    }

    /// At most `most` bytes of a stream (0: stdout) from a position on.
    pub fn read(&self, stream: usize, from: u64, most: usize) -> Result<Piece> {
        loop {
            let seen = self.numbers(stream)?;
            let start = from.max(seen.total.saturating_sub(log::KEPT)).min(seen.total);
            let end = seen.total.min(start + most as u64);
            let mut bytes = vec![0; (end - start) as usize];
            let mut done = 0;
            while done < bytes.len() {
                let (offset, room) = log::place_of(stream, start + done as u64);
                let piece = (bytes.len() - done).min(room as usize);
                self.read_at(&mut bytes[done..done + piece], offset)?;
                done += piece;
            }
            // What was written meanwhile may lie where this was read.
            let valid = self.numbers(stream)?.total.saturating_sub(log::KEPT).max(start);
            if valid <= end {
                bytes.drain(..(valid - start) as usize);
                let ended = seen.ended && end == seen.total;
                return Ok(Piece { bytes, next: end, lost: valid.saturating_sub(from), dropped: seen.dropped, ended });
            }
        }
    }

    fn read_at(&self, mut into: &mut [u8], mut offset: u64) -> Result<()> {
        while !into.is_empty() {
            match rustix::io::pread(self.file.as_fd(), &mut *into, offset) {
                Ok(0) => return Err(Error::setup("read the log of a container", Errno::NODATA.raw_os_error())),
                Ok(count) => {
                    into = &mut into[count..];
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(("read the log of a container", errno).into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Fixed, Write};

    /// As the keeper does.
    fn append(log: &Log, total: &mut u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (offset, room) = log::place_of(0, *total);
            let piece = &bytes[..bytes.len().min(room as usize).min(log::PIECE)];
            rustix::io::pwrite(&log.file, piece, offset).unwrap();
            *total += piece.len() as u64;
            bytes = &bytes[piece.len()..];
        }
        let mut numbers = Fixed::<{ log::NUMBERS }>::new();
        numbers.put_u64(*total);
        rustix::io::pwrite(&log.file, numbers.bytes(), log::numbers_of(0)).unwrap();
    }

    #[test]
    fn what_is_kept_is_read_in_order_and_what_is_not_is_counted() {
        let (log, mut total) = (Log::make().unwrap(), 0);
        append(&log, &mut total, b"first\n");
        assert_eq!(log.read(0, 0, 100).unwrap().bytes, b"first\n");
        assert_eq!(log.read(1, 0, 100).unwrap().bytes, b"");
        let block: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
        for _ in 0..40 {
            append(&log, &mut total, &block);
        }
        let seen = log.read(0, 0, usize::MAX >> 1).unwrap();
        assert_eq!((seen.bytes.len() as u64, seen.next, seen.lost), (log::KEPT, total, total - log::KEPT));
        assert!(seen.bytes.ends_with(&block));
        let tail = log.read(0, total - 3, 2).unwrap();
        assert_eq!((tail.bytes.as_slice(), tail.next, tail.lost), (&block[block.len() - 3..][..2], total - 1, 0));
    }
}
