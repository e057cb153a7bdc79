//! Other processes of the host's user, who have found a container and ask for it: each connection is about one. Never blocks on any.
//!
//! Nobody else gets in: the socket lies in a directory of the user's own, and the kernel says who has connected.

use crate::container::Container;
use crate::keeper::{KIND_BITS, KIND_LISTENER, KIND_VISITOR, Keeper, PLACES_MAX};
use crate::pid1;
use crate::remove;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::net::{self, Received};
use crate::sys::{Errno, Result, inet, memory, process};
use crate::wire::{Decimal, Fixed, Reader, Write, cause, flag, record, request};
use core::ffi::CStr;

pub const VISITORS_MAX: usize = 1024;
/// Nothing that a visitor may ask for is longer.
const REQUEST_MAX: usize = 32;

const ESRCH: Errno = Errno(3);

#[derive(Clone, Copy)]
struct Visitor {
    /// Plus one: zero is free.
    fd: i32,
    /// The container's index plus one: zero until it has said which.
    container: u32,
}

/// Who is in, and where others come in.
pub struct Visitors {
    all: [Visitor; VISITORS_MAX],
    /// Plus one, like all here: zero is none.
    listener: i32,
    /// Its lock is how others see that this keeper lives.
    directory: i32,
    /// No descriptor was free for one who came: the next one is heard when some are.
    deaf: bool,
}

memory::zeroed!(Visitors);

impl Visitors {
    fn of(&self, index: usize) -> Option<Visitor> {
        self.all.get(index).copied().filter(|visitor| visitor.fd > 0)
    }

    /// The container has ended. Who has not read what was said before does not hear it.
    pub fn tell(&self, container: usize, message: &[u8]) {
        let of = |visitor: &&Visitor| visitor.fd > 0 && visitor.container == container as u32 + 1;
        for visitor in self.all.iter().filter(of) {
            let _ = net::send(visitor.fd - 1, message, &[], MSG_DONTWAIT);
        }
    }
}

impl Keeper {
    /// The host opens its door, once.
    pub fn listen(&mut self, received: &mut Received) {
        let event = KIND_LISTENER;
        if self.visitors.listener == 0 && process::epoll_add(self.epoll.raw(), received.fds[0], EPOLLIN, event).is_ok()
        {
            self.visitors.listener = core::mem::replace(&mut received.fds[0], -1) + 1;
            self.visitors.directory = core::mem::replace(&mut received.fds[1], -1) + 1;
        }
    }

    /// One who comes. Id 0 of the keeper's user namespace is the host's user, whoever that is.
    pub fn admit(&mut self) {
        let listener = self.visitors.listener - 1;
        let visitor = match inet::accept(listener) {
            Ok(visitor) => visitor,
            Err(Errno::MFILE | Errno::NFILE) => {
                process::epoll_remove(self.epoll.raw(), listener);
                self.visitors.deaf = true;
                return;
            }
            Err(_) => return,
        };
        let ours = matches!(net::peer(visitor.raw()), Ok(who) if who.uid == 0);
        let free = self.visitors.all.iter().position(|visitor| visitor.fd == 0);
        if let Some(index) = free.filter(|_| ours) {
            let event = KIND_VISITOR | (index as u64) << KIND_BITS;
            if process::epoll_add(self.epoll.raw(), visitor.raw(), EPOLLIN, event).is_ok() {
                self.visitors.all[index] = Visitor { fd: visitor.release() + 1, container: 0 };
            }
        }
    }

    fn dismiss(&mut self, index: usize) {
        let Some(visitor) = self.visitors.of(index) else { return };
        process::epoll_remove(self.epoll.raw(), visitor.fd - 1);
        fs::close(visitor.fd - 1);
        self.visitors.all[index].fd = 0;
        self.listen_again();
    }

    fn listen_again(&mut self) {
        if self.visitors.deaf {
            let added = process::epoll_add(self.epoll.raw(), self.visitors.listener - 1, EPOLLIN, KIND_LISTENER);
            self.visitors.deaf = added.is_err();
        }
    }

    /// The container is gone, and all who came for it go.
    pub fn see_out(&mut self, container: usize) {
        for index in 0..VISITORS_MAX {
            if self.visitors.of(index).is_some_and(|visitor| visitor.container == container as u32 + 1) {
                self.dismiss(index);
            }
        }
        self.listen_again();
    }

    /// One request of a visitor's; its end is that of the visit.
    pub fn visit(&mut self, index: usize) {
        let Some(visitor) = self.visitors.of(index) else { return };
        let mut message = [0u8; REQUEST_MAX];
        let mut received = match net::receive(visitor.fd - 1, &mut message, MSG_DONTWAIT) {
            Ok(received) if received.length > 0 => received,
            Err(Errno::AGAIN | Errno::INTR) => return,
            _ => return self.dismiss(index),
        };
        let mut from = Reader::new(&message[..received.length]);
        let heard = match (from.u8(), visitor.container) {
            (Some(request::ATTACH), 0) => self.attach(index, from),
            (Some(kind), 1..) => self.serve_visitor(visitor, kind, from, &mut received),
            _ => Err(Errno::PROTO),
        };
        received.fds[..received.fd_count].iter().filter(|fd| **fd >= 0).for_each(|fd| fs::close(*fd));
        if heard.is_err() {
            self.dismiss(index); // it does not read what it asked for, or speaks in tongues
        }
    }

