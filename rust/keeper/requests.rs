//! What the host asks of its keeper: each message checked, decoded, carried out. Nobody else is served.

use crate::container::Container;
use crate::keeper::{
    CONTROL, KIND_BITS, KIND_DEATH, KIND_MESSAGE, KIND_OOM, KIND_OUTPUT, KIND_PORTER, KIND_PRELUDE, Keeper,
};
use crate::launch::{self, Failure, at, launch};
use crate::plan;
use crate::remove;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::net::{self, Received};
use crate::sys::process;
use crate::sys::{Errno, Result, memory};
use crate::wire::{Ended, Fixed, Reader, Write, flag, outcome, phase, record, request, role, step};

impl Keeper {
    /// False where the host is gone.
    pub fn serve_request(&mut self) -> bool {
        let message = core::mem::take(&mut self.message);
        let mut received = net::receive(CONTROL, message, MSG_DONTWAIT);
        if let Ok(received) = &mut received
            // A forked copy of the host, or a host that changed its ids, has no power here.
            && received.sender == Some(self.host)
        {
            self.dispatch(&message[..received.length], received);
        }
        self.message = message;
        let received = match received {
            Ok(received) if received.length > 0 => received,
            Err(Errno::AGAIN | Errno::INTR) => return true,
            _ => return false, // the host's end is closed: it ended, or became another program
        };
        received.fds[..received.fd_count].iter().filter(|fd| **fd >= 0).for_each(|fd| fs::close(*fd));
        true
    }

    fn dispatch(&mut self, message: &[u8], received: &mut Received) {
        let mut from = Reader::new(message);
        match from.u8() {
            Some(request::SPAWN | request::SPAWN_FILE) if received.truncated => self.refuse_truncated(received),
            Some(request::SPAWN) => self.spawn(from.rest(), received),
            Some(request::SPAWN_FILE) => self.spawn_from_file(from, received),
            Some(request::KILL) => self.kill_request(from),
            Some(request::SKELETON) => skeleton(from, received),
            Some(request::UPPERS) => self.keep_uppers(received),
            Some(request::ATTACH_SOON) if received.fd_count == 1 => {
                self.prelude.begin(self.epoll.raw(), KIND_PRELUDE, received.fds[0]);
            }
            Some(request::GROUPS) => self.take_groups(from, received),
            Some(request::UPDATE) => self.update(from, received),
            Some(request::FILES) if received.fd_count == 1 => self.serve_files(from, received.fds[0]),
            Some(request::STEWARD) if received.fd_count == 1 => self.start_steward(received.fds[0]),
            Some(request::FORGET) => from.u64().map_or((), |id| self.forget_files(id)),
            Some(request::FROZEN) => self.freeze(from),
            Some(request::SIGNAL) => self.signal(from),
            Some(request::SUBSCRIBE) if received.fd_count == 1 => self.subscribe(from, received),
            Some(request::KEEP_LOG) => self.keep_log(from, &mut received.fds[..received.fd_count]),
            Some(request::SETTLE_LOG) => self.settle_log(from),
            Some(request::LISTEN) if received.fd_count == 2 => self.listen(received),
            Some(request::TERMINAL) if received.fd_count == 1 => self.log_terminal(from, received),
            Some(request::REMOVE) => from.text().map_or((), |name| remove::named(name, &self.places, &self.uppers)),
            _ => {}
        }
    }

    /// No room for all descriptors of a plan: the first one is the report, and tells.
    fn refuse_truncated(&mut self, received: &Received) {
        self.cache.drop_layers();
        if received.fd_count > 0 {
            self.refuse(received.fds[0], at(phase::KEEPER, step::TOO_MANY)(Errno::MFILE));
        }
    }

    /// A plan too long for a message: its last descriptor is the memfd that holds it.
    fn spawn_from_file(&mut self, mut from: Reader<'_>, received: &mut Received) {
        let Some(length) = from.u64() else { return };
        let Some(index) = received.fd_count.checked_sub(1) else { return };
        let map = memory::FileMap::of(received.fds[index], length as usize);
        fs::close(received.fds[index]);
        received.fd_count = index;
        match map {
            Ok(map) => self.spawn(map.bytes(), received),
            Err(errno) if index > 0 => self.refuse(received.fds[0], at(phase::KEEPER, step::MEMORY)(errno)),
            Err(_) => {}
        }
    }

    fn spawn(&mut self, bytes: &[u8], received: &mut Received) {
        let Some(plan) = plan::read(bytes, received.fds, received.fd_count) else { return };
        let launched = match self.table.add(&plan.head) {
            Ok(index) => self.launch(&plan, index).map(|()| index).map_err(|failure| (Some(index), failure)),
            Err(errno) => Err((None, at(phase::KEEPER, step::TOO_MANY)(errno))),
        };
        match launched {
            Ok(index) => {
                if let Some(container) = self.table.get(index) {
                    keep_fds(container, &plan, received);
                }
            }
            Err((index, failure)) => {
                self.refuse(plan.fds.report, failure);
                self.forget_files(plan.head.id);
                if let Some(index) = index {
                    self.forget(index);
                }
            }
        }
    }

