//! Blobs: content under its digest. Written beside, hashed on the way, made durable, and only then named.

use super::{Store, failed};
use crate::error::{Error, Result};
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::locks::{self, Check, Lock};
use crate::sys::disk;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A whole blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    pub file: File,
    pub size: u64,
}

/// A blob on its way into the store. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Ingest<'a> {
    store: &'a Store,
    name: Option<String>,
    file: File,
    hash: Hasher,
    size: u64,
    /// Of it, what is on its way to the disk.
    written: u64,
}

/// So much is sent to the disk at a time, while the rest still comes.
const STRIDE: u64 = 8 << 20;

fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Store {
    /// None where it is not there. A blob of another size than its descriptor says is none.
    pub fn blob(&self, digest: &Digest, size: Option<u64>) -> Result<Option<Blob>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.images, path_of(digest), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed("open a blob of the store", errno)),
        };
        let seen = rustix::fs::fstat(&fd).map_err(|errno| failed("look at a blob of the store", errno))?;
        let is_file = FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile;
        let found = seen.st_size as u64;
        if !is_file || size.is_some_and(|size| size != found) {
            return Ok(None);
        }
        Ok(Some(Blob { file: File::from(fd), size: found }))
    }

    /// A small blob whole, with its digest checked: documents.
    pub fn read(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut blob) = self.blob(digest, None)? else { return Ok(None) };
        if blob.size > most {
            return Err(Error::Image(format!("{digest} has {} bytes; {most} are the most", blob.size)));
        }
        let mut bytes = Vec::with_capacity(blob.size as usize);
        let read = (&mut blob.file).take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::setup("read a blob of the store", error.raw_os_error().unwrap_or(libc::EIO)))?;
        let mut hash = Hasher::new(digest.algorithm());
        hash.update(&bytes);
        let found = hash.finish();
        if found != *digest {
            return Err(Error::DigestMismatch(format!(
                "the store's blob {digest} is {found}: pull or load the image again"
            )));
        }
        Ok(Some(bytes))
    }

    /// Held by the one process that fetches this blob.
    pub fn lock_blob(&self, digest: &Digest, check: Check<'_>) -> Result<Lock> {
        locks::lock(self.partial.as_fd(), &format!("blob-{}", digest.hex()), check)
    }

    pub fn ingest(&self, algorithm: Algorithm) -> Result<Ingest<'_>> {
        let fail = |errno| failed("write to the store", errno);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name = temporary()?;
            let file = rustix::fs::openat(&self.partial, &name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
            // Who sweeps sees by this lock that somebody is at it; one who was faster than the lock has removed the file.
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                other => other.map_err(fail)?,
            }
            if rustix::fs::fstat(&file).map_err(fail)?.st_nlink > 0 {
                let hash = Hasher::new(algorithm);
                return Ok(Ingest { store: self, name: Some(name), file: File::from(file), hash, size: 0, written: 0 });
            }
        }
    }

    /// A file without a name on the store's file system, gone when it is closed.
    pub fn scratch(&self) -> Result<File> {
        let fail = |errno| failed("write to the store", errno);
        let name = temporary()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.partial, &name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        match rustix::fs::unlinkat(&self.partial, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(File::from(file)), // or a sweep was faster: nobody had locked it
            Err(errno) => Err(fail(errno)),
        }
    }

    /// A document of ours, under the digest that is returned.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let mut ingest = self.ingest(Algorithm::Sha256)?;
        ingest.take(bytes)?;
        ingest.commit(None)
    }

    pub fn remove_blob(&self, digest: &Digest) -> Result<()> {
        match rustix::fs::unlinkat(&self.images, path_of(digest), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove a blob of the store", errno)),
        }
    }

    /// All blobs that are there; names that are no digests are somebody else's.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let place = format!("blobs/{}", algorithm.name());
            let dir = rustix::fs::openat(&self.images, &place, super::DIRECTORY, Mode::empty());
            let dir: OwnedFd = dir.map_err(|errno| failed("list the store", errno))?;
            for entry in Dir::read_from(&dir).map_err(|errno| failed("list the store", errno))? {
                let entry = entry.map_err(|errno| failed("list the store", errno))?;
                let name = entry.file_name().to_str().unwrap_or_default();
                let Ok(digest) = Digest::parse(&format!("{}:{name}", algorithm.name())) else { continue };
                let Ok(seen) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                found.push((digest, seen.st_size as u64));
            }
        }
        Ok(found)
    }

    /// Writes a small file beside and renames it over: whole or not there, whatever the moment of a crash.
    pub(in crate::image) fn replace(&self, dir: &OwnedFd, name: &str, bytes: &[u8]) -> Result<()> {
        let mut ingest = self.ingest(Algorithm::Sha256)?;
        ingest.take(bytes)?;
        ingest.publish(dir, name, RenameFlags::empty())
    }

    /// Removes unfinished blobs and locks of processes that have died: nobody holds them.
    pub(super) fn sweep(&self) {
        let Ok(listing) = Dir::read_from(&self.partial) else { return };
        for entry in listing.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(object) = name.strip_suffix(".lock") {
                drop(locks::try_lock(self.partial.as_fd(), object)); // its file goes with it
            }
            if !name.ends_with(".tmp") {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(&self.partial, &name, flags, Mode::empty()) else { continue };
            if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = rustix::fs::unlinkat(&self.partial, &name, AtFlags::empty());
            }
        }
    }
}

/// 128 random bits, so that no two attempts ever meet.
fn temporary() -> Result<String> {
    let mut random = [0; 16];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    got.map_err(|errno| failed("get random bytes", errno))?;
    Ok(format!("{:032x}.tmp", u128::from_ne_bytes(random)))
}

impl Ingest<'_> {
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| {
            let errno = Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
            failed("write to the store", errno)
        })?;
        if self.size - self.written >= STRIDE {
            disk::start_writing(self.file.as_raw_fd(), self.written, self.size - self.written);
            self.written = self.size;
        }
        Ok(())
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// For who reads it while it comes, by offsets. It is the same file under whatever name.
    pub fn reader(&self) -> Result<File> {
        self.file
            .try_clone()
            .map_err(|error| Error::setup("read from the store", error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// Under its digest, which has to be the expected one. A blob that is there already stays.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<Digest> {
        let placeholder = Hasher::new(Algorithm::Sha256);
        let digest = std::mem::replace(&mut self.hash, placeholder).finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::DigestMismatch(format!("{expected} was promised, and {digest} came")));
        }
        if self.store.blob(&digest, Some(self.size))?.is_none() {
            let place = format!("blobs/{}", digest.algorithm().name());
            let dir = rustix::fs::openat(&self.store.images, &place, super::DIRECTORY, Mode::empty());
            let dir = dir.map_err(|errno| failed("open the store", errno))?;
            self.publish(&dir, digest.hex(), RenameFlags::empty())?;
        }
        Ok(digest)
    }

    fn publish(mut self, dir: &OwnedFd, name: &str, flags: RenameFlags) -> Result<()> {
        let fail = |errno| failed("complete a file of the store", errno);
        rustix::fs::fdatasync(&self.file).map_err(fail)?;
        let from = self.name.take().unwrap_or_default();
        let renamed = rustix::fs::renameat_with(&self.store.partial, &from, dir, name, flags);
        if renamed.is_err() {
            self.name = Some(from);
        }
        renamed.map_err(fail)?;
        rustix::fs::fsync(dir).map_err(fail)
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(&self.store.partial, name, AtFlags::empty());
        }
    }
}
