//! A container that runs beside its caller: waited for, signalled, ended, from any thread. A forked copy of the host owns nothing of it.

use super::basis::Basis;
use super::driver;
use super::engine::{self, Engine};
use super::exec::{Home, Kept};
use super::explain;
use super::log::Log;
use super::outcome::Finished;
use super::run::{Interrupted, Live, MILLISECOND};
use super::spec::{Spec, Stream};
use super::waiting;
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::security::maps::Maps;
use crate::sys;
use crate::wire::{cause, errand};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// Signals by which one asks a command to end: HUP, INT, QUIT, KILL, TERM.
pub(super) const ENDING: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 15;

/// Nanoseconds in which PID 1 has told what it saw.
const TESTIMONY: u64 = 500 * MILLISECOND;

pub struct Handle {
    inner: Arc<Inner>,
    /// The process that started it.
    owner: u32,
}

struct Inner {
    engine: Arc<Engine>,
    spec: Arc<Spec>,
    id: u64,
    called: u64,
    ports: Vec<u16>,
    slot: Mutex<Slot>,
}

/// What changes in a container's life.
#[derive(Default)]
struct Slot {
    /// Until it is closed.
    live: Option<Live>,
    /// Its command runs, or has run.
    begun: bool,
    finished: Option<Result<Arc<Finished>>>,
    log: Option<Arc<Log>>,
    /// The command's pidfd, and its pid as this process sees it.
    pidfd: Option<Arc<Ours>>,
    pid: i32,
    /// Signals that were sent to the command, a bit each.
    signals: u64,
}

impl Handle {
    /// Comes back when the command runs, or has all set up and waits (`spec.hold`). After an error nothing is left.
    pub fn start(spec: Spec, interrupted: Interrupted<'_>) -> Result<Handle> {
        let handle = Handle::launch_until(spec, interrupted)?;
        handle.until_it_runs(interrupted)?;
        Ok(handle)
    }

    /// Sends it on its way, and waits for nothing: `runs` tells what became of it. None where its image would have to be copied first.
    pub fn launch(spec: Spec) -> Result<Option<Handle>> {
        let engine = engine::current().map_err(explain::completed)?;
        if driver::takes_time(&engine, &spec) {
            return Ok(None);
        }
        Handle::launch_until(spec, &mut || false).map(Some)
    }

    /// Likewise, but copies the image.
    pub fn launch_until(spec: Spec, interrupted: Interrupted<'_>) -> Result<Handle> {
        let called = sys::process::now();
        let spec = Arc::new(spec);
        let begun =
            engine::current().and_then(|engine| Live::start(&engine, &spec, interrupted).map(|live| (engine, live)));
        let (engine, mut live) = begun.map_err(explain::completed)?;
        if let Some(error) = live.refused.take() {
            let refused = live.conclude(called, Err(error)).err();
            live.release();
            return Err(explain::completed(refused.unwrap_or_else(super::keeper::died)));
        }
        let slot = Slot { log: live.log.clone(), live: Some(live), ..Slot::default() };
        let (id, ports) =
            slot.live.as_ref().map(|live| (live.id, live.prepared.ports.numbers.clone())).unwrap_or_default();
        let inner = Arc::new(Inner { engine, spec, id, called, ports, slot: Mutex::new(slot) });
        Ok(Handle { inner, owner: std::process::id() })
    }

    /// Whether the command runs, has run, or waits for `go`. After an error nothing is left.
    pub fn runs(&self) -> Result<bool> {
        let mut slot = self.slot()?;
        if slot.begun {
            return Ok(true);
        }
        let Some(live) = slot.live.as_mut() else { return Err(Error::State("the container was closed".into())) };
        let under_way = live.under_way();
        if matches!(under_way, Ok(false)) {
            return Ok(false);
        }
        let held = live.holds;
        if under_way.is_err() || live.ended.is_some() {
            let finished = live.conclude(self.inner.called, under_way.map(drop)).map(Arc::new);
            let failed = finished.as_ref().err().cloned();
            slot.finished = Some(finished);
            if let Some(error) = failed {
                slot.live.take().iter_mut().for_each(Live::release);
                return Err(explain::completed(error));
            }
        }
        slot.begun = !held;
        slot.note_running();
        Ok(true)
    }

    /// A signal's handler that raises ends the wait; the start is undone by the drop.
    pub fn until_it_runs(&self, interrupted: Interrupted<'_>) -> Result<()> {
        let runs = || Ok(self.runs()?.then_some(()));
        waiting::wait(u64::MAX, interrupted, runs, |time| self.await_news(time)).map(drop)
    }

    /// Lets the command of a container go that was started with `spec.hold`; `runs` tells what became of it.
    pub fn go(&self) -> Result<()> {
        let mut slot = self.slot()?;
        let Some(live) = slot.live.as_mut().filter(|live| live.holds) else {
            return Err(Error::State("the container does not wait to be started".into()));
        };
        live.holds = false;
        let _ = sys::net::send(live.report.as_raw_fd(), &[errand::GO], &[], 0);
        Ok(())
    }