    /// Cached layers are only a convenience: where they took the last descriptors, the container comes first.
    fn launch(&mut self, plan: &plan::Plan<'_>, index: usize) -> launch::Outcome<()> {
        let mut launched = launch(plan, self.cache, self.rootless, index, false);
        if matches!(&launched, Err(failure) if failure.errno == Errno::MFILE) && !self.cache.is_empty() {
            self.cache.drop_layers();
            launched = launch(plan, self.cache, self.rootless, index, true);
        }
        let launched = launched?;
        let Some(container) = self.table.get(index) else { return Ok(()) };
        container.pid = launched.pid;
        container.pidfd = launched.pidfd.release();
        container.control = launched.control.release();
        container.upper = launched.upper;
        container.porter = launched.porter.0;
        container.porter_fd = launched.porter.1.release();
        container.oom_event = plan.fds.oom_event;
        container.log.begin(plan.fds.log, plan.fds.log_pipes);
        container.served = launched.daemon.pid > 0;
        let kept = self.keep_daemon(plan.head.id, launched.daemon).and_then(|()| self.keep_files(launched.files));
        kept.and_then(|()| self.watch(index)).map_err(|errno| {
            // One whose end would go unnoticed is not started.
            if let Some(container) = self.table.get(index) {
                launch::abandon(container.pidfd, container.pid);
                container.oom_event = -1; // still the message's
                container.log.begin(-1, [-1; 2]);
            }
            at(phase::KEEPER, step::SOCKET)(errno)
        })
    }

    /// What there is to watch of groups that were made after the container: its command waits for them.
    fn take_groups(&mut self, mut from: Reader<'_>, received: &mut Received) {
        let Some(index) = from.u64().and_then(|id| self.table.index_of(id)) else { return };
        let Some(container) = self.table.get(index) else { return };
        for fd in &mut received.fds[..received.fd_count] {
            let place = match from.u8() {
                Some(role::OOM_EVENT) => &mut container.oom_event,
                Some(role::OOM_CONTROL) => &mut container.oom_control,
                Some(role::CPU_USAGE) => &mut container.cpu_usage,
                _ => continue,
            };
            *place = core::mem::replace(fd, -1);
        }
        let failure = match self.watch_oom(index) {
            _ if received.truncated => at(phase::KEEPER, step::TOO_MANY)(Errno::MFILE),
            Err(errno) => at(phase::KEEPER, step::SOCKET)(errno),
            Ok(()) => return,
        };
        let Some(container) = self.table.get(index) else { return };
        launch::abandon(container.pidfd, container.pid);
        let report = container.report;
        self.refuse(report, failure);
        self.forget(index);
    }

    pub fn watch_oom(&mut self, index: usize) -> Result<()> {
        match self.table.get(index) {
            Some(container) if container.oom_event >= 0 && !container.killed => process::epoll_add(
                self.epoll.raw(),
                container.oom_event,
                EPOLLIN,
                KIND_OOM | (index as u64) << KIND_BITS,
            ),
            _ => Ok(()),
        }
    }

    fn watch(&mut self, index: usize) -> Result<()> {
        let container = self.table.get(index).ok_or(Errno::BADF)?;
        let add =
            |fd, events, kind| process::epoll_add(self.epoll.raw(), fd, events, kind | (index as u64) << KIND_BITS);
        add(container.pidfd, EPOLLIN, KIND_DEATH)?;
        if container.porter > 0 {
            add(container.porter_fd, EPOLLIN, KIND_PORTER)?;
        }
        if container.flags & flag::PID1 != 0 {
            // No event but its end, which exec brings: PID 1's last message comes before.
            add(container.control, 0, KIND_MESSAGE)?;
        } else if container.flags & flag::REPORT_START != 0 {
            add(container.control, EPOLLIN, KIND_MESSAGE)?;
        }
        for (stream, pipe) in container.log.pipes.into_iter().enumerate().filter(|(_, pipe)| *pipe >= 0) {
            add(pipe, EPOLLIN, KIND_OUTPUT + stream as u64)?;
        }
        self.watch_oom(index)
    }

    /// One that was asked to end and was stopped before it did is not waited for.
    fn freeze(&mut self, mut from: Reader<'_>) {
        let Some((id, frozen)) = from.u64().zip(from.u8()) else { return };
        let Some(index) = self.table.index_of(id) else { return };
        let Some(container) = self.table.get(index) else { return };
        container.frozen = frozen != 0;
        if container.frozen && container.killed {
            container.kill_at = container.kill_at.min(process::now());
        }
    }

    /// For the command: through PID 1, or directly where the command is that.
    fn signal(&mut self, mut from: Reader<'_>) {
        let Some((id, signal)) = from.u64().zip(from.i32()) else { return };
        if let Some(index) = self.table.index_of(id) {
            self.send_signal(index, signal);
        }
    }

