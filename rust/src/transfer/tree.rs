//! A tree onto a stream with all that a layer holds: the writable layer beside the one below, or a whole root file system. Sorted, so
//! that the same files are the same bytes. Follows nothing and crosses no mount: what the container changes meanwhile leads nowhere.

mod marks;
mod names;
mod regions;

pub use self::marks::{Marks, Note};

use self::names::{Listing, Names};
use super::copied::Copied;
use super::output::Output;
use super::pack::{Fault, Packed, content, has_holes, head_of, stream};
use super::trail::Trail;
use super::{DEEP, ELSEWHERE, EXTRA_MAX, LEVELS, LIST_MAX, SPECIAL, Stream, attributes};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd, Statx};
use crate::sys::{Errno, Result};
use crate::wire::EntryHead;
use crate::wire::files::{change, changed, entry};
use core::ffi::CStr;

/// Never waits for the other end of a fifo, never becomes a terminal's process, never follows.
const READ: usize = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
const DIRECTORY: usize = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
const STRAIGHT: u64 = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
/// Another kind each time is somebody's race.
const TRIES: usize = 4;
/// PATH_MAX and more: a longer trail is cut, and leads nowhere.
const PATH: usize = 4097;

const EXTRA: usize = EXTRA_MAX + LIST_MAX;
/// Bytes that a walk needs; pages that it does not touch do not come into being.
pub const ROOM: usize = EXTRA + names::ROOM;

/// What is walked.
#[derive(Clone, Copy)]
pub enum What {
    /// The writable layer.
    Layer(Marks),
    /// What differs in a root from what it was copied from.
    Copy(Copied),
    /// Everything; of what lies under a mount these two layers tell, the upper one first. -1: there is none.
    Whole([i32; 2]),
}

struct Level {
    directory: Fd,
    /// The one below: none where there is none, or where it is hidden.
    below: Fd,
    listing: Listing,
}

impl Level {
    const NONE: Level = Level { directory: Fd::NONE, below: Fd::NONE, listing: Listing::NONE };
}

pub struct Tree<'a, S> {
    pub out: Output<'a, S>,
    what: What,
    extra: &'a mut [u8],
    names: Names<'a>,
    levels: [Level; LEVELS],
    depth: usize,
    mount: u64,
    trail: Trail,
}

fn here<T>(result: Result<T>) -> core::result::Result<T, Fault> {
    result.map_err(Fault::Here)
}

