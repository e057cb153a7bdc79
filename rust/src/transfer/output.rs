//! Entries onto a stream, through a buffer.

use super::Stream;
use crate::sys::{Errno, Result};
use crate::wire::files::{entry, segment};
use crate::wire::{EntryHead, Fixed};
use core::ffi::CStr;

pub struct Output<'a, S> {
    pub stream: S,
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a, S: Stream> Output<'a, S> {
    pub fn new(stream: S, buffer: &'a mut [u8]) -> Output<'a, S> {
        Output { stream, buffer, used: 0 }
    }

    pub fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.used {
            match self.stream.write(&self.buffer[sent..self.used]) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.used = 0;
        Ok(())
    }

    /// Free bytes of the buffer, at least that many, to be filled and then said with `advance`.
    pub fn room(&mut self, least: usize) -> Result<&mut [u8]> {
        if self.buffer.len() - self.used < least {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.used..])
    }

    pub fn advance(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }

    pub fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room(1)?;
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.advance(count);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Lengths of `name` and `extra` are written into the head.
    pub fn entry(&mut self, mut head: EntryHead, name: &CStr, extra: &[u8]) -> Result<()> {
        head.name = name.to_bytes().len() as u16;
        head.extra = extra.len() as u32;
        let mut bytes = Fixed::<{ EntryHead::LENGTH }>::new();
        head.write(&mut bytes);
        self.put(bytes.bytes())?;
        self.put(name.to_bytes_with_nul())?;
        self.put(extra)
    }

    pub fn mark(&mut self, kind: u8) -> Result<()> {
        self.entry(EntryHead { kind, ..EntryHead::default() }, c"", b"")
    }

    pub fn left_out(&mut self, name: &CStr, errno: Errno) -> Result<()> {
        self.entry(EntryHead { kind: entry::LEFT_OUT, size: errno.0 as u64, ..EntryHead::default() }, name, b"")
    }

    pub fn hole(&mut self, length: u64) -> Result<()> {
        self.put(&segment::HOLE.to_le_bytes())?;
        self.put(&length.to_le_bytes())
    }

    pub fn broken(&mut self, errno: Errno) -> Result<()> {
        self.put(&segment::BROKEN.to_le_bytes())?;
        self.put(&errno.0.to_le_bytes())
    }

    /// The last word: how it went (0: well), what was left out, and the path where it went wrong, or of the first that was left out.
    pub fn verdict(&mut self, errno: Errno, left: (u64, Errno), path: &[u8]) -> Result<()> {
        let head = EntryHead {
            kind: entry::VERDICT,
            mode: errno.0 as u32,
            uid: left.1.0 as u32,
            size: left.0,
            ..EntryHead::default()
        };
        self.entry(head, c"", path)?;
        self.flush()
    }
}
