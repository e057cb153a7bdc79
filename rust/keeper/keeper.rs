//! The keeper's loop: requests of its one host, deaths, timers, clean-up. Never blocks on a container.

use crate::account::{self, last_words, measure_upper, spent_cpu_time};
use crate::agents::Agents;
use crate::cache::Cache;
use crate::container::{NEVER, Table};
use crate::daemons::Daemons;
use crate::ends::{kill_group, strike};
use crate::kept::Kept;
use crate::log::Listeners;
use crate::oom;
use crate::pid1;
use crate::porter;
use crate::prelude::Prelude;
use crate::remove;
use crate::scribes::Scribes;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::net::{self, Credentials};
use crate::sys::process;
use crate::sys::{Errno, Result, memory};
use crate::visitors::Visitors;
use crate::wire::{self, Ended, Fixed, Reader, Write, cause, flag, outcome, record, request, step};

/// Where the host put our descriptors.
pub const CONTROL: i32 = 3;
const HOST: i32 = 4;
pub const PLACES_MAX: usize = 16;
/// One host has one store, or a few where it changes its environment.
pub const UPPERS_MAX: usize = 8;
/// Cached layers are let go after this long without work.
const IDLE_MS: i32 = 1000;
/// Nanoseconds for PID 1 to end everything inside.
pub const GRACE: u64 = 500_000_000;

/// What an id without a mapping reads as (/proc/sys/kernel/overflowuid, which nobody changes).
const OVERFLOW_ID: u32 = 65534;

/// What is ready, in the lowest bits of an event; the container's index is above them.
pub const KIND_BITS: u32 = 4;
const KIND_CONTROL: u64 = 0;
const KIND_HOST: u64 = 1;
pub const KIND_DEATH: u64 = 2;
pub const KIND_MESSAGE: u64 = 3;
pub const KIND_OOM: u64 = 4;
pub const KIND_PRELUDE: u64 = 5;
/// stdout's; stderr's is the next one.
pub const KIND_OUTPUT: u64 = 6;
/// Likewise of a command beside the first one.
pub const KIND_SCRIBE: u64 = 9;
/// Somebody wants to come in; one who did has something to say.
pub const KIND_LISTENER: u64 = 13;
pub const KIND_VISITOR: u64 = 14;
pub const KIND_PORTER: u64 = 8;
pub const KIND_AGENT: u64 = 12;
pub const KIND_DAEMON: u64 = 11;

