//! The tree of a layer that is being made, laid over what is below: where paths lead in both, and what the layer will have.

use super::source::{Met, Thing, Tree};
use super::{failed, shown};
use crate::error::{Error, Result};
use crate::image::archive::{EntryKind, Meta};
use crate::image::union::{self, Cursor, Found, Seen, join, last, parent};
use rustix::fs::Stat;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;

const ENTRIES_MAX: usize = 4_000_000;
const PATH_MAX: usize = 4095;

/// One entry of the layer.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: EntryKind,
    /// Of a symbolic link.
    pub target: Vec<u8>,
    pub meta: Meta,
    pub data: Data,
    /// Nodes with the same number are one file.
    pub inode: Option<u64>,
    /// A directory that shows nothing of those below.
    pub is_opaque: bool,
}

/// Where the content of a file is.
#[derive(Debug, Clone)]
pub enum Data {
    None,
    Bytes(Arc<[u8]>),
    /// A file that is open, and its length.
    Open(Arc<std::fs::File>, u64),
    /// A path of a tree, without links, and what it was when it was looked at.
    Tree(Arc<Tree>, Vec<u8>, Stat),
    /// Of the spool: where it begins, its length there, and where its pieces go, if it has holes.
    Spool {
        offset: u64,
        length: u64,
        regions: Option<Vec<(u64, u64)>>,
        size: u64,
    },
}

impl Node {
    pub fn new(kind: EntryKind, meta: Meta) -> Node {
        Node { kind, target: Vec::new(), meta, data: Data::None, inode: None, is_opaque: false }
    }

    fn seen(&self) -> Seen {
        match self.kind {
            EntryKind::Directory => Seen::Directory,
            EntryKind::Symlink => Seen::Link(self.target.clone()),
            _ => Seen::Other,
        }
    }
}

pub struct View {
    tree: Tree,
    below: Cursor,
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Whether anything is in it but directories as they are below.
    is_changed: bool,
    owner: (u32, u32),
    made: i64,
    inodes: u64,
}

pub fn not_a_directory(path: &[u8]) -> Error {
    Error::Layer(format!("{} is there, and is no directory", shown(path)))
}

impl View {
    /// `owner` and `made`, seconds since 1970, are those of directories that are missing.
    pub fn new(tree: Tree, owner: (u32, u32), made: i64) -> View {
        let below = tree.cursor();
        View { tree, below, nodes: BTreeMap::new(), is_changed: false, owner, made, inodes: 0 }
    }

    /// Where a path leads and what is there; the rest of it behind what is missing is words.
    pub fn resolve(&mut self, path: &[u8]) -> Result<(Vec<u8>, Seen)> {
        let found = union::resolve(path, &mut |directory, name| self.seen(directory, name));
        found.map_err(|errno| match errno {
            Errno::NOTDIR => Error::Layer(format!("{}: a file is in its way", String::from_utf8_lossy(path))),
            errno => failed("look up", path, errno),
        })
    }

    /// What is at a path that has no links on its way.
    pub fn look(&mut self, path: &[u8]) -> Result<Seen> {
        if path.is_empty() {
            return Ok(Seen::Directory);
        }
        self.seen(parent(path), last(path)).map_err(|errno| failed("look up", path, errno))
    }

    fn seen(&mut self, directory: &[u8], name: &[u8]) -> rustix::io::Result<Seen> {
        if let Some(node) = self.nodes.get(&join(directory, name)) {
            return Ok(node.seen());
        }
        if self.hides_below(directory) {
            return Ok(Seen::Nothing);
        }
        Ok(self.below.look(directory, name)?.seen())
    }

    /// Whether the layer has something at this path, or above it, beneath which nothing of what is below is seen.
    fn hides_below(&self, path: &[u8]) -> bool {
        let mut at = path;
        while !at.is_empty() {
            if self.nodes.get(at).is_some_and(|node| node.is_opaque || node.kind != EntryKind::Directory) {
                return true;
            }
            at = parent(at);
        }
        false
    }

