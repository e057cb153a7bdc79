//! A container of another process of this user: looked at, signalled, ended, given commands, by way of its keeper's socket. Owns nothing.

use super::basis::Basis;
use super::exec::Home;
use super::handle::{ENDING, forked, pid_of};
use super::log::Log;
use super::outcome::{Evidence, Finished, Seen};
use super::plan;
use super::registry;
use super::run::{FIRST_TICK, Interrupted, LAST_TICK, MILLISECOND};
use super::spec::Spec;
use crate::cgroup::Counters;
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::sys;
use crate::sys::constants::MSG_DONTWAIT;
use crate::sys::net::Received;
use crate::wire::{self, Ended, Reader, Write, record, request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
        let now = sys::process::now();
        let deadline = seconds.map_or(u64::MAX, |seconds| now.saturating_add((seconds.max(0.0) * 1e9) as u64));
        let mut tick = FIRST_TICK * MILLISECOND;
        loop {
            if self.poll()? {
                return Ok(true);
            }
            let now = sys::process::now();
            if now >= deadline {
                return Ok(false);
            }
            let Some(line) = self.line()? else { return Ok(true) };
            if !wait_for(&line, tick.min(deadline - now)) {
                tick = (tick * 2).min(LAST_TICK * MILLISECOND);
                if interrupted() {
                    return Err(Error::State("the wait was interrupted".into()));
                }
            }
        }
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
            wait_for(&errands, deadline - now);
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
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if std::process::id() != self.owner {
            std::mem::forget(self.inner.clone()); // its descriptors were closed at the fork: the numbers are somebody else's now
        }
    }
}

impl Inner {
    fn connect(&self, state: &mut State) -> Result<()> {
        let line = match registry::connect(&self.keeper) {
            Ok(line) => line,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => {
                state.finished = Some(Err(unseen()));
                return Ok(());
            }
            Err(errno) => return Err(("reach the keeper of the container", errno).into()),
        };
        let line = Arc::new(Ours::new(line));
        let mut message = vec![request::ATTACH];
        message.put_u64(self.id);
        self.send(&line, &message)?;
        state.line = Some(line);
        let answered = |state: &State| state.first.is_some() || state.finished.is_some();
        self.await_answer(state, answered).inspect_err(|_| state.line = None)
    }

    fn send(&self, line: &Ours, message: &[u8]) -> Result<()> {
        match sys::errno::retry(|| sys::net::send(line.as_raw_fd(), message, &[], 0)) {
            Ok(_) => Ok(()),
            Err(errno) if errno.is_closed_end() => Ok(()), // and shows when it is read
            Err(errno) => Err(Error::setup("send to the keeper of the container", errno.0)),
        }
    }

    fn await_answer(&self, state: &mut State, answered: impl Fn(&State) -> bool) -> Result<()> {
        for _ in 0..2 {
            let deadline = sys::process::now() + ANSWER_WITHIN;
            loop {
                self.hear(state);
                if answered(state) {
                    return Ok(());
                }
                let (now, Some(line)) = (sys::process::now(), state.line.clone()) else { return Ok(()) };
                if now >= deadline {
                    break;
                }
                wait_for(&line, deadline - now);
            }
            registry::wake(&name_of(&self.keeper));
        }
        Err(Error::setup("wait for the keeper of the container: it does not answer", 110))
    }

    fn ask_for_errands(&self, state: &mut State) -> Result<()> {
        let Some(line) = state.line.clone().filter(|_| state.errands.is_none() && state.finished.is_none()) else {
            return Ok(());
        };
        state.refused = None;
        self.send(&line, &[request::ERRANDS])?;
        let answered = |state: &State| state.errands.is_some() || state.refused.is_some() || state.finished.is_some();
        self.await_answer(state, answered)
    }

