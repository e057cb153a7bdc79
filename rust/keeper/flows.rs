//! Datagrams to published ports: a socket inside for each who sends, so that answers find their way back. Idle ones are forgotten.

use crate::carry::{BURST, KIND_BITS};
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::inet::{self, Address};
use crate::sys::{Errno, Result, process};

/// Of one container; where there are more, the one that was silent for the longest time gives way.
pub const FLOWS_MAX: usize = 256;
/// Nanoseconds after the last datagram, in either direction.
const IDLE: u64 = 60_000_000_000;

struct Flow {
    live: bool,
    /// The socket inside.
    fd: i32,
    /// The one of this machine to which it came, and who sent it.
    listener: i32,
    peer: Address,
    last: u64,
}

pub struct Flows {
    entries: [Flow; FLOWS_MAX],
    pub count: usize,
}

crate::sys::memory::zeroed!(Flows);

impl Flows {
    /// From this machine to the port inside.
    pub fn enter(&mut self, epoll: i32, kind: u64, (listener, port): (i32, u16), scratch: &mut [u8]) {
        for _ in 0..BURST {
            let Ok((length, peer)) = inet::receive_from(listener, scratch) else { return };
            let data = &scratch[..length];
            let known =
                self.entries.iter().position(|flow| flow.live && flow.listener == listener && flow.peer == peer);
            // Its answer may say that nobody listens any more: then it starts anew.
            if let Some(index) = known {
                match inet::send(self.entries[index].fd, data) {
                    Err(Errno::CONNREFUSED) => self.forget(index),
                    _ => {
                        self.entries[index].last = process::now();
                        continue;
                    }
                }
            }
            if let Ok(fd) = open(port, data) {
                let index = self.free();
                if process::epoll_add(epoll, fd, EPOLLIN, kind | (index as u64) << KIND_BITS).is_err() {
                    fs::close(fd);
                    continue;
                }
                self.entries[index] = Flow { live: true, fd, listener, peer, last: process::now() };
                self.count += 1;
            }
        }
    }

    /// From inside to whom it answers.
    pub fn answer(&mut self, index: usize, scratch: &mut [u8]) {
        let Some(flow) = self.entries.get_mut(index).filter(|flow| flow.live) else { return };
        for _ in 0..BURST {
            match fs::read(flow.fd, scratch) {
                Ok(length) => {
                    let _ = inet::send_to(flow.listener, &scratch[..length], &flow.peer);
                    flow.last = process::now();
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.forget(index), // nobody listens there any more
            }
        }
    }

    pub fn forget_idle(&mut self) {
        let now = process::now();
        for index in 0..FLOWS_MAX {
            if self.entries[index].live && now.saturating_sub(self.entries[index].last) > IDLE {
                self.forget(index);
            }
        }
    }

    fn free(&mut self) -> usize {
        if let Some(index) = self.entries.iter().position(|flow| !flow.live) {
            return index;
        }
        let oldest = (0..FLOWS_MAX).min_by_key(|index| self.entries[*index].last).unwrap_or(0);
        self.forget(oldest);
        oldest
    }

    fn forget(&mut self, index: usize) {
        fs::close(self.entries[index].fd);
        self.entries[index].live = false;
        self.count -= 1;
    }
}

/// To 127.0.0.1 inside, or to ::1 where nobody listens there: on a loopback the refusal is there when the call is over.
fn open(port: u16, first: &[u8]) -> Result<i32> {
    let mut refused = Errno::CONNREFUSED;
    for family in [AF_INET, AF_INET6] {
        let socket = inet::socket(family, SOCK_DGRAM)?;
        inet::connect(socket.raw(), &Address::loopback(family, port))?;
        match inet::send(socket.raw(), first).and_then(|_| inet::take_error(socket.raw())) {
            Ok(()) => return Ok(socket.release()),
            Err(errno) => refused = errno,
        }
    }
    Err(refused)
}