    pub fn send_signal(&mut self, index: usize, signal: i32) {
        let Some(container) = self.table.get(index) else { return };
        container.asked |= 1u64.checked_shl(signal as u32).unwrap_or(0);
        let _ = match container.flags & flag::PID1 {
            0 => net::send(container.control, &signal.to_le_bytes(), &[], MSG_DONTWAIT).map(drop),
            _ => process::pidfd_send_signal(container.pidfd, signal),
        };
    }

    fn subscribe(&mut self, mut from: Reader<'_>, received: &mut Received) {
        let Some(id) = from.u64() else { return };
        if let Some(index) = self.table.index_of(id) {
            self.add_listener(index, received);
        } else {
            self.listen_to_log(id, &mut received.fds[0]);
        }
    }

    pub fn add_listener(&mut self, index: usize, received: &mut Received) {
        if !self.listeners.add(received.fds[0], index) {
            return;
        }
        received.fds[0] = -1;
        if let Some(container) = self.table.get(index) {
            container.log.listeners = self.listeners.tell(index); // something may have come since it was looked at
        }
    }

    fn log_terminal(&mut self, mut from: Reader<'_>, received: &mut Received) {
        let Some(index) = from.u64().and_then(|id| self.table.index_of(id)) else { return };
        let Some(container) = self.table.get(index) else { return };
        let event = KIND_OUTPUT | (index as u64) << KIND_BITS;
        if container.log.is_open() && process::epoll_add(self.epoll.raw(), received.fds[0], EPOLLIN, event).is_ok() {
            container.log.pipes[0] = core::mem::replace(&mut received.fds[0], -1);
        }
    }

    /// The host is about to make writable layers in this directory: what is ours there goes with us.
    fn keep_uppers(&mut self, received: &mut Received) {
        if received.fd_count != 1 {
            return;
        }
        let identity = |fd| fs::fstat(fd).map(|seen| (seen.dev(), seen.ino));
        let Ok(new) = identity(received.fds[0]) else { return };
        let known = |fd: &i32| *fd >= 0 && identity(*fd) == Ok(new);
        if self.uppers.iter().any(known) {
            return;
        }
        // Else the place of one in which nothing of ours is left: a process may have had many stores in its life.
        let prefix = self.prefix.bytes();
        let unused = self.uppers.iter().position(|fd| *fd < 0);
        let idle = || self.uppers.iter().position(|fd| !remove::has_ours(prefix, *fd));
        if let Some(free) = unused.or_else(idle) {
            core::mem::swap(&mut self.uppers[free], &mut received.fds[0]);
        }
    }

    fn refuse(&mut self, report: i32, failure: Failure) {
        let ended = Ended {
            outcome: outcome::FAILED,
            phase: failure.phase,
            step: failure.step,
            errno: failure.errno.0,
            ..Ended::default()
        };
        self.report.clear();
        self.report.put_u8(record::ENDED);
        ended.write(&mut self.report);
        let _ = net::send(report, self.report.bytes(), &[], MSG_DONTWAIT);
    }

    fn kill_request(&mut self, mut from: Reader<'_>) {
        let Some((id, why)) = from.u64().zip(from.u8()) else { return };
        if let Some(index) = self.table.index_of(id) {
            self.kill(index, why);
        }
    }
}

/// Takes the descriptors that a live container needs out of the message, which loses them.
fn keep_fds(container: &mut Container, plan: &plan::Plan<'_>, received: &mut Received) {
    container.report = plan.fds.report;
    container.oom_event = plan.fds.oom_event;
    container.oom_control = plan.fds.oom_control;
    container.cpu_usage = plan.fds.cpu_usage;
    container.cgroup_kill = plan.fds.cgroup_kill;
    let fds = &plan.fds;
    let [stdout, stderr] = fds.log_pipes;
    let kept = [fds.report, fds.oom_event, fds.oom_control, fds.cpu_usage, fds.cgroup_kill, fds.log, stdout, stderr];
    received.fds[..received.fd_count].iter_mut().filter(|fd| kept.contains(fd)).for_each(|fd| *fd = -1);
}

/// An empty tmpfs for the host to fill with the files of `Image.host()`: held by descriptors only.
fn skeleton(mut from: Reader<'_>, received: &Received) {
    if received.fd_count != 1 {
        return;
    }
    let made = crate::outside::tmpfs(&mut from);
    let mut answer = Fixed::<16>::new();
    answer.put_u8(record::SKELETON);
    answer.put_i32(made.as_ref().err().map_or(0, |errno| errno.0));
    let fds = made.as_ref().map_or(-1, Fd::raw);
    let fds: &[i32] = if fds < 0 { &[] } else { &[fds] };
    let _ = net::send(received.fds[0], answer.bytes(), fds, MSG_DONTWAIT);
}