    /// Takes all that the keeper has sent.
    fn hear(&self, state: &mut State) {
        while let Some(line) = state.line.clone() {
            let mut message = [0u8; wire::EVIDENCE_MAX + 1024];
            match sys::net::receive(line.as_raw_fd(), &mut message, MSG_DONTWAIT) {
                Ok(received) if received.length > 0 => self.take(state, &message[..received.length], &received),
                Err(sys::Errno(4 | 11)) => return,
                _ => {
                    state.finished.get_or_insert(Err(unseen()));
                    state.line = None;
                }
            }
        }
    }

    fn take(&self, state: &mut State, message: &[u8], received: &Received) {
        let mut fds = received.fds[..received.fd_count].iter().map(|fd| sys::host::adopt(*fd));
        let mut from = Reader::new(message);
        match (from.u8(), from) {
            (Some(record::ATTACHED), mut from) => match (from.i32(), from.u8()) {
                (Some(0), Some(logs)) => {
                    state.log = (logs != 0).then(|| fds.next().map(|fd| Arc::new(Log::of(fd)))).flatten();
                    state.first = fds.next().map(|fd| Arc::new(Ours::new(fd)));
                }
                _ => state.finished = Some(Err(unseen())),
            },
            (Some(record::ERRANDS), mut from) => {
                state.errands = fds.next().map(|fd| Arc::new(Ours::new(fd)));
                state.refused = from.i32().filter(|errno| *errno != 0);
            }
            (Some(record::ENDED), mut from) => {
                let Some(ended) = Ended::read(&mut from) else { return };
                let mut evidence = std::mem::take(&mut state.evidence);
                evidence.absorb(from.bytes().unwrap_or_default());
                let cut = [0, 1].map(|stream| state.log.as_ref().is_some_and(|log| log.dropped(stream) > 0));
                state.finished = Some(Ok(Arc::new(self.finished(ended, evidence, cut))));
            }
            _ => {}
        }
        fds.for_each(drop);
    }

    /// What its groups counted, and how its limits are held, its own process knows.
    fn finished(&self, ended: Ended, evidence: Evidence, truncated: [bool; 2]) -> Finished {
        let seen = Seen {
            too_much_output: self.spec.limits.output_kills && truncated.contains(&true),
            cpu_rlimit: plan::cpu_time_by_rlimit(&self.spec),
            asked: ended.asked & ENDING,
        };
        Finished {
            ended,
            counters: Counters::default(),
            evidence,
            held: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated,
            seen,
            upper_in_memory: self.basis.upper_in_memory,
            bound: None,
            rootless: self.basis.rootless,
            group_paths: Vec::new(),
            called: ended.started,
            answered: sys::process::now(),
        }
    }
}

/// Takes all that PID 1 has sent.
fn hear_first(state: &mut State) {
    while let Some(errands) = state.errands.clone() {
        let mut message = [0u8; wire::EVIDENCE_MAX + 16];
        let received = match sys::net::receive(errands.as_raw_fd(), &mut message, MSG_DONTWAIT) {
            Ok(received) if received.length > 0 => received,
            Err(sys::Errno(4 | 11)) => return,
            _ => {
                state.errands = None;
                return;
            }
        };
        let descriptor = (received.fd_count == 1).then(|| sys::host::adopt(received.fds[0]));
        let mut from = Reader::new(&message[..received.length]);
        match from.u8() {
            Some(record::RUNS) => {
                state.started = from.u64().unwrap_or_default();
                state.pidfd = descriptor.map(|fd| Arc::new(Ours::new(fd)));
                state.pid = state.pidfd.as_ref().map_or(0, |pidfd| pid_of(pidfd));
            }
            Some(record::EVIDENCE) => state.evidence.absorb(from.rest()),
            Some(record::ERROR) => {
                let errno = from.take(3).and_then(|_| from.i32());
                (state.errands, state.refused) = (None, errno);
            }
            _ => {}
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

/// False where the time passed, or a signal came.
fn wait_for(socket: &Ours, nanoseconds: u64) -> bool {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let time = Timespec { tv_sec: seconds as i64, tv_nsec: rest as _ };
    matches!(poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::IN)], Some(&time)), Ok(1..))
}
