//! Connections to published ports: each is two sockets, and what one brings goes to the other, its end and its breaking too.
//!
//! No more is read than the other side takes: who sends waits as it would for the program itself.

use crate::carry::{KIND_BITS, KIND_SIDE, SCRATCH};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::memory::Room;
use crate::sys::{Errno, Result, inet, process};

/// Of one container; more wait until one of them has ended.
pub const CONNECTIONS_MAX: usize = 1024;
/// Pieces that one turn takes from one side.
const ROUNDS: usize = 4;

/// Who came to the port of this machine, and the container.
const HERE: usize = 0;
const THERE: usize = 1;

struct Side {
    fd: i32,
    /// The events that epoll tells of it, where it does.
    events: u32,
    watched: bool,
    /// Both directions have ended, and something waits for the other side: it would be told of for ever.
    deaf: bool,
    /// Nothing more comes from it, and the other side knows.
    ended: bool,
    passed: bool,
    /// What came from it and the other side has not taken yet.
    room: Room,
    start: usize,
    end: usize,
}

struct Connection {
    live: bool,
    /// The container has not answered yet.
    connecting: bool,
    family: usize,
    port: u16,
    sides: [Side; 2],
}

pub struct Connections {
    entries: [Connection; CONNECTIONS_MAX],
    /// One past the highest entry that was ever used.
    top: usize,
    pub count: usize,
    pub most: usize,
    /// The container has ended: what it has sent is all that is of use.
    ending: bool,
}

crate::sys::memory::zeroed!(Connections);

impl Connections {
    pub fn is_full(&self) -> bool {
        self.count >= self.most
    }

    pub fn add(&mut self, epoll: i32, here: Fd, port: u16) {
        let Some(index) = self.entries.iter().position(|entry| !entry.live) else { return };
        self.top = self.top.max(index + 1);
        self.count += 1;
        let _ = inet::send_at_once(here.raw());
        let entry = &mut self.entries[index];
        entry.begin(here, port);
        let begun = entry.connect(epoll).and_then(|()| entry.watch(epoll, index));
        if begun.is_err() {
            self.close(index, true);
        }
    }

    pub fn handle(&mut self, epoll: i32, index: usize, side: usize, events: u32, scratch: &mut [u8]) {
        let Some(entry) = self.entries.get_mut(index).filter(|entry| entry.live) else { return };
        let served = match entry.connecting {
            true => entry.hear(epoll, side),
            false => entry.serve(epoll, side, events, scratch),
        };
        self.settle(epoll, index, served);
    }

    fn settle(&mut self, epoll: i32, index: usize, served: Result<()>) {
        let entry = &mut self.entries[index];
        let done = entry.sides[THERE].passed && (self.ending || entry.sides[HERE].passed);
        let broken = served.is_err() || (!done && entry.watch(epoll, index).is_err());
        if done || broken {
            self.close(index, broken);
        }
    }

    /// Nobody is inside any more: what has come from there is carried on, and then its end.
    pub fn end(&mut self, epoll: i32, scratch: &mut [u8]) {
        self.ending = true;
        for index in 0..self.top {
            let entry = &mut self.entries[index];
            if entry.live {
                let carried = if entry.connecting { Err(Errno::CONNRESET) } else { entry.carry(THERE, scratch) };
                self.settle(epoll, index, carried);
            }
        }
    }

    fn close(&mut self, index: usize, broken: bool) {
        let entry = &mut self.entries[index];
        for side in &mut entry.sides {
            if broken && side.fd >= 0 {
                let _ = inet::reset_on_close(side.fd);
            }
            fs::close(side.fd);
            side.room.give_back();
        }
        entry.live = false;
        self.count -= 1;
        while self.top > 0 && !self.entries[self.top - 1].live {
            self.top -= 1;
        }
    }
}

impl Connection {
    fn begin(&mut self, here: Fd, port: u16) {
        self.live = true;
        self.family = AF_INET;
        self.port = port;
        for (side, fd) in self.sides.iter_mut().zip([here.release(), -1]) {
            *side = Side {
                fd,
                events: 0,
                watched: false,
                deaf: false,
                ended: false,
                passed: false,
                room: Room::NONE,
                start: 0,
                end: 0,
            };
        }
    }

