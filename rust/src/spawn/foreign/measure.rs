//! What a found container uses: its keeper hands its groups over at each look, and this process reads them with rights of its own.

use super::{Foreign, Inner, State};
use crate::cgroup::{Found, LiveStats, Resource};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::spawn::control::{Measured, ended, ours};
use crate::spawn::handle::pid_of;
use crate::spawn::waiting;
use crate::sys::net::Received;
use crate::wire::{Reader, request};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

const EMFILE: i32 = 24;

impl Measured for Foreign {
    /// Nothing is kept: it may be given other groups meanwhile.
    fn stats(&self) -> Result<LiveStats> {
        let (groups, first) = self.measured()?;
        let by_tree = if groups.is_empty() { Some(pid_of(&first)).filter(|pid| *pid > 0) } else { None };
        let mut now = groups.live_stats(by_tree);
        if waiting::readable(&[first.as_fd()], 0) {
            return Err(ended()); // while it was looked at: half of the numbers may be those of nothing
        }
        now.pids = now.pids.map(|tasks| tasks.saturating_sub(ours(self.spec())));
        Ok(now)
    }

    fn pressure_trigger(&self, of: Resource, full: bool, stall: Duration, window: Duration) -> Result<OwnedFd> {
        self.measured()?.0.pressure_trigger(of, full, stall, window)
    }
}

impl Foreign {
    /// Its groups, and the pidfd of its PID 1.
    fn measured(&self) -> Result<(Found, Arc<Ours>)> {
        let mut state = self.attached()?;
        self.inner.ask_for_groups(&mut state)?;
        match (state.groups.take(), state.first.clone()) {
            (Some(groups), Some(first)) => Ok((groups?, first)),
            _ => Err(ended()),
        }
    }
}

impl Inner {
    fn ask_for_groups(&self, state: &mut State) -> Result<()> {
        state.groups = None;
        let Some(line) = state.line.clone() else { return Ok(()) };
        self.send(&line, &[request::MEASURE])?;
        self.await_answer(state, |state| state.groups.is_some() || state.finished.is_some())
    }

    /// Which of the parents each lies in stands in the message.
    pub(super) fn groups_of(&self, mut from: Reader<'_>, received: &Received, fds: Vec<OwnedFd>) -> Result<Found> {
        let uncharged = from.u64().unwrap_or_default();
        if received.truncated || from.rest().len() != fds.len() {
            return Err(Error::setup("receive the groups of the container", EMFILE));
        }
        Found::of(self.basis.seats, from.rest().iter().copied().zip(fds).collect(), uncharged)
    }
}
