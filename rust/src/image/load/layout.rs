//! An OCI layout in a directory: its documents and blobs, each opened beneath it, into the store.

use super::{CHUNK, LINKS, Loaded, of_index};
use crate::error::{Error, Result};
use crate::image::descriptor::{self, Descriptor, Document, MANIFEST_MAX, media};
use crate::image::locks::{Check, interrupted};
use crate::image::store::Store;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A layout on the disk, beneath which everything is opened.
pub struct Layout {
    dir: OwnedFd,
}

impl Layout {
    pub fn open(path: &Path) -> Result<Layout> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fail = |errno: rustix::io::Errno| Error::setup_at("open", path.display().to_string(), errno.raw_os_error());
        Ok(Layout { dir: rustix::fs::open(path, flags, Mode::empty()).map_err(fail)? })
    }

    fn file(&self, name: &str) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.dir, name, flags, Mode::empty(), resolve) {
            Ok(fd) => {
                let file = File::from(fd);
                let seen = file
                    .metadata()
                    .map_err(|error| Error::setup("look at a blob", error.raw_os_error().unwrap_or(5)))?;
                seen.is_file().then_some(Some(file)).ok_or_else(|| Error::Image(format!("{name} is no file")))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::setup_at("open", name, errno.raw_os_error())),
        }
    }

    pub fn load(&self, store: &Store, progress: &dyn Fn(u64), check: Check<'_>) -> Result<Vec<Loaded>> {
        let index = self.file("index.json")?.ok_or_else(|| {
            Error::Image("it has no index.json: Image.from_directory takes the root file system in a directory".into())
        })?;
        let mut bytes = Vec::new();
        let read = index.take(MANIFEST_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::setup("read index.json", error.raw_os_error().unwrap_or(libc::EIO)))?;
        let Document::Index(manifests) = descriptor::document(&bytes, media::OCI_INDEX)? else {
            return Err(Error::Image("its index.json is no index".into()));
        };
        let mut done = 0;
        for descriptor in &manifests {
            self.take(store, descriptor, 0, &mut done, progress, check)?;
        }
        of_index(store, &bytes)
    }

    /// A document and all that it names. Of an index, what is not there is passed over: images of other platforms.
    fn take(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        depth: usize,
        done: &mut u64,
        progress: &dyn Fn(u64),
        check: Check<'_>,
    ) -> Result<bool> {
        if depth > LINKS || !self.blob(store, descriptor, done, progress, check)? {
            return Ok(false);
        }
        let bytes = store.read(&descriptor.digest, MANIFEST_MAX)?.unwrap_or_default();
        match descriptor::document(&bytes, &descriptor.media_type)? {
            Document::Index(manifests) => {
                for one in &manifests {
                    self.take(store, one, depth + 1, done, progress, check)?;
                }
            }
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    self.blob(store, part, done, progress, check)?;
                }
            }
        }
        Ok(true)
    }

    fn blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        done: &mut u64,
        progress: &dyn Fn(u64),
        check: Check<'_>,
    ) -> Result<bool> {
        let digest = &descriptor.digest;
        if store.blob(digest, Some(descriptor.size))?.is_some() {
            return Ok(true);
        }
        let Some(mut file) = self.file(&format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))? else {
            return Ok(false);
        };
        let mut blob = store.ingest(digest.algorithm())?;
        let mut buffer = vec![0; CHUNK];
        loop {
            if check() {
                return Err(interrupted());
            }
            let n = file
                .read(&mut buffer)
                .map_err(|error| Error::setup("read a blob", error.raw_os_error().unwrap_or(5)))?;
            if n == 0 {
                break;
            }
            blob.take(&buffer[..n])?;
            *done += n as u64;
            progress(*done);
            if blob.size() > descriptor.size {
                break;
            }
        }
        if blob.size() != descriptor.size {
            return Err(Error::DigestMismatch(format!(
                "{digest} has not the {} bytes that were promised",
                descriptor.size
            )));
        }
        blob.commit(Some(digest)).map(|_| true)
    }
}
