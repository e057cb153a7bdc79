//! Layers in use: locked, shared, as long as a container of this process stands on them, so that no process of this user removes them.

use crate::error::{Error, Result};
use crate::gate::Ours;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// An open layer that nobody removes meanwhile.
pub type Used = Arc<Ours>;

static USED: Mutex<Option<HashMap<PathBuf, Weak<Ours>>>> = Mutex::new(None);

/// The directory `path`; one descriptor for all containers of this process.
pub fn take(path: &Path) -> Result<Used> {
    let mut used = USED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let used = used.get_or_insert_default();
    if let Some(found) = used.get(path).and_then(Weak::upgrade) {
        return Ok(found);
    }
    used.retain(|_, held| held.strong_count() > 0);
    let held = Arc::new(Ours::new(open(path)?));
    used.insert(path.into(), Arc::downgrade(&held));
    Ok(held)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let fail = |errno: Errno| Error::setup_at("open a layer", path.display().to_string(), errno.raw_os_error());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(gone(path)),
        other => other.map_err(fail)?,
    };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared)) {
        Err(Errno::WOULDBLOCK) => return Err(gone(path)), // somebody removes it
        other => other.map_err(fail)?,
    }
    // It may have been set aside between the opening and the locking.
    match rustix::fs::stat(path) {
        Ok(seen) if rustix::fs::fstat(&dir).is_ok_and(|held| held.st_ino == seen.st_ino) => Ok(dir),
        _ => Err(gone(path)),
    }
}

fn gone(path: &Path) -> Error {
    Error::Image(format!("a layer was removed meanwhile ({}): pull, load or build the image again", path.display()))
}

/// Whether anybody stands on it.
pub fn is_taken(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).is_ok_and(|dir| !is_free(&dir))
}

/// Whether a layer can be removed: nobody stands on it, and nobody will as long as the descriptor is open.
pub fn is_free(dir: &OwnedFd) -> bool {
    rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok()
}
