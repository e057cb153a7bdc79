//! The union of unpacked layers, read without a mount: a file by its path, and all paths. By descriptors beneath the layers only.
//!
//! As an overlay would show it (kernel documentation, filesystems/overlayfs.rst): a higher layer's name hides a lower one's, directories
//! merge unless one says that it is opaque, and some names hide others (archive/marks.rs).

use super::archive::marks;
use super::steward;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// As many as the kernel follows (MAXSYMLINKS).
const LINKS_MAX: usize = 40;
const PATH_MAX: usize = 4095;
const PATHS_MAX: usize = 4_000_000;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One directory of the union: what it is made of, the highest first.
#[derive(Debug)]
pub struct Merged(Vec<OwnedFd>);

/// What a name is, not followed.
pub enum Found {
    Nothing,
    Directory(Merged),
    Link(Vec<u8>, Stat),
    /// In which of the directories it is.
    Other(usize, Stat),
}

fn failed(step: &str, path: &[u8], errno: Errno) -> Error {
    Error::setup_at(step, String::from_utf8_lossy(path), errno.raw_os_error())
}

impl Merged {
    /// `roots`: the lowest first. None: a union with nothing in it.
    pub fn open(roots: &[PathBuf]) -> Result<Merged> {
        let open = |root: &PathBuf| {
            rustix::fs::open(root, DIRECTORY, Mode::empty())
                .map_err(|errno| Error::setup_at("open a layer", root.display().to_string(), errno.raw_os_error()))
        };
        roots.iter().rev().map(open).collect::<Result<_>>().map(Merged)
    }

    /// A directory by itself.
    pub fn of(directory: OwnedFd) -> Merged {
        Merged(vec![directory])
    }

    pub fn none() -> Merged {
        Merged(Vec::new())
    }

    /// The directory whose owner, mode, times and attributes are the union's.
    pub fn highest(&self) -> Option<BorrowedFd<'_>> {
        self.0.first().map(AsFd::as_fd)
    }

    pub fn again(&self) -> rustix::io::Result<Merged> {
        let again = |dir: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(dir, 0);
        self.0.iter().map(again).collect::<rustix::io::Result<_>>().map(Merged)
    }

    /// The highest first.
    pub fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    pub fn look(&self, name: &[u8]) -> rustix::io::Result<Found> {
        let (name, mut directories) = (c_string(name)?, Vec::new());
        for (index, dir) in self.0.iter().enumerate() {
            let seen = match steward::look(dir, &name) {
                Ok(seen) => seen,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            match FileType::from_raw_mode(seen.st_mode) {
                FileType::Directory => {
                    let found = steward::open(dir, &name, DIRECTORY)?;
                    let opaque = marks::is_opaque(&found);
                    directories.push(found);
                    if opaque {
                        break;
                    }
                }
                _ if !directories.is_empty() => break,
                _ if marks::hides(dir, &name, &seen)? => break,
                FileType::Symlink => {
                    let target = steward::read_link(dir, &name)?.into_bytes();
                    return Ok(Found::Link(target, seen));
                }
                _ => return Ok(Found::Other(index, seen)),
            }
        }
        Ok(if directories.is_empty() { Found::Nothing } else { Found::Directory(Merged(directories)) })
    }

    /// What `look` found in this one of the directories: a regular file, or EINVAL. A FIFO is not waited for.
    pub fn file(&self, index: usize, name: &[u8]) -> rustix::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = steward::open(&self.0[index], &c_string(name)?, flags)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            _ => Err(Errno::INVAL),
        }
    }

    /// What `look` found there under one more name, the same one in another directory. Links themselves, never what they lead to.
    pub fn link(&self, index: usize, name: &[u8], to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        rustix::fs::linkat(&self.0[index], name, to, name, AtFlags::empty())
    }

    /// Its names, sorted, with what each is.
    pub fn names(&self) -> rustix::io::Result<BTreeMap<CString, Stat>> {
        let mut found: BTreeMap<CString, Option<Stat>> = BTreeMap::new();
        for dir in &self.0 {
            for entry in steward::list(dir)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") || found.contains_key(name) {
                    continue;
                }
                match steward::look(dir, name) {
                    Ok(seen) => drop(found.insert(name.into(), (!marks::hides(dir, name, &seen)?).then_some(seen))),
                    Err(Errno::NOENT) => {} // gone since its name was read
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(found.into_iter().filter_map(|(name, seen)| Some((name, seen?))).collect())
    }
}

fn c_string(name: &[u8]) -> rustix::io::Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL)
}

/// Directories of a union by their paths, without links on the way. Remembers the last one.
#[derive(Debug, Clone)]
pub struct Cursor {
    root: Arc<Merged>,
    last: (Vec<u8>, Arc<Merged>),
}

impl Cursor {
    pub fn new(root: Arc<Merged>) -> Cursor {
        Cursor { last: (Vec::new(), root.clone()), root }
    }

    pub fn root(&self) -> &Arc<Merged> {
        &self.root
    }

