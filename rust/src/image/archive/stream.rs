//! The archive as a sequence of entries: extension headers applied, sizes decided, data handed out. Writes nothing.

use super::header::{self, BLOCK, Head, Parsed};
use super::pax::{self, Pax};
use super::sparse::{self, Region};
use crate::error::{Error, Result};
use std::io::Read;

pub const NAME_MAX: usize = 4095; // PATH_MAX without its NUL
const PAX_MAX: u64 = 1 << 20; // Go's archive/tar takes as much

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// What an inode is given beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: (i64, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub meta: Meta,
    /// The file's length; its data is shorter where it has holes.
    pub size: u64,
    /// Where the data goes, for a file with holes.
    pub regions: Option<Vec<Region>>,
}

/// What came before a header and belongs to it.
#[derive(Debug, Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.pax.is_none()
    }
}

#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Of the current entry: data not yet read, and the padding after it.
    left: u64,
    padding: u64,
    /// The entry that an error is about.
    about: Vec<u8>,
    needs_marker: bool,
}

impl<R: Read> Reader<R> {
    pub fn new(input: R) -> Self {
        Reader { input, left: 0, padding: 0, about: Vec::new(), needs_marker: true }
    }

    /// Of a layer, which may end without the end marker, as Go's readers take it: a digest vouches that nothing is cut off.
    pub fn of_layer(input: R) -> Self {
        Reader { needs_marker: false, ..Reader::new(input) }
    }

