//! A container of another process of this user: looked at, signalled, ended, given commands, by way of its keeper's socket. Owns nothing.

use super::basis::Basis;
use super::exec::{Home, Kept};
use super::handle::forked;
use super::log::Log;
use super::outcome::{Evidence, Finished};
use super::run::{Interrupted, MILLISECOND};
use super::spec::Spec;
use super::waiting;
use crate::cgroup::Found;
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::sys;
use crate::wire::{Ended, Write, request};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Nanoseconds for the keeper to answer, after which it is woken, and again after which it is given up.
const ANSWER_WITHIN: u64 = 5_000 * MILLISECOND;
/// For PID 1 to tell what it has found: one that is frozen does not.
const TESTIMONY: u64 = 500 * MILLISECOND;
/// Likewise, where it is asked to do something.
const PATIENCE: u64 = 2_000 * MILLISECOND;
mod line;
mod measure;

use line::hear_first;

const EAGAIN: i32 = 11;
const EMFILE: i32 = 24;

pub struct Foreign {
    inner: Arc<Inner>,
    /// The process that found it.
    owner: u32,
}

struct Inner {
    /// The directory of its keeper.
    keeper: PathBuf,
    /// As its keeper knows it.
    id: u64,
    spec: Arc<Spec>,
    basis: Basis,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connection to its keeper, from the first question on.
    line: Option<Arc<Ours>>,
    log: Option<Arc<Log>>,
    first: Option<Arc<Ours>>,
    /// To its PID 1, or why there is none.
    errands: Option<Arc<Ours>>,
    refused: Option<i32>,
    /// The answer to the last question for its groups, until it is taken.
    groups: Option<Result<Found>>,
    /// The command's pidfd and pid, and since when it runs.
    pidfd: Option<Arc<Ours>>,
    pid: i32,
    started: u64,
    evidence: Evidence,
    finished: Option<Result<Arc<Finished>>>,
    closed: bool,
}

