//! Programs that show root file systems (served.rs): who they serve, their end, and that it is waited for. One lives as long as its
//! container, or as the files of that are asked for.

use crate::keeper::{KIND_BITS, KIND_DAEMON, KIND_DEATH, Keeper};
use crate::served::Daemon;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process::{self, PollFd};
use crate::sys::{Errno, Result, memory};

/// As many as containers whose files are kept.
const DAEMONS_MAX: usize = 8192;

#[derive(Clone, Copy)]
struct Entry {
    /// Of its container; 0: a free place.
    id: u64,
    pid: i32,
    pidfd: i32,
}

pub struct Daemons {
    entries: [Entry; DAEMONS_MAX],
    /// One past the highest place that is taken.
    top: usize,
}

memory::zeroed!(Daemons);

impl Daemons {
    fn of(&self, id: u64) -> Option<&Entry> {
        self.entries[..self.top].iter().find(|entry| id != 0 && entry.id == id)
    }

    /// True where there was one; it is reaped when its pidfd says that it is dead.
    pub fn end(&self, id: u64) -> bool {
        self.of(id).is_some_and(|entry| {
            let _ = process::pidfd_send_signal(entry.pidfd, SIGKILL);
            true
        })
    }

    pub fn end_all(&self) {
        for entry in self.entries[..self.top].iter().filter(|entry| entry.id != 0) {
            let _ = process::pidfd_send_signal(entry.pidfd, SIGKILL);
        }
    }

    /// Of those that were killed: what they were writing to is about to be removed.
    pub fn await_ends(&self, deadline: u64) {
        for entry in self.entries[..self.top].iter().filter(|entry| entry.id != 0) {
            let left = deadline.saturating_sub(process::now()).div_ceil(1_000_000);
            let _ = process::poll(&mut [PollFd { fd: entry.pidfd, events: POLLIN, revents: 0 }], left as i64);
        }
    }
}

impl Keeper {
    pub fn keep_daemon(&mut self, id: u64, daemon: Daemon) -> Result<()> {
        if daemon.pid == 0 {
            return Ok(());
        }
        let index = self.daemons.entries.iter().position(|entry| entry.id == 0).ok_or(Errno::NFILE)?;
        let event = KIND_DAEMON | (index as u64) << KIND_BITS;
        process::epoll_add(self.epoll.raw(), daemon.pidfd.raw(), EPOLLIN, event)?;
        let (pid, pidfd) = daemon.release();
        self.daemons.entries[index] = Entry { id, pid, pidfd };
        self.daemons.top = self.daemons.top.max(index + 1);
        Ok(())
    }

    /// One that has ended. Where its container ended before and waited for that, the host hears now.
    pub fn bury_daemon(&mut self, index: usize) {
        let Some(entry) = self.daemons.entries.get_mut(index).filter(|entry| entry.id != 0) else { return };
        if matches!(process::wait4(entry.pid, WALL | WNOHANG), Ok((0, ..))) {
            return;
        }
        process::epoll_remove(self.epoll.raw(), entry.pidfd);
        fs::close(entry.pidfd);
        let id = core::mem::take(&mut entry.id);
        self.daemons.top =
            self.daemons.entries[..self.daemons.top].iter().rposition(|e| e.id != 0).map_or(0, |at| at + 1);
        let Some(index) = self.table.index_of(id) else { return };
        let Some(container) = self.table.get(index) else { return };
        container.served = false;
        let event = KIND_DEATH | (index as u64) << KIND_BITS;
        match process::epoll_add(self.epoll.raw(), container.pidfd, EPOLLIN, event) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(_) => self.bury(index),
        }
    }

    /// Of a container that has ended, or never began, and whose files nobody has asked to keep. True where there was one.
    pub fn end_daemon(&mut self, id: u64) -> bool {
        self.files_of(id).is_none() && self.daemons.end(id)
    }
}