pub struct Keeper {
    pub epoll: Fd,
    pub host: Credentials,
    pub rootless: bool,
    /// The beginning of the names of what the host makes for its containers.
    pub prefix: Fixed<{ remove::PREFIX_MAX }>,
    pub places: [i32; PLACES_MAX],
    /// Directories of writable layers on the disk.
    pub uppers: [i32; UPPERS_MAX],
    pub table: &'static mut Table,
    pub cache: &'static mut Cache,
    pub kept: &'static mut Kept,
    pub agents: &'static mut Agents,
    pub daemons: &'static mut Daemons,
    pub listeners: &'static mut Listeners,
    pub scribes: &'static mut Scribes,
    pub visitors: &'static mut Visitors,
    pub prelude: Prelude,
    pub message: &'static mut [u8],
    pub report: Fixed<{ wire::EVIDENCE_MAX + 512 }>,
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
        prefix: Fixed::new(),
        places: [-1; PLACES_MAX],
        uppers: [-1; UPPERS_MAX],
        table: memory::map_zeroed()?,
        cache: memory::map_zeroed()?,
        kept: memory::map_zeroed()?,
        agents: memory::map_zeroed()?,
        daemons: memory::map_zeroed()?,
        listeners: memory::map_zeroed()?,
        scribes: memory::map_zeroed()?,
        visitors: memory::map_zeroed()?,
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
        let prefix = from.bytes().ok_or(Errno::PROTO)?;
        self.prefix.free().get_mut(..prefix.len()).ok_or(Errno::PROTO)?.copy_from_slice(prefix);
        self.prefix.advance(prefix.len());
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
                    if !self.handle(data & ((1 << KIND_BITS) - 1), (data >> KIND_BITS) as usize) {
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
            KIND_PRELUDE => self.prelude.end(self.epoll.raw()),
            KIND_PORTER => self.bury_porter(index),
            KIND_AGENT => self.agents.reap(self.epoll.raw(), index),
            KIND_DAEMON => self.bury_daemon(index),
            KIND_OOM => {
                if let Some(container) = self.table.get(index) {
                    oom::alarm(container, process::now());
                }
            }
            KIND_LISTENER => self.admit(),
            KIND_VISITOR => self.visit(index),
            KIND_OUTPUT => self.log(index, 0),
            kind if kind == KIND_OUTPUT + 1 => self.log(index, 1),
            KIND_SCRIBE => self.scribble(index, 0),
            kind if kind == KIND_SCRIBE + 1 => self.scribble(index, 1),
            _ => {}
        }
        true
    }

    /// Out of epoll first: a child just cloned may for a moment hold copies, and a closed descriptor that has copies is still
    /// watched, under an index that somebody else has by then.
    pub fn forget(&mut self, index: usize) {
        let Some(container) = self.table.get(index) else { return };
        let (id, [stdout, stderr]) = (container.id, container.log.pipes);
        for fd in [container.pidfd, container.control, container.oom_event, container.porter_fd, stdout, stderr] {
            if fd >= 0 {
                process::epoll_remove(self.epoll.raw(), fd);
            }
        }
        porter::end((container.porter, container.porter_fd));
        self.table.remove(index);
        self.end_daemon(id);
        self.listeners.forget(index);
        self.end_scribes(id);
        self.see_out(index);
    }

    /// The first cause counts. PID 1 of ours is asked to end everything and to reap it: what dies with it uncollected is in nobody's
    /// rusage. Where that is impossible, or takes too long, its death ends its namespace, or the group's kill file does.
    pub fn kill(&mut self, index: usize, why: u8) {
        let Some(container) = self.table.get(index) else { return };
        if container.killed {
            return;
        }
        container.killed = true;
        container.cause = why;
        let asked = container.own_pids
            && !container.frozen
            && (container.cgroup_kill < 0 || container.flags & flag::HANDLE != 0)
            && net::send(container.control, &pid1::END_ALL.to_le_bytes(), &[], MSG_DONTWAIT).is_ok();
        if asked {
            container.kill_at = process::now() + GRACE;
        } else {
            strike(container);
        }
        if container.oom_event >= 0 {
            process::epoll_remove(self.epoll.raw(), container.oom_event);
        }
        let _ = net::send(container.report, &[record::ENDING], &[], MSG_DONTWAIT);
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
                // Who does not die of it waits for the program that shows its root, whose end ends all such waits.
                let (id, struck) = (container.id, container.struck);
                strike(container);
                if struck {
                    container.kill_at = NEVER;
                    self.daemons.end(id);
                }
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

    /// PID 1 is dead, and with it everything inside (where it was none of the kernel's, by the kill file): say how it went, forget it.
    pub fn bury(&mut self, index: usize) {
        let Some(container) = self.table.get(index) else { return };
        if container.porter > 0 {
            return self.bury_later(index);
        }
        let id = container.id;
        if self.end_daemon(id) {
            return self.bury_later(index);
        }
        let Some(container) = self.table.get(index) else { return };
        let unseen = account::unseen(container);
        // Without waiting: whatever brought us here, the keeper never blocks on a container.
        let Ok((1.., status, usage)) = process::wait4(container.pid, WALL | WNOHANG) else { return };
        if container.shares_pids {
            kill_group(container);
        }
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
            asked: container.asked,
            ..Ended::default()
        };
        measure_upper(container.upper, &mut ended);
        container.log.end_all(self.message);
        let mut length = last_words(container, self.message, &mut ended);
        length += account::append(&ended, unseen.bytes(), &mut self.message[length..wire::EVIDENCE_MAX]);
        self.report.clear();
        self.report.put_u8(record::ENDED);
        ended.write(&mut self.report);
        self.report.put_bytes(&self.message[..length]);
        let _ = net::send(container.report, self.report.bytes(), &[], MSG_DONTWAIT);
        self.visitors.tell(index, self.report.bytes());
        self.forget(index);
    }
}

pub fn become_privileged() -> core::result::Result<(), (u16, Errno)> {
    process::prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0).map_err(|errno| (step::RANGE, errno))?;
    let _ = process::prctl(PR_SET_DUMPABLE, 0, 0);
    Ok(())
}
