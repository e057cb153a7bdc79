//! A writable layer on the disk: one directory in the store per container, gone with it.

use super::disk::quota::Project;
use super::engine::Engine;
use super::steward;
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::sys::Errno;
use crate::{locked, removal, runtime, sys};
use rustix::fs::OFlags;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a container whose keeper died may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
const PARENT: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub struct UpperDirectory {
    path: PathBuf,
    /// What bounds it, where a limit was asked for.
    project: Option<Project>,
    /// Locked as long as this process may use it: an engine in another pid namespace sees no keeper of ours.
    _lock: Option<Ours>,
}

pub fn place() -> PathBuf {
    runtime::store(rustix::process::geteuid().as_raw()).join("uppers")
}

/// The directory of all writable layers of this user, made on first use.
pub fn store() -> Result<PathBuf> {
    let store = place();
    runtime::make_private_directory(&store)?;
    Ok(store)
}

pub fn open(store: &Path) -> Result<OwnedFd> {
    let fail =
        |errno: rustix::io::Errno| Error::setup_at("open the store", store.display().to_string(), errno.raw_os_error());
    rustix::fs::open(store, PARENT, rustix::fs::Mode::empty()).map_err(fail)
}

/// `fill` makes what is in it; `bytes` more than that may come, by a project quota.
pub fn make(
    store: &Path,
    name: &str,
    bytes: Option<u64>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<UpperDirectory> {
    let path = store.join(name);
    let fail = |error: std::io::Error| failed(&path, &error);
    let made = locked::make(open(store)?.as_fd(), name, 0o700);
    let lock = Some(Ours::new(made.map_err(|errno| fail(errno.into()))?));
    let mut made = UpperDirectory { path: path.clone(), project: None, _lock: lock };
    let filled = made.bind(store, bytes).and_then(|()| fill(&path));
    match filled.and_then(|()| made.project.as_mut().zip(bytes).map_or(Ok(()), |(project, bytes)| project.limit(bytes)))
    {
        Ok(()) => Ok(made),
        Err(error) => {
            let _ = made.remove(false);
            Err(error)
        }
    }
}

/// Removes the layers for whose keeper (pid, start time) `alive` says no and that nobody has locked: that one and its host died at
/// once. Returns how many.
pub fn sweep(store: &Path, alive: impl Fn(u32, u64) -> bool, resists: impl Fn(&str)) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(store).into_iter().flatten().flatten() {
        let owner = crate::cgroup::owner(&entry.file_name().to_string_lossy());
        if owner.is_none_or(|(pid, start)| alive(pid, start)) {
            continue;
        }
        let opened = rustix::fs::open(entry.path(), PARENT | OFlags::NOFOLLOW, rustix::fs::Mode::empty());
        let Some(held) = opened.ok().filter(|directory| locked::take(directory.as_fd())) else { continue };
        found += 1;
        let left = UpperDirectory { path: entry.path(), project: None, _lock: Some(Ours::new(held)) };
        if let Some(left) = left.remove(false) {
            resists(&left.to_string_lossy());
        }
    }
    found
}

/// Removes a directory of the store that is no container's, as if it had been one's: whatever happens from here on, a sweep or the
/// keeper ends it. In it may be files of a plain user's range.
pub fn remove(engine: &Engine, path: &Path) -> Result<()> {
    let fail = |error: std::io::Error| {
        Error::setup_at("remove", path.display().to_string(), error.raw_os_error().unwrap_or(libc::EIO))
    };
    let aside = engine.uppers()?.join(engine.group_name(engine.next_id()));
    std::fs::rename(path, &aside).map_err(fail)?;
    let taken = UpperDirectory { path: aside, project: None, _lock: None };
    if let Some(left) = taken.remove(false) {
        steward::remove_left(engine, &left);
    }
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::setup_at("make the writable layer", path.display().to_string(), error.raw_os_error().unwrap_or(5))
}

/// The directories of an overlay's. `owner` is the container's root in the host's ids; in a plain user's keeper that is the user.
pub fn directories(path: &Path, owner: u32, directories: &[(String, u32)]) -> Result<()> {
    let made = directories.iter().try_for_each(|(name, mode)| directory(&path.join(name), owner, *mode));
    made.map_err(|error| failed(path, &error))
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

    /// While it is empty: what is made in it then belongs to the same project.
    fn bind(&mut self, store: &Path, bytes: Option<u64>) -> Result<()> {
        if bytes.is_some() {
            self.project = Some(Project::claim(store, &self.path)?);
        }
        Ok(())
    }

    /// Another bound; None where it has none.
    pub fn rebound(&mut self, bytes: u64) -> Option<Result<()>> {
        self.project.as_mut().map(|project| project.limit(bytes))
    }

    /// Bytes that its quota counted when it was limited first; 0 without one.
    pub fn ground(&self) -> u64 {
        self.project.as_ref().map_or(0, Project::ground)
    }

    /// A container that is still dying may write what was just removed.
    /// Returns the name of one that is still there.
    pub fn remove(mut self, dying: bool) -> Option<OsString> {
        let left = self.remove_files(dying);
        if let (None, Some(project)) = (&left, self.project.take()) {
            project.release();
        }
        left
    }

    fn remove_files(&self, dying: bool) -> Option<OsString> {
        let name = self.path.file_name()?;
        let deadline = Instant::now() + if dying { PATIENCE } else { Duration::ZERO };
        while let Err(errno) = remove_tree(self.path.parent()?, name) {
            if errno == Errno::NOENT {
                return None;
            }
            if Instant::now() >= deadline {
                return Some(name.to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

fn remove_tree(store: &Path, name: &OsStr) -> sys::Result<()> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::NOENT)?;
    let opened = rustix::fs::open(store, PARENT, rustix::fs::Mode::empty());
    removal::remove(opened.map_err(|errno| Errno(errno.raw_os_error()))?.as_raw_fd(), &name)
}
