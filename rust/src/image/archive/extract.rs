//! Entries into a tree: files, links, devices, and what each inode is given. Decides what of an archive a root file system takes.

use super::given::{give, owner, times};
use super::marks;
use super::noted::Noted;
use super::source::{Check, interrupted};
use super::stream::{Entry, Kind, Meta, Reader};
use super::tree::{IMPLIED_MODE, Place, Tree, components, refused};
use super::whiteout::{self, Meaning};
use crate::error::{Error, Result};
use crate::image::owned::Owners;
use crate::sys::disk;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const CHUNK: usize = 128 << 10;
/// A file of so many bytes is sent to the disk as it comes: at the end the disk is waited for, and it may as well begin now. For
/// smaller ones the call would cost more than it saves.
const SENT_AT_ONCE: u64 = 64 << 10;
/// Of a big one, so much at a time.
const STRIDE: u64 = 8 << 20;
/// Between two looks at the free space.
const SPACE_STEP: u64 = 64 << 20;
/// As much is told of devices that are left out.
const LEFT_OUT_MAX: usize = 64 << 10;
/// Left free on the store's file system, or a twentieth of it where that is less.
const RESERVE: u64 = 1 << 30;

/// How much was unpacked, for the completion record.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    pub entries: u64,
    pub bytes: u64,
    /// Of a layer: the directories that no entry describes, "." for the root.
    pub implied: Vec<Vec<u8>>,
    pub owners: Owners,
    /// Devices that only root may make: as a record names them (`left_out`), a NUL after each.
    pub left_out: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Whether owners, devices and file capabilities are the archive's; otherwise all belongs to the user.
    pub privileged: bool,
    /// Whether it is a layer, in which `.wh.` names are whiteouts; a root file system has none.
    pub is_layer: bool,
}

pub struct Extractor<'a> {
    tree: Tree<Meta>,
    manner: Manner,
    check: Check<'a>,
    totals: Totals,
    next_look: u64,
    buffer: Vec<u8>,
    /// Of a plain user's tree; root gives owners at once.
    noted: Option<Noted>,
}

/// Unpacks all of it into `root`, an empty directory that is open for reading and that nobody else writes to.
pub fn extract<R: Read>(reader: &mut Reader<R>, root: OwnedFd, manner: Manner, check: Check<'_>) -> Result<Totals> {
    let (tree, buffer) = (Tree::new(root)?, vec![0; CHUNK]);
    let noted = (!manner.privileged).then(Noted::default);
    let mut extractor = Extractor { tree, manner, check, totals: Totals::default(), next_look: 0, buffer, noted };
    extractor.watch_space()?;
    while let Some(entry) = reader.next()? {
        if (extractor.check)() {
            return Err(interrupted());
        }
        extractor.entry(&entry, reader).map_err(|error| about(&entry.name, error))?;
    }
    extractor.finish()
}

/// Says which entry an error is about, once.
fn about(name: &[u8], error: Error) -> Error {
    match error {
        Error::Layer(text) if text.starts_with("entry ") => Error::Layer(text),
        Error::Layer(text) => Error::Layer(format!("entry {:?}: {text}", String::from_utf8_lossy(name))),
        Error::Setup { step, path: None, errno, note } => {
            Error::Setup { step, path: Some(String::from_utf8_lossy(name).into_owned()), errno, note }
        }
        other => other,
    }
}

