//! Where each source goes, by BuildKit's rules (fsutil's copy package, which it copies with): the destination's links are followed, the
//! names beneath it are not; a directory merges with one, and takes no other thing's place, nor does a file a directory's.

use super::source::{Met, Thing, Tree, walk};
use super::unpack::{Spool, is_archive, unpack};
use super::view::{Data, Node, View, not_a_directory};
use super::{Content, Input, Wanted, failed, shown};
use crate::error::{Error, Result};
use crate::image::archive::{EntryKind, Meta};
use crate::image::locks::Check;
use crate::image::store::Store;
use crate::image::union::{Seen, join, last};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

pub struct Placing<'a, 'v> {
    pub view: &'v mut View,
    pub store: &'a Store,
    pub wanted: &'a Wanted<'a>,
    pub owner: Option<(u32, u32)>,
    /// The content of archives, made when there is one.
    pub spool: Option<Spool>,
}

impl Placing<'_, '_> {
    pub fn input(&mut self, input: Input<'_>, check: Check<'_>) -> Result<()> {
        match input {
            Input::Path { tree, path, taken, unpacks } => {
                self.path(&Arc::new(tree.again()), &path, taken.as_deref(), unpacks, check)
            }
            Input::File { name, content: Content::File(file), unpacks: true, .. }
                if is_archive(&file).map_err(|error| about(&name, error))? =>
            {
                self.unpack(file, &name, check)
            }
            Input::File { name, content, mode, mtime, .. } => self.inline(&name, content, mode, mtime),
        }
    }

    fn path(
        &mut self,
        tree: &Arc<Tree>,
        path: &[u8],
        taken: Option<&[Vec<u8>]>,
        unpacks: bool,
        check: Check<'_>,
    ) -> Result<()> {
        let mut cursor = tree.cursor();
        let met = tree.find(&mut cursor, path)?.ok_or_else(|| failed("copy", path, Errno::NOENT))?;
        if unpacks
            && met.kind() == FileType::RegularFile
            && let Some(file) = self.archive(&met, path)?
        {
            return self.unpack(file, path, check);
        }
        let is_directory = matches!(met.found, Thing::Directory(_));
        let target = if is_directory { self.directory()? } else { self.file_target(last(path))? };
        let mut links = HashMap::new();
        walk(tree, path, taken, check, &mut |name, met, _| {
            if is_directory && name.is_empty() {
                return Ok(()); // its content is taken, not the directory
            }
            let target = join(&target, name);
            let node = self.node(tree, met, &join(path, name), &mut links)?;
            self.put(&target, node)
        })
    }

    fn archive(&self, met: &Met, path: &[u8]) -> Result<Option<File>> {
        let file = met.file().map_err(|errno| failed("open", path, errno))?;
        is_archive(&file).map(|is| is.then_some(file)).map_err(|error| about(path, error))
    }

    fn unpack(&mut self, file: File, path: &[u8], check: Check<'_>) -> Result<()> {
        let destination = self.directory()?;
        let spool = match self.spool.take() {
            Some(spool) => spool,
            None => Spool::new(self.store)?,
        };
        let spool = self.spool.insert(spool);
        unpack(self.view, spool, file, &destination, check).map_err(|error| about(path, error))
    }

