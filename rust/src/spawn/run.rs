//! One run from specification to result, in the calling thread: prepare, send, wait, count, remove. Whatever fails, nothing is left.

use super::engine::{self, Engine};
use super::explain;
use super::feed::Feed;
use super::order::{Parts, remove_groups};
use super::outcome::{Evidence, Finished, Seen};
use super::plan;
use super::prepare::{self, Prepared};
use super::spec::Spec;
use super::streams::{Goes, Read, Streams, reading};
use crate::cgroup::{Counters, Groups, Guarantee};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::security::ids::Range;
use crate::sys;
use crate::wire::{self, Ended, Reader, cause, outcome, record};
use rustix::event::{PollFd, Timespec, poll};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

mod abandon;

/// Asked when a signal came, and now and then: true ends the run.
pub type Interrupted<'a> = &'a mut dyn FnMut() -> bool;

/// Milliseconds to the first look for a signal that came before the wait or to another thread, so that no poll ended for it. Each
/// wait is twice as long as the one before, up to `LAST_TICK`.
const FIRST_TICK: u64 = 16;
const LAST_TICK: u64 = 1024;
/// Milliseconds after which an end that the keeper owes is late.
const OVERDUE: u64 = 1000;
/// How long a keeper that has closed a socket may take to be seen dead.
const DYING: Duration = Duration::from_millis(500);
/// As much as a pipe can hold (fs.pipe-max-size, unless root raised it).
const PIPE_MAX: usize = 1 << 20;
const MILLISECOND: u64 = 1_000_000;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

pub fn run(spec: &Spec, interrupted: Interrupted<'_>) -> Result<Finished> {
    to_the_end(spec, interrupted).map_err(explain::completed)
}

fn to_the_end(spec: &Spec, interrupted: Interrupted<'_>) -> Result<Finished> {
    let called = sys::process::now();
    let engine = engine::current()?;
    let mut live = Live::start(&engine, spec)?;
    let waited = live.refused.take().map_or_else(|| live.wait(interrupted), Err);
    live.finish(called, waited)
}

/// A container between its start and its end, with all that must be undone.
struct Live<'a> {
    engine: &'a Arc<Engine>,
    spec: &'a Spec,
    id: u64,
    report: Ours,
    /// Of a command that is PID 1: its pidfd.
    first: Option<Ours>,
    streams: Streams,
    prepared: Prepared,
    groups: Option<Groups>,
    range: Option<Range>,
    refused: Option<Error>,
    evidence: Evidence,
    /// What was used, where it was read already; what the groups keep of the limits, likewise.
    counters: Option<Counters>,
    held: Option<Vec<Guarantee>>,
    ended: Option<Ended>,
    killed: bool,
    /// Nanoseconds of CLOCK_MONOTONIC after which what is being killed is not waited for any more.
    patient_until: u64,
    /// It was not: the keeper has to see to its end alone.
    forsaken: bool,
    /// Nanoseconds of CLOCK_MONOTONIC after which the keeper should have ended it: if not, it has been stopped.
    overdue: u64,
    /// The process that started it; a forked copy (a signal handler's, in the middle of the wait) has no part in it.
    pid: u32,
}

impl<'a> Live<'a> {
    fn start(engine: &'a Arc<Engine>, spec: &'a Spec) -> Result<Live<'a>> {
        let mut prepared = prepare::prepare(engine, spec)?;
        match Parts::launch(engine, spec, &prepared) {
            Ok(parts) => Ok(Live::of(engine, spec, prepared, parts)),
            Err(error) => {
                prepared.remove_upper(engine, false);
                Err(error)
            }
        }
    }

    fn of(engine: &'a Arc<Engine>, spec: &'a Spec, prepared: Prepared, parts: Parts) -> Live<'a> {
        Live {
            engine,
            spec,
            id: parts.id,
            report: parts.report,
            first: None,
            streams: parts.streams,
            prepared,
            groups: parts.groups,
            range: parts.range,
            refused: parts.refused,
            evidence: Evidence::default(),
            counters: None,
            held: None,
            ended: None,
            killed: false,
            patient_until: u64::MAX,
            forsaken: false,
            overdue: overdue(spec),
            pid: std::process::id(),
        }
    }
}

