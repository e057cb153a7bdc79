//! The tree that an archive becomes: its root, and every name resolved once beneath it. Knows nothing of tar.

use super::stream::NAME_MAX;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Inodes in one archive, directories that only a name implies among them.
const OBJECTS_MAX: u64 = 4_000_000;
pub const IMPLIED_MODE: u32 = 0o755;
const ROOT: usize = 0;

/// A directory of ours. Its mode and times come last, when everything is in it.
#[derive(Debug)]
struct Directory<M> {
    parent: usize,
    name: Box<[u8]>,
    /// Length of its path from the root: bounds the depth, and lets one system call reach it.
    length: usize,
    meta: Option<M>,
    is_gone: bool,
    marks: Marks,
}

/// What a layer says of a directory of lower layers: these names in it are gone, or all of them.
#[derive(Debug, Default)]
pub struct Marks {
    pub is_opaque: bool,
    pub hidden: Vec<Box<[u8]>>,
}

#[derive(Debug)]
pub struct Tree<M> {
    root: OwnedFd,
    directories: Vec<Directory<M>>,
    by_inode: HashMap<u64, usize>,
    /// The last parent that was resolved; forgotten whenever a link or a directory changes.
    last: Option<(Vec<u8>, Place)>,
    objects: u64,
    /// Whether a later entry took an earlier one's place.
    pub has_replaced: bool,
}

/// An open directory beneath the root.
#[derive(Debug)]
pub struct Place {
    fd: OwnedFd,
    index: usize,
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An entry's name: components without empty ones and ".". An absolute name starts at the root, as with every tar.
pub fn components(name: &[u8]) -> Result<Vec<&[u8]>> {
    if name.is_empty() || name.contains(&0) {
        return Err(Error::Layer("a name that is empty or has a NUL byte".into()));
    }
    if name.len() > NAME_MAX {
        return Err(Error::Layer(format!("a name of {} bytes", name.len())));
    }
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::Layer("its name leads out of its directory".into()));
    }
    Ok(parts)
}

