//! One run from specification to result, in the calling thread: prepare, send, wait, count, remove. Whatever fails, nothing is left.

use super::engine::{self, Engine};
use super::explain;
use super::log::Log;
use super::order::Parts;
use super::outcome::{Evidence, Finished};
use super::prepare::{self, Prepared};
use super::spec::Spec;
use super::streams::{Read, Streams};
use crate::cgroup::{Counters, Groups, Guarantee, OomWatch};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::image::locks;
use crate::security::ids::Range;
use crate::sys;
use crate::wire::{self, Ended, Reader, cause, record};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

mod abandon;
mod beside;
mod finish;

/// Asked when a signal came, and now and then: true ends the run.
pub type Interrupted<'a> = &'a mut dyn FnMut() -> bool;

/// Milliseconds to the first look for a signal that came before the wait or to another thread, so that no poll ended for it. Each
/// wait is twice as long as the one before, up to `LAST_TICK`.
pub const FIRST_TICK: u64 = 16;
pub const LAST_TICK: u64 = 1024;
/// Milliseconds after which an end that the keeper owes is late.
const OVERDUE: u64 = 1000;
/// How long a keeper that has closed a socket may take to be seen dead.
const DYING: Duration = Duration::from_millis(500);
pub const MILLISECOND: u64 = 1_000_000;
const EMFILE: i32 = 24;

pub fn run(spec: Spec, interrupted: Interrupted<'_>) -> Result<Finished> {
    to_the_end(spec, interrupted).map_err(explain::completed)
}

fn to_the_end(spec: Spec, interrupted: Interrupted<'_>) -> Result<Finished> {
    let called = sys::process::now();
    let engine = engine::current()?;
    let mut live = Live::start(&engine, &Arc::new(spec), interrupted)?;
    let waited = live.refused.take().map_or_else(|| live.wait(interrupted), Err);
    live.finish(called, waited)
}

/// A container between its start and its end, with all that must be undone.
pub(super) struct Live {
    pub(super) engine: Arc<Engine>,
    pub(super) spec: Arc<Spec>,
    pub(super) id: u64,
    pub(super) report: Arc<Ours>,
    /// Of a command that is PID 1: its pidfd.
    first: Option<Ours>,
    /// Of one that somebody has a handle on: since when its command runs, and its pidfd. Before that, that it waits to be let go.
    pub(super) runs: Option<(u64, Option<Arc<Ours>>)>,
    pub(super) holds: bool,
    /// Who listens to events has heard that it runs.
    told: bool,
    /// The outer end of its terminal, where nobody has taken it.
    pub(super) terminal: Option<OwnedFd>,
    pub(super) streams: Streams,
    pub(super) log: Option<Arc<Log>>,
    pub(super) prepared: Prepared,
    pub(super) groups: Option<Groups>,
    pub(super) range: Option<Range>,
    pub(super) refused: Option<Error>,
    pub(super) evidence: Evidence,
    /// What was used, where it was read already; what the groups keep of the limits, likewise.
    counters: Option<Counters>,
    held: Option<Vec<Guarantee>>,
    pub(super) ended: Option<Ended>,
    pub(super) killed: bool,
    /// Nanoseconds of CLOCK_MONOTONIC after which what is being killed is not waited for any more.
    pub(super) patient_until: u64,
    /// It was not: the keeper has to see to its end alone.
    pub(super) forsaken: bool,
    /// Nothing of it lives any more.
    buried: bool,
    /// Nanoseconds of CLOCK_MONOTONIC after which the keeper should have ended it: if not, it has been stopped.
    pub(super) overdue: u64,
    /// The process that started it; a forked copy (a signal handler's, in the middle of the wait) has no part in it.
    pid: u32,
}

impl Live {
    /// `interrupted` ends what takes long before the start: a copy of the image.
    pub(super) fn start(engine: &Arc<Engine>, spec: &Arc<Spec>, interrupted: Interrupted<'_>) -> Result<Live> {
        let mut check = locks::paced(interrupted);
        let mut prepared = prepare::prepare(engine, spec, &mut check)?;
        match Parts::launch(engine, spec, &prepared, &mut check) {
            Ok(parts) => Ok(Live::of(engine, spec, prepared, parts)),
            Err(error) => {
                if let Some(layer) = prepared.take_layer() {
                    layer.remove(engine, false);
                }
                Err(error)
            }
        }
    }

    fn of(engine: &Arc<Engine>, spec: &Arc<Spec>, prepared: Prepared, parts: Parts) -> Live {
        Live {
            engine: engine.clone(),
            spec: spec.clone(),
            id: parts.id,
            report: Arc::new(parts.report),
            first: None,
            runs: None,
            holds: false,
            told: false,
            terminal: None,
            streams: parts.streams,
            log: parts.log.map(Arc::new),
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
            buried: false,
            overdue: overdue(spec),
            pid: std::process::id(),
        }
    }
}

