//! The writable layer against the layer below, name by name; or a root that is a copy against what it was copied from. Opens directories only, and follows nothing: what the container changes
//! meanwhile leads nowhere.

use super::{LOWER, Socket, UPPER};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd, Statx};
use crate::sys::{Errno, Result, memory};
use crate::transfer::copied::Copied;
use crate::transfer::output::Output;
use crate::transfer::tree::{Marks, Note, is_whiteout};
use crate::transfer::{DEEP, LEVELS, NAMES};
use crate::wire::EntryHead;
use crate::wire::files::{change, changed, entry};
use core::ffi::CStr;

const DIRECTORY: usize = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

struct Level {
    upper: Fd,
    /// None where there was no such directory.
    lower: Fd,
    /// The lower one's names are hidden, or (of a copy) may be gone, and are read after the upper one's.
    opaque: bool,
    below: bool,
    filled: usize,
    at: usize,
}

impl Level {
    const NONE: Level = Level { upper: Fd::NONE, lower: Fd::NONE, opaque: false, below: false, filled: 0, at: 0 };
}

struct Walk {
    out: Output<'static, Socket>,
    names: &'static mut [u8],
    marks: Marks,
    copied: Option<Copied>,
    levels: [Level; LEVELS],
    depth: usize,
}

pub fn differences(out: Output<'static, Socket>, marks: Marks) -> Result<()> {
    let names = memory::map_bytes(LEVELS * NAMES)?;
    let mut walk =
        Walk { out, names, marks, copied: Copied::of(UPPER), levels: [const { Level::NONE }; LEVELS], depth: 0 };
    let upper = fs::openat(UPPER, c".", DIRECTORY, 0)?;
    let lower = fs::openat(LOWER, c".", DIRECTORY, 0).map_err(|_| Errno::OPNOTSUPP)?;
    walk.enter(upper, lower)?;
    walk.walk()?;
    walk.out.mark(entry::END)?;
    walk.out.flush()
}

impl Walk {
    fn enter(&mut self, upper: Fd, lower: Fd) -> Result<()> {
        let opaque = lower.is_open() && (self.copied.is_some() || self.marks.is_opaque(upper.raw()));
        let level = self.levels.get_mut(self.depth).ok_or(DEEP)?;
        *level = Level { upper, lower, opaque, below: false, filled: 0, at: 0 };
        self.depth += 1;
        Ok(())
    }

    fn walk(&mut self) -> Result<()> {
        while let Some(top) = self.depth.checked_sub(1) {
            let mut name = [0u8; 256];
            if self.next(top, &mut name)? {
                let name = CStr::from_bytes_until_nul(&name).unwrap_or(c"");
                if self.levels[top].below { self.hidden(top, name)? } else { self.one(top, name)? }
            } else if self.levels[top].opaque && !self.levels[top].below {
                self.levels[top].below = true;
            } else {
                self.levels[top].upper.close();
                self.levels[top].lower.close();
                self.depth = top;
                if top > 0 {
                    self.out.mark(entry::LEAVE)?;
                }
            }
        }
        Ok(())
    }

    fn next(&mut self, top: usize, name: &mut [u8; 256]) -> Result<bool> {
        let buffer = &mut self.names[top * NAMES..(top + 1) * NAMES];
        let level = &mut self.levels[top];
        loop {
            if let Some(entry) = fs::next_entry(&buffer[..level.filled], &mut level.at) {
                let bytes = entry.name.to_bytes_with_nul();
                name.get_mut(..bytes.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(bytes);
                return Ok(true);
            }
            let from = if level.below { &level.lower } else { &level.upper };
            level.filled = match fs::getdents64(from.raw(), buffer) {
                Err(Errno::NOENT) => 0, // removed meanwhile, while it is open here
                other => other?,
            };
            level.at = 0;
            if level.filled == 0 {
                return Ok(false);
            }
        }
    }

    fn say(&mut self, name: &CStr, kind: u32, flags: u64) -> Result<()> {
        self.out.entry(EntryHead { kind: entry::CHANGE, mode: kind, size: flags, ..EntryHead::default() }, name, b"")
    }

    /// A name of the lower directory, beneath one that hides them all.
    fn hidden(&mut self, top: usize, name: &CStr) -> Result<()> {
        if self.copied.is_some() && self.was(top, name).is_none() {
            return Ok(());
        }
        match fs::statx(self.levels[top].upper.raw(), name, AT_SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => self.say(name, change::DELETED, 0),
            _ => Ok(()),
        }
    }

    /// What was copied is no whiteout of a single layer, which hides nothing.
    fn was(&self, top: usize, name: &CStr) -> Option<Statx> {
        let lower = self.levels[top].lower.raw();
        let mut was = if lower >= 0 { fs::statx(lower, name, AT_SYMLINK_NOFOLLOW).ok()? } else { return None };
        if let Some(copied) = &self.copied {
            copied.seen(&mut was);
            return Some(was).filter(|was| !is_whiteout(was));
        }
        Some(was)
    }

    fn one(&mut self, top: usize, name: &CStr) -> Result<()> {
        let (upper, lower) = (self.levels[top].upper.raw(), self.levels[top].lower.raw());
        match self.marks.note(upper, name) {
            Note::None => {}
            // Beneath one that hides them all, a name that is not there is told of by `hidden`.
            Note::Gone(name) if !self.levels[top].opaque => {
                return self.was(top, name).map_or(Ok(()), |_| self.say(name, change::DELETED, 0));
            }
            Note::Gone(_) | Note::Other => return Ok(()),
        }
        let Ok(seen) = fs::statx(upper, name, AT_SYMLINK_NOFOLLOW) else { return Ok(()) }; // gone meanwhile
        let was = self.was(top, name);
        if is_whiteout(&seen) {
            return was.map_or(Ok(()), |_| self.say(name, change::DELETED, 0));
        }
        if seen.kind() != S_IFDIR {
            if self.copied.zip(was).is_some_and(|(copied, was)| !copied.is_touched(&seen, &was)) {
                return Ok(());
            }
            let empty = seen.kind() == S_IFREG && seen.size == 0;
            return self.say(name, kind(was.as_ref()), if empty { changed::EMPTY } else { 0 });
        }
        let Ok(directory) = fs::openat(upper, name, DIRECTORY, 0) else { return Ok(()) };
        match was.filter(|was| was.kind() == S_IFDIR) {
            Some(was) => {
                let below = fs::openat(lower, name, DIRECTORY, 0)?;
                self.say(name, change::ENTERED, changed::DIRECTORY | compare(&seen, &was, self.copied.as_ref()))?;
                self.enter(directory, below)
            }
            None => {
                self.say(name, kind(was.as_ref()), changed::DIRECTORY)?;
                self.enter(directory, Fd::NONE)
            }
        }
    }
}

fn kind(was: Option<&Statx>) -> u32 {
    if was.is_some() { change::CHANGED } else { change::ADDED }
}

fn compare(seen: &Statx, was: &Statx, copied: Option<&Copied>) -> u64 {
    let rights = (seen.mode, seen.uid, seen.gid) != (was.mode, was.uid, was.gid);
    let time = seen.mtime() != was.mtime() && copied.is_none_or(|copied| copied.is_touched(seen, was));
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    flag(rights, changed::RIGHTS) | flag(time, changed::TIME)
}
