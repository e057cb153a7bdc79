//! One call's end from outside: the calling thread asks its caller now and then while another one does the work.

use crate::error::{Error, Result};
use crate::image::locks::{Check, interrupted};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How often the caller is asked.
const PERIOD: Duration = Duration::from_millis(50);

#[derive(Default)]
struct State {
    is_set: bool,
    is_over: bool,
    agents: Vec<ureq::Agent>,
}

/// Set once. Whoever sleeps is woken, whoever reads a socket finds it shut.
#[derive(Default)]
pub struct Cancel {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("is_set", &self.is_set()).finish()
    }
}

impl Cancel {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn is_set(&self) -> bool {
        self.state().is_set
    }

    pub fn set(&self) {
        let mut state = self.state();
        state.is_set = true;
        let agents = std::mem::take(&mut state.agents);
        drop(state);
        self.changed.notify_all();
        agents.into_iter().for_each(ureq::Agent::shutdown);
    }

    /// Err where it is set.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(interrupted()) } else { Ok(()) }
    }

    /// Its connections are shut when this is set.
    pub(super) fn watch(&self, agent: &ureq::Agent) -> Result<()> {
        let mut state = self.state();
        if state.is_set {
            return Err(interrupted());
        }
        state.agents.push(agent.clone());
        Ok(())
    }

    pub fn sleep(&self, time: Duration) -> Result<()> {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !state.is_set);
        let is_set = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0.is_set;
        if is_set { Err(interrupted()) } else { Ok(()) }
    }

    /// Until the work is over; false after one period.
    fn wait(&self) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), PERIOD, |state| !state.is_over);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0.is_over
    }
}

/// Tells the one who waits, also where the work panics.
struct Over<'a>(&'a Cancel);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

/// `work` in a thread that ends before this does; `check` in this one.
pub fn supervised<T: Send>(check: Check<'_>, work: impl FnOnce(&Cancel) -> Result<T> + Send) -> Result<T> {
    let cancel = Cancel::default();
    let (cancel, mut stopped) = (&cancel, false);
    let done = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("pycontainer-registry".into()).spawn_scoped(scope, move || {
            let _over = Over(cancel);
            work(cancel)
        });
        let worker = worker.map_err(|error| Error::setup("start a thread", error.raw_os_error().unwrap_or(11)))?;
        while !cancel.wait() {
            if !stopped && check() {
                stopped = true;
                cancel.set();
            }
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if stopped { Err(interrupted()) } else { done }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_comes_back_at_once_and_a_stop_wakes_a_sleeper() {
        let start = Instant::now();
        assert_eq!(supervised(&mut || false, |_| Ok(7)), Ok(7));
        assert!(start.elapsed() < PERIOD);
        let long = supervised(&mut || true, |cancel| cancel.sleep(Duration::from_secs(60)));
        assert_eq!(long, Err(interrupted()));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
