//! What a container came to, and the end of all that was made for it, whatever went wrong.

use super::Live;
use crate::cgroup::Groups;
use crate::error::{Error, Result};
use crate::spawn::explain;
use crate::spawn::layer::Layer;
use crate::spawn::order::remove_groups;
use crate::spawn::outcome::{Finished, Seen};
use crate::spawn::plan;
use crate::sys;
use crate::wire::{Ended, cause, outcome};

impl Live {
    pub(super) fn finish(mut self, called: u64, waited: Result<()>) -> Result<Finished> {
        if self.check_owner().is_err() {
            // Its descriptors were closed at the fork: the numbers are somebody else's now. Nothing of the parent's is touched.
            std::mem::forget(self);
            return Err(waited.err().unwrap_or_else(crate::spawn::keeper::died));
        }
        let finished = self.conclude(called, waited);
        self.release();
        finished
    }

    /// Counters after the reap and before the rmdir. The groups are gone afterwards.
    pub(in crate::spawn) fn conclude(&mut self, called: u64, waited: Result<()>) -> Result<Finished> {
        let given_up = waited.is_err() && self.ended.is_none();
        self.buried = !given_up || (!self.forsaken && self.give_up()) || self.end_alone();
        let counters = self.counters.take().or_else(|| self.groups.as_ref().map(Groups::counters));
        let mut counters = counters.unwrap_or_default();
        // Our own PID 1 is none of the container's tasks.
        counters.pids_peak = counters.pids_peak.map(|peak| peak.saturating_sub(u64::from(!self.spec.pid1)));
        let held = self.held.take().or_else(|| self.groups.as_ref().map(Groups::verified));
        let mut held = held.unwrap_or_default();
        held.append(&mut self.prepared.degraded);
        let group_paths = self.groups.as_ref().map(Groups::paths).unwrap_or_default();
        if let Some(groups) = self.groups.take() {
            self.engine.attached(&groups, self.ended.map_or(0, |ended| ended.started));
            remove_groups(&self.engine, groups);
        }
        waited?;
        let ended = self.ended.ok_or_else(crate::spawn::keeper::died)?;
        self.has_run(&ended, counters.oom_kills.unwrap_or(0) > 0)?;
        let [stdout, stderr] = std::mem::take(&mut self.streams.captured);
        let limits = &self.spec.limits;
        let seen = Seen {
            too_much_output: limits.output_kills && (stdout.truncated || stderr.truncated),
            cpu_rlimit: plan::cpu_time_by_rlimit(&self.spec),
            asked: 0,
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
            upper_in_memory: !self.prepared.upper_is_on_disk(),
            copied: self.prepared.copied(),
            served: self.prepared.served(),
            bound: self.prepared.bound,
            rootless: !self.engine.is_root(),
            group_paths,
            called,
            answered: sys::process::now(),
        })
    }

    /// An error where it ended before its command began.
    fn has_run(&self, ended: &Ended, out_of_memory: bool) -> Result<()> {
        let died = ended.outcome == outcome::DIED;
        if died && ended.status & 0x7f == 0 {
            // Only PID 1 itself can have exited so; the command's status comes in a record.
            return Err(Error::setup("set up the container: its first process ended without a record", 71));
        }
        if ended.outcome == outcome::FAILED {
            return Err(self.prepared.explain(&self.spec, ended));
        }
        let killed_by_us = !matches!(ended.cause, cause::NONE | cause::MEMORY);
        // Of a command that is PID 1 the keeper's evidence may be that of the one that was killed on its way to exec.
        let never_ran = self.spec.pid1 || self.evidence.status.is_empty();
        if died && never_ran && !killed_by_us {
            return Err(explain::died_in_set_up(ended, out_of_memory));
        }
        Ok(())
    }

    /// The writable layer, where it is on the disk, and whether its container may still be at it for a moment.
    pub(in crate::spawn) fn take_layer(&mut self) -> Option<(Layer, bool)> {
        if self.spec.handle {
            self.engine.keeper.forget(self.id);
        }
        self.prepared.take_layer().map(|layer| (layer, !self.buried))
    }

    /// The writable layer and the ids.
    pub(in crate::spawn) fn release(&mut self) {
        if let Some((layer, dying)) = self.take_layer() {
            layer.remove(&self.engine, dying);
        }
        // Ids that may still be in use are not given back: PID 1 holds their lock as long as it lives, or this process does for it.
        match (self.range.take(), self.engine.pool()) {
            (Some(range), Some(pool)) if self.buried => pool.give_back(range),
            (Some(range), _) if self.spec.pid1 => std::mem::forget(range),
            _ => {}
        }
    }
}
