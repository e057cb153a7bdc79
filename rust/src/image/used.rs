//! Layers in use: locked, shared, as long as a container of this process stands on them, so that no process of this user removes them.

mod stack;

use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::sys::host::ForkCell;
use rustix::fs::{FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

pub use stack::{Free, release, sweep};

/// A lock that nobody removes a layer against: an open layer's own, or that of a stack's record.
pub type Used = Arc<Ours>;

/// What a container stands on.
#[derive(Debug)]
pub struct Standing {
    held: Vec<Used>,
    /// Each layer's root directory, in the order that was asked for.
    pub seen: Arc<[Stat]>,
}

#[derive(Default)]
struct Known {
    locks: HashMap<PathBuf, Weak<Ours>>,
    stacks: HashMap<PathBuf, stack::Known>,
}

type Shared = Mutex<Known>;
static KNOWN: ForkCell<Shared> = ForkCell::new(Shared::default);

/// As many stacks are remembered.
const STACKS_MAX: usize = 64;

/// In a forked copy of the host all these descriptors are closed.
pub fn forget_in_forked_copy() {
    KNOWN.replace();
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.get().lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The directory `path`; one descriptor for all containers of this process.
pub fn take(path: &Path) -> Result<Used> {
    known().take(path)
}

/// Layers that lie over each other, the lowest first. A tall stack has a record in the store, and its lock is that of all of them; what
/// lies above it in another directory, as that which corrects it does (implied.rs), has its own.
pub fn take_stack(paths: &[PathBuf]) -> Result<Standing> {
    let mut known = known();
    let (layers, above) = paths.split_at(stack::beside_each_other(paths));
    let standing = match stack::Place::of(layers).and_then(|place| known.by_record(&place, layers)) {
        Some(standing) => standing,
        None => known.one_by_one(layers)?,
    };
    if above.is_empty() { Ok(standing) } else { Ok(standing.under(known.one_by_one(above)?)) }
}

impl Standing {
    fn under(mut self, above: Standing) -> Standing {
        self.held.extend(above.held);
        Standing { held: self.held, seen: self.seen.iter().chain(&*above.seen).copied().collect() }
    }
}

impl Known {
    fn take(&mut self, path: &Path) -> Result<Used> {
        if let Some(found) = self.locks.get(path).and_then(Weak::upgrade) {
            return Ok(found);
        }
        self.locks.retain(|_, held| held.strong_count() > 0);
        let held = Arc::new(Ours::new(open(path)?));
        self.locks.insert(path.into(), Arc::downgrade(&held));
        Ok(held)
    }

    fn one_by_one(&mut self, paths: &[PathBuf]) -> Result<Standing> {
        let held = paths.iter().map(|path| self.take(path)).collect::<Result<Vec<_>>>()?;
        let seen = held.iter().zip(paths).map(|(held, path)| {
            rustix::fs::fstat(held.as_ref()).map_err(|errno| failed("look at a layer", path, errno))
        });
        let seen = seen.collect::<Result<_>>()?;
        // For the next one. Where there can be none, the layers are locked one by one, as now.
        if let Some(place) = stack::Place::of(paths) {
            place.write();
        }
        Ok(Standing { held, seen })
    }

    /// None where the record does not vouch for all of it, now.
    fn by_record(&mut self, place: &stack::Place, paths: &[PathBuf]) -> Option<Standing> {
        let known = self.stacks.get(place.record());
        if let Some((held, seen)) = known.and_then(stack::Known::held) {
            return Some(Standing { held: vec![held], seen });
        }
        let (held, known) = place.open(known, paths)?;
        let seen = known.seen.clone();
        if self.stacks.len() >= STACKS_MAX {
            self.stacks.retain(|_, known| known.held().is_some());
        }
        self.stacks.insert(place.record().into(), known);
        Some(Standing { held: vec![held], seen })
    }
}

fn failed(step: &str, path: &Path, errno: Errno) -> Error {
    Error::setup_at(step, path.display().to_string(), errno.raw_os_error())
}

fn open(path: &Path) -> Result<OwnedFd> {
    let fail = |errno: Errno| failed("open a layer", path, errno);
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
    Error::Image(format!(
        "a layer was removed meanwhile ({}): pull, load, build or unpack the image again",
        path.display()
    ))
}

/// Whether anybody stands on the layer `digest` of the directory `layers`: by its own lock, or by that of a stack.
pub fn is_taken(layers: BorrowedFd<'_>, digest: &str, rootfs: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let by_itself = rustix::fs::open(rootfs, flags, Mode::empty()).is_ok_and(|dir| !is_free(&dir));
    by_itself || stack::is_taken(layers, digest)
}

/// Whether a layer can be removed: nobody stands on it, and nobody will as long as the descriptor is open. Of stacks it knows nothing.
pub fn is_free(dir: &OwnedFd) -> bool {
    rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok()
}
