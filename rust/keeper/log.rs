//! The keeper's side of a container's log: what comes out of its streams goes into a file of fixed size, and whoever listens is told.
//!
//! Nothing blocks where nobody reads, and nothing of it is in the host's memory. The file is laid out in rust/src/wire/log.rs.

use crate::keeper::Keeper;
use crate::sys::constants::{MSG_DONTWAIT, POLLIN};
use crate::sys::fs::{self, close};
use crate::sys::{Errno, Result, memory, net, process};
use crate::wire::{Fixed, Head, Write, cause, log};

/// As much as a pipe can hold (fs.pipe-max-size, unless root raised it): more is not there when its writers are gone.
const PIPE_MAX: usize = 1 << 20;
const EIO: Errno = Errno(5);

#[derive(Clone, Copy)]
pub struct Log {
    file: i32,
    /// Reading ends of stdout's and stderr's pipes; a terminal is stdout. -1: not logged, or at its end.
    pub pipes: [i32; 2],
    /// Bytes that were kept at one time or another, and that were dropped beyond the cap.
    totals: [u64; 2],
    dropped: [u64; 2],
    cap: u64,
    pub cap_kills: bool,
    /// How many listen to it.
    pub listeners: u16,
}

/// What one read of a stream came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Some(usize),
    /// Some, of which not all was below the cap.
    TooMuch(usize),
    Nothing,
    End,
}

impl Log {
    pub fn none(head: &Head) -> Log {
        Log {
            file: -1,
            pipes: [-1; 2],
            totals: [0; 2],
            dropped: [0; 2],
            cap: head.output,
            cap_kills: head.output_kills != 0,
            listeners: 0,
        }
    }

    /// Of a command whose output nothing bounds but the size of the file.
    pub fn unbounded(file: i32, pipes: [i32; 2]) -> Log {
        Log { file, pipes, totals: [0; 2], dropped: [0; 2], cap: u64::MAX, cap_kills: false, listeners: 0 }
    }

    pub fn begin(&mut self, file: i32, pipes: [i32; 2]) {
        (self.file, self.pipes) = (file, pipes);
    }

    pub fn file(&self) -> i32 {
        self.file
    }

    pub fn is_open(&self) -> bool {
        self.file >= 0
    }

