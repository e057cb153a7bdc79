//! The log of one more command: where it is, and how the keeper that writes it knows it.

use super::Exec;
use crate::error::{Error, Result};
use crate::gate;
use crate::spawn::engine::Engine;
use crate::spawn::log::Log;
use crate::spawn::run::MILLISECOND;
use crate::spawn::spec::Stream;
use crate::spawn::waiting;
use crate::sys;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Once};

/// Nanoseconds for the keeper to read what is left in the pipes of a command that has ended.
const SETTLED: u64 = 2_000 * MILLISECOND;

pub struct Kept {
    id: u64,
    log: Arc<Log>,
    engine: Arc<Engine>,
    settled: Once,
}

impl Kept {
    /// From now on what comes out of these pipes of a command in `container` goes into a log.
    pub fn of(engine: &Arc<Engine>, container: u64, pipes: &[Option<OwnedFd>; 2]) -> Result<Kept> {
        let (id, log) = (engine.next_id(), Arc::new(Log::make()?));
        engine.keeper.keep_log(id, container, log.file().as_fd(), pipes)?;
        Ok(Kept { id, log, engine: engine.clone(), settled: Once::new() })
    }

    /// What is there. Where the command has `ended` all that it has written is, unless the keeper is held up.
    pub fn log(&self, ended: bool) -> Arc<Log> {
        if ended {
            self.settled.call_once(|| {
                let told = self.with_socket(|theirs| self.engine.keeper.settle_log(self.id, theirs));
                // Where it is dead, so is the container.
                let _ = told.map(|socket| waiting::readable(&[socket.as_fd()], SETTLED));
            });
        }
        self.log.clone()
    }

    /// A socket that gets a byte when something was written, and ends with the log's streams.
    pub fn listen(&self) -> Result<OwnedFd> {
        self.with_socket(|theirs| self.engine.keeper.subscribe(self.id, theirs))
    }

    fn with_socket(&self, ask: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<OwnedFd> {
        let _gate = gate::spawning();
        let (ours, theirs) = sys::net::socketpair().map_err(|errno| Error::setup("socketpair", errno.0))?;
        ask(sys::host::borrow(theirs.raw()))?;
        Ok(sys::host::adopt(ours.release()))
    }
}

impl Exec {
    /// What keeps its output, where anything does.
    pub fn kept(&self) -> Option<&Kept> {
        self.inner.kept.get()
    }

    /// What comes out of its terminal goes to a log, where nobody reads it.
    pub(super) fn log_of(&self, master: OwnedFd) -> Result<OwnedFd> {
        let mut pipes = [Some(master), None];
        if self.spec.stdout == Stream::Log
            && let Some(kept) = self.container.keep_log(&pipes)?
        {
            let _ = self.inner.kept.set(kept);
        }
        Ok(pipes[0].take().expect("put there above"))
    }
}