impl Live {
    /// Serves the pipes until the keeper's last record is here.
    fn wait(&mut self, interrupted: Interrupted<'_>) -> Result<()> {
        let mut tick = FIRST_TICK;
        let mut next_tick = sys::process::now() + tick * MILLISECOND;
        loop {
            if self.ended.is_some() {
                // All processes are gone: what is still in the pipes is all there will ever be.
                self.streams.drain(self.spec.tty)?;
                if self.killed || !self.streams.owe() {
                    return Ok(());
                }
            }
            let records = [self.report.as_fd(), self.engine.keeper.pidfd().as_fd()];
            let records = if self.ended.is_none() { &records[..] } else { &[] };
            let ready = self.streams.poll(records, tick)?;
            let now = sys::process::now();
            if ready.is_none() || now >= next_tick {
                self.streams.follow_window(&self.spec); // SIGWINCH ends the poll, where somebody listens to it
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
            for index in ready.into_iter().flatten() {
                self.serve(index)?;
            }
            self.tell_news();
        }
    }

    /// That the command runs, and with it what tells of the OOM killer: (what to poll it for), its descriptor, the counter's.
    fn tell_news(&mut self) {
        let runs = self.runs.is_some() || (self.spec.pid1 && !self.evidence.status.is_empty());
        if self.spec.news < 0 || self.told || !runs {
            return;
        }
        self.told = true;
        let watch = self.groups.as_ref().and_then(|groups| groups.oom_watch().ok().flatten());
        let events = watch.as_ref().map_or(0, |watch| watch.events().bits());
        let parts = watch.map(OomWatch::into_parts);
        let fds: Vec<i32> = parts
            .iter()
            .flat_map(|(event, counter)| [Some(event), counter.as_ref()])
            .flatten()
            .map(AsRawFd::as_raw_fd)
            .collect();
        let _ = sys::net::send(self.spec.news, &events.to_ne_bytes(), &fds, sys::constants::MSG_DONTWAIT);
    }

    pub(super) fn check_owner(&self) -> Result<()> {
        if std::process::id() == self.pid {
            return Ok(());
        }
        Err(Error::State("this process is a forked copy of the one that runs the container".into()))
    }

    fn serve(&mut self, index: usize) -> Result<()> {
        match index {
            0 => self.hear().map(drop),
            1 if self.ended.is_none() => {
                // Its last words may have come together with its end.
                while self.hear()? {}
                if self.ended.is_none() { Err(super::keeper::died()) } else { Ok(()) }
            }
            2 | 3 => self.read(index - 2),
            4 => {
                self.streams.supply();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One record of the keeper (or of PID 1: the terminal); false where none is here.
    pub(super) fn hear(&mut self) -> Result<bool> {
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
            (Some(record::TERMINAL), Some(master)) if self.spec.handle => self.terminal = Some(master),
            (Some(record::TERMINAL), Some(master)) => self.streams.take_terminal(master, &self.spec)?,
            (Some(record::FIRST), Some(pidfd)) => self.first = Some(Ours::new(pidfd)),
            // No descriptor was free for it.
            (Some(record::TERMINAL), None) => return Err(Error::setup("receive the terminal", EMFILE)),
            (Some(record::FIRST), None) => return Err(Error::setup("receive the container's first process", EMFILE)),
            (Some(record::RUNS), pidfd) => {
                let pidfd = pidfd.map(|fd| Arc::new(Ours::new(fd)));
                self.runs = Some((from.u64().unwrap_or_default(), pidfd));
            }
            (Some(record::READY_TO_RUN), _) => self.holds = true,
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

    fn read(&mut self, index: usize) -> Result<()> {
        match self.streams.read(index, self.spec.tty)? {
            Read::Ended => self.look_at_limits(),
            Read::OverCap if self.spec.limits.output_kills && self.ended.is_none() => self.kill(cause::OUTPUT)?,
            _ => {}
        }
        Ok(())
    }

    /// The last output has ended, so the command has run; until the keeper's last record comes this thread has nothing else to do.
    fn look_at_limits(&mut self) {
        if self.streams.stdout.is_none() && self.streams.stderr.is_none() && self.ended.is_none() {
            self.held = self.groups.as_ref().map(Groups::verified);
        }
    }

    pub(super) fn kill(&mut self, cause: u8) -> Result<()> {
        if !self.killed {
            self.killed = true;
            self.overdue = sys::process::now() + OVERDUE * MILLISECOND;
            self.be_patient();
            self.engine.keeper.kill(self.id, cause)?;
        }
        Ok(())
    }
}

/// A little after the time limit, if there is one.
pub(super) fn overdue(spec: &Spec) -> u64 {
    let seconds = [spec.timeout, spec.limits.wall_time].into_iter().flatten().fold(f64::INFINITY, f64::min);
    // The cast ends at u64::MAX.
    sys::process::now().saturating_add((seconds * 1e9) as u64).saturating_add(OVERDUE * MILLISECOND)
}
