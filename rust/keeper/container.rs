//! What the keeper remembers of each live container. No system calls but closing.

use crate::log::Log;
use crate::sys::constants::CLONE_NEWPID;
use crate::sys::fs::close;
use crate::sys::{Errno, Result};
use crate::wire::{Head, flag};

/// More live containers than RLIMIT_NOFILE lets one keeper hold.
pub const CONTAINERS_MAX: usize = 4096;
pub const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy)]
pub struct Container {
    pub live: bool,
    pub cause: u8,
    pub killed: bool,
    /// By a signal, after which there is nothing to wait for but the kernel.
    pub struck: bool,
    /// A program shows its root (served.rs).
    pub served: bool,
    /// Its tasks stand still, and PID 1 with them.
    pub frozen: bool,
    /// In a pid namespace of its own, whose PID 1 is ours: it can end everything inside by itself.
    pub own_pids: bool,
    /// In one of somebody else's: what its first process leaves behind is ended by its group's kill file.
    pub shares_pids: bool,
    pub id: u64,
    pub flags: u32,
    pub pid: i32,
    pub pidfd: i32,
    pub control: i32,
    pub report: i32,
    pub upper: i32,
    pub oom_event: i32,
    pub oom_control: i32,
    pub cpu_usage: i32,
    pub cgroup_kill: i32,
    /// Bytes that its memory group does not count.
    pub uncharged: u64,
    /// The process that carries connections to its published ports: its pid (0: there is none) and its pidfd.
    pub porter: i32,
    pub porter_fd: i32,
    pub log: Log,
    /// Signals that were sent to the command, a bit each.
    pub asked: u64,
    pub cpus: u32,
    pub started: u64,
    /// Lengths in nanoseconds until the command starts, moments afterwards.
    pub timeout: u64,
    pub wall_time: u64,
    pub cpu_time: u64,
    pub next_cpu_check: u64,
    pub next_oom_check: u64,
    pub oom_pause: u64,
    /// When PID 1 has had its time to end everything.
    pub kill_at: u64,
}

impl Container {
    /// The earliest moment at which something must be done, NEVER if none.
    pub fn next_moment(&self) -> u64 {
        match (self.killed, self.started) {
            (true, _) => self.kill_at,
            (false, 0) => self.next_oom_check,
            _ => self.timeout.min(self.wall_time).min(self.next_cpu_check).min(self.next_oom_check),
        }
    }

    /// The command runs from now on: lengths become moments.
    pub fn start(&mut self, now: u64) {
        self.started = now;
        self.timeout = now.saturating_add(self.timeout);
        self.wall_time = now.saturating_add(self.wall_time);
        self.next_cpu_check = match self.cpu_time {
            NEVER => NEVER,
            budget => now.saturating_add(budget / self.cpus.max(1) as u64),
        };
    }

    fn descriptors(&mut self) -> [&mut i32; 9] {
        [
            &mut self.pidfd,
            &mut self.control,
            &mut self.report,
            &mut self.upper,
            &mut self.oom_event,
            &mut self.oom_control,
            &mut self.cpu_usage,
            &mut self.cgroup_kill,
            &mut self.porter_fd,
        ]
    }

    pub fn close(&mut self) {
        for fd in self.descriptors() {
            if *fd >= 0 {
                close(*fd);
            }
        }
        self.log.close();
        self.live = false;
    }
}

pub struct Table {
    entries: [Container; CONTAINERS_MAX],
    /// One past the highest entry that was ever used, so that walks stay short.
    pub top: usize,
    pub count: usize,
}

crate::sys::memory::zeroed!(Table);

impl Table {
    pub fn add(&mut self, head: &Head) -> Result<usize> {
        let index = (0..CONTAINERS_MAX).find(|i| !self.entries[*i].live).ok_or(Errno::NFILE)?;
        self.top = self.top.max(index + 1);
        let entry = &mut self.entries[index];
        entry.live = true;
        entry.pid = 0;
        entry.porter = 0;
        for fd in entry.descriptors() {
            *fd = -1;
        }
        entry.log = Log::none(head);
        entry.cause = 0;
        entry.asked = 0;
        entry.uncharged = 0;
        entry.killed = false;
        entry.struck = false;
        entry.served = false;
        entry.frozen = false;
        entry.id = head.id;
        entry.flags = head.flags;
        entry.cpus = head.cpus;
        entry.started = 0;
        entry.timeout = head.timeout;
        entry.wall_time = head.wall_time;
        entry.cpu_time = head.cpu_time;
        entry.next_cpu_check = NEVER;
        entry.next_oom_check = NEVER;
        entry.kill_at = NEVER;
        entry.shares_pids = head.clone_flags & CLONE_NEWPID == 0;
        entry.own_pids = !entry.shares_pids && !head.has(flag::PID1);
        self.count += 1;
        Ok(index)
    }

    pub fn get(&mut self, index: usize) -> Option<&mut Container> {
        self.entries.get_mut(index).filter(|entry| entry.live)
    }

    pub fn index_of(&self, id: u64) -> Option<usize> {
        self.entries[..self.top].iter().position(|entry| entry.live && entry.id == id)
    }

    pub fn live(&mut self) -> impl Iterator<Item = &mut Container> {
        self.entries[..self.top].iter_mut().filter(|entry| entry.live)
    }

    pub fn remove(&mut self, index: usize) {
        self.entries[index].close();
        self.count -= 1;
        if index + 1 == self.top {
            self.top = index;
        }
    }
}
