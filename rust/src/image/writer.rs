//! A tar from entries: ustar, with PAX records where that has no room. Pure: the same entries, the same bytes. Walks no tree.
//!
//! No names of users, no times but that of the content, in whole seconds and, where it is said, none after a moment. Whoever gives the
//! entries decides on their order.

#[cfg(test)]
mod tests;

use super::archive::{Entry, EntryKind as Kind};
use std::io::{Error, ErrorKind, Result, Write};

const BLOCK: usize = 512;
/// What GNU tar and everybody after it fill the last record to is not needed: two blocks of zeros end an archive (pax(1)).
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
const NAME: usize = 100;
const PREFIX: usize = 155;
/// Of the header with the records; nobody extracts it.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// Octal digits have a place for so much: seven of an id, eleven of a size or time.
const ID_MAX: u64 = 0o7_777_777;
const LONG_MAX: u64 = 0o77_777_777_777;

pub struct Writer<W> {
    out: W,
    /// Seconds since 1970 that no time is after (SOURCE_DATE_EPOCH).
    latest: Option<i64>,
    /// Of the current entry: data that is still to come, and the padding after it.
    left: u64,
    padding: usize,
    entries: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, latest: Option<i64>) -> Writer<W> {
        Writer { out, latest, left: 0, padding: 0, entries: 0 }
    }

    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry; the data of the last one has to be complete. A file's data follows in as many pieces as one likes: all of it, or
    /// where there are `regions`, these one after the other.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.end_of_entry()?;
        let map = entry.regions.as_ref().map(|regions| map_of_holes(regions));
        let data = match (&entry.kind, &entry.regions) {
            (Kind::File, Some(regions)) => regions.iter().map(|(_, length)| length).sum(),
            (Kind::File, None) => entry.size,
            _ => 0,
        };
        let stored = data + map.as_ref().map_or(0, |map| map.len() as u64);
        let seconds = self.latest.map_or(entry.meta.mtime.0, |latest| latest.min(entry.meta.mtime.0));
        let head = Head { entry, name: spelt(entry), seconds, stored };
        let records = head.records();
        if !records.is_empty() {
            self.out.write_all(&pax_header(records.len() as u64))?;
            self.out.write_all(&records)?;
            self.out.write_all(&END[..padding_of(records.len() as u64)])?;
        }
        self.out.write_all(&head.block())?;
        self.out.write_all(&map.unwrap_or_default())?;
        self.left = data;
        self.padding = padding_of(stored);
        self.entries += 1;
        Ok(())
    }

    pub fn data(&mut self, data: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| broken("more data than was announced"))?;
        self.out.write_all(data)
    }

    /// The end marker.
    pub fn finish(mut self) -> Result<W> {
        self.end_of_entry()?;
        self.out.write_all(&END)?;
        Ok(self.out)
    }

    fn end_of_entry(&mut self) -> Result<()> {
        if self.left > 0 {
            return Err(broken("less data than was announced"));
        }
        self.out.write_all(&END[..std::mem::take(&mut self.padding)])
    }
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why.to_string())
}

