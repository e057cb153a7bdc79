//! A stream of files into a directory, merged with what is there as shutil.copytree(dirs_exist_ok=True) does it. A file or link replaces
//! what has its name, a directory is entered; nothing is written through a link.

use super::input::Input;
use super::trail::Trail;
use super::{DEEP, LEVELS, Stream, attributes, refuse_kernels};
use crate::sys::constants::*;
use crate::sys::errno::retry;
use crate::sys::fs::{self, Fd};
use crate::sys::{Errno, Result};
use crate::wire::EntryHead;
use crate::wire::files::{entry, segment};
use core::ffi::CStr;

const MAKE: usize = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
const DIRECTORY: usize = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
const LENGTH_MAX: u64 = i64::MAX as u64;
/// Another one under its name, again and again, is somebody's race.
const TRIES: usize = 16;

/// Where the one entry at the top goes.
pub struct Place<'a> {
    pub parent: i32,
    /// "." where the path itself names a directory.
    pub name: &'a CStr,
    /// A name that nobody has, for what takes the other one when it is whole.
    pub temporary: &'a CStr,
    /// The directory that has the name already.
    pub existing: &'a dyn Fn() -> Result<Fd>,
}

/// What this side does with what it gets.
pub struct Rules {
    /// The umask is 0.
    pub exact_modes: bool,
    /// The mount on which set-id bits are kept.
    pub set_ids_on: Option<u64>,
    /// Nothing of what the kernel makes up is written.
    pub no_kernels: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be made here; the trail says what.
    Here(Errno),
    /// The other side says why it ended.
    Sender(Errno),
    /// The stream ended, or makes no sense.
    Stream(Errno),
}

type Unpacked<T> = core::result::Result<T, Fault>;

/// What the other side could not read.
#[derive(Default)]
pub struct Left {
    pub count: u64,
    pub errno: i32,
    pub first: Trail,
}

struct Level {
    directory: Fd,
    head: EntryHead,
    existed: bool,
}

pub struct Unpacker<'a, S> {
    pub input: Input<'a, S>,
    pub trail: Trail,
    pub left: Left,
    rules: Rules,
    levels: [Option<Level>; LEVELS],
    depth: usize,
    complete: bool,
}

fn stream<T>(result: Result<T>) -> Unpacked<T> {
    result.map_err(Fault::Stream)
}

fn here<T>(result: Result<T>) -> Unpacked<T> {
    result.map_err(Fault::Here)
}

impl<'a, S: Stream> Unpacker<'a, S> {
    pub fn new(input: Input<'a, S>, rules: Rules) -> Unpacker<'a, S> {
        let levels = [const { None }; LEVELS];
        let (trail, left) = (Trail::default(), Left::default());
        Unpacker { input, trail, left, rules, levels, depth: 0, complete: false }
    }

    /// One entry and all that is in it, to the end of the stream.
    pub fn unpack(&mut self, place: &Place<'_>) -> Unpacked<()> {
        loop {
            let entry = stream(self.input.entry())?;
            let (head, top) = (entry.head, self.depth == 0);
            let fits = match head.kind {
                entry::VERDICT => true,
                entry::END => top && self.complete,
                entry::LEAVE => !top,
                entry::FILE | entry::DIRECTORY | entry::LINK => top == entry.name.is_empty() && !(top && self.complete),
                entry::LEFT_OUT => !top && !entry.name.is_empty(),
                _ => false,
            };
            if !fits {
                return Err(Fault::Stream(Errno::PROTO));
            }
            match head.kind {
                entry::VERDICT => return Err(Fault::Sender(Errno(head.mode as i32))),
                entry::END => return Ok(()),
                entry::LEAVE => self.leave()?,
                _ => {
                    let mut name = [0u8; 256];
                    name[..entry.name.to_bytes().len()].copy_from_slice(entry.name.to_bytes());
                    self.one(head, CStr::from_bytes_until_nul(&name).unwrap_or(c""), place)?;
                }
            }
        }
    }

    fn one(&mut self, head: EntryHead, name: &CStr, place: &Place<'_>) -> Unpacked<()> {
        self.trail.push(name);
        if self.depth == 0 && head.kind != entry::DIRECTORY {
            here(refuse_directory(place))?; // before anything is made
        }
        match head.kind {
            entry::DIRECTORY => return self.enter(head, name, place),
            entry::FILE => self.file(head, name, place)?,
            entry::LINK => self.link(head, name, place)?,
            _ => self.note(Errno(head.size as i32)),
        }
        self.trail.pop();
        self.complete |= self.depth == 0;
        Ok(())
    }

    fn note(&mut self, errno: Errno) {
        if self.left.count == 0 {
            self.left.first.copy_from(&self.trail);
            self.left.errno = errno.0;
        }
        self.left.count += 1;
    }

    /// The directory and the name that an entry gets.
    fn at<'n>(&self, name: &'n CStr, place: &Place<'n>) -> (i32, &'n CStr) {
        let level = self.depth.checked_sub(1).and_then(|level| self.levels[level].as_ref());
        level.map_or((place.parent, place.temporary), |level| (level.directory.raw(), name))
    }