impl<'a, S: Stream> Tree<'a, S> {
    /// `room` has ROOM bytes.
    pub fn new(out: Output<'a, S>, room: &'a mut [u8], what: What) -> Tree<'a, S> {
        let (extra, room) = room.split_at_mut(EXTRA);
        let levels = [const { Level::NONE }; LEVELS];
        Tree { out, what, extra, names: Names::new(room), levels, depth: 0, mount: 0, trail: Trail::default() }
    }

    /// The directory with the layer's or the root's content, and the one below.
    pub fn walk(&mut self, top: i32, below: Option<i32>) -> Packed {
        let open = |fd| here(fs::openat(fd, c".", DIRECTORY, 0));
        let directory = open(top)?;
        let below = below.map_or(Ok(Fd::NONE), open)?;
        let mut was = if below.is_open() { Some(here(fs::fstat(below.raw()))?) } else { None };
        if let (What::Copy(copied), Some(was)) = (self.what, &mut was) {
            copied.seen(was);
        }
        self.mount = here(fs::fstat(directory.raw()))?.mount_id;
        self.enter(directory, c"", was, below)?;
        while let Some(level) = self.depth.checked_sub(1) {
            let mut name = [0u8; 256];
            if let Some(found) = self.names.next(&mut self.levels[level].listing) {
                name[..found.len()].copy_from_slice(found);
                self.one(level, CStr::from_bytes_until_nul(&name).unwrap_or(c""))?;
            } else {
                self.levels[level] = Level::NONE;
                self.depth = level;
                self.trail.pop();
                stream(self.out.mark(entry::LEAVE))?;
            }
        }
        stream(self.out.mark(entry::END))?;
        stream(self.out.flush())
    }

    /// Another kind of thing under its name since that was read is looked at anew.
    fn one(&mut self, level: usize, name: &CStr) -> Packed {
        let mut done = self.by_kind(level, name);
        for _ in 1..TRIES {
            if !matches!(done, Err(Fault::Here(Errno::LOOP | Errno::NOTDIR | Errno::INVAL | SPECIAL))) {
                break;
            }
            done = self.by_kind(level, name);
        }
        match done {
            Err(Fault::Here(Errno::NOENT)) => Ok(()), // gone since its name was read
            Err(Fault::Here(errno)) => stream(self.out.left_out(name, errno)),
            other => other,
        }
    }

    /// What lies below under this name: of a copy with the copy's owners, and without the whiteouts of a single layer, which hide nothing.
    fn was(&self, level: usize, name: &CStr) -> Option<Statx> {
        let below = self.levels[level].below.raw();
        let mut was = if below >= 0 { fs::statx(below, name, AT_SYMLINK_NOFOLLOW).ok()? } else { return None };
        if let What::Copy(copied) = self.what {
            copied.seen(&mut was);
            return Some(was).filter(|was| !is_whiteout(was));
        }
        Some(was)
    }

    fn by_kind(&mut self, level: usize, name: &CStr) -> Packed {
        let parent = self.levels[level].directory.raw();
        if let What::Layer(marks) = self.what {
            match marks.note(parent, name) {
                Note::None => {}
                Note::Gone(name) => return self.whiteout(name),
                Note::Other => return Ok(()),
            }
        }
        let was = self.was(level, name);
        let seen = match fs::statx(parent, name, AT_SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if was.is_some() && matches!(self.what, What::Copy(_)) => {
                return self.whiteout(name);
            }
            other => here(other)?,
        };
        if seen.mount_id != self.mount {
            return self.mounted(name, &seen);
        }
        if let (What::Copy(copied), Some(was)) = (self.what, &was)
            && seen.kind() != S_IFDIR
            && !copied.is_touched(&seen, was)
        {
            return Ok(());
        }
        match seen.kind() {
            S_IFDIR => {
                let directory = here(fs::openat(parent, name, DIRECTORY, 0))?;
                let below = self.levels[level].below.raw();
                let below = match was.as_ref().filter(|was| was.kind() == S_IFDIR) {
                    Some(_) => here(fs::openat(below, name, DIRECTORY, 0))?,
                    None => Fd::NONE,
                };
                self.enter(directory, name, was, below)
            }
            S_IFREG => self.file(level, name),
            S_IFLNK => self.link(parent, name, &seen),
            S_IFCHR if is_whiteout(&seen) && matches!(self.what, What::Layer(_)) => self.whiteout(name),
            S_IFCHR | S_IFBLK | S_IFIFO => {
                let size = u64::from(seen.rdev_major) << 32 | u64::from(seen.rdev_minor);
                let head = EntryHead { mode: u32::from(seen.mode), size, ..head_of(entry::NODE, &seen) };
                stream(self.out.entry(head, name, b""))
            }
            _ => Ok(()), // a socket is nothing without its process
        }
    }

    fn whiteout(&mut self, name: &CStr) -> Packed {
        stream(self.out.entry(EntryHead { kind: entry::WHITEOUT, ..EntryHead::default() }, name, b""))
    }

    /// What was opened is what was looked at: on the same mount, whatever was put there meanwhile.
    fn look(&self, fd: i32, kind: u32) -> core::result::Result<Statx, Fault> {
        let seen = here(fs::fstat(fd))?;
        if seen.kind() == kind && seen.mount_id == self.mount { Ok(seen) } else { Err(Fault::Here(SPECIAL)) }
    }

    fn refuse_elsewhere(&self, fd: i32) -> Packed {
        let What::Layer(marks) = self.what else { return Ok(()) };
        if marks.leads_elsewhere(fd) { Err(Fault::Here(ELSEWHERE)) } else { Ok(()) }
    }

    fn say_change(&mut self, kind: u32, flags: u64) -> Packed {
        let head = EntryHead { kind: entry::CHANGE, mode: kind, size: flags, ..EntryHead::default() };
        stream(self.out.entry(head, c"", b""))
    }

    fn enter(&mut self, directory: Fd, name: &CStr, was: Option<Statx>, below: Fd) -> Packed {
        let seen = self.look(directory.raw(), S_IFDIR)?;
        if self.depth == LEVELS {
            return Err(Fault::Here(DEEP));
        }
        self.refuse_elsewhere(directory.raw())?;
        let opaque = match self.what {
            What::Layer(marks) => below.is_open() && marks.is_opaque(directory.raw()),
            What::Copy(_) | What::Whole(_) => false,
        };
        let above = self.depth.checked_sub(1).map(|level| &self.levels[level].listing);
        let mut listing = here(self.names.list(directory.raw(), above))?;
        if matches!(self.what, What::Copy(_)) && below.is_open() {
            here(self.names.join(below.raw(), &mut listing))?;
        }
        let extra = here(attributes::read_for_layer(directory.raw(), self.extra))?;
        let (kind, flags) = self.compare(&seen, was.as_ref());
        self.say_change(kind, flags | changed::DIRECTORY)?;
        stream(self.out.entry(head_of(entry::DIRECTORY, &seen), name, &self.extra[..extra]))?;
        if opaque {
            stream(self.out.mark(entry::OPAQUE))?;
        }
        let below = if opaque { Fd::NONE } else { below };
        self.levels[self.depth] = Level { directory, below, listing };
        self.depth += 1;
        self.trail.push(name);
        Ok(())
    }

    /// How a directory differs from the one below.
    fn compare(&self, seen: &Statx, was: Option<&Statx>) -> (u32, u64) {
        let was = match was {
            None => return (change::ADDED, 0),
            Some(was) if was.kind() != S_IFDIR => return (change::CHANGED, 0),
            Some(was) => was,
        };
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let rights = flag((seen.mode, seen.uid, seen.gid) != (was.mode, was.uid, was.gid), changed::RIGHTS);
        let time = match self.what {
            // Its attributes, too, are changes of a layer.
            What::Copy(copied) => flag(copied.is_touched(seen, was), changed::TIME) | changed::COPIED,
            _ => flag(seen.mtime() != was.mtime(), changed::TIME),
        };
        (change::ENTERED, rights | time)
    }

    fn file(&mut self, level: usize, name: &CStr) -> Packed {
        let file = here(fs::openat(self.levels[level].directory.raw(), name, READ, 0))?;
        let seen = self.look(file.raw(), S_IFREG)?;
        self.refuse_elsewhere(file.raw())?;
        if seen.size == 0 {
            let was = self.was(level, name);
            let kind = if was.is_some() { change::CHANGED } else { change::ADDED };
            self.say_change(kind, changed::EMPTY)?;
        }
        self.opened(&file, &seen, name)
    }

    fn opened(&mut self, file: &Fd, seen: &Statx, name: &CStr) -> Packed {
        let extra = here(attributes::read_for_layer(file.raw(), self.extra))?;
        if seen.links > 1 {
            let (seconds, size) = self.identity(name).unwrap_or((seen.dev(), seen.ino));
            let head = EntryHead { kind: entry::INODE, size, seconds, ..EntryHead::default() };
            stream(self.out.entry(head, c"", b""))?;
        }
        if has_holes(seen) && regions::are_worth_a_map(file.raw(), seen.size) {
            let out = &mut self.out;
            regions::each(file.raw(), seen.size, |at, length| {
                let head = EntryHead { kind: entry::REGION, size: at, seconds: length, ..EntryHead::default() };
                out.entry(head, c"", b"")
            })
            .map_err(Fault::Stream)?;
            here(fs::lseek(file.raw(), 0, SEEK_SET))?;
        }
        stream(self.out.entry(head_of(entry::FILE, seen), name, &self.extra[..extra]))?;
        content(&mut self.out, file.raw(), seen)
    }

    /// An overlay tells two inodes for two names of a file that was copied up under one of them: its upper layer tells one.
    fn identity(&mut self, name: &CStr) -> Option<(u64, u64)> {
        let What::Whole([upper, _]) = self.what else { return None };
        let mut path = [0; PATH];
        let found = fs::openat2(upper, self.path_of(name, &mut path), O_PATH | O_NOFOLLOW, 0, STRAIGHT).ok()?;
        let seen = fs::fstat(found.raw()).ok()?;
        (seen.kind() == S_IFREG).then_some((seen.dev(), seen.ino))
    }

    /// From the root on, of a name in the directory that is being walked.
    fn path_of<'p>(&mut self, name: &CStr, room: &'p mut [u8; PATH]) -> &'p CStr {
        self.trail.push(name);
        let text = self.trail.text();
        room[..text.len()].copy_from_slice(text);
        self.trail.pop();
        CStr::from_bytes_until_nul(room).unwrap_or(c".")
    }

    fn link(&mut self, parent: i32, name: &CStr, seen: &Statx) -> Packed {
        let target = &mut self.extra[..EXTRA_MAX];
        let length = here(fs::readlinkat(parent, name, &mut target[..4096]))?;
        target[length] = 0;
        stream(self.out.entry(head_of(entry::LINK, seen), name, &self.extra[..length + 1]))
    }

    /// Something is mounted on this name. What lies under it is told as far as one layer knows it: a file whole, a directory empty.
    fn mounted(&mut self, name: &CStr, seen: &Statx) -> Packed {
        let What::Whole(layers) = self.what else { return Err(Fault::Here(Errno::XDEV)) };
        let mut path = [0; PATH];
        let path = self.path_of(name, &mut path);
        let is_directory = seen.kind() == S_IFDIR;
        let flags = if is_directory { DIRECTORY } else { READ };
        let under = layers.into_iter().filter(|layer| *layer >= 0);
        let under = under.filter_map(|layer| fs::openat2(layer, path, flags, 0, STRAIGHT).ok());
        let under = under.filter_map(|fd| fs::fstat(fd.raw()).ok().map(|seen| (fd, seen)));
        let found = under.into_iter().find(|(_, under)| under.kind() == seen.kind());
        match found {
            Some((fd, under)) if !is_directory && under.kind() == S_IFREG => self.opened(&fd, &under, name),
            found if is_directory => {
                let plain = EntryHead { kind: entry::DIRECTORY, mode: 0o755, ..EntryHead::default() };
                let head = found.map_or(plain, |(_, under)| head_of(entry::DIRECTORY, &under));
                self.say_change(change::ADDED, changed::DIRECTORY)?;
                stream(self.out.entry(head, name, b""))?;
                stream(self.out.mark(entry::LEAVE))
            }
            _ => Ok(()),
        }
    }
}

/// A device 0:0 stands for a name that was removed (overlayfs.rst).
pub fn is_whiteout(seen: &Statx) -> bool {
    seen.kind() == S_IFCHR && (seen.rdev_major, seen.rdev_minor) == (0, 0)
}
