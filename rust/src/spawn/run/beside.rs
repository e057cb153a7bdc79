//! A container that runs beside its caller: until it runs, and each look at it afterwards. Nothing here waits for its end.

use super::Live;
use crate::cgroup::{Counters, Groups};
use crate::error::Result;
use crate::spawn::handle::ENDING;
use crate::spawn::keeper::died;
use crate::spawn::outcome::{Finished, Seen};
use crate::sys;
use crate::wire::Ended;

impl Live {
    /// Whether the command runs (or waits to be let go), or has ended. Hears what there is to hear, and waits for nothing.
    pub(in crate::spawn) fn under_way(&mut self) -> Result<bool> {
        loop {
            // A command that is PID 1 itself: the keeper saw it executed.
            let executed = self.spec.pid1 && !self.evidence.status.is_empty();
            if executed && self.runs.is_none() {
                self.runs = Some((0, self.first.take().map(std::sync::Arc::new)));
            }
            if self.ended.is_some() || self.runs.is_some() || self.holds {
                return Ok(true);
            }
            let alive = self.engine.keeper.is_alive();
            match self.hear()? {
                true => {}
                false if alive => return Ok(false),
                false => return Err(died()),
            }
        }
    }

    /// Hears what there is to hear; what it came to, if it has ended. `asked`: signals by which its end was asked for.
    pub(in crate::spawn) fn look(&mut self, called: u64, asked: u64) -> Option<Result<Finished>> {
        let heard = loop {
            match self.hear() {
                Ok(true) if self.ended.is_none() => {}
                Ok(true) => break Ok(()),
                Ok(false) if self.engine.keeper.is_alive() => return None,
                Ok(false) => break Err(died()),
                Err(error) => break Err(error),
            }
        };
        let finished = self.conclude(called, heard);
        Some(finished.map(|finished| self.judged(finished, asked)))
    }

    /// What only this side knows of its end.
    fn judged(&self, mut finished: Finished, asked: u64) -> Finished {
        finished.seen.asked = asked | (finished.ended.asked & ENDING);
        if let Some(log) = &self.log {
            let cut = [0, 1].map(|stream| log.dropped(stream) > 0);
            finished.truncated = cut;
            finished.seen.too_much_output = self.spec.limits.output_kills && cut.contains(&true);
        }
        finished
    }

    /// As if it had ended now, with nothing counted.
    pub(in crate::spawn) fn so_far(&self) -> Finished {
        Finished {
            ended: Ended { started: self.runs.as_ref().map_or(0, |(started, _)| *started), ..Ended::default() },
            counters: Counters::default(),
            evidence: self.evidence.clone(),
            held: self.groups.as_ref().map(Groups::verified).unwrap_or_default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: [false; 2],
            seen: Seen::default(),
            upper_in_memory: !self.prepared.upper_is_on_disk(),
            copied: self.prepared.copied(),
            served: self.prepared.served(),
            bound: self.prepared.bound,
            rootless: !self.engine.is_root(),
            group_paths: self.groups.as_ref().map(Groups::paths).unwrap_or_default(),
            called: 0,
            answered: sys::process::now(),
        }
    }
}
