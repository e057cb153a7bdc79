//! A file, link or tree onto a stream. What cannot be read is named there and left out, as shutil.copytree does it.

use super::output::Output;
use super::{DEEP, EXTRA_MAX, LEVELS, NAMES, SEGMENT_MAX, SPECIAL, Stream, attributes, refuse_kernels};
use crate::sys::constants::*;
use crate::sys::errno::retry;
use crate::sys::fs::{self, Fd, Statx};
use crate::sys::{Errno, Result};
use crate::wire::EntryHead;
use crate::wire::files::{entry, segment};
use core::ffi::CStr;

/// Never waits for the other end of a fifo, never becomes a terminal's process, never follows.
const READ: usize = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
const DIRECTORY: usize = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
/// Another kind each time is somebody's race.
const TRIES: usize = 4;
/// One read of a file asks for room for at least as much.
const PIECE: usize = 64 * 1024;

/// Why it ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for cannot be read.
    Here(Errno),
    /// Nobody takes it.
    Stream(Errno),
}

/// How far a walk goes.
#[derive(Default)]
pub struct Bounds {
    /// A directory (device and inode) whose content stays: the engine's own /dev.
    pub closed: Option<(u64, u64)>,
    /// Nothing of what the kernel makes up is read.
    pub no_kernels: bool,
}

struct Level {
    directory: Fd,
    filled: usize,
    at: usize,
    mount: u64,
}

pub struct Packer<'a, S> {
    pub out: Output<'a, S>,
    names: &'a mut [u8],
    extra: &'a mut [u8],
    bounds: Bounds,
    levels: [Level; LEVELS],
    depth: usize,
}

/// Without its name.
pub fn head_of(kind: u8, seen: &Statx) -> EntryHead {
    let (seconds, nanos) = seen.mtime();
    EntryHead {
        kind,
        mode: u32::from(seen.mode) & 0o7777,
        uid: seen.uid,
        gid: seen.gid,
        seconds: seconds as u64,
        nanos,
        size: seen.size,
        ..EntryHead::default()
    }
}

pub fn stream<T>(result: Result<T>) -> core::result::Result<T, Fault> {
    result.map_err(Fault::Stream)
}

pub type Packed = core::result::Result<(), Fault>;