    /// One read of a stream, as far as there is something, into the file.
    pub fn take(&mut self, stream: usize, buffer: &mut [u8]) -> Came {
        let room = buffer.len().min(log::PIECE);
        match fs::read(self.pipes[stream], &mut buffer[..room]) {
            Ok(0) | Err(EIO) => Came::End, // EIO: the last inner end of a terminal was closed
            Ok(count) => self.keep(stream, &buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => Came::Nothing,
            Err(_) => Came::End,
        }
    }

    fn keep(&mut self, stream: usize, bytes: &[u8]) -> Came {
        let free = self.cap.saturating_sub(self.totals[stream]).min(bytes.len() as u64) as usize;
        let _ = self.write(stream, &bytes[..free]);
        self.totals[stream] += free as u64;
        self.dropped[stream] += (bytes.len() - free) as u64;
        self.tell_numbers(stream, false);
        if free < bytes.len() { Came::TooMuch(bytes.len()) } else { Came::Some(bytes.len()) }
    }

    /// ENOSPC and ENOMEM leave a hole, which reads as zeros: the container goes on.
    fn write(&self, stream: usize, mut bytes: &[u8]) -> Result<()> {
        let mut position = self.totals[stream];
        while !bytes.is_empty() {
            let (offset, room) = log::place_of(stream, position);
            let count = fs::pwrite(self.file, &bytes[..bytes.len().min(room as usize)], offset)?;
            position += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// In one write: who reads has the numbers of one moment.
    fn tell_numbers(&self, stream: usize, ended: bool) {
        let mut numbers = Fixed::<{ log::NUMBERS }>::new();
        numbers.put_u64(self.totals[stream]);
        numbers.put_u64(self.dropped[stream]);
        numbers.put_u64(ended as u64);
        let _ = fs::pwrite(self.file, numbers.bytes(), log::numbers_of(stream));
    }

    /// Nothing more comes of this stream.
    pub fn end(&mut self, stream: usize) {
        if self.pipes[stream] >= 0 {
            close(self.pipes[stream]);
            self.pipes[stream] = -1;
            self.tell_numbers(stream, true);
        }
    }

    /// One piece of one stream, and the news of it for those who listen to `whose`: the other streams' come in between.
    pub fn pump(
        &mut self,
        stream: usize,
        whose: usize,
        epoll: i32,
        listeners: &mut Listeners,
        buffer: &mut [u8],
    ) -> Came {
        let came = self.take(stream, buffer);
        if came == Came::End {
            self.leave(stream, epoll);
        }
        if came != Came::Nothing && self.listeners > 0 {
            self.listeners = listeners.tell(whose);
        }
        came
    }

    /// The end of a stream that is watched. Out of epoll first: a copy in a child just cloned would keep it there.
    pub fn leave(&mut self, stream: usize, epoll: i32) {
        if self.pipes[stream] >= 0 {
            process::epoll_remove(epoll, self.pipes[stream]);
            self.end(stream);
        }
    }

    /// What is there now, at most as much as a pipe holds: somebody may go on writing. True at the stream's end.
    pub fn drain(&mut self, stream: usize, buffer: &mut [u8]) -> bool {
        let mut taken = 0;
        while taken <= PIPE_MAX && has_some(self.pipes[stream]) {
            match self.take(stream, buffer) {
                Came::Some(count) | Came::TooMuch(count) => taken += count,
                Came::Nothing => break,
                Came::End => return true,
            }
        }
        false
    }

    /// Its container has ended: what is still in the pipes is all there will ever be, but for what a stranger writes who still holds one.
    pub fn end_all(&mut self, buffer: &mut [u8]) {
        for stream in 0..2 {
            self.drain(stream, buffer);
            self.end(stream);
        }
    }

    pub fn close(&mut self) {
        self.pipes.into_iter().chain([self.file]).filter(|fd| *fd >= 0).for_each(close);
        (self.file, self.pipes) = (-1, [-1; 2]);
    }
}

/// A terminal blocks who reads it in vain.
fn has_some(fd: i32) -> bool {
    let mut polled = [process::PollFd { fd, events: POLLIN, revents: 0 }];
    fd >= 0 && matches!(process::poll(&mut polled, 0), Ok(1))
}

pub const LISTENERS_MAX: usize = 4096;

#[derive(Clone, Copy)]
struct Listener {
    /// Plus one: zero is free.
    fd: i32,
    container: u32,
}

/// Sockets of those who listen to logs: each gets a byte for news, unless it has one that it has not read.
pub struct Listeners {
    all: [Listener; LISTENERS_MAX],
    top: usize,
}

memory::zeroed!(Listeners);

impl Listeners {
    /// False where there is no room: who listens then sees the end of its socket.
    pub fn add(&mut self, fd: i32, container: usize) -> bool {
        let Some(index) = self.all.iter().position(|listener| listener.fd == 0) else { return false };
        self.all[index] = Listener { fd: fd + 1, container: container as u32 };
        self.top = self.top.max(index + 1);
        true
    }

    /// Who has gone is forgotten. Returns how many listen on.
    pub fn tell(&mut self, container: usize) -> u16 {
        let of = |listener: &&mut Listener| listener.fd > 0 && listener.container == container as u32;
        let mut left = 0;
        for listener in self.all[..self.top].iter_mut().filter(of) {
            match net::send(listener.fd - 1, &[1], &[], MSG_DONTWAIT) {
                Ok(_) | Err(Errno::AGAIN) => left += 1,
                Err(_) => {
                    close(listener.fd - 1);
                    listener.fd = 0;
                }
            }
        }
        left
    }

    /// Its end is the last news.
    pub fn forget(&mut self, container: usize) {
        let of = |listener: &&mut Listener| listener.fd > 0 && listener.container == container as u32;
        for listener in self.all[..self.top].iter_mut().filter(of) {
            close(listener.fd - 1);
            listener.fd = 0;
        }
        while self.top > 0 && self.all[self.top - 1].fd == 0 {
            self.top -= 1;
        }
    }
}

impl Keeper {
    pub fn log(&mut self, index: usize, stream: usize) {
        let Some(container) = self.table.get(index) else { return };
        let came = container.log.pump(stream, index, self.epoll.raw(), self.listeners, self.message);
        if matches!(came, Came::TooMuch(_)) && container.log.cap_kills {
            self.kill(index, cause::OUTPUT);
        }
    }
}
