//! Agents: processes that serve one errand each among the files of a container, and stewards, that serve the store of a plain user.
//! Started, remembered and reaped here; what they do is in agent.rs and steward.rs.

use crate::agent;
use crate::keeper::{KIND_AGENT, KIND_BITS, Keeper};
use crate::steward;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned};
use crate::sys::{Errno, Result, memory};
use crate::transfer::output::Output;
use crate::wire::Reader;

/// At work at once.
const AGENTS_MAX: usize = 512;
/// No container's: a steward serves the store.
const STEWARD: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Agent {
    /// Of its container; 0: a free place.
    id: u64,
    pid: i32,
    pidfd: i32,
}

pub struct Agents {
    entries: [Agent; AGENTS_MAX],
}

memory::zeroed!(Agents);

impl Agents {
    /// Those of one container; each is reaped when its pidfd says that it is dead.
    pub fn end(&self, id: u64) {
        for agent in self.entries.iter().filter(|agent| id != 0 && agent.id == id) {
            let _ = process::pidfd_send_signal(agent.pidfd, SIGKILL);
        }
    }

    pub fn reap(&mut self, epoll: i32, index: usize) {
        let Some(agent) = self.entries.get_mut(index).filter(|agent| agent.id != 0) else { return };
        if matches!(process::wait4(agent.pid, WALL | WNOHANG), Ok((0, ..))) {
            return;
        }
        process::epoll_remove(epoll, agent.pidfd);
        fs::close(agent.pidfd);
        agent.id = 0;
    }
}

impl Keeper {
    /// A refusal is said on the socket.
    pub fn serve_files(&mut self, mut from: Reader<'_>, socket: i32) {
        let Some((id, what)) = from.u64().zip(from.u8()) else { return };
        if let Err(errno) = self.start_agent(id, what, socket) {
            let _ = Output::new(agent::Socket(socket), &mut [0; 128]).verdict(errno, (0, Errno(0)), b"");
        }
    }

    fn start_agent(&mut self, id: u64, what: u8, socket: i32) -> Result<()> {
        let files = self.files_of(id).ok_or(Errno::SRCH)?;
        let space = files.space(self.cache)?;
        let rootless = self.rootless;
        self.start(id, || agent::enter(&files, space, what, rootless, socket))
    }

    /// A refusal is the end of the socket.
    pub fn start_steward(&mut self, socket: i32) {
        if self.rootless {
            let _ = self.start(STEWARD, || steward::enter(socket));
        }
    }

    /// `enter` does not return.
    fn start(&mut self, id: u64, enter: impl FnOnce()) -> Result<()> {
        let index = self.agents.entries.iter().position(|agent| agent.id == 0).ok_or(Errno::AGAIN)?;
        let Cloned::Parent { pid, pidfd } = process::clone_copy(0, None)? else {
            enter();
            process::exit_group(1)
        };
        self.agents.entries[index] = Agent { id, pid, pidfd: pidfd.raw() };
        let watched =
            process::epoll_add(self.epoll.raw(), pidfd.raw(), EPOLLIN, KIND_AGENT | (index as u64) << KIND_BITS);
        // One that nobody would reap is not left at work.
        watched.inspect_err(|_| {
            crate::launch::abandon(pidfd.raw(), pid);
            self.agents.entries[index].id = 0;
        })?;
        Fd::release(pidfd);
        Ok(())
    }
}