    fn attach(&mut self, index: usize, mut from: Reader<'_>) -> Result<()> {
        let found = from.u64().and_then(|id| self.table.index_of(id));
        let fd = self.visitors.all[index].fd - 1;
        let mut answer = Fixed::<16>::new();
        answer.put_u8(record::ATTACHED);
        let Some(container) = found.and_then(|index| self.table.get(index)) else {
            answer.put_i32(ESRCH.0);
            return net::send(fd, answer.bytes(), &[], MSG_DONTWAIT).map(drop);
        };
        answer.put_i32(0);
        answer.put_u8(container.log.is_open() as u8);
        let both = [container.log.file(), container.pidfd];
        let fds = if container.log.is_open() { &both[..] } else { &both[1..] };
        net::send(fd, answer.bytes(), fds, MSG_DONTWAIT)?;
        self.visitors.all[index].container = found.map_or(0, |index| index as u32 + 1);
        Ok(())
    }

    fn serve_visitor(
        &mut self,
        visitor: Visitor,
        kind: u8,
        mut from: Reader<'_>,
        received: &mut Received,
    ) -> Result<()> {
        let index = visitor.container as usize - 1;
        match kind {
            request::ERRANDS => return self.send_errands(visitor.fd - 1, index),
            request::MEASURE => return self.send_groups(visitor.fd - 1, index),
            request::KILL => match from.u8() {
                Some(why @ (cause::KILLED | cause::STOPPED | cause::TIMEOUT)) => self.kill(index, why),
                _ => return Err(Errno::PROTO),
            },
            request::SIGNAL => self.send_signal(index, from.i32().ok_or(Errno::PROTO)?),
            request::SUBSCRIBE if received.fd_count == 1 => self.add_listener(index, received),
            _ => return Err(Errno::PROTO),
        }
        Ok(())
    }

    fn send_errands(&mut self, fd: i32, index: usize) -> Result<()> {
        let made = self.table.get(index).ok_or(ESRCH).and_then(errands);
        let mut answer = Fixed::<16>::new();
        answer.put_u8(record::ERRANDS);
        answer.put_i32(made.as_ref().err().map_or(0, |errno| errno.0));
        let socket = [made.as_ref().map_or(-1, Fd::raw)];
        net::send(fd, answer.bytes(), if socket[0] < 0 { &[] } else { &socket }, MSG_DONTWAIT).map(drop)
    }

    /// The directories of its groups, opened for nothing: what a visitor does there it does with rights of its own.
    fn send_groups(&mut self, fd: i32, index: usize) -> Result<()> {
        let container = self.table.get(index).ok_or(ESRCH)?;
        let mut name = Fixed::<{ remove::PREFIX_MAX + 24 }>::new();
        let number = Decimal::new(container.id);
        self.prefix.bytes().iter().chain(number.text().to_bytes_with_nul()).for_each(|byte| name.put_u8(*byte));
        let name = CStr::from_bytes_until_nul(name.bytes()).map_err(|_| Errno::NAMETOOLONG)?;
        let mut answer = Fixed::<{ 16 + PLACES_MAX }>::new();
        answer.put_u8(record::MEASURED);
        answer.put_u64(container.uncharged);
        let mut groups = [const { Fd::NONE }; PLACES_MAX];
        let (mut fds, mut count) = ([-1; PLACES_MAX], 0);
        for (place, parent) in self.places.iter().enumerate().filter(|(_, parent)| **parent >= 0) {
            // There is one where it has one; it may just have been made, or removed.
            if let Ok(group) = fs::openat(*parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0) {
                answer.put_u8(place as u8);
                (fds[count], groups[count]) = (group.raw(), group);
                count += 1;
            }
        }
        net::send(fd, answer.bytes(), &fds[..count], MSG_DONTWAIT).map(drop)
    }
}

/// A new socket whose other end PID 1 has. One that waits for its command to be let go reads nothing.
fn errands(container: &mut Container) -> Result<Fd> {
    if container.flags & flag::PID1 != 0 || container.flags & flag::HANDLE == 0 {
        return Err(Errno::OPNOTSUPP);
    }
    if container.flags & flag::HOLD != 0 && container.started == 0 {
        return Err(Errno::AGAIN);
    }
    let (ours, theirs) = net::socketpair()?;
    net::send(container.control, &pid1::VISITOR.to_le_bytes(), &[theirs.raw()], MSG_DONTWAIT)?;
    Ok(ours)
}
