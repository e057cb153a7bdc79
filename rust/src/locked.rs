//! A directory that says by its lock (flock(2)) that its maker lives. A sweep sees keepers by pid and start time, and neither means
//! anything in another pid or time namespace: there the lock is all it has to go by.

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a sweep may take it between its making and its locking.
const TRIES: usize = 64;
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes it, with exactly this mode; no sweep takes it as long as this descriptor, or a copy of it, is open.
pub fn make(parent: BorrowedFd<'_>, name: &str, mode: u32) -> Result<OwnedFd> {
    for _ in 0..TRIES {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?;
        let held = hold(parent, name, mode);
        if let Ok(Some(held)) = held {
            return Ok(held);
        }
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
        if let Err(errno) = held
            && errno != Errno::NOENT
        {
            return Err(errno);
        }
    }
    Err(Errno::BUSY)
}

/// None, or NOENT, where a sweep came first.
fn hold(parent: BorrowedFd<'_>, name: &str, mode: u32) -> Result<Option<OwnedFd>> {
    let wanted = Mode::from_raw_mode(mode);
    let unmask = || rustix::fs::chmodat(parent, name, wanted, AtFlags::empty());
    let open = || rustix::fs::openat(parent, name, FLAGS, Mode::empty());
    let made = match open() {
        // The host's umask has kept it from a plain user who has just made it.
        Err(Errno::ACCESS) => unmask().and_then(|()| open()),
        other => other,
    }?;
    if !lock(made.as_fd(), FlockOperation::NonBlockingLockShared) {
        return Ok(None);
    }
    if Mode::from_raw_mode(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) != wanted {
        unmask()?;
    }
    Ok(Some(made))
}

/// Whether a sweep may have it, and then nobody else does as long as the descriptor is open.
pub fn take(directory: BorrowedFd<'_>) -> bool {
    lock(directory, FlockOperation::NonBlockingLockExclusive)
}

/// As if its maker had ended.
#[cfg(test)]
pub fn forsake(directory: BorrowedFd<'_>) {
    assert!(lock(directory, FlockOperation::Unlock));
}

/// False where another has it. On a file system without locks nobody ever does.
fn lock(directory: BorrowedFd<'_>, operation: FlockOperation) -> bool {
    rustix::io::retry_on_intr(|| rustix::fs::flock(directory, operation)) != Err(Errno::WOULDBLOCK)
}