    /// To the port inside: of 127.0.0.1, or of ::1 where nobody listens there.
    fn connect(&mut self, epoll: i32) -> Result<()> {
        loop {
            let there = inet::socket(self.family, SOCK_STREAM)?;
            let _ = inet::send_at_once(there.raw());
            let answer = inet::connect(there.raw(), &inet::Address::loopback(self.family, self.port));
            match answer {
                Err(Errno::CONNREFUSED) if self.family == AF_INET => self.family = AF_INET6,
                Ok(()) | Err(Errno::INPROGRESS) => {
                    self.connecting = answer.is_err();
                    self.replace(epoll, there);
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn replace(&mut self, epoll: i32, there: Fd) {
        let side = &mut self.sides[THERE];
        if side.watched {
            process::epoll_remove(epoll, side.fd);
            side.watched = false;
        }
        fs::close(core::mem::replace(&mut side.fd, there.release()));
    }

    /// The answer from inside; of who waits for it nothing is told but that he has gone.
    fn hear(&mut self, epoll: i32, side: usize) -> Result<()> {
        if side == HERE {
            return Err(Errno::CONNRESET);
        }
        match inet::take_error(self.sides[THERE].fd) {
            Err(Errno::CONNREFUSED) if self.family == AF_INET => {
                self.family = AF_INET6;
                self.connect(epoll)
            }
            answer => {
                self.connecting = false;
                answer
            }
        }
    }

    fn serve(&mut self, epoll: i32, index: usize, events: u32, scratch: &mut [u8]) -> Result<()> {
        let side = &mut self.sides[index];
        if events & EPOLLERR != 0 {
            // What came before it broke is carried on.
            return self.carry(index, scratch).and(Err(Errno::CONNRESET));
        }
        if side.events == 0 && events & EPOLLHUP != 0 {
            process::epoll_remove(epoll, side.fd);
            (side.watched, side.deaf) = (false, true);
            return Ok(());
        }
        let come = if events & (EPOLLIN | EPOLLHUP) != 0 { self.carry(index, scratch) } else { Ok(()) };
        let gone = if events & EPOLLOUT != 0 { self.carry(1 - index, scratch) } else { Ok(()) };
        if come.is_err() || gone.is_err() {
            // Who does not read any more may have answered before.
            let _ = self.carry(THERE, scratch);
        }
        come.and(gone)
    }

    /// From one side to the other, as much as there is and the other takes.
    fn carry(&mut self, from: usize, scratch: &mut [u8]) -> Result<()> {
        let target = self.sides[1 - from].fd;
        let side = &mut self.sides[from];
        for _ in 0..ROUNDS {
            if !side.pass_on(target)? {
                return Ok(());
            }
            if side.ended {
                return side.pass_end(target);
            }
            match fs::read(side.fd, scratch) {
                Ok(0) => {
                    side.ended = true;
                    return side.pass_end(target);
                }
                Ok(count) => {
                    let sent = send(target, &scratch[..count])?;
                    side.hold(&scratch[sent..count])?;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// What epoll tells from now on: of what can be read where its way is free, and of room where something waits for it.
    fn watch(&mut self, epoll: i32, index: usize) -> Result<()> {
        for number in [HERE, THERE] {
            let wanted = self.events(number);
            let over = self.sides[number].ended && self.sides[1 - number].passed;
            let side = &mut self.sides[number];
            let token = (KIND_SIDE + number as u64) | ((index as u64) << KIND_BITS);
            if over {
                if core::mem::take(&mut side.watched) {
                    process::epoll_remove(epoll, side.fd);
                }
            } else if side.watched {
                if side.events != wanted {
                    process::epoll_change(epoll, side.fd, wanted, token)?;
                }
            } else if wanted != 0 || !side.deaf {
                process::epoll_add(epoll, side.fd, wanted, token)?;
                (side.watched, side.deaf) = (true, false);
            }
            side.events = wanted;
        }
        Ok(())
    }

    fn events(&self, number: usize) -> u32 {
        let (side, other) = (&self.sides[number], &self.sides[1 - number]);
        if self.connecting {
            return if number == THERE { EPOLLOUT } else { 0 };
        }
        let reads = if side.ended || side.owes() { 0 } else { EPOLLIN };
        reads | if other.owes() { EPOLLOUT } else { 0 }
    }
}

impl Side {
    fn owes(&self) -> bool {
        self.start < self.end
    }

    /// True where nothing is left.
    fn pass_on(&mut self, target: i32) -> Result<bool> {
        if self.owes() {
            self.start += send(target, &self.room.bytes()[self.start..self.end])?;
        }
        Ok(!self.owes())
    }

    fn hold(&mut self, rest: &[u8]) -> Result<()> {
        if !rest.is_empty() {
            self.room.make(SCRATCH)?[..rest.len()].copy_from_slice(rest);
            (self.start, self.end) = (0, rest.len());
        }
        Ok(())
    }

    fn pass_end(&mut self, target: i32) -> Result<()> {
        if !self.passed {
            inet::end_writing(target)?;
            self.passed = true;
        }
        Ok(())
    }
}

/// As much as there is room for.
fn send(fd: i32, data: &[u8]) -> Result<usize> {
    match inet::send(fd, data) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}