impl Live<'_> {
    /// Serves the pipes until the keeper's last record is here.
    fn wait(&mut self, interrupted: Interrupted<'_>) -> Result<()> {
        let mut tick = FIRST_TICK;
        let mut next_tick = sys::process::now() + tick * MILLISECOND;
        loop {
            if self.ended.is_some() {
                // All processes are gone: what is still in the pipes is all there will ever be.
                self.drain()?;
                if self.killed || !self.streams.owe() {
                    return Ok(());
                }
            }
            let ready = self.poll_once(tick)?;
            let now = sys::process::now();
            if ready.is_none() || now >= next_tick {
                self.streams.follow_window(self.spec); // SIGWINCH ends the poll, where somebody listens to it
                tick = (tick * 2).min(LAST_TICK);
                next_tick = now + tick * MILLISECOND;
                if now >= self.overdue {
                    self.engine.keeper.wake();
                }
                let stop = interrupted();
                self.check_owner()?;
                if now >= self.patient_until || (stop && self.killed) {
                    self.forsaken = true;
                    return Err(explain::does_not_die());
                }
                if stop {
                    self.kill(cause::KILLED)?;
                }
            }
            for index in ready.into_iter().flat_map(Ready::indices) {
                self.serve(index)?;
            }
        }
    }

    fn check_owner(&self) -> Result<()> {
        if std::process::id() == self.pid {
            return Ok(());
        }
        Err(Error::State("this process is a forked copy of the one that runs the container".into()))
    }

    /// None where a signal ended the wait.
    fn poll_once(&self, milliseconds: u64) -> Result<Option<Ready>> {
        let runs = self.ended.is_none();
        let wanted = [
            runs.then(|| reading(&self.report)),
            runs.then(|| reading(self.engine.keeper.pidfd())),
            self.streams.waits_for(0),
            self.streams.waits_for(1),
            self.streams.stdin.as_ref().map(Feed::waits_for),
        ];
        let mut fds = Vec::with_capacity(5);
        let mut which = [0usize; 5];
        for (index, fd) in wanted.iter().enumerate() {
            if let Some((fd, events)) = fd {
                which[fds.len()] = index;
                fds.push(PollFd::from_borrowed_fd(*fd, *events));
            }
        }
        let time = Timespec { tv_sec: (milliseconds / 1000) as i64, tv_nsec: (milliseconds % 1000 * MILLISECOND) as _ };
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(("wait for the container", errno).into()), // EINVAL: RLIMIT_NOFILE below 5
            Ok(_) => {}
        }
        let mut ready = Ready([false; 5]);
        for (fd, index) in fds.iter().zip(which) {
            ready.0[index] = !fd.revents().is_empty();
        }
        Ok(Some(ready))
    }

    fn serve(&mut self, index: usize) -> Result<()> {
        match index {
            0 => self.hear().map(drop),
            1 if self.ended.is_none() => {
                // Its last words may have come together with its end.
                while self.hear()? {}
                if self.ended.is_none() { Err(super::keeper::died()) } else { Ok(()) }
            }
            2 | 3 => self.read(index - 2).map(drop),
            4 => {
                self.feed();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One record of the keeper (or of PID 1: the terminal); false where none is here.
    fn hear(&mut self) -> Result<bool> {
        let mut message = [0u8; wire::EVIDENCE_MAX + 1024];
        let mut receive = || sys::net::receive(self.report.as_raw_fd(), &mut message, sys::constants::MSG_DONTWAIT);
        let received = match receive() {
            // What we sent was not read (groups that followed): told once, before what the other end had sent (unix_release_sock).
            Err(sys::Errno::CONNRESET) => receive(),
            other => other,
        };
        let received = match received {
            Ok(received) if received.length > 0 => received,
            Err(sys::Errno(4 | 11)) => return Ok(false),
            Err(errno) => return Err(Error::setup("hear from the keeper", errno.0)),
            Ok(_) if self.engine.keeper.outlives(DYING) => return Err(super::keeper::mute()),
            Ok(_) => return Err(super::keeper::died()),
        };
        let mut from = Reader::new(&message[..received.length]);
        let descriptor = (received.fd_count == 1).then(|| sys::host::adopt(received.fds[0]));
        match (from.u8(), descriptor) {
            (Some(record::TERMINAL), Some(master)) => self.streams.take_terminal(master, self.spec)?,
            (Some(record::FIRST), Some(pidfd)) => self.first = Some(Ours::new(pidfd)),
            // No descriptor was free for it.
            (Some(record::TERMINAL), None) => return Err(Error::setup("receive the terminal", EMFILE)),
            (Some(record::FIRST), None) => return Err(Error::setup("receive the container's first process", EMFILE)),
            (Some(record::GONE), _) => self.counters = self.groups.as_ref().map(Groups::counters),
            (Some(record::ENDING), _) => self.be_patient(),
            (Some(record::EVIDENCE), _) => self.evidence.absorb(from.rest()),
            (Some(record::ENDED), _) => {
                let ended = Ended::read(&mut from).ok_or_else(|| Error::setup("read the keeper's record", 71))?;
                self.evidence.absorb(from.bytes().unwrap_or_default());
                self.ended = Some(ended);
            }
            _ => {}
        }
        Ok(true)
    }

    /// One read; false where there is nothing more for now.
    fn read(&mut self, index: usize) -> Result<bool> {
        let streams = &mut self.streams;
        if !streams.pass_on(index) {
            return Ok(false);
        }
        let (stream, capture) = match index {
            0 => (&mut streams.stdout, &mut streams.captured[0]),
            _ => (&mut streams.stderr, &mut streams.captured[1]),
        };
        let Some(fd) = stream.as_ref() else { return Ok(false) };
        let came = capture.read(fd);
        if streams.goes[index] == Goes::Nowhere {
            capture.data.clear();
        }
        match came {
            Read::Ended => {
                *stream = None;
                self.look_at_limits();
            }
            Read::OverCap if self.spec.limits.output_kills && self.ended.is_none() => self.kill(cause::OUTPUT)?,
            Read::Failed(EIO) if self.spec.tty => *stream = None,
            Read::Failed(errno) => return Err(Error::setup("read the output", errno)),
            _ => {}
        }
        self.streams.pass_on(index);
        Ok(matches!(came, Read::More | Read::OverCap))
    }

    /// The last output has ended, so the command has run; until the keeper's last record comes this thread has nothing else to do.
    fn look_at_limits(&mut self) {
        if self.streams.stdout.is_none() && self.streams.stderr.is_none() && self.ended.is_none() {
            self.held = self.groups.as_ref().map(Groups::verified);
        }
    }

    fn feed(&mut self) {
        if !self.streams.stdin.as_mut().is_some_and(Feed::step) {
            self.streams.stdin = None;
        }
    }

    fn drain(&mut self) -> Result<()> {
        for index in 0..2 {
            let mut drained = 0; // a stranger that still writes must not keep us here
            while drained <= PIPE_MAX && self.read(index)? {
                drained += self.streams.captured[index].last;
            }
        }
        Ok(())
    }

    fn kill(&mut self, cause: u8) -> Result<()> {
        if !self.killed {
            self.killed = true;
            self.overdue = sys::process::now() + OVERDUE * MILLISECOND;
            self.be_patient();
            self.engine.keeper.kill(self.id, cause)?;
        }
        Ok(())
    }

    /// Counters after the reap and before the rmdir; everything that was made is removed, whatever went wrong.
    fn finish(mut self, called: u64, waited: Result<()>) -> Result<Finished> {
        if self.check_owner().is_err() {
            // Its descriptors were closed at the fork: the numbers are somebody else's now. Nothing of the parent's is touched.
            std::mem::forget(self);
            return Err(waited.err().unwrap_or_else(super::keeper::died));
        }
        let given_up = waited.is_err() && self.ended.is_none();
        let buried = !given_up || (!self.forsaken && self.give_up()) || self.end_alone();
        let counters = self.counters.take().or_else(|| self.groups.as_ref().map(Groups::counters));
        let mut counters = counters.unwrap_or_default();
        // Our own PID 1 is none of the container's tasks.
        counters.pids_peak = counters.pids_peak.map(|peak| peak.saturating_sub(u64::from(!self.spec.pid1)));
        let held = self.held.take().or_else(|| self.groups.as_ref().map(Groups::verified));
        let mut held = held.unwrap_or_default();
        held.append(&mut self.prepared.degraded);
        let group_paths = self.groups.as_ref().map(Groups::paths).unwrap_or_default();
        let upper_in_memory = !self.prepared.upper_is_on_disk();
        if let Some(groups) = self.groups.take() {
            self.engine.attached(&groups, self.ended.map_or(0, |ended| ended.started));
            remove_groups(self.engine, groups);
        }
        self.prepared.remove_upper(self.engine, !buried);
        // Ids that may still be in use are not given back: PID 1 holds their lock as long as it lives, or this process does for it.
        match (self.range.take(), self.engine.pool()) {
            (Some(range), Some(pool)) if buried => pool.give_back(range),
            (Some(range), _) if self.spec.pid1 => std::mem::forget(range),
            _ => {}
        }
        waited?;
        let ended = self.ended.ok_or_else(super::keeper::died)?;
        if ended.outcome == outcome::DIED && ended.status & 0x7f == 0 {
            // Only PID 1 itself can have exited so; the command's status comes in a record.
            return Err(Error::setup("set up the container: its first process ended without a record", 71));
        }
        if ended.outcome == outcome::FAILED {
            return Err(self.prepared.explain(self.spec, &ended));
        }
        let killed_by_us = !matches!(ended.cause, cause::NONE | cause::MEMORY);
        // Of a command that is PID 1 the keeper's evidence may be that of the one that was killed on its way to exec.
        let never_ran = self.spec.pid1 || self.evidence.status.is_empty();
        if ended.outcome == outcome::DIED && never_ran && !killed_by_us {
            return Err(explain::died_in_set_up(&ended, counters.oom_kills.unwrap_or(0) > 0));
        }
        let [stdout, stderr] = std::mem::take(&mut self.streams.captured);
        let limits = &self.spec.limits;
        let seen = Seen {
            too_much_output: limits.output_kills && (stdout.truncated || stderr.truncated),
            cpu_rlimit: plan::cpu_time_by_rlimit(self.spec),
        };
        Ok(Finished {
            seen,
            ended,
            counters,
            evidence: std::mem::take(&mut self.evidence),
            held,
            truncated: [stdout.truncated, stderr.truncated],
            stdout: stdout.data,
            stderr: stderr.data,
            upper_in_memory,
            bound: self.prepared.bound,
            rootless: !self.engine.is_root(),
            group_paths,
            called,
            answered: sys::process::now(),
        })
    }
}

/// A little after the time limit, if there is one.
fn overdue(spec: &Spec) -> u64 {
    let seconds = [spec.timeout, spec.limits.wall_time].into_iter().flatten().fold(f64::INFINITY, f64::min);
    // The cast ends at u64::MAX.
    sys::process::now().saturating_add((seconds * 1e9) as u64).saturating_add(OVERDUE * MILLISECOND)
}

#[derive(Clone, Copy)]
struct Ready([bool; 5]);

impl Ready {
    /// Streams first, the last record after them.
    fn indices(self) -> impl Iterator<Item = usize> {
        [2, 3, 4, 0, 1].into_iter().filter(move |index| self.0[*index])
    }
}