    fn enter(&mut self, head: EntryHead, name: &CStr, place: &Place<'_>) -> Unpacked<()> {
        let (parent, name) = if self.depth == 0 { (place.parent, place.name) } else { self.at(name, place) };
        let made = match name == c"." {
            true => Err(Errno::EXIST),
            false => fs::mkdirat(parent, name, 0o700),
        };
        let directory = match made {
            Err(Errno::EXIST) if self.depth == 0 => here((place.existing)())?,
            Ok(()) | Err(Errno::EXIST) => here(fs::openat(parent, name, DIRECTORY, 0))?,
            Err(errno) => return Err(Fault::Here(errno)),
        };
        if made.is_err() && self.rules.no_kernels {
            here(refuse_kernels(directory.raw()))?;
        }
        let level = self.levels.get_mut(self.depth).ok_or(Fault::Here(DEEP))?;
        here(attributes::apply(directory.raw(), self.input.extra()))?;
        *level = Some(Level { directory, head, existed: made.is_err() });
        self.depth += 1;
        Ok(())
    }

    /// Its mode last: it may forbid what was done in it.
    fn leave(&mut self) -> Unpacked<()> {
        self.depth -= 1;
        let Some(level) = self.levels[self.depth].take() else { return Ok(()) };
        let fd = level.directory.raw();
        let mut mode = level.head.mode & (0o777 | S_ISVTX);
        if level.head.mode & S_ISGID != 0 && self.keeps_set_ids(fd) {
            mode |= S_ISGID;
        }
        match fs::fchmod(fd, mode).and_then(|()| fs::set_mtime(fd, None, time(&level.head))) {
            Err(Errno::PERM) if level.existed => {} // somebody else's, in which we may write
            other => here(other)?,
        }
        self.trail.pop();
        self.complete |= self.depth == 0;
        Ok(())
    }

    fn link(&mut self, head: EntryHead, name: &CStr, place: &Place<'_>) -> Unpacked<()> {
        let (parent, name) = self.at(name, place);
        let target = CStr::from_bytes_with_nul(self.input.extra()).map_err(|_| Fault::Stream(Errno::PROTO))?;
        here(replacing(parent, name, || fs::symlinkat(target, parent, name)))?;
        let _ = fs::set_mtime(parent, Some(name), time(&head)); // some file systems have none of links
        if self.depth == 0 { self.rename(place) } else { Ok(()) }
    }

    fn file(&mut self, head: EntryHead, name: &CStr, place: &Place<'_>) -> Unpacked<()> {
        let (parent, name) = self.at(name, place);
        let file = here(create(parent, name, head.mode & 0o777))?;
        let filled = match here(attributes::apply(file.raw(), self.input.extra())) {
            Ok(()) => self.content(&file),
            Err(fault) => Err(fault),
        };
        let whole = match filled {
            Ok(None) => here(self.finish(&file, &head)).map(|()| true),
            Ok(Some(errno)) if self.depth > 0 => {
                self.note(errno);
                Ok(false)
            }
            Ok(Some(errno)) => Err(Fault::Sender(errno)),
            Err(fault) => Err(fault),
        };
        let renamed = match whole {
            Ok(true) if self.depth == 0 => self.rename(place).map(|()| true),
            other => other,
        };
        if renamed != Ok(true) {
            let _ = fs::unlinkat(parent, name, 0);
        }
        renamed.map(drop)
    }

