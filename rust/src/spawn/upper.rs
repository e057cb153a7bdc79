//! A writable layer on the disk: one directory in the store per container, gone with it.

use super::runtime;
use crate::error::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct UpperDirectory {
    parent: OwnedFd,
    path: PathBuf,
}

/// `owner` is the container's root in the host's ids; in a plain user's keeper that is the user.
pub fn make(name: &str, owner: u32, mode: u32, host_image: bool) -> Result<UpperDirectory> {
    let store = runtime::store(rustix::process::geteuid().as_raw()).join("uppers");
    runtime::make_private_directory(&store)?;
    let path = store.join(name);
    let fail = |error: std::io::Error| {
        Error::setup_at("make the writable layer", path.display().to_string(), error.raw_os_error().unwrap_or(5))
    };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let parent = rustix::fs::open(&store, flags, rustix::fs::Mode::empty()).map_err(|errno| fail(errno.into()))?;
    std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(fail)?;
    let made = UpperDirectory { parent, path: path.clone() };
    if let Err(error) = fill(&path, owner, mode, host_image) {
        made.remove();
        return Err(fail(error));
    }
    Ok(made)
}

fn fill(path: &Path, owner: u32, mode: u32, host_image: bool) -> std::io::Result<()> {
    directory(&path.join("upper"), owner, mode)?;
    directory(&path.join("work"), owner, 0o755)?;
    if host_image {
        for (name, mode) in crate::mount::host::WRITABLE {
            directory(&path.join("upper").join(name), owner, mode)?;
        }
    }
    Ok(())
}

fn directory(path: &Path, owner: u32, mode: u32) -> std::io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    if owner == 0 { Ok(()) } else { chown(path, Some(owner), Some(owner)) }
}

impl UpperDirectory {
    pub fn path(&self) -> Vec<u8> {
        self.path.as_os_str().as_bytes().to_vec()
    }

    pub fn parent(&self) -> i32 {
        self.parent.as_raw_fd()
    }

    /// The container is dead; std's walk goes by descriptors and follows no link. A plain user first takes back what the
    /// container made unreadable to its owner.
    pub fn remove(self) {
        if std::fs::remove_dir_all(&self.path).is_err() {
            let _ = make_passable(&self.path);
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn make_passable(directory: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let _ = make_passable(&entry.path());
        }
    }
    Ok(())
}
