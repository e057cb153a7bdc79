//! Where unpacked archives lie: one directory per digest, complete or not there. Any number of processes share it.

use super::extract::Totals;
use super::remove::remove_tree;
use super::source::{Check, interrupted};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::runtime::make_private_directory;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Raised when a tree would come out otherwise: what an older version unpacked is then unpacked again.
const VERSION: &str = "pycontainer-archive 1";
const RECORD: &str = "complete";
const ROOTFS: &str = "rootfs";
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub struct Store {
    dir: OwnedFd,
    path: PathBuf,
}

/// Held by the one process that unpacks this archive; the file is gone when the lock is.
#[derive(Debug)]
pub struct Lock<'a> {
    store: &'a Store,
    name: String,
    /// A forked copy of the host would keep the lock alive: it closes this.
    file: Ours,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.store.dir, &self.name, AtFlags::empty());
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// A directory under a name that says it is not complete.
#[derive(Debug)]
pub struct Unfinished<'a> {
    store: &'a Store,
    name: String,
    dir: OwnedFd,
}

fn failed(step: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup(step, errno.raw_os_error()),
    }
}

fn first_lines(digest: &str) -> String {
    format!("{VERSION}\nsha256:{digest}\n")
}

impl Store {
    pub fn open(parent: &Path) -> Result<Store> {
        let path = parent.join("archives");
        make_private_directory(parent)?;
        make_private_directory(&path)?;
        let dir = rustix::fs::open(&path, DIRECTORY, Mode::empty());
        let fail = |errno: Errno| Error::setup_at("open the store", path.display().to_string(), errno.raw_os_error());
        Ok(Store { dir: dir.map_err(fail)?, path })
    }

    pub fn rootfs(&self, digest: &str) -> PathBuf {
        self.path.join(digest).join(ROOTFS)
    }

    /// Trusts nothing but a whole record of this digest, beside a directory.
    pub fn is_complete(&self, digest: &str) -> bool {
        let seen = rustix::fs::statat(&self.dir, format!("{digest}/{ROOTFS}"), AtFlags::SYMLINK_NOFOLLOW);
        let is_directory = seen.is_ok_and(|seen| FileType::from_raw_mode(seen.st_mode) == FileType::Directory);
        let text = self.record(digest).unwrap_or_default();
        is_directory && text.starts_with(&first_lines(digest)) && text.ends_with("end\n")
    }

    fn record(&self, digest: &str) -> Option<String> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.dir, format!("{digest}/{RECORD}"), flags, Mode::empty(), resolve).ok()?;
        let mut buffer = [0; 1024];
        let length = rustix::io::read(&file, &mut buffer).ok()?;
        String::from_utf8(buffer[..length].to_vec()).ok()
    }

    /// Waits for whoever unpacks the same archive.
    pub fn lock(&self, digest: &str, check: Check<'_>) -> Result<Lock<'_>> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = self.try_lock(digest)? {
                return Ok(lock);
            }
            if check() {
                return Err(interrupted());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// None while somebody else holds it. Its holder removes the file, so a lock on a removed one is none.
    fn try_lock(&self, digest: &str) -> Result<Option<Lock<'_>>> {
        let name = format!("{digest}.lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fail = |errno| failed("lock the store", errno);
        let file = rustix::fs::openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        let file = Ours::new(file);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            other => other.map_err(fail)?,
        }
        let is_linked = rustix::fs::fstat(&file).map_err(fail)?.st_nlink > 0;
        Ok(is_linked.then_some(Lock { store: self, name, file }))
    }

    /// Removes what processes that died while unpacking have left: of this digest, whose lock we hold, and of those whose
    /// lock is free.
    pub fn sweep(&self, held: &Lock<'_>) {
        let names = self.names();
        let digests: BTreeSet<&str> = names.iter().filter_map(|name| leftover_of(name)).collect();
        for digest in digests {
            let other = if held.name == format!("{digest}.lock") { None } else { Some(self.try_lock(digest)) };
            if matches!(other, Some(Err(_) | Ok(None))) {
                continue;
            }
            for name in names.iter().filter(|name| name.ends_with(".tmp") && leftover_of(name) == Some(digest)) {
                let _ = self.remove(name);
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let Ok(listing) = Dir::read_from(&self.dir) else { return Vec::new() };
        listing.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_string)).collect()
    }

    fn remove(&self, name: &str) -> rustix::io::Result<()> {
        remove_tree(self.dir.as_fd(), &CString::new(name).unwrap_or_default())
    }

    /// A new directory for the archive whose lock is held, with an empty root of mode 0755 in it.
    pub fn unfinished(&self, digest: &str) -> Result<Unfinished<'_>> {
        let name = unfinished_name(digest)?;
        let fail = |errno| failed("make a directory in the store", errno);
        rustix::fs::mkdirat(&self.dir, &name, Mode::RWXU).map_err(fail)?;
        let opened = rustix::fs::openat(&self.dir, &name, DIRECTORY, Mode::empty());
        let dir = opened.map_err(fail)?;
        let unfinished = Unfinished { store: self, name, dir };
        let made = rustix::fs::mkdirat(&unfinished.dir, ROOTFS, Mode::RWXU);
        match made.and_then(|()| rustix::fs::fchmod(unfinished.root()?, Mode::from_raw_mode(0o755))) {
            Ok(()) => Ok(unfinished),
            Err(errno) => {
                unfinished.discard();
                Err(fail(errno))
            }
        }
    }
}

