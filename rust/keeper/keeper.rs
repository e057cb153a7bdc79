//! The keeper's loop: requests of its one host, deaths, timers, clean-up. Never blocks on a container.

use crate::account::{last_words, measure_upper, spent_cpu_time};
use crate::cache::Cache;
use crate::container::{Container, NEVER, Table};
use crate::launch::{self, Failure, at, launch};
use crate::oom;
use crate::pid1;
use crate::plan;
use crate::prelude::Prelude;
use crate::remove;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::net::{self, Credentials, Received};
use crate::sys::process;
use crate::sys::{Errno, Result, memory};
use crate::wire::{self, Ended, Fixed, Reader, Write, cause, flag, outcome, phase, record, request, step};

/// Where the host put our descriptors.
const CONTROL: i32 = 3;
const HOST: i32 = 4;
pub const PLACES_MAX: usize = 16;
/// One host has one store, or a few where it changes its environment.
pub const UPPERS_MAX: usize = 8;
/// Cached layers are let go after this long without work.
const IDLE_MS: i32 = 1000;
/// Nanoseconds for PID 1 to end everything inside.
const GRACE: u64 = 500_000_000;

/// What an id without a mapping reads as (/proc/sys/kernel/overflowuid, which nobody changes).
const OVERFLOW_ID: u32 = 65534;

const KIND_CONTROL: u64 = 0;
const KIND_HOST: u64 = 1;
const KIND_DEATH: u64 = 2;
const KIND_MESSAGE: u64 = 3;
const KIND_OOM: u64 = 4;
const KIND_PRELUDE: u64 = 5;

pub struct Keeper {
    epoll: Fd,
    host: Credentials,
    rootless: bool,
    places: [i32; PLACES_MAX],
    /// Directories of writable layers on the disk.
    uppers: [i32; UPPERS_MAX],
    table: &'static mut Table,
    cache: &'static mut Cache,
    prelude: Prelude,
    message: &'static mut [u8],
    report: Fixed<{ wire::EVIDENCE_MAX + 512 }>,
}

pub fn serve() -> i32 {
    match start() {
        Ok(mut keeper) => keeper.run(),
        Err(errno) => errno.0,
    }
}

fn start() -> Result<Keeper> {
    // A plain user's is so from its exec on, unless the program came from a file that can be read.
    let _ = process::prctl(PR_SET_DUMPABLE, 0, 0);
    let _ = process::set_name(c"pycontainer");
    let _ = process::set_signal_mask(u64::MAX); // nothing but SIGKILL ends a keeper before its host
    process::default_signals();
    let _ = raise_file_limit();
    fs::umask(0);
    let epoll = process::epoll_create()?;
    process::epoll_add(epoll.raw(), CONTROL, EPOLLIN, KIND_CONTROL)?;
    process::epoll_add(epoll.raw(), HOST, EPOLLIN, KIND_HOST)?;
    let mut keeper = Keeper {
        epoll,
        host: Credentials::default(),
        rootless: false,
        places: [-1; PLACES_MAX],
        uppers: [-1; UPPERS_MAX],
        table: Table::create()?,
        cache: Cache::create()?,
        prelude: Prelude::none(),
        message: memory::map_bytes(wire::MESSAGE_MAX)?,
        report: Fixed::new(),
    };
    keeper.greet()?;
    Ok(keeper)
}

fn raise_file_limit() -> Result<()> {
    const RLIMIT_NOFILE: u32 = 7;
    let (_, hard) = process::getrlimit(RLIMIT_NOFILE)?;
    process::setrlimit(RLIMIT_NOFILE, hard, hard)
}

impl Keeper {
    /// The first message says whom we serve, and where the host's groups and directories are made.
    fn greet(&mut self) -> Result<()> {
        let received = net::receive(CONTROL, self.message, 0)?;
        let sender = received.sender.ok_or(Errno::PROTO)?;
        let mut from = Reader::new(&self.message[..received.length]);
        let kind = from.u8().ok_or(Errno::PROTO)?;
        let mode = from.u8().ok_or(Errno::PROTO)?;
        if kind != request::HELLO || received.fd_count > PLACES_MAX {
            return Err(Errno::PROTO);
        }
        self.host = sender;
        if mode != 0 {
            // The kernel tells a sender's real ids in our user namespace, where the host's effective ones are about to be id 0.
            self.host.uid = if sender.uid == process::geteuid() { 0 } else { OVERFLOW_ID };
            self.host.gid = if sender.gid == process::getegid() { 0 } else { OVERFLOW_ID };
        }
        self.places[..received.fd_count].copy_from_slice(&received.fds[..received.fd_count]);
        self.rootless = mode != 0;
        let ready = if self.rootless { crate::rootless::enter(&mut from) } else { become_privileged() };
        let mut answer = Fixed::<16>::new();
        answer.put_u8(record::READY);
        let (step, errno) = ready.err().map_or((0, 0), |(step, errno)| (step, errno.0));
        answer.put_u16(step);
        answer.put_i32(errno);
        net::send(CONTROL, answer.bytes(), &[], 0)?;
        if errno == 0 { Ok(()) } else { Err(Errno(errno)) }
    }

