//! ADD of a tar: its entries beneath the destination. Each name leads where it would lead in a container, through links below and those
//! that came before in the same archive, and never out of the root (moby's TestBuildSymlinkBreakout, CVE-2020-10696).

use super::go_on;
use super::source::Thing;
use super::view::{Data, Node, View};
use crate::error::{Error, Result};
use crate::image::archive::tree::components;
use crate::image::archive::{Entry, EntryKind, Reader, Source, is_header};
use crate::image::locks::Check;
use crate::image::store::Store;
use crate::image::union::{Seen, join};
use rustix::fs::FileType;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

const CHUNK: usize = 256 << 10;

/// The contents of archives, one after the other, in a file without a name: an archive is read once, and a layer is written in order.
pub struct Spool {
    file: File,
    length: u64,
}

impl Spool {
    pub fn new(store: &Store) -> Result<Spool> {
        Ok(Spool { file: store.scratch()?, length: 0 })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    fn put(&mut self, data: &[u8]) -> Result<()> {
        self.length += data.len() as u64;
        self.file.write_all(data).map_err(|error| match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::ENOSPC | libc::EDQUOT => Error::NoSpace { path: None },
            errno => Error::setup("write to the store", errno),
        })
    }
}

/// By its content, whatever its name. Compressed by bzip2 or xz, it is refused: docker would unpack it.
pub fn is_archive(file: &File) -> Result<bool> {
    let file =
        file.try_clone().map_err(|error| Error::setup("copy a descriptor", error.raw_os_error().unwrap_or(24)))?;
    let mut tar = Source::of_file(file).tar().map_err(|error| match error {
        Error::Layer(text) => Error::Layer(format!("{text}; COPY takes it as it is")),
        other => other,
    })?;
    let mut block = [0; 512];
    match tar.read_exact(&mut block) {
        Ok(()) => Ok(is_header(&block)),
        Err(error) => match error.raw_os_error() {
            Some(errno) => Err(Error::setup("read the archive", errno)),
            None => Ok(false), // too short, or not what it seemed to be packed with
        },
    }
}

/// Lay what is in the archive below a directory. Owners and modes are the archive's: --chown is not for them, as with
/// docker and buildah.
pub fn unpack(view: &mut View, spool: &mut Spool, file: File, destination: &[u8], check: Check<'_>) -> Result<()> {
    let mut reader = Reader::new(Source::of_file(file).tar()?);
    let mut unpacking = Unpacking { view, spool, destination, buffer: vec![0; CHUNK] };
    while let Some(entry) = reader.next()? {
        go_on(check)?;
        unpacking.entry(&entry, &mut reader, check).map_err(|error| match error {
            Error::Layer(text) if !text.starts_with("entry ") => {
                Error::Layer(format!("entry {:?}: {text}", String::from_utf8_lossy(&entry.name)))
            }
            other => other,
        })?;
    }
    Ok(())
}

struct Unpacking<'a> {
    view: &'a mut View,
    spool: &'a mut Spool,
    destination: &'a [u8],
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>, check: Check<'_>) -> Result<()> {
        let parts = components(&entry.name)?;
        let Some((name, above)) = parts.split_last() else {
            let is_directory = entry.kind == EntryKind::Directory;
            return if is_directory { Ok(()) } else { Err(Error::Layer("the destination is a directory".into())) };
        };
        let target = join(&self.beneath(above)?, name);
        if entry.kind == EntryKind::CharDevice(0, 0) {
            return Err(Error::Layer("character device 0:0, which an overlay takes for a deleted file".into()));
        }
        let node = match entry.kind {
            EntryKind::Hardlink => match self.linked(entry, &target)? {
                Some(node) => node,
                None => return Ok(()), // it is that file already
            },
            _ => self.node(entry, reader, check)?,
        };
        let there = self.view.look(&target)?;
        if node.kind == EntryKind::Directory && there == Seen::Directory {
            let is_opaque = self.view.node(&target).is_some_and(|node| node.is_opaque);
            return self.view.put(&target, Node { is_opaque, ..node });
        }
        self.view.clear(&target);
        // What is below is gone with what took its place, and a directory that comes after does not bring it back.
        let is_opaque = node.kind == EntryKind::Directory && self.view.covers_directory(&target)?;
        self.view.put(&target, Node { is_opaque, ..node })
    }

    /// A directory of the archive, made where it is missing.
    fn beneath(&mut self, parts: &[&[u8]]) -> Result<Vec<u8>> {
        let (path, seen) = self.view.resolve(&join(self.destination, &parts.join(&b'/')))?;
        match seen {
            Seen::Directory | Seen::Nothing => self.view.ensure(&path)?,
            _ => return Err(super::view::not_a_directory(&path)),
        }
        Ok(path)
    }

    fn node<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>, check: Check<'_>) -> Result<Node> {
        let mut meta = entry.meta.clone();
        if meta.uid >= u32::MAX.into() || meta.gid >= u32::MAX.into() {
            return Err(Error::Layer(format!("owner {}:{} is out of range", meta.uid, meta.gid)));
        }
        meta.mtime.1 = 0;
        meta.xattrs.retain(|(name, _)| {
            let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            of_user || name == b"security.capability"
        });
        meta.xattrs.sort();
        let mut node = Node::new(entry.kind, meta);
        node.target.clone_from(&entry.link);
        if entry.kind == EntryKind::File {
            let offset = self.spool.length;
            loop {
                go_on(check)?;
                match reader.read(&mut self.buffer)? {
                    0 => break,
                    n => self.spool.put(&self.buffer[..n])?,
                }
            }
            let length = self.spool.length - offset;
            node.data = Data::Spool { offset, length, regions: entry.regions.clone(), size: entry.size };
        }
        Ok(node)
    }

    /// The file that a hard link names, of the archive or below; the last name is not followed. None where the link is that file.
    fn linked(&mut self, entry: &Entry, target: &[u8]) -> Result<Option<Node>> {
        let parts = components(&entry.link).map_err(|_| Error::Layer("its target leads out of the root".into()))?;
        let (name, above) = parts.split_last().ok_or_else(|| Error::Layer("a hard link to the root".into()))?;
        let missing = || Error::Layer("a hard link to what is not there".into());
        let (directory, seen) = self.view.resolve(&join(self.destination, &above.join(&b'/')))?;
        if seen != Seen::Directory {
            return Err(missing());
        }
        let from = join(&directory, name);
        if from == target {
            return Ok(None);
        }
        let inode = self.view.new_inode();
        if let Some(node) = self.view.node_mut(&from) {
            if node.kind == EntryKind::Directory {
                return Err(Error::Layer("a hard link to a directory".into()));
            }
            node.inode = node.inode.or(Some(inode));
            return Ok(Some(node.clone()));
        }
        let met = self.view.below(&from)?.ok_or_else(missing)?;
        let tree = Arc::new(self.view.below_tree());
        let mut node = Node::new(EntryKind::File, tree.meta(&met.seen));
        match &met.found {
            Thing::Directory(_) => return Err(Error::Layer("a hard link to a directory".into())),
            Thing::Link(text) => (node.kind, node.target) = (EntryKind::Symlink, text.clone()),
            Thing::Other(..) if met.kind() == FileType::RegularFile => {
                node.data = Data::Tree(tree, met.path.clone(), met.seen);
            }
            Thing::Other(..) => return Err(Error::Layer("a hard link to a device below".into())),
        }
        node.inode = Some(inode);
        // The name below becomes one of the file's too: a layer holds a link only to what is in it.
        self.view.put(&from, node.clone())?;
        Ok(Some(node))
    }
}