impl<'a, S: Stream> Packer<'a, S> {
    /// `names` has LEVELS times NAMES bytes, `extra` EXTRA_MAX and LIST_MAX.
    pub fn new(out: Output<'a, S>, names: &'a mut [u8], extra: &'a mut [u8], bounds: Bounds) -> Packer<'a, S> {
        let levels = [const { Level { directory: Fd::NONE, filled: 0, at: 0, mount: 0 } }; LEVELS];
        Packer { out, names, extra, bounds, levels, depth: 0 }
    }

    /// What `name` is in that directory, and all that is in it.
    pub fn pack(&mut self, parent: i32, name: &CStr) -> Packed {
        self.one(parent, name, DT_UNKNOWN, c"")?;
        while let Some(level) = self.depth.checked_sub(1) {
            let mut name = [0u8; 256];
            match self.next(level, &mut name).map_err(Fault::Here)? {
                Some(kind) => {
                    let name = CStr::from_bytes_until_nul(&name).unwrap_or(c"");
                    self.one(self.levels[level].directory.raw(), name, kind, name)?;
                }
                None => {
                    self.levels[level].directory.close();
                    self.depth = level;
                    stream(self.out.mark(entry::LEAVE))?;
                }
            }
        }
        self.end()
    }

    /// An open file, and nothing else.
    pub fn pack_file(&mut self, file: i32) -> Packed {
        let seen = fs::fstat(file).map_err(Fault::Here)?;
        self.file_head(file, &seen, c"")?;
        content(&mut self.out, file, &seen)?;
        self.end()
    }

    fn end(&mut self) -> Packed {
        stream(self.out.mark(entry::END))?;
        stream(self.out.flush())
    }

    /// The next name of a directory, and its kind.
    fn next(&mut self, level: usize, name: &mut [u8; 256]) -> Result<Option<u8>> {
        let buffer = &mut self.names[level * NAMES..(level + 1) * NAMES];
        let level = &mut self.levels[level];
        loop {
            if let Some(entry) = fs::next_entry(&buffer[..level.filled], &mut level.at) {
                let bytes = entry.name.to_bytes_with_nul();
                name.get_mut(..bytes.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(bytes);
                return Ok(Some(entry.kind));
            }
            level.filled = fs::getdents64(level.directory.raw(), buffer)?;
            level.at = 0;
            if level.filled == 0 {
                return Ok(None);
            }
        }
    }

    /// `said` is its name on the stream, empty at the top, where a failure is the end. Another kind of thing under its name since that
    /// was read is looked at anew.
    fn one(&mut self, parent: i32, name: &CStr, kind: u8, said: &CStr) -> Packed {
        let mut done = self.by_kind(parent, name, kind, said);
        for _ in 0..TRIES {
            if !matches!(done, Err(Fault::Here(Errno::LOOP | Errno::NOTDIR | Errno::INVAL | SPECIAL))) {
                break;
            }
            done = self.by_kind(parent, name, DT_UNKNOWN, said);
        }
        match done {
            Err(Fault::Here(Errno::NOENT)) if !said.is_empty() => Ok(()), // gone since its name was read
            Err(Fault::Here(errno)) if !said.is_empty() => stream(self.out.left_out(said, errno)),
            other => other,
        }
    }

    fn by_kind(&mut self, parent: i32, name: &CStr, kind: u8, said: &CStr) -> Packed {
        let kind = match kind {
            DT_UNKNOWN => {
                let seen = fs::statx(parent, name, AT_SYMLINK_NOFOLLOW).map_err(Fault::Here)?;
                (seen.kind() >> 12) as u8 // as in <dirent.h>, IFTODT
            }
            known => known,
        };
        match kind {
            DT_REG => self.file(parent, name, said),
            DT_DIR => self.directory(parent, name, said),
            DT_LNK => self.link(parent, name, said),
            _ => Err(Fault::Here(SPECIAL)),
        }
    }

    /// The mount of the directory that is being walked; of the top, none.
    fn mount(&self) -> u64 {
        self.depth.checked_sub(1).map_or(u64::MAX, |level| self.levels[level].mount)
    }

    /// Where a mount begins it may be one of the kernel's.
    fn look(&self, fd: i32) -> core::result::Result<Statx, Fault> {
        let seen = fs::fstat(fd).map_err(Fault::Here)?;
        if self.bounds.no_kernels && seen.mount_id != self.mount() {
            refuse_kernels(fd).map_err(Fault::Here)?;
        }
        Ok(seen)
    }

    fn directory(&mut self, parent: i32, name: &CStr, said: &CStr) -> Packed {
        let directory = fs::openat(parent, name, DIRECTORY, 0).map_err(Fault::Here)?;
        let seen = match self.look(directory.raw()) {
            // A tree's mount point of the kernel's stays empty, as in a copy of the root by anybody else.
            Err(Fault::Here(super::KERNELS)) if !said.is_empty() => return self.empty(directory.raw(), said),
            other => other?,
        };
        if self.bounds.closed == Some((seen.dev(), seen.ino)) && !said.is_empty() {
            return self.empty(directory.raw(), said);
        }
        if self.depth == LEVELS {
            return Err(Fault::Here(DEEP));
        }
        let extra = attributes::read(directory.raw(), self.extra).map_err(Fault::Here)?;
        stream(self.out.entry(head_of(entry::DIRECTORY, &seen), said, &self.extra[..extra]))?;
        self.levels[self.depth] = Level { directory, filled: 0, at: 0, mount: seen.mount_id };
        self.depth += 1;
        Ok(())
    }

    fn empty(&mut self, directory: i32, said: &CStr) -> Packed {
        let seen = fs::fstat(directory).map_err(Fault::Here)?;
        stream(self.out.entry(head_of(entry::DIRECTORY, &seen), said, b""))?;
        stream(self.out.mark(entry::LEAVE))
    }

    fn link(&mut self, parent: i32, name: &CStr, said: &CStr) -> Packed {
        let seen = fs::statx(parent, name, AT_SYMLINK_NOFOLLOW).map_err(Fault::Here)?;
        let target = &mut self.extra[..EXTRA_MAX];
        let length = fs::readlinkat(parent, name, &mut target[..4096]).map_err(Fault::Here)?;
        target[length] = 0;
        stream(self.out.entry(head_of(entry::LINK, &seen), said, &self.extra[..length + 1]))
    }

    fn file(&mut self, parent: i32, name: &CStr, said: &CStr) -> Packed {
        let file = fs::openat(parent, name, READ, 0).map_err(Fault::Here)?;
        let seen = self.look(file.raw())?;
        if seen.kind() != S_IFREG {
            return Err(Fault::Here(SPECIAL)); // another one under its name since it was looked at
        }
        self.file_head(file.raw(), &seen, said)?;
        content(&mut self.out, file.raw(), &seen)
    }

    fn file_head(&mut self, file: i32, seen: &Statx, said: &CStr) -> Packed {
        let extra = attributes::read(file, self.extra).map_err(Fault::Here)?;
        stream(self.out.entry(head_of(entry::FILE, seen), said, &self.extra[..extra]))
    }
}

/// As much as the file had when it was looked at; one that has become shorter ends there. Holes stay holes.
pub fn content<S: Stream>(out: &mut Output<'_, S>, file: i32, seen: &Statx) -> Packed {
    let read = if has_holes(seen) { parts(out, file, seen.size) } else { part(out, file, seen.size) };
    match read {
        Err(Fault::Here(errno)) => stream(out.broken(errno)),
        other => other.and_then(|_| stream(out.put(&segment::END.to_le_bytes()))),
    }
}

fn parts<S: Stream>(out: &mut Output<'_, S>, file: i32, size: u64) -> Packed {
    let mut at = 0;
    while at < size {
        let data = match fs::lseek(file, at, SEEK_DATA) {
            Err(Errno::NXIO) => size,
            Err(_) if at == 0 => return part(out, file, size), // a file system that knows of no holes
            found => found.map_err(Fault::Here)?.min(size),
        };
        if data > at {
            stream(out.hole(data - at))?;
        }
        if data == size {
            break;
        }
        let hole = fs::lseek(file, data, SEEK_HOLE).map_err(Fault::Here)?.min(size);
        fs::lseek(file, data, SEEK_SET).map_err(Fault::Here)?;
        if hole <= data {
            break; // it was cut off meanwhile
        }
        part(out, file, hole - data)?;
        at = hole;
    }
    Ok(())
}

fn part<S: Stream>(out: &mut Output<'_, S>, file: i32, mut left: u64) -> Packed {
    while left > 0 {
        let least = 4 + (left as usize).min(PIECE);
        let room = stream(out.room(least))?;
        let most = (room.len() - 4).min(SEGMENT_MAX).min(left as usize);
        let count = retry(|| fs::read(file, &mut room[4..4 + most])).map_err(Fault::Here)?;
        if count == 0 {
            break;
        }
        room[..4].copy_from_slice(&(count as u32).to_le_bytes());
        out.advance(4 + count);
        left -= count as u64;
    }
    Ok(())
}

/// It may have some: fewer blocks than its size needs.
pub fn has_holes(seen: &Statx) -> bool {
    seen.blocks < seen.size / 512
}
