//! A command beside the first one of a container: sent to its PID 1, waited for, signalled, ended with all that came of it.

use super::basis::Basis;
use super::explain;
use super::run::{FIRST_TICK, Interrupted, LAST_TICK, MILLISECOND};
use super::spec::Spec;
use super::streams::Streams;
use super::waiting;
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::sys;
use crate::sys::constants::MSG_DONTWAIT;
use crate::wire::{self, Ended, Reader, record};
use order::Order;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

mod end;
mod kept;
mod order;

pub use end::{Done, End, reason};
pub use kept::Kept;

/// Milliseconds after which what was killed is taken for what does not die.
const STUCK: u64 = 10_000;
const SIGKILL: i32 = 9;
/// Instead of a signal: all that came of it.
const ALL: i32 = 0;

/// A container, as far as its commands need one: this process's own, or another's.
pub trait Home: Send + Sync {
    /// Of one that has not ended.
    fn basis(&self) -> Result<Basis>;
    /// The socket from which its PID 1 takes errands.
    fn errands(&self) -> Result<Arc<Ours>>;
    fn ends_within(&self, seconds: f64) -> bool;
    /// Has what comes of these pipes kept; none where this process cannot ask for it.
    fn keep_log(&self, pipes: &[Option<OwnedFd>; 2]) -> Result<Option<Kept>>;
}

/// One command under way.
pub struct Exec {
    container: Arc<dyn Home>,
    basis: Basis,
    spec: Arc<Spec>,
    inner: Arc<Inner>,
    owner: u32,
}

struct Inner {
    report: Arc<Ours>,
    kept: OnceLock<Kept>,
    state: Mutex<State>,
}

struct State {
    streams: Streams,
    started: u64,
    pidfd: Option<Arc<Ours>>,
    pid: i32,
    terminal: Option<OwnedFd>,
    end: Option<End>,
    /// The end of the socket came: nothing is left of it, or what is left is PID 1's.
    gone: bool,
    failed: Option<Error>,
    signals: u64,
    killed: Option<u8>,
}