    /// The next entry; None after the end marker. Data of the last one that nobody read is passed over.
    #[allow(clippy::should_implement_trait)] // it is read from between two entries, which an iterator that is borrowed is not
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.finish_entry()?;
        let mut extensions = Extensions::default();
        let mut first = true;
        loop {
            self.about.clear();
            let mut block = [0; BLOCK];
            if !self.fill(&mut block, true)? {
                if first && !self.needs_marker {
                    return Ok(None);
                }
                return Err(self.damaged(if first { "it ends without an end marker" } else { "it ends in a header" }));
            }
            if block == [0; BLOCK] {
                return if first { self.end().map(|()| None) } else { Err(self.damaged("a header without its entry")) };
            }
            let head = header::parse(&block).map_err(|text| self.damaged(&text))?;
            if !self.extension(&head, &mut extensions)? {
                return self.entry(&head, extensions, &block).map(Some);
            }
            first = extensions.is_empty();
        }
    }

    /// Data of the current entry; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        self.fill(&mut buffer[..wanted], false)?;
        self.left -= wanted as u64;
        Ok(wanted)
    }

    /// The compressed stream behind it all, once the entries are read.
    pub fn into_input(self) -> R {
        self.input
    }

    pub fn damaged(&self, what: &str) -> Error {
        match String::from_utf8_lossy(&self.about) {
            about if about.is_empty() => Error::Layer(what.into()),
            about => Error::Layer(format!("entry {about:?}: {what}")),
        }
    }

    /// After the marker only zeros may follow: what another reader would take for entries is not passed over in silence.
    fn end(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if buffer[..n].iter().all(|byte| *byte == 0) => {}
                Ok(_) => return Err(self.damaged("something follows its end marker")),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
    }

    fn finish_entry(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        while self.read(&mut buffer)? > 0 {}
        let padding = std::mem::take(&mut self.padding) as usize;
        self.fill(&mut buffer[..padding], false).map(drop)
    }

    /// Fills the buffer. False at an end of the stream before the first byte, where one may be.
    fn fill(&mut self, buffer: &mut [u8], may_end: bool) -> Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 && may_end => return Ok(false),
                Ok(0) => return Err(self.damaged("the archive is cut short")),
                Ok(n) => filled += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        Ok(true)
    }

    /// An error with a number came from the kernel; one without from a decompressor or a budget.
    fn unreadable(&self, error: &std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(errno) => Error::setup("read the archive", errno),
            None => self.damaged(&error.to_string()),
        }
    }

    /// Takes an extension header; false for the header of an entry.
    fn extension(&mut self, head: &Head, to: &mut Extensions) -> Result<bool> {
        match head.kind {
            b'g' if to.is_empty() => {
                let data = self.body(head, PAX_MAX)?;
                pax::check_global(&data).map_err(|text| self.damaged(&text))?;
            }
            b'x' if to.is_empty() => {
                let data = self.body(head, PAX_MAX)?;
                to.pax = Some(pax::parse(&data).map_err(|text| self.damaged(&text))?);
            }
            b'L' if to.pax.is_none() && to.long_name.is_none() => to.long_name = Some(self.long(head)?),
            b'K' if to.pax.is_none() && to.long_link.is_none() => to.long_link = Some(self.long(head)?),
            b'V' if to.is_empty() && head.size == 0 => {}
            b'g' | b'x' | b'L' | b'K' => return Err(self.damaged("extension headers that contradict each other")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn body(&mut self, head: &Head, most: u64) -> Result<Vec<u8>> {
        if head.size > most {
            return Err(self.damaged(&format!("an extension header of {} bytes", head.size)));
        }
        let mut data = vec![0; head.size as usize];
        self.fill(&mut data, false)?;
        let mut padding = [0; BLOCK];
        self.fill(&mut padding[..padding_of(head.size) as usize], false)?;
        Ok(data)
    }

    /// A GNU long name: ends with NUL, has none within.
    fn long(&mut self, head: &Head) -> Result<Vec<u8>> {
        let mut data = self.body(head, NAME_MAX as u64 + 1)?;
        if data.last() == Some(&0) {
            data.pop();
        }
        if data.is_empty() || data.contains(&0) {
            return Err(self.damaged("a long name that is empty or has a NUL byte"));
        }
        Ok(data)
    }

    fn entry(&mut self, head: &Head, extensions: Extensions, block: &[u8; BLOCK]) -> Result<Entry> {
        let mut pax = extensions.pax.unwrap_or_default();
        let name = extensions.long_name.or(pax.path.take()).unwrap_or_else(|| head.name.clone());
        self.about = pax.sparse_name.clone().unwrap_or(name);
        let link = extensions.long_link.or(pax.link.take()).unwrap_or_else(|| head.link.clone());
        let stored = pax.size.unwrap_or(head.size);
        let (kind, stored) = kind_of(head, &self.about, stored).map_err(|text| self.damaged(&text))?;
        if matches!(kind, Kind::Symlink | Kind::Hardlink) && (link.is_empty() || link.len() > NAME_MAX) {
            return Err(self.damaged("a link without a target, or with one that is too long"));
        }
        self.left = stored;
        self.padding = padding_of(stored);
        let (size, regions) = self.holes(head, &pax, block)?;
        let mtime = pax.mtime.unwrap_or((head.mtime, 0));
        let (uid, gid) = (pax.uid.unwrap_or(head.uid), pax.gid.unwrap_or(head.gid));
        let meta = Meta { mode: head.mode, uid, gid, mtime, xattrs: pax.xattrs };
        Ok(Entry { kind, name: self.about.clone(), link, meta, size, regions })
    }

    /// (length of the file, where its data goes): GNU's old format, or PAX 1.0 with the map in front of the data.
    fn holes(&mut self, head: &Head, pax: &Pax, block: &[u8; BLOCK]) -> Result<(u64, Option<Vec<Region>>)> {
        let (size, regions) = match (head.kind, pax.sparse_version, pax.sparse_size) {
            (b'S', [None, None], None) if pax.sparse_name.is_none() => {
                let mut map = sparse::OldMap::new(block).map_err(|text| self.damaged(&text))?;
                while map.continues() {
                    let mut more = [0; BLOCK];
                    self.fill(&mut more, false)?; // in front of the data, and not counted in its size
                    map.extend(&more).map_err(|text| self.damaged(&text))?;
                }
                map.finish()
            }
            (b'0', [Some(1), Some(0)], Some(size)) if pax.sparse_name.is_some() => {
                let mut map = sparse::PaxMap::default();
                while !map.is_whole() {
                    let mut more = [0; BLOCK];
                    if self.read(&mut more)? < BLOCK {
                        return Err(self.damaged("its map of holes is cut short"));
                    }
                    map.extend(&more).map_err(|text| self.damaged(&text))?;
                }
                (size, map.finish())
            }
            (b'S', ..) => return Err(self.damaged("two maps of its holes")),
            (_, [None, None], None) if pax.sparse_name.is_none() => return Ok((self.left, None)),
            _ => return Err(self.damaged("a map of holes that is incomplete, or on what is no file")),
        };
        sparse::check(&regions, size, self.left).map_err(|text| self.damaged(&text))?;
        Ok((size, Some(regions)))
    }
}

fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// The kind, and how much data follows. What has no data must not say that it has: readers disagree on what comes next.
fn kind_of(head: &Head, name: &[u8], size: u64) -> Parsed<(Kind, u64)> {
    let kind = match head.kind {
        // Before ustar a directory was a file with a slash (tar(5), "Old-Style Archive Format").
        0 | b'0' if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => return Ok((Kind::File, size)),
        b'S' if head.is_gnu => return Ok((Kind::File, size)),
        b'1' => Kind::Hardlink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice(head.device.0, head.device.1),
        b'4' => Kind::BlockDevice(head.device.0, head.device.1),
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(format!("entries of type {:?} are not supported", char::from(other))),
    };
    if size > 0 { Err("data where there can be none".into()) } else { Ok((kind, 0)) }
}