fn padding_of(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// A directory's ends with a slash, as everybody writes it.
fn spelt(entry: &Entry) -> Vec<u8> {
    let slash = matches!(entry.kind, Kind::Directory) && !entry.name.ends_with(b"/");
    [&entry.name[..], if slash { b"/" } else { b"" }].concat()
}

/// PAX format 1.0 of GNU tar: decimal lines in front of the data, in whole blocks.
fn map_of_holes(regions: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", regions.len());
    for (offset, length) in regions {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

struct Head<'a> {
    entry: &'a Entry,
    name: Vec<u8>,
    seconds: i64,
    /// What lies in the archive after the header.
    stored: u64,
}

impl Head<'_> {
    /// What the header's block has no room for, and what no block has a place for; sorted.
    fn records(&self) -> Vec<u8> {
        let Entry { meta, link, .. } = self.entry;
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut say = |key: &str, value: &[u8]| found.push((key.into(), value.into()));
        let sparse = self.entry.regions.is_some();
        if sparse {
            say("GNU.sparse.major", b"1");
            say("GNU.sparse.minor", b"0");
            say("GNU.sparse.name", &self.name);
            say("GNU.sparse.realsize", self.entry.size.to_string().as_bytes());
        } else if split(&self.name).is_none() {
            say("path", &self.name);
        }
        if link.len() > NAME {
            say("linkpath", link);
        }
        for (key, value, most) in
            [("uid", meta.uid, ID_MAX), ("gid", meta.gid, ID_MAX), ("size", self.stored, LONG_MAX)]
        {
            if value > most {
                say(key, value.to_string().as_bytes());
            }
        }
        if self.seconds < 0 || self.seconds as u64 > LONG_MAX {
            say("mtime", self.seconds.to_string().as_bytes());
        }
        found.extend(meta.xattrs.iter().map(|(name, value)| {
            let key = [b"SCHILY.xattr.", &*quoted(name)].concat();
            (key, value.clone())
        }));
        // Only of names that the standard has no other word for.
        let texts = found.iter().filter(|(key, _)| matches!(&key[..], b"path" | b"linkpath" | b"GNU.sparse.name"));
        if texts.clone().any(|(_, value)| std::str::from_utf8(value).is_err()) {
            found.push((b"hdrcharset".into(), b"BINARY".into()));
        }
        found.sort();
        found.iter().flat_map(|(key, value)| record(key, value)).collect()
    }

    fn block(&self) -> [u8; BLOCK] {
        let Entry { kind, link, meta, .. } = self.entry;
        let mut block = Block([0; BLOCK]);
        let (prefix, name) = match self.entry.regions {
            Some(_) => (&b""[..], cut(&self.name)),
            None => split(&self.name).unwrap_or((b"", cut(&self.name))),
        };
        block.text(0, name);
        block.octal(100, 7, u64::from(meta.mode & 0o7777));
        block.octal(108, 7, within(meta.uid, ID_MAX));
        block.octal(116, 7, within(meta.gid, ID_MAX));
        block.octal(124, 11, within(self.stored, LONG_MAX));
        block.octal(136, 11, within(u64::try_from(self.seconds).unwrap_or(0), LONG_MAX));
        let (letter, device) = match *kind {
            Kind::File => (b'0', None),
            Kind::Hardlink => (b'1', None),
            Kind::Symlink => (b'2', None),
            Kind::CharDevice(major, minor) => (b'3', Some((major, minor))),
            Kind::BlockDevice(major, minor) => (b'4', Some((major, minor))),
            Kind::Directory => (b'5', None),
            Kind::Fifo => (b'6', None),
        };
        block.0[156] = letter;
        block.text(157, &link[..link.len().min(NAME)]);
        block.text(257, b"ustar\x0000");
        if let Some((major, minor)) = device {
            block.octal(329, 7, u64::from(major));
            block.octal(337, 7, u64::from(minor));
        }
        block.text(345, prefix);
        block.sealed()
    }
}

fn pax_header(length: u64) -> [u8; BLOCK] {
    let mut block = Block([0; BLOCK]);
    block.text(0, PAX_NAME);
    block.octal(100, 7, 0o644);
    block.octal(108, 7, 0);
    block.octal(116, 7, 0);
    block.octal(124, 11, length);
    block.octal(136, 11, 0);
    block.0[156] = b'x';
    block.text(257, b"ustar\x0000");
    block.sealed()
}

/// The block has none: who reads the records does not look, and who does not read them is not led astray.
fn within(value: u64, most: u64) -> u64 {
    if value > most { 0 } else { value }
}

/// (prefix, name): both have room, and a reader puts them together with a slash. None where there is no such place.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME {
        return Some((b"", name));
    }
    // The rightmost slash that leaves a prefix short enough; one at the end belongs to the name.
    let at = name[..(name.len() - 1).min(PREFIX + 1)].iter().rposition(|byte| *byte == b'/')?;
    (at > 0 && name.len() - at - 1 <= NAME).then(|| (&name[..at], &name[at + 1..]))
}

/// For who reads no records.
fn cut(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME)]
}

/// GNU tar's way to write an equals sign in a key; a percent sign where it would be taken for one.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for (i, byte) in name.iter().enumerate() {
        match (byte, &name[i + 1..]) {
            (b'=', _) => out.extend_from_slice(b"%3D"),
            (b'%', [b'3', b'D', ..] | [b'2', b'5', ..]) => out.extend_from_slice(b"%25"),
            _ => out.push(*byte),
        }
    }
    out
}

/// "LENGTH KEY=VALUE\n", LENGTH counting all of it, itself too.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = 3 + key.len() + value.len();
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

struct Block([u8; BLOCK]);

impl Block {
    fn text(&mut self, at: usize, text: &[u8]) {
        self.0[at..at + text.len()].copy_from_slice(text);
    }

    /// So many digits, and a zero after them.
    fn octal(&mut self, at: usize, digits: usize, value: u64) {
        let text = format!("{value:0digits$o}");
        self.text(at, text.as_bytes());
    }

    fn sealed(mut self) -> [u8; BLOCK] {
        self.text(148, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.text(148, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}
