//! A plain user's steward (rust/keeper/steward.rs) as the image room asks for it: one for each engine, started when it is first wanted.

use super::engine::{self, Engine};
use super::keeper::{Keeper, died};
use super::upper;
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::image::steward;
use crate::security::maps::Maps;
use crate::sys::{self, Errno};
use crate::wire::{Write, request, store};
use rustix::fs::OFlags;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

/// The socket to the one that runs.
#[derive(Debug, Default)]
pub struct Line(Mutex<Option<Ours>>);

struct Steward(Arc<Engine>);

/// Where files have owners of their own.
fn has_range(engine: &Engine) -> bool {
    !engine.is_root() && !engine.facts.one_id
}

/// What this process could not remove of a directory of `uppers/`: files of the user's range now, by a steward; anything else by the
/// keeper, who is not waited for.
pub fn remove_left(engine: &Engine, name: &OsStr) {
    let by_steward = || {
        let store = upper::open(&upper::place()).ok()?;
        remove(engine, store.as_fd(), &CString::new(name.as_bytes()).ok()?).ok()
    };
    if !has_range(engine) || by_steward().is_none() {
        engine.keeper.remove(&name.to_string_lossy());
    }
}

fn remove(engine: &Engine, parent: BorrowedFd<'_>, name: &CStr) -> sys::Result<()> {
    let mut message = vec![store::REMOVE];
    message.put_bytes(name.to_bytes());
    engine.steward.ask(&engine.keeper, &message, parent).map(drop)
}

/// Once, when the module is made.
pub fn lend() {
    steward::lend_by(found);
}

/// One id, or none at all, gives nobody anything.
fn found() -> Option<Arc<dyn steward::Steward>> {
    let engine = engine::current().ok()?;
    has_range(&engine).then(|| Arc::new(Steward(engine)) as Arc<dyn steward::Steward>)
}

impl Line {
    /// The answer to one message. One that was killed is replaced once.
    fn ask(&self, keeper: &Keeper, message: &[u8], about: BorrowedFd<'_>) -> sys::Result<Option<OwnedFd>> {
        let mut line = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut answer = Err(Errno::PIPE);
        for _ in 0..2 {
            let socket = match line.take() {
                Some(socket) => socket,
                None => start(keeper)?,
            };
            answer = ask_over(&socket, message, about);
            if !matches!(answer, Err(errno) if errno.is_closed_end()) {
                *line = Some(socket);
                break;
            }
        }
        answer.and_then(|(errno, fd)| if errno == 0 { Ok(fd) } else { Err(Errno(errno)) })
    }
}

fn start(keeper: &Keeper) -> sys::Result<Ours> {
    // A forked copy that held the other end would hide its death from us.
    let _gate = gate::spawning();
    let (ours, theirs) = sys::net::socketpair()?;
    keeper.send(&[request::STEWARD], &[theirs.raw()]).map_err(|_| Errno::PIPE)?;
    Ok(Ours::new(sys::host::adopt(ours.release())))
}

/// (An errno, a descriptor.)
fn ask_over(socket: &Ours, message: &[u8], about: BorrowedFd<'_>) -> sys::Result<(i32, Option<OwnedFd>)> {
    sys::errno::retry(|| sys::net::send(socket.as_raw_fd(), message, &[about.as_raw_fd()], 0))?;
    let mut errno = [0; 4];
    let received = sys::errno::retry(|| sys::net::receive(socket.as_raw_fd(), &mut errno, 0))?;
    let opened = (received.fd_count == 1).then(|| sys::host::adopt(received.fds[0]));
    match received.length {
        4 => Ok((i32::from_le_bytes(errno), opened)),
        _ => Err(Errno::PIPE),
    }
}

impl steward::Steward for Steward {
    fn maps(&self) -> &Maps {
        &self.0.maps
    }

    fn own(&self, root: BorrowedFd<'_>, records: &[u8]) -> Result<()> {
        let message = [&[store::OWN], records].concat();
        match self.0.steward.ask(&self.0.keeper, &message, root) {
            Ok(_) => Ok(()),
            Err(Errno(libc::ENOSPC | libc::EDQUOT)) => Err(Error::NoSpace { path: None }),
            Err(errno) if errno.is_closed_end() => Err(died()),
            Err(errno) => Err(Error::setup("give files of a layer their owners", errno.0)),
        }
    }

    fn open(&self, directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut message = vec![store::OPEN];
        message.put_u32(flags.bits());
        message.put_bytes(name.to_bytes());
        match self.0.steward.ask(&self.0.keeper, &message, directory) {
            Ok(Some(opened)) => Ok(opened),
            Ok(None) => Err(rustix::io::Errno::MFILE),
            Err(errno) => Err(rustix::io::Errno::from_raw_os_error(errno.0)),
        }
    }

    fn remove(&self, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        remove(&self.0, parent, name).map_err(|errno| rustix::io::Errno::from_raw_os_error(errno.0))
    }
}
