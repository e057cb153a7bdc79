//! What goes over the two sockets of a found container, to its keeper and to its PID 1, and what is learnt from them.

use super::{ANSWER_WITHIN, Inner, State, name_of, unseen};
use crate::cgroup::Counters;
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::spawn::handle::{ENDING, pid_of};
use crate::spawn::log::Log;
use crate::spawn::outcome::{Evidence, Finished, Seen};
use crate::spawn::{plan, registry, waiting};
use crate::sys;
use crate::sys::constants::MSG_DONTWAIT;
use crate::sys::net::Received;
use crate::wire::{self, Ended, Reader, Write, record, request};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

impl Inner {
    pub(super) fn connect(&self, state: &mut State) -> Result<()> {
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

    pub(super) fn send(&self, line: &Ours, message: &[u8]) -> Result<()> {
        match sys::errno::retry(|| sys::net::send(line.as_raw_fd(), message, &[], 0)) {
            Ok(_) => Ok(()),
            Err(errno) if errno.is_closed_end() => Ok(()), // and shows when it is read
            Err(errno) => Err(Error::setup("send to the keeper of the container", errno.0)),
        }
    }

    pub(super) fn await_answer(&self, state: &mut State, answered: impl Fn(&State) -> bool) -> Result<()> {
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
                waiting::readable(&[line.as_fd()], deadline - now);
            }
            registry::wake(&name_of(&self.keeper));
        }
        Err(Error::setup("wait for the keeper of the container: it does not answer", 110))
    }

    pub(super) fn ask_for_errands(&self, state: &mut State) -> Result<()> {
        let Some(line) = state.line.clone().filter(|_| state.errands.is_none() && state.finished.is_none()) else {
            return Ok(());
        };
        state.refused = None;
        self.send(&line, &[request::ERRANDS])?;
        let answered = |state: &State| state.errands.is_some() || state.refused.is_some() || state.finished.is_some();
        self.await_answer(state, answered)
    }

    /// Takes all that the keeper has sent.
    pub(super) fn hear(&self, state: &mut State) {
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
            (Some(record::MEASURED), from) => {
                state.groups = Some(self.groups_of(from, received, fds.by_ref().collect()));
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
    pub(super) fn finished(&self, ended: Ended, evidence: Evidence, truncated: [bool; 2]) -> Finished {
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
            copied: self.basis.copied.then_some(0),
            served: self.basis.served,
            bound: None,
            rootless: self.basis.rootless,
            group_paths: Vec::new(),
            called: ended.started,
            answered: sys::process::now(),
        }
    }
}

/// Takes all that PID 1 has sent.
pub(super) fn hear_first(state: &mut State) {
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