/// What the kernel refuses because of the archive is the archive's fault; the rest is the machine's.
pub fn refused(step: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::FBIG | Errno::MLINK | Errno::NOENT => {
            Error::Layer(format!("{step}: {}", std::io::Error::from(errno)))
        }
        _ => Error::setup(step, errno.raw_os_error()),
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn within() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

fn straight() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

/// openat2(2) with its EAGAIN, a rename elsewhere during a walk over "..", tried again a bounded number of times.
fn open(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..64 {
        result = rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

impl<M> Tree<M> {
    /// `root` is an empty directory that nobody else writes to.
    pub fn new(root: OwnedFd) -> Result<Tree<M>> {
        let inode = rustix::fs::fstat(&root).map_err(|errno| refused("look at the root", errno))?.st_ino;
        let top = Directory {
            parent: ROOT,
            name: Box::default(),
            length: 0,
            meta: None,
            is_gone: false,
            marks: Marks::default(),
        };
        let by_inode = HashMap::from([(inode, ROOT)]);
        Ok(Tree { root, directories: vec![top], by_inode, last: None, objects: 0, has_replaced: false })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The root once more, for who needs it while the tree is finished.
    pub fn root_again(&self) -> Result<OwnedFd> {
        self.root.try_clone().map_err(|e| Error::setup("copy a descriptor", e.raw_os_error().unwrap_or(libc::EMFILE)))
    }

    pub fn count(&mut self) -> Result<()> {
        self.objects += 1;
        if self.objects > OBJECTS_MAX {
            return Err(Error::Layer(format!("more than {OBJECTS_MAX} entries")));
        }
        Ok(())
    }

    /// The directory that these components name. Links on the way lead where they lead inside the root.
    /// Directories that are missing are made, where `make` says so.
    pub fn directory(&mut self, parts: &[&[u8]], make: bool) -> Result<Place> {
        let path = parts.join(&b'/');
        if let Some((_, place)) = self.last.take_if(|(last, _)| *last == path) {
            return Ok(place);
        }
        if parts.is_empty() {
            return Ok(Place { fd: self.root_again()?, index: ROOT });
        }
        match open(self.root.as_fd(), &path, DIRECTORY.difference(OFlags::NOFOLLOW), within()) {
            Ok(fd) => self.place(fd),
            Err(Errno::NOENT) if make => self.make_all(parts),
            Err(errno) => Err(refused("open the directory of the entry", errno)),
        }
    }

    /// Gives a place back: the next entry is mostly in the same directory.
    pub fn keep(&mut self, parts: &[&[u8]], place: Place) {
        self.last = Some((parts.join(&b'/'), place));
    }

    fn place(&self, fd: OwnedFd) -> Result<Place> {
        let inode = rustix::fs::fstat(&fd).map_err(|errno| refused("look at a directory", errno))?.st_ino;
        let index = self.by_inode.get(&inode).copied();
        index
            .map(|index| Place { fd, index })
            .ok_or_else(|| Error::setup("recognise a directory of ours", libc::ESTALE))
    }

    fn make_all(&mut self, parts: &[&[u8]]) -> Result<Place> {
        let mut at = self.directory(&[], false)?;
        for (i, part) in parts.iter().enumerate() {
            at = match open(at.as_fd(), part, DIRECTORY, straight()) {
                Ok(fd) => self.place(fd)?,
                Err(Errno::NOENT) => self.make(&at, part)?,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let path = parts[..=i].join(&b'/');
                    let opened = open(self.root.as_fd(), &path, DIRECTORY.difference(OFlags::NOFOLLOW), within());
                    self.place(opened.map_err(|errno| refused("open the directory of the entry", errno))?)?
                }
                Err(errno) => return Err(refused("open the directory of the entry", errno)),
            };
        }
        Ok(at)
    }

    /// Makes a directory, for the time being one that only we enter.
    pub fn make(&mut self, parent: &Place, name: &[u8]) -> Result<Place> {
        self.count()?;
        let length = self.directories[parent.index].length + 1 + name.len();
        if length > NAME_MAX {
            return Err(Error::Layer("directories too deep for a path".into()));
        }
        self.last = None;
        let fail = |errno| refused("make a directory", errno);
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(fail)?;
        let fd = open(parent.as_fd(), name, DIRECTORY, straight()).map_err(fail)?;
        let inode = rustix::fs::fstat(&fd).map_err(fail)?.st_ino;
        let index = self.directories.len();
        self.directories.push(Directory {
            parent: parent.index,
            name: name.into(),
            length,
            meta: None,
            is_gone: false,
            marks: Marks::default(),
        });
        self.by_inode.insert(inode, index);
        Ok(Place { fd, index })
    }

    pub fn set_meta(&mut self, place: &Place, meta: M) {
        self.directories[place.index].meta = Some(meta);
    }

    pub fn set_root_meta(&mut self, meta: M) {
        self.directories[ROOT].meta = Some(meta);
    }

    /// What is there under this name now, not followed.
    pub fn look(&self, parent: &Place, name: &[u8]) -> Result<Option<Stat>> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) => Ok(Some(seen)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(refused("look at an entry", errno)),
        }
    }

    /// An existing directory of ours under this name.
    pub fn enter(&self, parent: &Place, name: &[u8]) -> Result<Place> {
        let fd = open(parent.as_fd(), name, DIRECTORY, straight());
        self.place(fd.map_err(|errno| refused("open a directory", errno))?)
    }

    /// Makes room for an entry that is no directory: a later entry replaces an earlier one, but never a directory with content.
    pub fn clear(&mut self, parent: &Place, name: &[u8]) -> Result<()> {
        let Some(seen) = self.look(parent, name)? else { return Ok(()) };
        let is_directory = FileType::from_raw_mode(seen.st_mode) == FileType::Directory;
        self.last = None;
        self.has_replaced = true;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(parent, name, flags) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                return Err(Error::Layer("it would replace a directory that is not empty".into()));
            }
            Err(errno) => return Err(refused("replace an entry", errno)),
        }
        if let Some(index) = is_directory.then(|| self.by_inode.remove(&seen.st_ino)).flatten() {
            self.directories[index].is_gone = true;
        }
        Ok(())
    }

    /// Links may have changed where names lead.
    pub fn forget(&mut self) {
        self.last = None;
    }

    pub fn hide(&mut self, place: &Place, name: &[u8]) {
        self.directories[place.index].marks.hidden.push(name.into());
    }

    pub fn set_opaque(&mut self, place: &Place) {
        self.directories[place.index].marks.is_opaque = true;
    }

    /// Whiteouts are about lower layers alone: what this layer has under the name stays, and where that is a directory, it shows
    /// nothing of theirs. Beneath an opaque directory there is nothing to hide: there, an overlay would list a whiteout as a name.
    fn settle(&mut self) -> Result<()> {
        for index in 0..self.directories.len() {
            let mut names = std::mem::take(&mut self.directories[index].marks.hidden);
            if self.directories[index].is_gone || names.is_empty() {
                continue;
            }
            names.sort_unstable();
            names.dedup();
            let place = Place { fd: self.reopen(index)?, index };
            let mut left = Vec::new();
            for name in names {
                match self.look(&place, &name)? {
                    None => left.push(name),
                    Some(seen) if FileType::from_raw_mode(seen.st_mode) == FileType::Directory => {
                        let inner = self.enter(&place, &name)?;
                        self.set_opaque(&inner);
                    }
                    Some(_) => {}
                }
            }
            self.directories[index].marks.hidden = left;
        }
        let mut is_covered = vec![false; self.directories.len()];
        for (index, directory) in self.directories.iter_mut().enumerate() {
            is_covered[index] = directory.marks.is_opaque || is_covered[directory.parent];
            if is_covered[index] {
                directory.marks.hidden.clear();
            }
        }
        Ok(())
    }

    /// The directories that nobody has described, by their paths; "." is the root.
    pub fn implied(&self) -> Vec<Vec<u8>> {
        let silent = |index: &usize| self.directories[*index].meta.is_none() && !self.directories[*index].is_gone;
        (0..self.directories.len()).filter(silent).map(|index| self.whole_path(index)).collect()
    }

    /// Gives each directory to `body`, with its path, the inner ones first: an outer one may forbid to enter it.
    pub fn finish(
        &mut self,
        mut body: impl FnMut(BorrowedFd<'_>, &[u8], Option<M>, Marks) -> Result<()>,
    ) -> Result<()> {
        self.settle()?;
        for index in (0..self.directories.len()).rev() {
            if self.directories[index].is_gone {
                continue;
            }
            let (meta, marks) =
                (self.directories[index].meta.take(), std::mem::take(&mut self.directories[index].marks));
            body(self.reopen(index)?.as_fd(), &self.whole_path(index), meta, marks)?;
        }
        Ok(())
    }

    fn reopen(&self, index: usize) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        open(self.root.as_fd(), &self.whole_path(index), flags, straight())
            .map_err(|errno| refused("open a directory", errno))
    }

    /// From the root, of which it is "." itself.
    fn whole_path(&self, index: usize) -> Vec<u8> {
        if index == ROOT { b".".to_vec() } else { self.path(index) }
    }

    /// Of a name in a directory.
    pub fn path_of(&self, parent: &Place, name: &[u8]) -> Vec<u8> {
        match parent.index {
            ROOT => name.to_vec(),
            index => [&self.path(index), &b"/"[..], name].concat(),
        }
    }

    fn path(&self, mut index: usize) -> Vec<u8> {
        let mut parts = Vec::new();
        while index != ROOT {
            parts.push(&*self.directories[index].name);
            index = self.directories[index].parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_says_nothing() {
        let read = |name: &'static str| components(name.as_bytes());
        assert_eq!(read("./a//b/./c/").unwrap(), [b"a", b"b", b"c"]);
        assert_eq!(read("/a").unwrap(), [b"a"]);
        for root in ["/", ".", "./", "//./"] {
            assert!(read(root).unwrap().is_empty());
        }
        for bad in ["", "..", "a/..", "/../a", "a/../b", "a\0b"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(components(&[b'a'; NAME_MAX + 1]).is_err());
    }
}