    /// None where it is not there, or is no directory.
    pub fn directory(&mut self, path: &[u8]) -> rustix::io::Result<Option<Arc<Merged>>> {
        let below = path
            .strip_prefix(&self.last.0[..])
            .filter(|rest| rest.is_empty() || rest.starts_with(b"/") || self.last.0.is_empty());
        let (mut at, rest) = match below {
            Some(rest) => (self.last.1.clone(), rest),
            None => (self.root.clone(), path),
        };
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            match at.look(name)? {
                Found::Directory(merged) => at = Arc::new(merged),
                _ => return Ok(None),
            }
        }
        self.last = (path.to_vec(), at.clone());
        Ok(Some(at))
    }

    /// A name in one of them.
    pub fn look(&mut self, directory: &[u8], name: &[u8]) -> rustix::io::Result<Found> {
        match self.directory(directory)? {
            Some(found) => found.look(name),
            None => Ok(Found::Nothing),
        }
    }

    /// Where a path leads; links lead where they lead inside.
    pub fn resolve(&mut self, path: &[u8]) -> rustix::io::Result<(Vec<u8>, Seen)> {
        resolve(path, &mut |directory, name| Ok(self.look(directory, name)?.seen()))
    }
}

/// What matters of a name to who follows a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Directory,
    Link(Vec<u8>),
    Other,
}

impl Found {
    pub fn seen(self) -> Seen {
        match self {
            Found::Nothing => Seen::Nothing,
            Found::Directory(_) => Seen::Directory,
            Found::Link(target, _) => Seen::Link(target),
            Found::Other(..) => Seen::Other,
        }
    }
}

/// What a name in a directory is; the directory's path has no links.
pub type Look<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> rustix::io::Result<Seen>;

/// Where a path leads, from the root and without links, and what is there. Behind what is missing the rest of the path is only words.
pub fn resolve(path: &[u8], look: Look<'_>) -> rustix::io::Result<(Vec<u8>, Seen)> {
    let (mut at, mut here, mut links) = (Vec::new(), Seen::Directory, 0);
    let mut waiting: Vec<Vec<u8>> = parts(path);
    while let Some(name) = waiting.pop() {
        if name == b".." {
            at.truncate(parent(&at).len());
            // What is above a directory is one; what is above something missing may be missing too.
            here = if at.is_empty() || here == Seen::Directory { Seen::Directory } else { again(&at, look)? };
            continue;
        }
        here = if here == Seen::Nothing { Seen::Nothing } else { look(&at, &name)? };
        match here {
            Seen::Link(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                if target.starts_with(b"/") {
                    at.clear();
                }
                here = Seen::Directory; // where the link is
                waiting.extend(parts(&target));
            }
            Seen::Other if !waiting.is_empty() => return Err(Errno::NOTDIR),
            _ => at = join(&at, &name),
        }
        if at.len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
    }
    Ok((at, here))
}

fn again(at: &[u8], look: Look<'_>) -> rustix::io::Result<Seen> {
    look(parent(at), last(at))
}

/// The path without its last name.
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |at| &path[..at])
}

/// The last name of a path.
pub fn last(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match (directory, name) {
        (b"", name) => name.to_vec(),
        (directory, b"") => directory.to_vec(),
        (directory, name) => [directory, b"/", name].concat(),
    }
}

/// The components of a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<Vec<u8>> = named.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// A regular file, open for reading. Links lead where they lead inside.
pub fn open(roots: &[PathBuf], path: &[u8]) -> Result<File> {
    open_in(&mut Cursor::new(Arc::new(Merged::open(roots)?)), path)
}

pub fn open_in(cursor: &mut Cursor, path: &[u8]) -> Result<File> {
    let fail = |errno| failed("open", path, errno);
    let (real, seen) = cursor.resolve(path).map_err(fail)?;
    match seen {
        Seen::Directory => return Err(fail(Errno::ISDIR)),
        Seen::Nothing => return Err(fail(Errno::NOENT)),
        _ => {}
    }
    let directory = cursor.directory(parent(&real)).map_err(fail)?.ok_or_else(|| fail(Errno::NOENT))?;
    match directory.look(last(&real)).map_err(fail)? {
        Found::Other(index, _) => directory.file(index, last(&real)).map_err(fail),
        _ => Err(fail(Errno::NOENT)),
    }
}

/// All paths of the union, each directory before what is in it.
pub fn paths(roots: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut cursor = Cursor::new(Arc::new(Merged::open(roots)?));
    let (mut found, mut waiting) = (Vec::new(), vec![Vec::new()]);
    // Names wait, and no descriptors: a directory may have more of others in it than a process may have open.
    while let Some(place) = waiting.pop() {
        let fail = |errno| failed("list", &place, errno);
        let Some(merged) = cursor.directory(&place).map_err(fail)? else { continue };
        for (name, seen) in merged.names().map_err(fail)? {
            let path = join(&place, name.to_bytes());
            found.push([b"/", &path[..]].concat());
            if FileType::from_raw_mode(seen.st_mode) == FileType::Directory {
                waiting.push(path);
            }
            if found.len() > PATHS_MAX {
                return Err(Error::Image(format!("more than {PATHS_MAX} files")));
            }
        }
    }
    found.sort();
    Ok(found)
}