impl Extractor<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.tree.count()?;
        self.totals.entries += 1;
        let parts = components(&entry.name)?;
        let Some((name, above)) = parts.split_last() else {
            return self.root(entry);
        };
        if self.manner.is_layer && self.whiteout(&parts, above, entry)? {
            return Ok(());
        }
        let parent = self.tree.directory(above, true)?;
        match entry.kind {
            Kind::Directory => self.directory(&parent, name, entry)?,
            Kind::File => self.file(&parent, name, entry, reader)?,
            Kind::Symlink => self.symlink(&parent, name, entry)?,
            Kind::Hardlink => self.hardlink(&parent, name, entry)?,
            Kind::Fifo => self.node(&parent, name, entry, FileType::Fifo, 0)?,
            Kind::CharDevice(major, minor) => {
                self.device(&parent, name, entry, FileType::CharacterDevice, (major, minor))?
            }
            Kind::BlockDevice(major, minor) => {
                self.device(&parent, name, entry, FileType::BlockDevice, (major, minor))?
            }
        }
        match entry.kind {
            Kind::File => self.tree.keep(above, parent),
            _ => self.tree.forget(),
        }
        Ok(())
    }

    /// Notes a whiteout; it is made at the end, when it is known what the layer has itself. False for any other entry.
    fn whiteout(&mut self, parts: &[&[u8]], above: &[&[u8]], entry: &Entry) -> Result<bool> {
        let meaning = whiteout::meaning(parts)?;
        match meaning {
            Meaning::Plain => return Ok(false),
            Meaning::Ignored => return Ok(true),
            Meaning::Hides(_) | Meaning::Opaque => whiteout::check(entry)?,
        }
        let parent = self.tree.directory(above, true)?;
        match meaning {
            Meaning::Hides(name) => self.tree.hide(&parent, name),
            _ => self.tree.set_opaque(&parent),
        }
        self.tree.keep(above, parent);
        Ok(true)
    }

    /// "." is the root itself, and nothing may take its place (CVE-2021-29136).
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::Layer("the root is a directory".into()));
        }
        self.tree.set_root_meta(entry.meta.clone());
        Ok(())
    }

    /// Merges with a directory; replaces anything else, a link to a directory too (CVE-2026-33056).
    fn directory(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        let seen = self.tree.look(parent, name)?;
        let is_there = seen.is_some_and(|seen| FileType::from_raw_mode(seen.st_mode) == FileType::Directory);
        let place = if is_there {
            self.tree.enter(parent, name)?
        } else {
            self.tree.clear(parent, name)?;
            self.tree.make(parent, name)?
        };
        self.tree.set_meta(&place, entry.meta.clone());
        Ok(())
    }

    fn file<R: Read>(&mut self, parent: &Place, name: &[u8], entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match create() {
            Err(Errno::EXIST) => {
                self.tree.clear(parent, name)?;
                create()
            }
            other => other,
        };
        let file = file.map_err(|errno| refused("make a file", errno))?;
        match &entry.regions {
            None => self.copy(&file, 0, entry.size, reader)?,
            Some(regions) => {
                rustix::fs::ftruncate(&file, entry.size).map_err(|errno| refused("size a file", errno))?;
                for (offset, length) in regions {
                    self.copy(&file, *offset, *length, reader)?;
                }
            }
        }
        give(file.as_fd(), &entry.meta, true, self.manner.privileged)?;
        self.note(parent, name, &entry.meta, true)
    }

    fn copy<R: Read>(&mut self, file: &OwnedFd, offset: u64, length: u64, reader: &mut Reader<R>) -> Result<()> {
        let (mut done, mut sent) = (0, 0);
        while done < length {
            if (self.check)() {
                return Err(interrupted());
            }
            let wanted = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
            let n = reader.read(&mut self.buffer[..wanted])?;
            if n == 0 {
                return Err(reader.damaged("its data is cut short"));
            }
            write_all(file, &self.buffer[..n], offset + done)?;
            done += n as u64;
            if done - sent >= STRIDE || done == length && length >= SENT_AT_ONCE {
                disk::start_writing(file.as_raw_fd(), offset + sent, done - sent);
                sent = done;
            }
            self.totals.bytes += n as u64;
            self.watch_space()?;
        }
        Ok(())
    }

    /// Stops before the disk is full for everybody else. A file system without a size (blocks 0) is not watched.
    fn watch_space(&mut self) -> Result<()> {
        if self.totals.bytes < self.next_look {
            return Ok(());
        }
        self.next_look = self.totals.bytes + SPACE_STEP;
        let seen = rustix::fs::fstatvfs(self.tree.root()).map_err(|errno| refused("measure the store", errno))?;
        let reserve = RESERVE.min(seen.f_blocks * seen.f_frsize / 20);
        if seen.f_blocks > 0 && seen.f_bavail * seen.f_frsize < reserve {
            return Err(Error::NoSpace { path: None });
        }
        Ok(())
    }

    /// The target is text, never looked at here.
    fn symlink(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        self.tree.clear(parent, name)?;
        rustix::fs::symlinkat(&*entry.link, parent, name).map_err(|errno| refused("make a symbolic link", errno))?;
        if self.manner.privileged {
            let (uid, gid) = owner(&entry.meta)?;
            let given = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            given.map_err(|errno| refused("give a symbolic link its owner", errno))?;
        }
        let set = rustix::fs::utimensat(parent, name, &times(&entry.meta), AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|errno| refused("set the time of a symbolic link", errno))?;
        self.note(parent, name, &entry.meta, false)
    }

    /// Nothing for root, who has given it already.
    fn note(&mut self, parent: &Place, name: &[u8], meta: &Meta, is_file: bool) -> Result<()> {
        match &mut self.noted {
            Some(noted) => noted.entry(&self.tree, (parent, name), meta, is_file),
            None => Ok(()),
        }
    }

    /// The target is resolved inside the root, its last component not followed. The inode keeps what its own entry gave it:
    /// a link's mode or owner applied to a target is how files elsewhere were changed (CVE-2021-32760).
    fn hardlink(&mut self, parent: &Place, name: &[u8], entry: &Entry) -> Result<()> {
        let parts = components(&entry.link).map_err(|_| Error::Layer("its target leads out of the root".into()))?;
        let (target, above) = parts.split_last().ok_or_else(|| Error::Layer("a hard link to the root".into()))?;
        let from = self.tree.directory(above, false)?;
        let seen = self.tree.look(&from, target)?.ok_or_else(|| Error::Layer(self.no_target(&entry.link)))?;
        if FileType::from_raw_mode(seen.st_mode) == FileType::Directory {
            return Err(Error::Layer("a hard link to a directory".into()));
        }
        if self.tree.look(parent, name)?.is_some_and(|there| there.st_ino == seen.st_ino) {
            return Ok(()); // it is that link already; clearing the way would take its target
        }
        self.tree.clear(parent, name)?;
        let linked = rustix::fs::linkat(&from, *target, parent, name, AtFlags::empty());
        linked.map_err(|errno| refused("make a hard link", errno))?;
        self.noted.as_mut().map_or(Ok(()), |noted| noted.link(&self.tree, (parent, name), seen.st_ino))
    }

    /// docker's overlay2 and podman's overlay unpack each layer by itself too, and refuse such links; who unpacks layers over each
    /// other, as umoci, does not. Which file is meant would depend on the image, and a layer is unpacked once for all images.
    fn no_target(&self, target: &[u8]) -> String {
        let target = String::from_utf8_lossy(target);
        if !self.manner.is_layer {
            return format!("a hard link to {target:?}, which is not there");
        }
        format!(
            "a hard link to {target:?}, which this layer does not have: a link to a file of a lower layer cannot be made, because layers are \
             unpacked apart from each other; build the image so that the layer has the file itself, or flatten it \
             (umoci unpack, then Image.from_directory)"
        )
    }

    /// Only root may make devices; for a plain user they are left out. Every mount of an image is nodev: inside, none can be opened.
    fn device(&mut self, parent: &Place, name: &[u8], entry: &Entry, kind: FileType, number: (u32, u32)) -> Result<()> {
        if kind == FileType::CharacterDevice && number == (0, 0) {
            return Err(Error::Layer("character device 0:0, which an overlay takes for a deleted file".into()));
        }
        if !self.manner.privileged {
            self.leave_out(parent, name, kind, number);
            return self.tree.clear(parent, name);
        }
        // Linux: 12 bits of major, 20 of minor (kdev_t.h).
        if number.0 >= 1 << 12 || number.1 >= 1 << 20 {
            return Err(Error::Layer(format!("device {}:{} is out of range", number.0, number.1)));
        }
        self.node(parent, name, entry, kind, rustix::fs::makedev(number.0, number.1))
    }

    fn leave_out(&mut self, parent: &Place, name: &[u8], kind: FileType, (major, minor): (u32, u32)) {
        if self.totals.left_out.len() < LEFT_OUT_MAX {
            let kind = if kind == FileType::BlockDevice { 'b' } else { 'c' };
            self.totals.left_out.extend_from_slice(format!("{kind} {major}:{minor} ").as_bytes());
            self.totals.left_out.extend_from_slice(&self.tree.path_of(parent, name));
            self.totals.left_out.push(0);
        }
    }

    fn node(&mut self, parent: &Place, name: &[u8], entry: &Entry, kind: FileType, device: u64) -> Result<()> {
        self.tree.clear(parent, name)?;
        match rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device) {
            // Root of a user namespace, or without CAP_MKNOD: as a plain user.
            Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
            other => other.map_err(|errno| refused("make a device or FIFO", errno))?,
        }
        let fail = |errno| refused("set up a device or FIFO", errno);
        if self.manner.privileged {
            let (uid, gid) = owner(&entry.meta)?;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        // By name, but one that was made just above, where nobody else writes: opening a device could do anything.
        let mode = Mode::from_raw_mode(entry.meta.mode);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(fail)?;
        rustix::fs::utimensat(parent, name, &times(&entry.meta), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        self.note(parent, name, &entry.meta, false)
    }

    fn finish(mut self) -> Result<Totals> {
        let privileged = self.manner.privileged;
        if self.manner.is_layer {
            self.totals.implied = self.tree.implied();
        }
        let (root, noted) = (self.tree.root_again()?, &mut self.noted);
        let has_replaced = self.tree.has_replaced;
        self.tree.finish(|fd, path, meta, marks| {
            marks::set(fd, &marks, privileged)?;
            if let Some(noted) = noted {
                noted.directory(root.as_fd(), path, meta.as_ref(), has_replaced)?;
            }
            match meta {
                Some(meta) => give(fd, &meta, false, privileged),
                None => rustix::fs::fchmod(fd, Mode::from_raw_mode(IMPLIED_MODE))
                    .map_err(|errno| refused("set the mode of a directory", errno)),
            }
        })?;
        self.totals.owners = self.noted.map_or(Ok(Owners::Own), |noted| noted.give(root.as_fd()))?;
        Ok(self.totals)
    }
}

fn write_all(file: &OwnedFd, mut data: &[u8], mut offset: u64) -> Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, offset) {
            Ok(n) => {
                data = &data[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(refused("write a file", errno)),
        }
    }
    Ok(())
}