    /// A file below, for who makes a link to it.
    pub fn below(&mut self, path: &[u8]) -> Result<Option<Met>> {
        if self.hides_below(path) {
            return Ok(None);
        }
        self.tree.met(&mut self.below, path.to_vec()).map_err(|errno| failed("look up", path, errno))
    }

    pub fn below_tree(&self) -> Tree {
        self.tree.again()
    }

    /// A number for a file of more than one name.
    pub fn new_inode(&mut self) -> u64 {
        self.inodes += 1;
        self.inodes
    }

    pub fn node(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub fn node_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    /// A directory that has to be there, with those above it. Those that are there come into the layer as they are, because a layer's
    /// entry for a directory decides on its mode, and not every engine looks below for one that is only implied.
    pub fn ensure(&mut self, path: &[u8]) -> Result<()> {
        if self.nodes.get(path).is_some_and(|node| node.kind == EntryKind::Directory) {
            return Ok(());
        }
        if path.is_empty() {
            return self.take_root();
        }
        self.ensure(parent(path))?;
        if self.nodes.contains_key(path) {
            return Err(not_a_directory(path));
        }
        let below = self.below(path)?;
        let node = match below {
            None => {
                self.is_changed = true;
                let (uid, gid) = self.owner;
                let (uid, gid, mtime) = (uid.into(), gid.into(), (self.made, 0));
                Node::new(EntryKind::Directory, Meta { mode: 0o755, uid, gid, mtime, xattrs: Vec::new() })
            }
            Some(met) if matches!(met.found, Thing::Directory(_)) => self.as_below(&met),
            Some(_) => return Err(not_a_directory(path)),
        };
        self.insert(path, node)
    }

    fn as_below(&self, met: &Met) -> Node {
        let mut meta = self.tree.meta(&met.seen);
        meta.xattrs = met.directory().map(|fd| self.tree.attributes(fd)).unwrap_or_default();
        Node::new(EntryKind::Directory, meta)
    }

    fn take_root(&mut self) -> Result<()> {
        if let Some(met) = self.below(b"")? {
            let node = self.as_below(&met);
            self.nodes.insert(Vec::new(), node);
        }
        Ok(())
    }

    /// Puts a node that is wanted; its directory is there, and links are not followed.
    pub fn put(&mut self, path: &[u8], node: Node) -> Result<()> {
        self.ensure(parent(path))?;
        self.is_changed = true;
        self.insert(path, node)
    }

    fn insert(&mut self, path: &[u8], node: Node) -> Result<()> {
        if last(path).starts_with(b".wh.") {
            let text =
                format!("{}: in a layer, a name that begins with .wh. says that a file was deleted", shown(path));
            return Err(Error::Layer(text));
        }
        if path.len() > PATH_MAX {
            return Err(Error::Layer(format!("a path of {} bytes", path.len())));
        }
        if self.nodes.len() >= ENTRIES_MAX {
            return Err(Error::Layer(format!("more than {ENTRIES_MAX} entries")));
        }
        self.nodes.insert(path.to_vec(), node);
        Ok(())
    }

    /// Takes away what the layer has at a path and beneath it; a directory that takes its place shows nothing of those below.
    pub fn clear(&mut self, path: &[u8]) {
        let beneath = [path, b"/"].concat();
        let gone: Vec<Vec<u8>> = self
            .nodes
            .range(beneath.clone()..)
            .take_while(|(path, _)| path.starts_with(&beneath))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.nodes.remove(&path);
        }
        self.nodes.remove(path);
    }

    /// Whether a directory is at this path in the layers below.
    pub fn covers_directory(&mut self, path: &[u8]) -> Result<bool> {
        let directory = parent(path);
        if self.hides_below(directory) {
            return Ok(false);
        }
        let found = self.below.look(directory, last(path)).map_err(|errno| failed("look up", path, errno))?;
        Ok(matches!(found, Found::Directory(_)))
    }

    /// All there is, in the order of the paths; None where nothing has changed.
    pub fn finish(self) -> Option<BTreeMap<Vec<u8>, Node>> {
        self.is_changed.then_some(self.nodes)
    }
}