    fn rename(&self, place: &Place<'_>) -> Unpacked<()> {
        let renamed = fs::renameat2(place.parent, place.temporary, place.parent, place.name);
        if renamed.is_err() {
            let _ = fs::unlinkat(place.parent, place.temporary, 0);
        }
        here(renamed)
    }

    /// Its content; the sender's errno where it could not read all.
    fn content(&mut self, file: &Fd) -> Unpacked<Option<Errno>> {
        let (mut at, mut hole) = (0u64, false);
        loop {
            let length = match stream(self.input.u32())? {
                segment::END if hole => return here(fs::ftruncate(file.raw(), at)).map(|()| None),
                segment::END => return Ok(None),
                segment::BROKEN => return Ok(Some(Errno(stream(self.input.u32())? as i32))),
                segment::HOLE => {
                    let length = stream(self.input.u64())?;
                    at = at.checked_add(length).filter(|at| *at <= LENGTH_MAX).ok_or(Fault::Stream(Errno::PROTO))?;
                    here(fs::lseek(file.raw(), at, SEEK_SET))?;
                    hole = true;
                    continue;
                }
                length => length,
            };
            let mut left = length as usize;
            while left > 0 {
                let data = stream(self.input.some(left))?;
                here(write_all(file.raw(), data))?;
                left -= data.len();
            }
            at = at.saturating_add(u64::from(length));
            hole = false;
        }
    }

    /// Set-id bits on the one mount that may have them alone: elsewhere the file may be another user's (K32).
    fn finish(&self, file: &Fd, head: &EntryHead) -> Result<()> {
        let set_ids = head.mode & (S_ISUID | S_ISGID);
        let keeps = set_ids != 0 && self.keeps_set_ids(file.raw());
        if keeps || !self.rules.exact_modes {
            fs::fchmod(file.raw(), head.mode & 0o777 | if keeps { set_ids } else { 0 })?;
        }
        fs::set_mtime(file.raw(), None, time(head))
    }

    fn keeps_set_ids(&self, fd: i32) -> bool {
        self.rules.set_ids_on.is_some_and(|mount| fs::fstat(fd).is_ok_and(|seen| seen.mount_id == mount))
    }
}

/// Nothing is copied into a directory, and none is replaced.
fn refuse_directory(place: &Place<'_>) -> Result<()> {
    match fs::statx(place.parent, place.name, AT_SYMLINK_NOFOLLOW) {
        Ok(seen) if seen.kind() == S_IFDIR => Err(Errno::ISDIR),
        _ => Ok(()),
    }
}

fn time(head: &EntryHead) -> (i64, u32) {
    (head.seconds as i64, head.nanos)
}

fn write_all(file: i32, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let count = retry(|| fs::write(file, data))?;
        data = &data[count..];
    }
    Ok(())
}

/// A new file; what has its name goes, unless it is a directory.
fn create(parent: i32, name: &CStr, mode: u32) -> Result<Fd> {
    match replacing(parent, name, || fs::openat(parent, name, MAKE, mode)) {
        // The end of a mount: the file that is bound there stays, and gets the content.
        Err(Errno::BUSY) => {
            let file = fs::openat(parent, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0)?;
            if fs::fstat(file.raw())?.kind() != S_IFREG {
                return Err(super::SPECIAL);
            }
            refuse_kernels(file.raw())?;
            fs::ftruncate(file.raw(), 0)?;
            Ok(file)
        }
        other => other,
    }
}

fn replacing<T>(parent: i32, name: &CStr, make: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        match make() {
            Err(Errno::EXIST) => {}
            other => return other,
        }
        match fs::unlinkat(parent, name, 0) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}
