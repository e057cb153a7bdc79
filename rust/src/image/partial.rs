//! A file of the caller's that is there when all of it is: written beside, made durable, and only then named.

use super::locks::{Check, interrupted};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

#[derive(Debug)]
pub struct Partial {
    path: String,
    directory: OwnedFd,
    name: OsString,
    /// Empty once it has its name.
    temporary: String,
    file: File,
}

pub fn failed(path: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: Some(path.into()) },
        _ => Error::setup_at("write", path, errno.raw_os_error()),
    }
}

/// What went wrong with the bytes went wrong with this file.
pub fn named(error: Error, path: &Path) -> Error {
    match error {
        Error::NoSpace { path: None } => Error::NoSpace { path: Some(path.display().to_string()) },
        Error::Setup { step, path: None, errno, note } => {
            Error::Setup { step, path: Some(path.display().to_string()), errno, note }
        }
        other => other,
    }
}

impl Partial {
    /// A directory of that name is refused, and so is one that is missing above it. A link of that name is replaced, not followed.
    pub fn beside(path: &Path) -> Result<Partial> {
        let said = path.display().to_string();
        let fail = |errno| failed(&said, errno);
        let trailing = said.ends_with('/') || said.ends_with("/.");
        let name = path.file_name().filter(|_| !trailing).ok_or_else(|| fail(Errno::ISDIR))?.to_os_string();
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(above, flags, Mode::empty()).map_err(fail)?;
        let seen = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        if seen.is_ok_and(|seen| rustix::fs::FileType::from_raw_mode(seen.st_mode).is_dir()) {
            return Err(fail(Errno::ISDIR));
        }
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(fail)?;
        let temporary = format!(".pycontainer-{:032x}", u128::from_ne_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o666)).map_err(fail)?;
        Ok(Partial { path: said, directory, name, temporary, file: File::from(file) })
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// `check` is asked once more before it has its name: who is told of an interruption finds nothing.
    pub fn publish(mut self, check: Check<'_>) -> Result<()> {
        let fail = |errno| failed(&self.path, errno);
        rustix::fs::fsync(&self.file).map_err(fail)?;
        if check() {
            return Err(interrupted());
        }
        rustix::fs::renameat(&self.directory, &self.temporary, &self.directory, &self.name).map_err(fail)?;
        let synced = rustix::fs::fsync(&self.directory).map_err(fail);
        self.temporary.clear();
        synced
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            let _ = rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}