    fn run(&mut self) -> i32 {
        loop {
            let event = process::epoll_wait(self.epoll.raw(), self.timeout());
            match event {
                Ok(Some((data, _))) => {
                    if !self.handle(data & 7, (data >> 3) as usize) {
                        self.end_all();
                        return 0;
                    }
                }
                Ok(None) if self.table.count == 0 => self.cache.drop_layers(),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return errno.0,
            }
            self.check_timers();
        }
    }

    fn timeout(&mut self) -> i32 {
        let next = self.table.live().map(|c| c.next_moment()).min().unwrap_or(NEVER);
        if next != NEVER {
            return next.saturating_sub(process::now()).div_ceil(1_000_000).min(i32::MAX as u64) as i32;
        }
        if self.table.count == 0 && !self.cache.is_empty() { IDLE_MS } else { -1 }
    }

    /// False where the host is gone.
    fn handle(&mut self, kind: u64, index: usize) -> bool {
        match kind {
            KIND_CONTROL => return self.serve_request(),
            KIND_HOST => return false,
            KIND_DEATH => self.bury(index),
            KIND_MESSAGE => self.hear(index),
            KIND_PRELUDE => self.prelude.reap(),
            KIND_OOM => {
                if let Some(container) = self.table.get(index) {
                    oom::alarm(container, process::now());
                }
            }
            _ => {}
        }
        true
    }