    fn inline(&mut self, name: &[u8], content: Content, mode: u32, mtime: Option<i64>) -> Result<()> {
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) || matches!(name, b"." | b"..") {
            return Err(Error::Value(format!("{:?} is no name of a file", String::from_utf8_lossy(name))));
        }
        let data = match content {
            Content::Bytes(bytes) => Data::Bytes(bytes.into()),
            Content::File(file) => {
                let seen = super::source::stat_of(&file).map_err(|errno| failed("read", name, errno))?;
                if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
                    return Err(Error::Value(format!("{:?} is no regular file", String::from_utf8_lossy(name))));
                }
                Data::Open(Arc::new(file), seen.st_size as u64)
            }
        };
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        let mtime = (mtime.unwrap_or(self.wanted.made), 0);
        let mode = self.mode(mode & 0o7777, false);
        let meta = Meta { mode, uid: uid.into(), gid: gid.into(), mtime, xattrs: Vec::new() };
        let target = self.file_target(name)?;
        self.put(&target, Node { data, ..Node::new(EntryKind::File, meta) })
    }

    fn mode(&self, mode: u32, is_directory: bool) -> u32 {
        self.wanted.change.as_ref().map_or(mode, |change| change.apply(mode, is_directory))
    }

    /// The destination as a directory, made where it is missing.
    fn directory(&mut self) -> Result<Vec<u8>> {
        let (path, seen) = self.view.resolve(&self.wanted.destination)?;
        match seen {
            Seen::Directory | Seen::Nothing => self.view.ensure(&path)?,
            _ => return Err(not_a_directory(&path)),
        }
        Ok(path)
    }

    /// Where a file of this name goes: into the destination if that is a directory, else there.
    fn file_target(&mut self, name: &[u8]) -> Result<Vec<u8>> {
        let (path, seen) = self.view.resolve(&self.wanted.destination)?;
        if self.wanted.is_directory || seen == Seen::Directory {
            return Ok(join(&self.directory()?, name));
        }
        Ok(path)
    }

    fn put(&mut self, target: &[u8], mut node: Node) -> Result<()> {
        let there = self.view.look(target)?;
        if node.kind == EntryKind::Directory {
            match there {
                Seen::Nothing => {}
                Seen::Directory => node.is_opaque = self.view.node(target).is_some_and(|node| node.is_opaque),
                _ => {
                    let text = format!("cannot copy a directory to {}, which is none", shown(target));
                    return Err(Error::Layer(text));
                }
            }
        } else if there == Seen::Directory {
            return Err(Error::Layer(format!("cannot replace the directory {} with a file", shown(target))));
        }
        self.view.put(target, node)
    }

    /// `links`: the files of more than one name that came already, by device and inode.
    fn node(&mut self, tree: &Arc<Tree>, met: &Met, path: &[u8], links: &mut HashMap<(u64, u64), u64>) -> Result<Node> {
        let kind = kind_of(tree, met, path)?;
        let mut meta = tree.meta(&met.seen);
        if let Some((uid, gid)) = self.owner {
            (meta.uid, meta.gid) = (uid.into(), gid.into());
        }
        if kind != EntryKind::Symlink {
            meta.mode = self.mode(meta.mode, kind == EntryKind::Directory);
        }
        meta.xattrs = met.directory().map(|fd| tree.attributes(fd)).unwrap_or_default();
        let mut node = Node::new(kind, meta);
        match &met.found {
            Thing::Link(target) => node.target.clone_from(target),
            Thing::Other(..) if kind == EntryKind::File => {
                node.data = Data::Tree(tree.clone(), met.path.clone(), met.seen);
                if met.seen.st_nlink > 1 {
                    let view = &mut *self.view;
                    let known = links.entry((met.seen.st_dev, met.seen.st_ino));
                    node.inode = Some(*known.or_insert_with(|| view.new_inode()));
                }
            }
            _ => {}
        }
        Ok(node)
    }
}

fn kind_of(tree: &Tree, met: &Met, path: &[u8]) -> Result<EntryKind> {
    let device = (rustix::fs::major(met.seen.st_rdev), rustix::fs::minor(met.seen.st_rdev));
    let no = |what: &str| Error::Layer(format!("{} is a {what}", String::from_utf8_lossy(path)));
    Ok(match met.kind() {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice if !tree.is_context() => EntryKind::CharDevice(device.0, device.1),
        FileType::BlockDevice if !tree.is_context() => EntryKind::BlockDevice(device.0, device.1),
        FileType::Socket => return Err(no("socket, which no layer can have")),
        _ => return Err(no("device, which is not copied from a context")),
    })
}

/// An error of an archive names it.
fn about(path: &[u8], error: Error) -> Error {
    match error {
        Error::Layer(text) => Error::Layer(format!("{}: {text}", String::from_utf8_lossy(path))),
        other => other,
    }
}