    fn slot(&self) -> Result<MutexGuard<'_, Slot>> {
        if std::process::id() != self.owner {
            return Err(forked());
        }
        Ok(self.inner.slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Whether it has ended; learns what there is to learn, and waits for nothing.
    pub fn poll(&self) -> Result<bool> {
        let mut slot = self.slot()?;
        let Slot { live, finished, signals, .. } = &mut *slot;
        if let (Some(live), None) = (live.as_mut(), finished.as_ref()) {
            *finished = live.look(self.inner.called, *signals & ENDING).map(|end| end.map(Arc::new));
        }
        Ok(slot.finished.is_some())
    }

    /// Waits for its end; false where the time passed first. A signal's handler that raises ends the wait, not the container.
    pub fn wait(&self, seconds: Option<f64>, interrupted: Interrupted<'_>) -> Result<bool> {
        let ended = || Ok(self.poll()?.then_some(()));
        let news = |time| match self.await_news(time)? {
            false => self.impatient().map(|()| false),
            true => Ok(true),
        };
        waiting::wait(waiting::deadline(seconds), interrupted, ended, news).map(|ended| ended.is_some())
    }

    /// False where the time passed, or a signal came.
    fn await_news(&self, nanoseconds: u64) -> Result<bool> {
        let Some(report) = self.report()? else { return Ok(true) };
        Ok(waiting::readable(&[report.as_fd(), self.inner.engine.keeper.pidfd().as_fd()], nanoseconds))
    }

    /// A keeper that was stopped is woken when it owes an end; what was killed and does not die is waited for no longer.
    pub fn impatient(&self) -> Result<()> {
        let slot = self.slot()?;
        let (Some(live), now) = (&slot.live, sys::process::now()) else { return Ok(()) };
        if now >= live.overdue {
            self.inner.engine.keeper.wake();
        }
        if now >= live.patient_until { Err(explain::does_not_die()) } else { Ok(()) }
    }

    /// What it came to, once it has ended.
    pub fn finished(&self) -> Result<Option<Arc<Finished>>> {
        self.slot()?.finished.clone().transpose()
    }

    /// What is known of it while it runs: the evidence, and what the groups hold.
    pub fn so_far(&self) -> Result<Option<Finished>> {
        // PID 1 tells what it saw just after it has told that the command runs.
        let deadline = sys::process::now() + TESTIMONY;
        loop {
            let ended = self.poll()?;
            let slot = self.slot()?;
            let Some(live) = slot.live.as_ref().filter(|_| !ended) else { return Ok(None) };
            if !live.evidence.status.is_empty() || sys::process::now() >= deadline {
                return Ok(Some(live.so_far()));
            }
            drop(slot);
            self.await_news(MILLISECOND)?;
        }
    }

    /// A signal for the command. False where it has ended: then it goes to nobody.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        if self.poll()? {
            return Ok(false);
        }
        let mut slot = self.slot()?;
        slot.signals |= 1u64.checked_shl(signal as u32).unwrap_or(0);
        self.inner.engine.keeper.signal(self.inner.id, signal)?;
        Ok(true)
    }

    /// Ends all of it; the first cause counts.
    pub fn kill(&self, cause: u8) -> Result<()> {
        if self.poll()? {
            return Ok(());
        }
        let mut slot = self.slot()?;
        slot.live.as_mut().map_or(Ok(()), |live| live.kill(cause))
    }

    /// Kills it where it runs, and removes what is left of it: the writable layer, the ids. The log and the result stay.
    pub fn close(&self, interrupted: Interrupted<'_>) -> Result<()> {
        self.kill(cause::KILLED)?;
        let waited = self.wait(None, interrupted).map(drop);
        let mut slot = self.slot()?;
        let Some(mut live) = slot.live.take() else { return waited };
        if slot.finished.is_none() {
            live.forsaken = true;
            let error = waited.as_ref().err().cloned().unwrap_or_else(super::keeper::died);
            slot.finished = Some(live.conclude(self.inner.called, Err(error)).map(Arc::new));
        }
        live.release();
        slot.pidfd = None;
        waited
    }

    /// Whether it has a writable layer whose removal may take long.
    pub fn has_layer_on_disk(&self) -> Result<bool> {
        Ok(self.slot()?.live.as_ref().is_some_and(|live| live.prepared.upper_is_on_disk()))
    }

    /// Removes the writable layer of one that has ended, and its files are nobody's any more. Nobody waits for it meanwhile.
    pub fn shed(&self) -> Result<()> {
        let mut slot = self.slot()?;
        let Slot { live: Some(live), finished: Some(_), .. } = &mut *slot else { return Ok(()) };
        let layer = live.take_layer();
        drop(slot);
        if let Some((layer, dying)) = layer {
            layer.remove(&self.inner.engine, dying);
        }
        Ok(())
    }

    /// Nobody reads it any more.
    pub fn forget_log(&self) -> Result<()> {
        self.slot()?.log = None;
        Ok(())
    }

    pub fn spec(&self) -> &Arc<Spec> {
        &self.inner.spec
    }

    /// What its ids are in the keeper's user namespace, until it is closed.
    pub fn ids(&self) -> Result<Maps> {
        let slot = self.slot()?;
        let live = slot.live.as_ref().ok_or_else(|| Error::State("the container was closed".into()))?;
        Ok(live.prepared.ids(live.range.as_ref()))
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }

    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Readable when there may be news of its end; none of one that was closed.
    pub fn report(&self) -> Result<Option<Arc<Ours>>> {
        Ok(self.slot()?.live.as_ref().map(|live| live.report.clone()))
    }

    pub fn log(&self) -> Result<Option<Arc<Log>>> {
        Ok(self.slot()?.log.clone())
    }

    /// The command's pidfd, and its pid as this process sees it.
    pub fn command(&self) -> Result<(Option<Arc<Ours>>, i32)> {
        let slot = self.slot()?;
        Ok((slot.pidfd.clone(), slot.pid))
    }

    /// What of it is still there, for who needs its groups, ids or plan.
    pub(super) fn with_live<T>(&self, work: impl FnOnce(&mut Live) -> Result<T>) -> Result<T> {
        let mut slot = self.slot()?;
        let ended = slot.finished.is_some();
        match slot.live.as_mut() {
            Some(live) if !ended => work(live),
            _ => Err(Error::State("the container has ended".into())),
        }
    }

    /// The caller's ends of the pipes of stdin, stdout and stderr, once.
    pub fn take_pipes(&self) -> Result<[Option<OwnedFd>; 3]> {
        let mut slot = self.slot()?;
        Ok(slot.live.as_mut().map(|live| std::mem::take(&mut live.streams.pipes)).unwrap_or_default())
    }

    /// The numbers of its published ports here, in the order in which they were asked for.
    pub fn ports(&self) -> Result<Vec<u16>> {
        self.slot().map(|_| self.inner.ports.clone())
    }

    /// The outer end of its terminal, for who reads, writes or resizes it.
    pub fn terminal(&self) -> Result<Option<OwnedFd>> {
        let slot = self.slot()?;
        let Some(terminal) = slot.live.as_ref().and_then(|live| live.terminal.as_ref()) else { return Ok(None) };
        let again = rustix::io::fcntl_dupfd_cloexec(terminal, 3);
        again.map(Some).map_err(|errno| ("dup of the terminal", errno).into())
    }

    /// A socket that gets a byte when something was written to the log, and ends with the container.
    pub fn listen(&self) -> Result<OwnedFd> {
        let _gate = gate::spawning();
        let fail = |errno: sys::Errno| Error::setup("socketpair", errno.0);
        let (ours, theirs) = sys::net::socketpair().map_err(fail)?;
        self.inner.engine.keeper.subscribe(self.inner.id, sys::host::borrow(theirs.raw()))?;
        Ok(sys::host::adopt(ours.release()))
    }
}

