//! Trees that files are taken from: a directory of the host, or the union of layers. Read only, by descriptors beneath their roots.

use super::{failed, go_on};
use crate::error::{Error, Result};
use crate::image::archive::Meta;
use crate::image::archive::given::attributes;
use crate::image::locks::Check;
use crate::image::steward;
use crate::image::union::{Cursor, Found, Merged, Seen, join, last, parent};
use crate::image::used::{self, Used};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory with more than this is not listed.
const PATHS_MAX: usize = 4_000_000;

#[derive(Debug)]
pub struct Tree {
    root: Arc<Merged>,
    kind: Kind,
    /// Layers that nobody removes meanwhile.
    held: Vec<Used>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its owners mean nothing: what is taken belongs to root.
    Context,
    /// Owners are the layers' own.
    Layers,
}

/// A path of a tree, relative to where the listing began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub path: Vec<u8>,
    /// As find(1)'s %y has it: d, f, l, p, s, c, b.
    pub kind: char,
    pub mode: u32,
}

/// What a walk comes to: where it lies in the tree, and what it is.
pub struct Met {
    pub path: Vec<u8>,
    pub found: Thing,
    pub seen: Stat,
}

pub enum Thing {
    Directory(Arc<Merged>),
    Link(Vec<u8>),
    /// In this directory, in this one of its layers.
    Other(Arc<Merged>, usize),
}

impl Tree {
    /// A directory of the host: a build context. Links in the path lead where they lead on the host.
    pub fn context(path: &Path) -> Result<Tree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::setup_at("open the context", path.display().to_string(), errno.raw_os_error()))?;
        Ok(Tree { root: Arc::new(Merged::of(root)), kind: Kind::Context, held: Vec::new() })
    }

    /// The union of these directories, the lowest first; nobody removes them while it is used.
    pub fn layers(roots: &[PathBuf]) -> Result<Tree> {
        let held = roots.iter().map(|root| used::take(root)).collect::<Result<_>>()?;
        Ok(Tree { root: Arc::new(Merged::open(roots)?), kind: Kind::Layers, held })
    }

    /// One with nothing in it.
    pub fn empty() -> Tree {
        Tree { root: Arc::new(Merged::none()), kind: Kind::Layers, held: Vec::new() }
    }

    pub fn again(&self) -> Tree {
        Tree { root: self.root.clone(), kind: self.kind, held: self.held.clone() }
    }

    pub fn is_context(&self) -> bool {
        self.kind == Kind::Context
    }

    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.root.clone())
    }

    /// What is at a path, links followed: where it really is, and what. None where nothing is there.
    pub fn find(&self, cursor: &mut Cursor, path: &[u8]) -> Result<Option<Met>> {
        let fail = |errno| failed("look up", path, errno);
        let (real, seen) = cursor.resolve(path).map_err(fail)?;
        if seen == Seen::Nothing {
            return Ok(None);
        }
        self.met(cursor, real).map_err(fail)
    }

    /// What is at a path, not followed, with no links on the way.
    pub fn met(&self, cursor: &mut Cursor, path: Vec<u8>) -> rustix::io::Result<Option<Met>> {
        if path.is_empty() {
            let root = cursor.root().clone();
            let Some(highest) = root.highest() else { return Ok(None) };
            let seen = rustix::fs::fstat(highest)?;
            return Ok(Some(Met { path, found: Thing::Directory(root), seen }));
        }
        let Some(directory) = cursor.directory(parent(&path))? else { return Ok(None) };
        let (found, seen) = match directory.look(last(&path))? {
            Found::Nothing => return Ok(None),
            Found::Directory(merged) => {
                let seen = rustix::fs::fstat(merged.highest().ok_or(Errno::NOENT)?)?;
                (Thing::Directory(Arc::new(merged)), seen)
            }
            Found::Link(target, seen) => (Thing::Link(target), seen),
            Found::Other(index, seen) => (Thing::Other(directory, index), seen),
        };
        Ok(Some(Met { path, found, seen }))
    }

    /// Where a path leads, without links and relative to the root; None where nothing is there.
    pub fn real(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.find(&mut self.cursor(), path)?.map(|met| met.path))
    }

    /// What is at a path, links followed; None where nothing is there.
    pub fn kind(&self, path: &[u8]) -> Result<Option<char>> {
        Ok(self.find(&mut self.cursor(), path)?.map(|met| letter(met.kind())))
    }

    /// A regular file of at most so many bytes, links followed; None where nothing is there.
    pub fn read(&self, path: &[u8], most: u64) -> Result<Option<Vec<u8>>> {
        let Some(met) = self.find(&mut self.cursor(), path)? else { return Ok(None) };
        let file = met.file().map_err(|errno| failed("read", path, errno))?;
        let mut bytes = Vec::new();
        let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Error::setup_at("read", String::from_utf8_lossy(path), errno)
        })?;
        if bytes.len() as u64 > most {
            let text = format!("{} has more than {most} bytes", String::from_utf8_lossy(path));
            return Err(Error::Value(text));
        }
        Ok(Some(bytes))
    }

    /// All that is beneath a directory, each one before what is in it, sorted; links in the directory's own path are followed.
    /// Nothing where there is no such directory.
    pub fn list(&self, path: &[u8], check: Check<'_>) -> Result<Vec<Listed>> {
        let mut cursor = self.cursor();
        let mut listed = Vec::new();
        let Some(Met { found: Thing::Directory(_), path: top, .. }) = self.find(&mut cursor, path)? else {
            return Ok(listed);
        };
        let mut waiting = vec![Vec::new()];
        // Names wait, and no descriptors: a directory may have more of others in it than a process may have open.
        while let Some(prefix) = waiting.pop() {
            go_on(check)?;
            let place = join(&top, &prefix);
            let fail = |errno| failed("list", &place, errno);
            let Some(merged) = cursor.directory(&place).map_err(fail)? else { continue };
            for (name, seen) in merged.names().map_err(fail)? {
                let below = join(&prefix, name.to_bytes());
                let kind = FileType::from_raw_mode(seen.st_mode);
                if kind == FileType::Directory {
                    waiting.push(below.clone());
                }
                listed.push(Listed { path: below, kind: letter(kind), mode: seen.st_mode & 0o7777 });
                if listed.len() > PATHS_MAX {
                    return Err(Error::Image(format!("more than {PATHS_MAX} files")));
                }
            }
        }
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// Everything but the time is what it is for everybody who looks.
    pub fn meta(&self, seen: &Stat) -> Meta {
        let (uid, gid) = match self.kind {
            Kind::Layers => steward::owner_of(seen),
            Kind::Context => (0, 0),
        };
        Meta {
            mode: seen.st_mode & 0o7777,
            uid: uid.into(),
            gid: gid.into(),
            mtime: (seen.st_mtime, 0),
            xattrs: Vec::new(),
        }
    }

    /// The attributes that go along: file capabilities where they can be trusted, and of layers those of users.
    pub fn attributes(&self, fd: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let is_root = rustix::process::geteuid().is_root();
        attributes(fd, |name| {
            let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            of_user && !self.is_context() || is_root && name == b"security.capability"
        })
    }
}

