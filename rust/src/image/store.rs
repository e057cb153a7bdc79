//! The store of images: blobs in an OCI image layout, which other tools may read and write in place, and names in its index.
//!
//! Crash-only: a blob is under its name when all of it is on the disk, a name in the index when all that it needs is there. What a
//! process leaves that dies lies in `partial/` and is swept by the next one. Any number of processes share it.

mod blobs;
mod index;
#[cfg(test)]
mod tests;

use super::unpacked::{APART, LAYERS, SHIFTED, SUBVOLUMES, UNIONS, Unpacked};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::runtime::make_private_directory;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use blobs::{Blob, Ingest};
pub use index::Named;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LAYOUT: &str = "{\"imageLayoutVersion\": \"1.0.0\"}";
/// Of the store as a whole; a newer one is not touched.
const VERSION: &str = "1\n";
/// Below the store.
const IMAGES: &str = "images";
const PARTIAL: &str = "partial";

#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    images: OwnedFd,
    /// Blobs that are being written, and the locks of those and of the index.
    partial: OwnedFd,
}

fn failed(step: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup(step, errno.raw_os_error()),
    }
}

/// Bytes of all blobs and of all that is unpacked; 0 where there is no store, and none is made.
pub fn used(path: &Path) -> u64 {
    if !path.join(IMAGES).exists() {
        return 0;
    }
    let Ok(store) = Store::open(path) else { return 0 };
    let blobs: u64 = store.blobs().map_or(0, |blobs| blobs.iter().map(|(_, size)| size).sum());
    let layers = store.layers().map_or(0, |layers| layers.used());
    // Unions are other names of the layers' files, or share their blocks; but not those with other owners.
    let unions = store.unions().unwrap_or_default();
    blobs + layers + unions.iter().filter(|one| one.is_of(SHIFTED)).map(Unpacked::used).sum::<u64>()
}

impl Store {
    /// Makes what is missing, and sweeps what dead processes left.
    pub fn open(path: &Path) -> Result<Store> {
        make_private_directory(path)?;
        let (images, partial) = (path.join(IMAGES), path.join(PARTIAL));
        for directory in
            [&images, &images.join("blobs"), &images.join("blobs/sha256"), &images.join("blobs/sha512"), &partial]
        {
            make_private_directory(directory)?;
        }
        let open = |path: &Path| {
            let fail =
                |errno: Errno| Error::setup_at("open the store", path.display().to_string(), errno.raw_os_error());
            rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(fail)
        };
        let store = Store { path: path.into(), images: open(&images)?, partial: open(&partial)? };
        store.check_version()?;
        store.begin_layout()?;
        store.sweep();
        store.layers()?.sweep(None);
        store.unions()?.iter().for_each(|unions| unions.sweep(None));
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where locks lie.
    pub(super) fn partial(&self) -> BorrowedFd<'_> {
        self.partial.as_fd()
    }

    pub fn layers(&self) -> Result<Unpacked> {
        Unpacked::open(&self.path, LAYERS)
    }

    /// Those that a container has needed, of all sorts.
    pub fn unions(&self) -> Result<Vec<Unpacked>> {
        let there =
            [UNIONS, SUBVOLUMES, APART, SHIFTED].into_iter().filter(|sort| self.path.join(sort.directory).exists());
        there.map(|sort| Unpacked::open(&self.path, sort)).collect()
    }

    /// Held by who brings what has no name yet: nothing is taken for garbage meanwhile.
    pub fn at_work(&self) -> Result<Ours> {
        let file = self.work_file()?;
        let locked = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared));
        locked.map_err(|errno| failed("lock the store", errno)).map(|()| file)
    }

    /// None where somebody is at work.
    pub fn alone(&self) -> Result<Option<Ours>> {
        let file = self.work_file()?;
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed("lock the store", errno)),
        }
    }

    fn work_file(&self) -> Result<Ours> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.partial, "work", flags, Mode::RUSR | Mode::WUSR);
        file.map(Ours::new).map_err(|errno| failed("lock the store", errno))
    }

    /// An older store is taken over as it is; a newer one may mean something else by the same names. An empty file is no version: older
    /// engines wrote it in place, and a crash left it so.
    fn check_version(&self) -> Result<()> {
        let place = self.path.join("version");
        let fail = |errno| Error::setup_at("open the store", place.display().to_string(), errno);
        match std::fs::read_to_string(&place) {
            Ok(text) if text == VERSION => Ok(()),
            Ok(text) if !text.is_empty() => {
                let (text, path) = (super::digest::cut(text.trim_end()), self.path.display());
                Err(Error::Image(format!("the store {path} is of version {text:?}: a newer pycontainer made it")))
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(fail(error.raw_os_error().unwrap_or(libc::EIO)))
            }
            _ => {
                let top = rustix::fs::open(&self.path, DIRECTORY, Mode::empty());
                self.replace(&top.map_err(|errno| fail(errno.raw_os_error()))?, "version", VERSION.as_bytes())
            }
        }
    }

    fn begin_layout(&self) -> Result<()> {
        match rustix::fs::statat(&self.images, "oci-layout", rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(()),
            Err(_) => self.replace(&self.images, "oci-layout", LAYOUT.as_bytes()),
        }
    }
}