impl Home for Handle {
    fn basis(&self) -> Result<Basis> {
        self.with_live(|live| Ok(Basis::of(live)))
    }

    fn errands(&self) -> Result<Arc<Ours>> {
        self.report()?.ok_or_else(|| Error::State("the container was closed".into()))
    }

    fn ends_within(&self, seconds: f64) -> bool {
        self.wait(Some(seconds), &mut || false).unwrap_or(true)
    }

    fn keep_log(&self, pipes: &[Option<OwnedFd>; 2]) -> Result<Option<Kept>> {
        Kept::of(&self.inner.engine, self.inner.id, pipes).map(Some)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if std::process::id() == self.owner {
            let _ = self.close(&mut || false);
        } else {
            // Its descriptors were closed at the fork: the numbers are somebody else's now, and nothing here is ever dropped.
            std::mem::forget(self.inner.clone());
        }
    }
}

pub(super) fn forked() -> Error {
    Error::State("this process is a forked copy of the one that started the container, and owns nothing of it".into())
}

impl Slot {
    fn note_running(&mut self) {
        let Some(live) = &self.live else { return };
        if let Some((_, pidfd)) = &live.runs {
            self.pidfd = pidfd.clone();
            self.pid = pidfd.as_ref().map_or(0, |pidfd| pid_of(pidfd));
        }
        if let Some(master) = &live.terminal
            && live.spec.stdout == Stream::Log
        {
            let _ = live.engine.keeper.log_terminal(live.id, master.as_fd());
        }
    }
}

/// -1 where it has been reaped.
pub(super) fn pid_of(pidfd: &Ours) -> i32 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.and_then(|pid| pid.trim().parse().ok()).unwrap_or(-1)
}