    fn serve_request(&mut self) -> bool {
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
            Some(request::ATTACH_SOON) => self.attach_soon(received),
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
        let Some(plan) = plan::read(bytes, received) else { return };
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
                if let Some(index) = index {
                    self.forget(index);
                }
            }
        }
    }

    /// Cached layers are only a convenience: where they took the last descriptors, the container comes first.
    fn launch(&mut self, plan: &plan::Plan<'_>, index: usize) -> launch::Outcome<()> {
        let mut launched = launch(plan, self.cache, self.rootless, index);
        if matches!(&launched, Err(failure) if failure.errno == Errno::MFILE) && !self.cache.is_empty() {
            self.cache.drop_layers();
            launched = launch(plan, self.cache, self.rootless, index);
        }
        let launched = launched?;
        let Some(container) = self.table.get(index) else { return Ok(()) };
        container.pid = launched.pid;
        container.pidfd = launched.pidfd.release();
        container.control = launched.control.release();
        container.upper = launched.upper;
        container.oom_event = plan.fds.oom_event;
        self.watch(index).map_err(|errno| {
            // One whose end would go unnoticed is not started.
            if let Some(container) = self.table.get(index) {
                launch::abandon(container.pidfd, container.pid);
                container.oom_event = -1; // still the message's
            }
            at(phase::KEEPER, step::SOCKET)(errno)
        })
    }

    fn watch(&mut self, index: usize) -> Result<()> {
        let container = self.table.get(index).ok_or(Errno::BADF)?;
        let add = |fd, events, kind| process::epoll_add(self.epoll.raw(), fd, events, kind | (index as u64) << 3);
        add(container.pidfd, EPOLLIN, KIND_DEATH)?;
        if container.flags & flag::PID1 != 0 {
            // No event but its end, which exec brings: PID 1's last message comes before.
            add(container.control, 0, KIND_MESSAGE)?;
        } else if container.flags & flag::REPORT_START != 0 {
            add(container.control, EPOLLIN, KIND_MESSAGE)?;
        }
        if container.oom_event >= 0 {
            add(container.oom_event, EPOLLIN, KIND_OOM)?;
        }
        Ok(())
    }

    /// Out of epoll first: a child just cloned may for a moment hold copies, and a closed descriptor that has copies is still
    /// watched, under an index that somebody else has by then.
    fn forget(&mut self, index: usize) {
        let Some(container) = self.table.get(index) else { return };
        for fd in [container.pidfd, container.control, container.oom_event] {
            if fd >= 0 {
                process::epoll_remove(self.epoll.raw(), fd);
            }
        }
        self.table.remove(index);
    }

    /// Only a convenience: the attach itself waits where this fails.
    fn attach_soon(&mut self, received: &Received) {
        if received.fd_count == 1
            && let Ok(Some(child)) = self.prelude.begin(received.fds[0])
            && process::epoll_add(self.epoll.raw(), child, EPOLLIN, KIND_PRELUDE).is_err()
        {
            self.prelude.reap();
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
        if let Some(free) = self.uppers.iter_mut().find(|fd| **fd < 0) {
            *free = core::mem::replace(&mut received.fds[0], -1);
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

    /// The first cause counts. PID 1 of ours is asked to end everything and to reap it: what dies with it uncollected is in nobody's
    /// rusage. Where that is impossible, or takes too long, its death ends its namespace, or the group's kill file does.
    fn kill(&mut self, index: usize, why: u8) {
        let Some(container) = self.table.get(index) else { return };
        if container.killed {
            return;
        }
        container.killed = true;
        container.cause = why;
        let asked = container.own_pids
            && container.cgroup_kill < 0
            && net::send(container.control, &pid1::END_ALL.to_le_bytes(), &[], MSG_DONTWAIT).is_ok();
        if asked {
            container.kill_at = process::now() + GRACE;
        } else {
            kill_now(container);
        }
        if container.oom_event >= 0 {
            process::epoll_remove(self.epoll.raw(), container.oom_event);
        }
    }

    /// The command runs: PID 1 said so, or became it (its end of the socket closed by exec).
    fn hear(&mut self, index: usize) {
        let Some(container) = self.table.get(index) else { return };
        process::epoll_remove(self.epoll.raw(), container.control);
        if container.flags & flag::PID1 != 0 {
            let mut record = Fixed::<{ wire::EVIDENCE_MAX }>::new();
            record.put_u8(record::EVIDENCE);
            crate::evidence::of_process(container.pid, container.flags, &mut record);
            let _ = net::send(container.report, record.bytes(), &[], MSG_DONTWAIT);
        }
        container.start(process::now());
    }

    fn check_timers(&mut self) {
        if self.table.count == 0 {
            return;
        }
        let now = process::now();
        for index in 0..self.table.top {
            let Some(container) = self.table.get(index) else { continue };
            if container.next_moment() > now {
                continue;
            }
            if container.killed {
                container.kill_at = NEVER;
                kill_now(container);
                continue;
            }
            if container.next_oom_check <= now && oom::look(container, now) {
                self.kill(index, cause::MEMORY);
                continue;
            }
            if container.started == 0 {
                continue;
            }
            let why = if container.timeout <= now {
                cause::TIMEOUT
            } else if container.wall_time <= now {
                cause::WALL_TIME
            } else if spent_cpu_time(container, now) {
                cause::CPU_TIME
            } else {
                continue;
            };
            self.kill(index, why);
        }
    }

    /// PID 1 is dead, and with it everything inside: say how it went, and forget it.
    fn bury(&mut self, index: usize) {
        let Some(container) = self.table.get(index) else { return };
        // Without waiting: whatever brought us here, the keeper never blocks on a container.
        let Ok((1.., status, usage)) = process::wait4(container.pid, WALL | WNOHANG) else { return };
        if container.cause == cause::NONE && oom::lost_one(container) {
            // The end was quicker than our look, but not than the killer.
            container.cause = cause::MEMORY;
        }
        let micros = |time: [i64; 2]| time[0] as u64 * 1_000_000 + time[1] as u64;
        let mut ended = Ended {
            outcome: outcome::DIED,
            cause: container.cause,
            status,
            started: container.started,
            ended: process::now(),
            user: micros(usage.user),
            system: micros(usage.system),
            max_rss_kib: usage.max_rss_kib as u64,
            blocks_in: usage.blocks_in as u64,
            blocks_out: usage.blocks_out as u64,
            ..Ended::default()
        };
        measure_upper(container.upper, &mut ended);
        let length = last_words(container, self.message, &mut ended);
        self.report.clear();
        self.report.put_u8(record::ENDED);
        ended.write(&mut self.report);
        self.report.put_bytes(&self.message[..length]);
        let _ = net::send(container.report, self.report.bytes(), &[], MSG_DONTWAIT);
        self.forget(index);
    }

    /// The host is gone: nothing of its containers stays.
    fn end_all(&mut self) {
        for index in 0..self.table.top {
            let Some(container) = self.table.get(index) else { continue };
            kill_now(container);
        }
        for index in 0..self.table.top {
            let Some(container) = self.table.get(index) else { continue };
            let _ = process::wait4(container.pid, WALL);
        }
        remove::ours(&self.places, &self.uppers);
    }
}

pub fn become_privileged() -> core::result::Result<(), (u16, Errno)> {
    process::prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0).map_err(|errno| (step::RANGE, errno))?;
    let _ = process::prctl(PR_SET_DUMPABLE, 0, 0);
    Ok(())
}

/// Takes the descriptors that a live container needs out of the message, which loses them.
fn keep_fds(container: &mut Container, plan: &plan::Plan<'_>, received: &mut Received) {
    container.report = plan.fds.report;
    container.oom_event = plan.fds.oom_event;
    container.oom_control = plan.fds.oom_control;
    container.cpu_usage = plan.fds.cpu_usage;
    container.cgroup_kill = plan.fds.cgroup_kill;
    let fds = &plan.fds;
    let kept = [fds.report, fds.oom_event, fds.oom_control, fds.cpu_usage, fds.cgroup_kill];
    received.fds[..received.fd_count].iter_mut().filter(|fd| kept.contains(fd)).for_each(|fd| *fd = -1);
}

fn kill_now(container: &Container) {
    if container.cgroup_kill >= 0 {
        let _ = fs::write(container.cgroup_kill, b"1");
    }
    let _ = process::pidfd_send_signal(container.pidfd, SIGKILL);
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