impl Exec {
    /// Comes back when the command runs, or has run.
    pub fn start<H>(container: &Arc<H>, spec: Spec, interrupted: Interrupted<'_>) -> Result<Exec>
    where
        H: Home + 'static,
    {
        let exec = Exec::launch(container, spec, interrupted)?;
        exec.until_it_runs(interrupted)?;
        Ok(exec)
    }

    /// Sends it on its way; `runs` tells what became of it. Waits only where PID 1 has more to read than there is room for.
    pub fn launch<H>(container: &Arc<H>, spec: Spec, interrupted: Interrupted<'_>) -> Result<Exec>
    where
        H: Home + 'static,
    {
        let spec = Arc::new(spec);
        let gate = gate::spawning();
        let mut streams = Streams::open(&spec)?;
        let (report, theirs) = sys::net::socketpair().map_err(|errno| Error::setup("socketpair", errno.0))?;
        let report = Arc::new(Ours::new(sys::host::adopt(report.release())));
        let basis = container.basis()?;
        let logged = streams.logged.iter().any(Option::is_some);
        let kept = if logged { container.keep_log(&streams.logged)? } else { None };
        let order = Order::of(&basis, &spec, &streams, theirs.raw())?;
        let pid1 = container.errands()?;
        order.send(&pid1, interrupted)?;
        drop(theirs);
        streams.hand_over();
        drop(gate);
        let state = State {
            streams,
            started: 0,
            pidfd: None,
            pid: 0,
            terminal: None,
            end: None,
            gone: false,
            failed: None,
            signals: 0,
            killed: None,
        };
        let kept = kept.map_or_else(OnceLock::new, OnceLock::from);
        let inner = Arc::new(Inner { report, kept, state: Mutex::new(state) });
        Ok(Exec { container: container.clone(), basis, spec, inner, owner: std::process::id() })
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        if std::process::id() != self.owner {
            return Err(super::handle::forked());
        }
        Ok(self.inner.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Whether the command runs, or has run.
    pub fn runs(&self) -> Result<bool> {
        self.hear()?;
        let mut state = self.state()?;
        match state.failed.take() {
            Some(error) => Err(error),
            None if state.started > 0 => Ok(true),
            None if state.end.is_some() => Err(self.gone()),
            None => Ok(false),
        }
    }

    fn until_it_runs(&self, interrupted: Interrupted<'_>) -> Result<()> {
        let runs = || Ok(self.runs()?.then_some(()));
        let mut stopped = false;
        let started = waiting::wait(
            u64::MAX,
            &mut || {
                stopped = interrupted();
                stopped
            },
            runs,
            |time| self.news(time),
        );
        if stopped {
            self.send(ALL)?;
        }
        started.map(drop)
    }

    /// The supervisor ended without a word: the container has ended, or could not fork.
    fn gone(&self) -> Error {
        if self.container.ends_within(0.5) {
            return Error::State("the container ended before the command was started".into());
        }
        let note = "PID 1 of the container could not fork (its limit on tasks is reached, or its memory is), or a process \
                    in it killed the one that was to start the command";
        Error::Setup { step: "start a command in the container".into(), path: None, errno: 11, note: Some(note.into()) }
    }

    fn news(&self, nanoseconds: u64) -> Result<bool> {
        Ok(waiting::readable(&[self.inner.report.as_fd()], nanoseconds))
    }

    /// Takes all that its supervisor has sent.
    fn hear(&self) -> Result<()> {
        let mut state = self.state()?;
        while !state.gone && state.failed.is_none() {
            let mut message = [0u8; 256];
            let received = match sys::net::receive(self.inner.report.as_raw_fd(), &mut message, MSG_DONTWAIT) {
                Ok(received) if received.length > 0 => received,
                Err(sys::Errno(4 | 11)) => return Ok(()),
                _ => {
                    state.gone = true;
                    if state.end.is_none() {
                        state.lose();
                    }
                    return Ok(());
                }
            };
            let descriptor = (received.fd_count == 1).then(|| sys::host::adopt(received.fds[0]));
            let mut from = Reader::new(&message[..received.length]);
            match from.u8() {
                Some(record::RUNS) => {
                    state.started = from.u64().unwrap_or(1).max(1);
                    state.pidfd = descriptor.map(|fd| Arc::new(Ours::new(fd)));
                    state.pid = state.pidfd.as_ref().map_or(0, |pidfd| super::handle::pid_of(pidfd));
                }
                Some(record::TERMINAL) => match descriptor {
                    Some(master) if self.spec.handle => state.terminal = Some(self.log_of(master)?),
                    Some(master) => state.streams.take_terminal(master, &self.spec)?,
                    None => return Err(Error::setup("receive the terminal", 24)),
                },
                Some(record::ERROR) => state.failed = Some(self.refused(&mut from)),
                Some(record::EXITED) => state.finish(&mut from),
                _ => {}
            }
        }
        Ok(())
    }

    fn refused(&self, from: &mut Reader<'_>) -> Error {
        let (phase, step, errno) =
            (from.u8().unwrap_or_default(), from.u16().unwrap_or_default(), from.i32().unwrap_or_default());
        let ended = Ended { phase, step, errno, ..Ended::default() };
        explain::completed(explain::explain(&self.spec, &self.basis.facts(), None, &ended))
    }

    /// Whether it has ended.
    pub fn poll(&self) -> Result<Option<End>> {
        self.hear()?;
        Ok(self.state()?.end)
    }

    /// None where the time passed first.
    pub fn wait(&self, seconds: Option<f64>, interrupted: Interrupted<'_>) -> Result<Option<End>> {
        waiting::wait(waiting::deadline(seconds), interrupted, || self.poll(), |time| self.news(time))
    }

    /// Waits until nothing is left of what came of it, after `kill`. False where the time passed first.
    pub fn wait_gone(&self, seconds: f64, interrupted: Interrupted<'_>) -> Result<bool> {
        let gone = || Ok(self.is_gone()?.then_some(()));
        let until = waiting::deadline(Some(seconds));
        waiting::wait(until, interrupted, gone, |time| self.news(time)).map(|gone| gone.is_some())
    }

    /// Whether nothing is left of it, or what is left is PID 1's.
    pub fn is_gone(&self) -> Result<bool> {
        self.hear()?;
        Ok(self.state()?.gone)
    }

    fn send(&self, word: i32) -> Result<()> {
        match sys::net::send(self.inner.report.as_raw_fd(), &word.to_le_bytes(), &[], MSG_DONTWAIT) {
            Ok(_) => Ok(()),
            Err(errno) if errno.is_closed_end() => Ok(()), // it has ended
            Err(errno) => Err(Error::setup("signal a command in the container", errno.0)),
        }
    }

    /// A signal for the command. False where it has ended: then it goes to nobody.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        if self.poll()?.is_some() {
            return Ok(false);
        }
        self.state()?.signals |= 1u64.checked_shl(signal as u32).unwrap_or(0);
        self.send(signal).map(|()| true)
    }

    /// Ends the command and all that came of it, also what it left running at its own end.
    pub fn kill(&self, cause: u8) -> Result<()> {
        let mut state = self.state()?;
        if state.end.is_none() {
            state.killed.get_or_insert(cause);
        }
        drop(state);
        self.send(ALL)
    }

    /// The command's pidfd, and its pid as this process sees it.
    pub fn command(&self) -> Result<(Option<Arc<Ours>>, i32)> {
        let state = self.state()?;
        Ok((state.pidfd.clone(), state.pid))
    }

    /// Readable when there is news.
    pub fn report(&self) -> Arc<Ours> {
        self.inner.report.clone()
    }

    pub fn take_pipes(&self) -> Result<[Option<OwnedFd>; 3]> {
        Ok(std::mem::take(&mut self.state()?.streams.pipes))
    }

    pub fn terminal(&self) -> Result<Option<OwnedFd>> {
        let state = self.state()?;
        let Some(terminal) = &state.terminal else { return Ok(None) };
        let again = rustix::io::fcntl_dupfd_cloexec(terminal, 3);
        again.map(Some).map_err(|errno| ("dup of the terminal", errno).into())
    }

    /// From the start to the end. `spec.timeout`, which begins when the command does, and too much output end it with all that came of
    /// it. One wait for all: that it runs is no news of its own.
    pub fn run<H>(container: &Arc<H>, spec: Spec, interrupted: Interrupted<'_>) -> Result<Done>
    where
        H: Home + 'static,
    {
        Exec::launch(container, spec, interrupted)?.to_the_end(interrupted)
    }

    fn to_the_end(&self, interrupted: Interrupted<'_>) -> Result<Done> {
        let timeout = self.spec.timeout.map(|seconds| (seconds.max(0.0) * 1e9) as u64);
        let (mut tick, mut patient_until, mut stop) = (FIRST_TICK, u64::MAX, false);
        // Root inside may stop who is to start it: then it does not begin, and not for ever.
        let latest = sys::process::now().saturating_add(STUCK * MILLISECOND);
        loop {
            let runs = self.runs()?;
            let mut state = self.state()?;
            if let Some(end) = state.end.filter(|_| state.killed.is_none() || state.gone) {
                state.streams.drain(self.spec.tty)?;
                return Ok(state.done(end));
            }
            let begun = if runs { state.started } else { latest };
            let deadline = timeout.map_or(u64::MAX, |after| begun.saturating_add(after));
            let now = sys::process::now();
            if state.killed.is_none() && (now >= deadline || stop || state.too_much(&self.spec)) {
                let cause = if stop { wire::cause::KILLED } else { wire::cause::TIMEOUT };
                state.killed = Some(if state.too_much(&self.spec) { wire::cause::OUTPUT } else { cause });
                patient_until = now + STUCK * MILLISECOND;
                self.send(ALL)?;
            }
            if now >= patient_until {
                return Err(explain::does_not_die());
            }
            let left = deadline.min(patient_until).saturating_sub(now).div_ceil(MILLISECOND);
            let left = if now >= deadline { tick } else { tick.min(left) };
            let ready = state.streams.poll(&[self.inner.report.as_fd()], left)?;
            let woken = ready.is_some();
            let mut any = false;
            for index in ready.into_iter().flatten() {
                any = true;
                match index {
                    2 | 3 => drop(state.streams.read(index - 2, self.spec.tty)?),
                    4 => state.streams.supply(),
                    _ => {}
                }
            }
            drop(state);
            if !woken || !any {
                tick = (tick * 2).min(LAST_TICK);
                stop |= interrupted();
            }
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if std::process::id() != self.owner {
            std::mem::forget(self.inner.clone()); // see Handle
        }
    }
}

impl State {
    fn lose(&mut self) {
        self.end = Some(End {
            status: SIGKILL,
            started: self.started,
            ended: sys::process::now(),
            user: 0,
            system: 0,
            max_rss_kib: 0,
            lost: true,
            cause: self.killed.unwrap_or(wire::cause::NONE),
            signals: self.signals,
        });
    }

    fn finish(&mut self, from: &mut Reader<'_>) {
        let status = from.i32().unwrap_or_default();
        let mut next = || from.u64().unwrap_or_default();
        self.end = Some(End {
            status,
            started: next(),
            ended: next(),
            user: next(),
            system: next(),
            max_rss_kib: next(),
            lost: false,
            cause: self.killed.unwrap_or(wire::cause::NONE),
            signals: self.signals,
        });
    }

    fn too_much(&self, spec: &Spec) -> bool {
        spec.limits.output_kills && self.streams.captured.iter().any(|capture| capture.truncated)
    }

    fn done(&mut self, end: End) -> Done {
        let [stdout, stderr] = std::mem::take(&mut self.streams.captured);
        let truncated = [stdout.truncated, stderr.truncated];
        Done { end, stdout: stdout.data, stderr: stderr.data, truncated }
    }
}
