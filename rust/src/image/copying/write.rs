//! The tree of a layer into the store, in the order of its paths, with the contents from where they are.

use super::source::{Tree, is_same, stat_of};
use super::unpack::Spool;
use super::view::{Data, Node, View};
use super::{failed, go_on, shown};
use crate::error::{Error, Result};
use crate::image::archive::{Entry, EntryKind, Meta};
use crate::image::locks::Check;
use crate::image::packed::{self, Layer, Packed, of_io};
use crate::image::store::Store;
use crate::image::union::{Cursor, join};
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const CHUNK: usize = 256 << 10;
/// Holes below this are zeros like others, so that a file system that makes small ones makes no other layer.
const HOLES_LEAST: u64 = 1 << 20;
const REGIONS_MAX: usize = 10_000;

pub fn write(
    store: &Store,
    view: View,
    spool: Option<Spool>,
    latest: Option<i64>,
    check: Check<'_>,
) -> Result<Option<Layer>> {
    let Some(nodes) = view.finish() else { return Ok(None) };
    let out = packed::begin(store, latest)?;
    let mut writing = Writing { out, spool, names: HashMap::new(), cursor: None, buffer: vec![0; CHUNK] };
    for (path, node) in &nodes {
        go_on(check)?;
        if path.is_empty() && is_plain(&node.meta) {
            continue; // as every reader makes a root by itself
        }
        writing.node(path, node, check)?;
    }
    packed::finish(writing.out)
}

fn is_plain(meta: &Meta) -> bool {
    (meta.mode, meta.uid, meta.gid, meta.xattrs.is_empty()) == (0o755, 0, 0, true)
}

struct Writing<'a> {
    out: Packed<'a>,
    spool: Option<Spool>,
    /// Of files of more than one name, the first.
    names: HashMap<u64, Vec<u8>>,
    /// Of the tree that the last content came from.
    cursor: Option<(Arc<Tree>, Cursor)>,
    buffer: Vec<u8>,
}

impl Writing<'_> {
    fn node(&mut self, path: &[u8], node: &Node, check: Check<'_>) -> Result<()> {
        let name = if path.is_empty() { b"./".to_vec() } else { path.to_vec() };
        let mut entry =
            Entry { kind: node.kind, name, link: node.target.clone(), meta: node.meta.clone(), size: 0, regions: None };
        let known = node.inode.and_then(|inode| self.names.get(&inode));
        if let Some(first) = known {
            (entry.kind, entry.link) = (EntryKind::Hardlink, first.clone());
            entry.meta.xattrs.clear();
            return self.out.entry(&entry).map_err(of_io);
        }
        if let Some(inode) = node.inode {
            self.names.insert(inode, path.to_vec());
        }
        if node.kind == EntryKind::File {
            return self.file(path, entry, &node.data, check);
        }
        self.out.entry(&entry).map_err(of_io)?;
        if node.is_opaque {
            let meta = Meta { mode: 0o644, mtime: node.meta.mtime, ..Meta::default() };
            let (kind, name) = (EntryKind::File, join(path, b".wh..wh..opq"));
            self.out.entry(&Entry { kind, name, link: Vec::new(), meta, size: 0, regions: None }).map_err(of_io)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8], mut entry: Entry, data: &Data, check: Check<'_>) -> Result<()> {
        match data {
            Data::None => self.out.entry(&entry).map_err(of_io),
            Data::Bytes(bytes) => {
                entry.size = bytes.len() as u64;
                self.out.entry(&entry).and_then(|()| self.out.data(bytes)).map_err(of_io)
            }
            Data::Open(file, size) => {
                entry.size = *size;
                self.out.entry(&entry).map_err(of_io)?;
                self.copy(path, file, 0, *size, check)
            }
            Data::Spool { offset, length, regions, size } => {
                (entry.size, entry.regions) = (*size, regions.clone());
                self.out.entry(&entry).map_err(of_io)?;
                let file = self.spool.as_ref().and_then(|spool| spool.file().try_clone().ok());
                let file = file.ok_or_else(|| Error::setup("copy a descriptor", libc::EMFILE))?;
                self.copy(path, &file, *offset, *length, check)
            }
            Data::Tree(tree, place, seen) => {
                let file = self.open(tree, place, seen)?;
                entry.size = seen.st_size as u64;
                entry.meta.xattrs = tree.attributes(file.as_fd());
                entry.regions = regions(&file, seen);
                self.out.entry(&entry).map_err(of_io)?;
                for (offset, length) in entry.regions.unwrap_or_else(|| vec![(0, entry.size)]) {
                    self.copy(place, &file, offset, length, check)?;
                }
                Ok(())
            }
        }
    }

    /// What was looked at, or an error: whatever was put under its name meanwhile is not taken for it.
    fn open(&mut self, tree: &Arc<Tree>, path: &[u8], seen: &Stat) -> Result<File> {
        let cursor = match self.cursor.take() {
            Some((last, cursor)) if Arc::ptr_eq(&last, tree) => cursor,
            _ => tree.cursor(),
        };
        let (_, cursor) = self.cursor.insert((tree.clone(), cursor));
        let fail = |errno| failed("copy", path, errno);
        let met = tree.met(cursor, path.to_vec()).map_err(fail)?.ok_or_else(|| changed(path))?;
        let file = met.file().map_err(|errno| match errno {
            Errno::INVAL | Errno::LOOP | Errno::NOENT => changed(path),
            errno => fail(errno),
        })?;
        let now = stat_of(&file).map_err(fail)?;
        if is_same(seen, &now) { Ok(file) } else { Err(changed(path)) }
    }

    fn copy(&mut self, path: &[u8], file: &File, offset: u64, length: u64, check: Check<'_>) -> Result<()> {
        let mut done = 0;
        while done < length {
            go_on(check)?;
            let wanted = self.buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
            match file.read_at(&mut self.buffer[..wanted], offset + done) {
                Ok(0) => return Err(changed(path)),
                Ok(n) => {
                    done += n as u64;
                    self.out.data(&self.buffer[..n]).map_err(of_io)?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(path, &error)),
            }
        }
        Ok(())
    }
}

/// Where a file has data, if it has holes that are worth a map: (offset, length), in order.
fn regions(file: &File, seen: &Stat) -> Option<Vec<(u64, u64)>> {
    let size = seen.st_size as u64;
    if size < seen.st_blocks as u64 * 512 + HOLES_LEAST {
        return None;
    }
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            found => found.ok()?.min(size),
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(data)).ok()?.min(size);
        if at > data {
            found.push((data, at - data));
        }
        if found.len() > REGIONS_MAX {
            return None;
        }
    }
    Some(found)
}

fn changed(path: &[u8]) -> Error {
    Error::Layer(format!("{} changed while it was copied", shown(path)))
}

fn unreadable(path: &[u8], error: &std::io::Error) -> Error {
    Error::setup_at("read", String::from_utf8_lossy(path), error.raw_os_error().unwrap_or(libc::EIO))
}