impl Foreign {
    /// Asks nobody; `attach`, or the first question, does.
    pub fn new(keeper: PathBuf, id: u64, spec: Spec, basis: Basis) -> Foreign {
        let inner = Inner { keeper, id, spec: Arc::new(spec), basis, state: Mutex::default() };
        Foreign { inner: Arc::new(inner), owner: std::process::id() }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        if std::process::id() != self.owner {
            return Err(forked());
        }
        Ok(self.inner.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Makes the connection. From then on nothing is missed, however it ends.
    pub fn attach(&self) -> Result<()> {
        self.attached().map(drop)
    }

    fn attached(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state()?;
        if state.closed {
            return Err(Error::State("this handle was closed".into()));
        }
        if state.line.is_none() && state.finished.is_none() {
            self.inner.connect(&mut state)?;
        }
        Ok(state)
    }

    /// Whether it has ended; learns what there is to learn, and waits for nothing.
    pub fn poll(&self) -> Result<bool> {
        let mut state = self.attached()?;
        self.inner.hear(&mut state);
        Ok(state.finished.is_some())
    }

    /// Waits for its end; false where the time passed first.
    pub fn wait(&self, seconds: Option<f64>, interrupted: Interrupted<'_>) -> Result<bool> {
        let ended = || Ok(self.poll()?.then_some(()));
        let news = |time| Ok(self.line()?.is_none_or(|line| waiting::readable(&[line.as_fd()], time)));
        waiting::wait(waiting::deadline(seconds), interrupted, ended, news).map(|ended| ended.is_some())
    }

    /// Readable when there may be news of its end.
    pub fn line(&self) -> Result<Option<Arc<Ours>>> {
        Ok(self.attached()?.line.clone())
    }

    /// What it came to, once it has ended. Of one that had ended before it was asked for only its own process knows.
    pub fn finished(&self) -> Result<Option<Arc<Finished>>> {
        self.state()?.finished.clone().transpose()
    }

    /// What is known of it while it runs.
    pub fn so_far(&self) -> Result<Option<Finished>> {
        if self.poll()? {
            return Ok(None);
        }
        let state = self.testimony(|state| !state.evidence.status.is_empty())?;
        let ended = Ended { started: state.started, ..Ended::default() };
        Ok(Some(self.inner.finished(ended, state.evidence.clone(), [false; 2])))
    }

    /// A signal for the command. False where it has ended: then it goes to nobody.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        let mut message = vec![request::SIGNAL];
        message.put_i32(signal);
        self.tell(&message, &[])
    }

    /// Ends all of it; the first cause counts.
    pub fn kill(&self, cause: u8) -> Result<()> {
        self.tell(&[request::KILL, cause], &[]).map(drop)
    }

    /// False where it has ended.
    fn tell(&self, message: &[u8], fds: &[i32]) -> Result<bool> {
        if self.poll()? {
            return Ok(false);
        }
        let Some(line) = self.line()? else { return Ok(false) };
        match sys::errno::retry(|| sys::net::send(line.as_raw_fd(), message, fds, 0)) {
            Ok(_) => Ok(true),
            Err(errno) if errno.is_closed_end() => Ok(false),
            Err(errno) => Err(Error::setup("send to the keeper of the container", errno.0)),
        }
    }

    /// Lets it go. It runs on.
    pub fn close(&self) -> Result<()> {
        let mut state = self.state()?;
        *state = State { log: state.log.take(), finished: state.finished.take(), closed: true, ..State::default() };
        Ok(())
    }

    pub fn spec(&self) -> &Arc<Spec> {
        &self.inner.spec
    }

    pub fn log(&self) -> Result<Option<Arc<Log>>> {
        let state = self.state()?;
        if state.closed || state.finished.is_some() {
            return Ok(state.log.clone());
        }
        drop(state);
        Ok(self.attached()?.log.clone())
    }

    pub fn forget_log(&self) -> Result<()> {
        self.state()?.log = None;
        Ok(())
    }

    /// The command's pidfd, and its pid as this process sees it; where its PID 1 does not tell, that of the container's end.
    pub fn command(&self) -> Result<(Option<Arc<Ours>>, i32)> {
        let state = self.testimony(|state| state.pidfd.is_some())?;
        Ok((state.pidfd.clone().or(state.first.clone()), state.pid))
    }

    /// A socket that gets a byte when something was written to the log, and ends with the container.
    pub fn listen(&self) -> Result<OwnedFd> {
        let _gate = gate::spawning();
        let (ours, theirs) = sys::net::socketpair().map_err(|errno| Error::setup("socketpair", errno.0))?;
        self.tell(&[request::SUBSCRIBE], &[theirs.raw()])?;
        Ok(sys::host::adopt(ours.release()))
    }

    /// What PID 1 tells to those who come: asked for at the first question, and waited for a moment.
    fn testimony(&self, enough: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let deadline = sys::process::now() + TESTIMONY;
        let mut state = self.attached()?;
        if state.finished.is_none() {
            self.inner.ask_for_errands(&mut state)?;
        }
        loop {
            hear_first(&mut state);
            let Some(errands) = state.errands.clone() else { return Ok(state) };
            let now = sys::process::now();
            if enough(&state) || now >= deadline || state.finished.is_some() {
                return Ok(state);
            }
            waiting::readable(&[errands.as_fd()], deadline - now);
        }
    }
}

impl Home for Foreign {
    fn basis(&self) -> Result<Basis> {
        if self.poll()? { Err(Error::State("the container has ended".into())) } else { Ok(self.inner.basis.clone()) }
    }

    fn errands(&self) -> Result<Arc<Ours>> {
        let deadline = sys::process::now() + PATIENCE;
        loop {
            let state = self.testimony(|state| state.started > 0)?;
            match (&state.errands, state.refused) {
                (Some(errands), _) if state.started > 0 => return Ok(errands.clone()),
                _ if state.finished.is_some() => return Err(Error::State("the container has ended".into())),
                // Just begun: PID 1 has said so to its own process, and not yet to its keeper.
                (Some(_), _) | (None, None | Some(EAGAIN)) if sys::process::now() < deadline => {}
                (_, None | Some(EAGAIN)) => {
                    return Err(Error::State("the container is paused: its PID 1 does not answer".into()));
                }
                (_, Some(EMFILE)) => return Err(crowded()),
                (_, Some(errno)) => return Err(Error::setup("reach PID 1 of the container", errno)),
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ends_within(&self, seconds: f64) -> bool {
        self.wait(Some(seconds), &mut || false).unwrap_or(true)
    }

    fn keep_log(&self, _: &[Option<OwnedFd>; 2]) -> Result<Option<Kept>> {
        Ok(None) // its keeper is another process's
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if std::process::id() != self.owner {
            std::mem::forget(self.inner.clone()); // its descriptors were closed at the fork: the numbers are somebody else's now
        }
    }
}

fn name_of(keeper: &Path) -> String {
    keeper.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn crowded() -> Error {
    let note = "sixteen handles of other processes run commands in it already: close() lets one go";
    Error::Setup { step: "reach PID 1 of the container".into(), path: None, errno: EMFILE, note: Some(note.into()) }
}

fn unseen() -> Error {
    Error::State("the container has ended, and nobody looked: what it came to only its own process knows".into())
}