/// 128 random bits, so that no two attempts ever meet.
fn unfinished_name(digest: &str) -> Result<String> {
    let mut random = [0; 16];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    got.map_err(|errno| failed("get random bytes", errno))?;
    Ok(format!("{digest}.{:032x}.tmp", u128::from_ne_bytes(random)))
}

/// The digest of an unfinished directory or a lock file.
fn leftover_of(name: &str) -> Option<&str> {
    let digest = name.get(..64).filter(|text| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))?;
    let rest = &name[64..];
    (rest == ".lock" || rest.len() == 37 && rest.starts_with('.') && rest.ends_with(".tmp")).then_some(digest)
}

impl Unfinished<'_> {
    pub fn root(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.dir, ROOTFS, DIRECTORY, Mode::empty())
    }

    pub fn discard(self) {
        let _ = self.store.remove(&self.name);
    }

    /// Data first, then the record that vouches for it, then the name: whatever the moment of a crash, no name without data.
    pub fn publish(self, digest: &str, totals: Totals) -> Result<()> {
        let done = self.write_record(digest, totals).and_then(|()| self.rename(digest));
        done.map_err(|errno| {
            let _ = self.store.remove(&self.name);
            failed("complete the unpacked archive", errno)
        })
    }

    fn write_record(&self, digest: &str, totals: Totals) -> rustix::io::Result<()> {
        rustix::fs::syncfs(&self.dir)?;
        let text = format!("{}entries {}\nbytes {}\nend\n", first_lines(digest), totals.entries, totals.bytes);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, RECORD, flags, Mode::RUSR | Mode::WUSR)?;
        if rustix::io::write(&file, text.as_bytes())? < text.len() {
            return Err(Errno::NOSPC);
        }
        rustix::fs::fsync(&file)?;
        rustix::fs::fsync(&self.dir)
    }

    /// What lies under the name now is not complete, or it would have been used: it is set aside and removed.
    fn rename(&self, digest: &str) -> rustix::io::Result<()> {
        let store: BorrowedFd<'_> = self.store.dir.as_fd();
        if rustix::fs::statat(store, digest, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            let aside = unfinished_name(digest).map_err(|_| Errno::IO)?;
            rustix::fs::renameat_with(store, digest, store, &aside, RenameFlags::NOREPLACE)?;
            let _ = self.store.remove(&aside);
        }
        rustix::fs::renameat_with(store, &self.name, store, digest, RenameFlags::NOREPLACE)?;
        rustix::fs::fsync(store)
    }
}
