//! Entries from a stream, each checked before anybody acts on it.

use super::{EXTRA_MAX, Stream, is_component};
use crate::sys::{Errno, Result};
use crate::wire::files::entry;
use crate::wire::{EntryHead, Reader};
use core::ffi::CStr;

pub struct Input<'a, S> {
    pub stream: S,
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    /// Of the last entry's extended attributes, or of a link's target: where in the buffer.
    extra: (usize, usize),
}

/// An entry without its content, in place.
pub struct Entry<'a> {
    pub head: EntryHead,
    pub name: &'a CStr,
    pub extra: &'a [u8],
}

impl<'a, S: Stream> Input<'a, S> {
    pub fn new(stream: S, buffer: &'a mut [u8]) -> Input<'a, S> {
        Input { stream, buffer, start: 0, end: 0, extra: (0, 0) }
    }

    /// PIPE at the end of the stream, which is never where something is expected.
    fn fill(&mut self) -> Result<()> {
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn need(&mut self, count: usize) -> Result<()> {
        if count > self.buffer.len() {
            return Err(Errno::PROTO);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + count > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < count {
            self.fill()?;
        }
        Ok(())
    }

    pub fn take(&mut self, count: usize) -> Result<&[u8]> {
        self.need(count)?;
        self.start += count;
        Ok(&self.buffer[self.start - count..self.start])
    }

    /// What there is, at least a byte, at most that many.
    pub fn some(&mut self, most: usize) -> Result<&[u8]> {
        self.need(1)?;
        let count = (self.end - self.start).min(most);
        self.take(count)
    }

    /// The last entry's, as long as nothing was read after it.
    pub fn extra(&self) -> &[u8] {
        &self.buffer[self.extra.0..self.extra.1]
    }

    pub fn u32(&mut self) -> Result<u32> {
        Reader::new(self.take(4)?).u32().ok_or(Errno::PROTO)
    }

    pub fn u64(&mut self) -> Result<u64> {
        Reader::new(self.take(8)?).u64().ok_or(Errno::PROTO)
    }

    /// The next entry: its lengths are bounded, its name is one component, or empty where the kind has none.
    pub fn entry(&mut self) -> Result<Entry<'_>> {
        let head = EntryHead::read(&mut Reader::new(self.take(EntryHead::LENGTH)?)).ok_or(Errno::PROTO)?;
        let (name, extra) = (head.name as usize + 1, head.extra as usize);
        if extra > EXTRA_MAX || name > 256 || !(entry::FILE..=entry::REGION).contains(&head.kind) {
            return Err(Errno::PROTO);
        }
        self.take(name + extra)?;
        self.extra = (self.start - extra, self.start);
        let (name, extra) = self.buffer[self.start - name - extra..self.start].split_at(name);
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::PROTO)?;
        if !name.is_empty() && !is_component(name) {
            return Err(Errno::PROTO);
        }
        Ok(Entry { head, name, extra })
    }
}