impl Met {
    pub fn file(&self) -> rustix::io::Result<File> {
        match &self.found {
            Thing::Other(directory, index) => directory.file(*index, last(&self.path)),
            _ => Err(Errno::INVAL),
        }
    }

    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        match &self.found {
            Thing::Directory(merged) => merged.highest(),
            _ => None,
        }
    }

    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.seen.st_mode)
    }
}

fn letter(kind: FileType) -> char {
    match kind {
        FileType::Directory => 'd',
        FileType::RegularFile => 'f',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    }
}

/// Told of a path relative to the source, "" is the source itself, and of what it is.
type Body<'a> = &'a mut dyn FnMut(&[u8], &Met, Check<'_>) -> Result<()>;

/// What of a source is taken, in order: a directory before what is in it.
pub fn walk(tree: &Tree, path: &[u8], taken: Option<&[Vec<u8>]>, check: Check<'_>, body: Body<'_>) -> Result<()> {
    let mut cursor = tree.cursor();
    let missing = |path: &[u8]| failed("copy", path, Errno::NOENT);
    let top = tree.find(&mut cursor, path)?.ok_or_else(|| missing(path))?;
    body(b"", &top, check)?;
    if !matches!(top.found, Thing::Directory(_)) {
        return Ok(());
    }
    let all;
    let names: Vec<&[u8]> = match taken {
        Some(taken) => with_parents(taken)?,
        None => {
            all = tree.list(&top.path, check)?;
            all.iter().map(|listed| &listed.path[..]).collect()
        }
    };
    for name in names {
        go_on(check)?;
        let place = join(&top.path, name);
        let met = tree.met(&mut cursor, place).map_err(|errno| failed("copy", &join(path, name), errno))?;
        body(name, &met.ok_or_else(|| missing(&join(path, name)))?, check)?;
    }
    Ok(())
}

/// The paths and the directories on their way, sorted, each once.
fn with_parents(taken: &[Vec<u8>]) -> Result<Vec<&[u8]>> {
    let mut names: Vec<&[u8]> = Vec::with_capacity(taken.len());
    for path in taken {
        let is_plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
        if !path.split(|byte| *byte == b'/').all(is_plain) {
            return Err(Error::Value(format!("{:?} is no path beneath a directory", String::from_utf8_lossy(path))));
        }
        let mut path = &path[..];
        while !path.is_empty() {
            names.push(path);
            path = parent(path);
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// As it was when it was looked at: another file under its name, or another length of it, is an error.
pub fn is_same(seen: &Stat, now: &Stat) -> bool {
    (seen.st_dev, seen.st_ino, seen.st_size) == (now.st_dev, now.st_ino, now.st_size)
}

pub fn stat_of(file: &File) -> rustix::io::Result<Stat> {
    rustix::fs::fstat(file.as_fd())
}
