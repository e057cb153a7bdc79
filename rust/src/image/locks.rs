//! One lock per object of the store: who makes it holds it, and who wants the same waits. A file beside the object, gone with the lock.

use crate::error::{Error, Result};
use crate::gate::Ours;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Asked now and then during long work; true ends it.
pub type Check<'a> = &'a mut dyn FnMut() -> bool;

pub fn interrupted() -> Error {
    Error::State("interrupted".into())
}

/// Between two questions whether to go on.
const PACE: Duration = Duration::from_millis(20);

/// Asks now and then, however often it is asked itself.
pub fn paced(check: Check<'_>) -> impl FnMut() -> bool + '_ {
    let mut last = Instant::now();
    move || {
        let is_due = last.elapsed() >= PACE;
        if is_due {
            last = Instant::now();
        }
        is_due && check()
    }
}

#[derive(Debug)]
pub struct Lock {
    dir: OwnedFd,
    name: String,
    /// A forked copy of the host would keep the lock alive: it closes this.
    file: Ours,
}

impl Lock {
    pub fn is_of(&self, name: &str) -> bool {
        self.name.strip_suffix(".lock") == Some(name)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// `name` is a word of ours, never one that somebody else wrote.
pub fn lock(dir: BorrowedFd<'_>, name: &str, check: Check<'_>) -> Result<Lock> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = try_lock(dir, name)? {
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
pub fn try_lock(dir: BorrowedFd<'_>, name: &str) -> Result<Option<Lock>> {
    let name = format!("{name}.lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fail = |errno| match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::from(("lock the store", errno)),
    };
    let file = Ours::new(rustix::fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR).map_err(fail)?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        other => other.map_err(fail)?,
    }
    if rustix::fs::fstat(&file).map_err(fail)?.st_nlink == 0 {
        return Ok(None); // before there is a Lock, which on its way out would remove the next holder's file
    }
    let dir = dir
        .try_clone_to_owned()
        .map_err(|error| Error::setup("copy a descriptor", error.raw_os_error().unwrap_or(24)))?;
    Ok(Some(Lock { dir, name, file }))
}
