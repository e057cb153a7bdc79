//! The porter's loop: connections and datagrams to published ports, until the container has ended. Knows no keeper.

use crate::connections::Connections;
use crate::flows::Flows;
use crate::porter::{self, LISTENERS_MAX};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::{Errno, Result, inet, memory, net, process};
use crate::wire::{Reader, protocol};

/// What is ready, in the lowest bits of an event; an index is above them.
pub const KIND_BITS: u32 = 3;
const KIND_CONTAINER: u64 = 0;
const KIND_LISTENER: u64 = 1;
const KIND_FLOW: u64 = 2;
/// The host's side of a connection; the container's is the next one.
pub const KIND_SIDE: u64 = 4;

/// The longest datagram; and what one turn takes from a stream.
pub const SCRATCH: usize = 64 * 1024;
/// Connections, or datagrams, that one turn takes, so that others have theirs.
pub const BURST: usize = 32;
/// Nanoseconds for what the container has sent before it ended to reach who reads it.
const LAST_GRACE: u64 = 400 * MILLISECOND;
/// Nanoseconds until connections are taken again where the kernel had no room for one.
const PAUSE: u64 = 100 * MILLISECOND;
const MILLISECOND: u64 = 1_000_000;
pub const NEVER: u64 = u64::MAX;
/// Descriptors beside those of connections: sockets that listen, flows, and a few.
const RESERVED: u64 = LISTENERS_MAX as u64 + crate::flows::FLOWS_MAX as u64 + 16;

#[derive(Clone, Copy)]
struct Listener {
    fd: i32,
    /// Where it leads to inside.
    port: u16,
    protocol: u8,
}

struct Porter {
    epoll: Fd,
    container: i32,
    listeners: [Listener; LISTENERS_MAX],
    count: usize,
    connections: &'static mut Connections,
    flows: &'static mut Flows,
    scratch: &'static mut [u8],
    /// No connection is taken until that moment: NEVER until one has ended.
    paused: Option<u64>,
    /// The container has ended, and that is when this does at the latest.
    deadline: u64,
}

pub fn serve(socket: i32) -> ! {
    let status = match Porter::start(socket) {
        Ok(mut porter) => {
            porter::tell(socket, Errno(0));
            fs::close(socket);
            porter.run();
            0
        }
        Err(errno) => {
            porter::tell(socket, errno);
            1
        }
    };
    process::exit_group(status)
}

impl Porter {
    fn start(socket: i32) -> Result<Porter> {
        let _ = process::set_name(c"pycontainer-net");
        let scratch = memory::map_bytes(SCRATCH)?;
        let length = net::receive(socket, scratch, MSG_DONTWAIT)?.length;
        let mut from = Reader::new(&scratch[..length]);
        let container = from.i32().ok_or(Errno::PROTO)?;
        let mut listeners = [Listener { fd: -1, port: 0, protocol: 0 }; LISTENERS_MAX];
        let mut count = 0;
        while let Some((fd, argument)) = from.i32().zip(from.i32()) {
            let place = listeners.get_mut(count).ok_or(Errno::TOOBIG)?;
            *place = Listener { fd, port: argument as u16, protocol: (argument >> 16) as u8 };
            count += 1;
        }
        let connections = memory::map_zeroed::<Connections>()?;
        connections.most = most_connections();
        let flows = memory::map_zeroed::<Flows>()?;
        let epoll = process::epoll_create()?;
        let porter =
            Porter { epoll, container, listeners, count, connections, flows, scratch, paused: None, deadline: NEVER };
        process::epoll_add(porter.epoll.raw(), container, EPOLLIN, KIND_CONTAINER)?;
        (0..count).try_for_each(|index| porter.listen(index))?;
        Ok(porter)
    }

    fn listen(&self, index: usize) -> Result<()> {
        let token = KIND_LISTENER | (index as u64) << KIND_BITS;
        process::epoll_add(self.epoll.raw(), self.listeners[index].fd, EPOLLIN, token)
    }

    fn run(&mut self) {
        while self.deadline == NEVER || (self.connections.count > 0 && process::now() < self.deadline) {
            match process::epoll_wait(self.epoll.raw(), self.timeout()) {
                Ok(Some((token, events))) => self.handle(token, events),
                Ok(None) => self.flows.forget_idle(),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
            self.resume();
        }
    }

    /// Milliseconds.
    fn timeout(&self) -> i32 {
        let until = |moment: u64| moment.saturating_sub(process::now()).div_ceil(MILLISECOND) as i32;
        match self.paused {
            _ if self.deadline != NEVER => until(self.deadline),
            Some(moment) if moment != NEVER => until(moment),
            _ if self.flows.count > 0 => 1000,
            _ => -1,
        }
    }

    fn handle(&mut self, token: u64, events: u32) {
        let index = (token >> KIND_BITS) as usize;
        match token & ((1 << KIND_BITS) - 1) {
            KIND_CONTAINER => self.end(),
            KIND_LISTENER if self.listeners[index].protocol == protocol::UDP => {
                let Listener { fd, port, .. } = self.listeners[index];
                self.flows.enter(self.epoll.raw(), KIND_FLOW, (fd, port), self.scratch);
            }
            KIND_LISTENER => self.accept(index),
            KIND_FLOW => self.flows.answer(index, self.scratch),
            kind => self.connections.handle(self.epoll.raw(), index, (kind - KIND_SIDE) as usize, events, self.scratch),
        }
    }

    fn accept(&mut self, index: usize) {
        let Listener { fd, port, .. } = self.listeners[index];
        for _ in 0..BURST {
            if self.connections.is_full() {
                return self.pause(NEVER);
            }
            match inet::accept(fd) {
                Ok(here) => self.connections.add(self.epoll.raw(), here, port),
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    return self.pause(process::now() + PAUSE);
                }
                Err(_) => {} // whoever it was has gone
            }
        }
    }

    /// Connections wait where they wait for every server: in the kernel's queue.
    fn pause(&mut self, until: u64) {
        self.streams().for_each(|index| process::epoll_remove(self.epoll.raw(), self.listeners[index].fd));
        self.paused = Some(until);
    }

    fn resume(&mut self) {
        let Some(until) = self.paused else { return };
        let again = if until == NEVER { !self.connections.is_full() } else { process::now() >= until };
        if again && self.deadline == NEVER {
            self.paused = None;
            for index in self.streams() {
                let _ = self.listen(index);
            }
        }
    }

    fn streams(&self) -> impl Iterator<Item = usize> {
        let listeners = self.listeners;
        (0..self.count).filter(move |index| listeners[*index].protocol == protocol::TCP)
    }

    /// Nobody is inside any more. What was sent by then is carried on, for a moment; nothing else is taken.
    fn end(&mut self) {
        self.deadline = process::now() + LAST_GRACE;
        process::epoll_remove(self.epoll.raw(), self.container);
        for listener in &self.listeners[..self.count] {
            process::epoll_remove(self.epoll.raw(), listener.fd);
            fs::close(listener.fd);
        }
        self.connections.end(self.epoll.raw(), self.scratch);
    }
}

fn most_connections() -> usize {
    const RLIMIT_NOFILE: u32 = 7;
    let descriptors = process::getrlimit(RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    (descriptors.saturating_sub(RESERVED) / 2).clamp(1, crate::connections::CONNECTIONS_MAX as u64) as usize
}
