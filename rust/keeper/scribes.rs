//! Logs of commands beside the first one (popen): each under a number of its own, until its streams end, or its container does.

use crate::container::CONTAINERS_MAX;
use crate::keeper::{KIND_BITS, KIND_SCRIBE, Keeper};
use crate::log::Log;
use crate::sys::constants::EPOLLIN;
use crate::sys::{memory, process};
use crate::wire::Reader;

/// At one time. Of more nothing is kept: who writes there is told that nobody reads.
const SCRIBES_MAX: usize = 4096;
const PIECE: usize = 4096;

#[derive(Clone, Copy)]
struct Scribe {
    /// 0: a free place.
    id: u64,
    container: u64,
    log: Log,
}

pub struct Scribes {
    all: [Scribe; SCRIBES_MAX],
    top: usize,
}

memory::zeroed!(Scribes);

impl Scribes {
    /// Of the next one, for who looks at all of them.
    fn of_container(&self, id: u64) -> Option<usize> {
        self.all[..self.top].iter().position(|scribe| scribe.id != 0 && scribe.container == id)
    }

    fn index_of(&self, id: u64) -> Option<usize> {
        self.all[..self.top].iter().position(|scribe| id != 0 && scribe.id == id)
    }
}

/// Under which those who listen to it are known: behind all containers.
fn listened(index: usize) -> usize {
    CONTAINERS_MAX + index
}

impl Keeper {
    /// A number, its container, which streams there are (bits), and their descriptors behind that of the file.
    pub fn keep_log(&mut self, mut from: Reader<'_>, fds: &mut [i32]) {
        let Some((id, (container, streams))) = from.u64().zip(from.u64().zip(from.u8())) else { return };
        let wanted = [streams & 1 != 0, streams & 2 != 0];
        if fds.len() != 1 + wanted.iter().filter(|wanted| **wanted).count() {
            return;
        }
        let mut next = 1;
        let pipes = wanted.map(|wanted| {
            next += usize::from(wanted);
            if wanted { core::mem::replace(&mut fds[next - 1], -1) } else { -1 }
        });
        let mut log = Log::unbounded(core::mem::replace(&mut fds[0], -1), pipes);
        let free = self.scribes.all.iter().position(|scribe| scribe.id == 0);
        let (Some(index), true) = (free, self.table.index_of(container).is_some()) else {
            return log.close();
        };
        self.scribes.all[index] = Scribe { id, container, log };
        self.scribes.top = self.scribes.top.max(index + 1);
        for (stream, pipe) in pipes.into_iter().enumerate().filter(|(_, pipe)| *pipe >= 0) {
            let event = (KIND_SCRIBE + stream as u64) | (index as u64) << KIND_BITS;
            if process::epoll_add(self.epoll.raw(), pipe, EPOLLIN, event).is_err() {
                self.scribes.all[index].log.end(stream);
            }
        }
        self.end_of_scribe(index);
    }

    /// As `log` of a container's own.
    pub fn scribble(&mut self, index: usize, stream: usize) {
        let scribe = &mut self.scribes.all[index];
        if scribe.id == 0 || scribe.log.pipes[stream] < 0 {
            return;
        }
        scribe.log.pump(stream, listened(index), self.epoll.raw(), self.listeners, self.message);
        self.end_of_scribe(index);
    }

    /// Where both its streams have ended.
    fn end_of_scribe(&mut self, index: usize) {
        let scribe = &mut self.scribes.all[index];
        if scribe.log.pipes == [-1; 2] {
            scribe.log.close();
            scribe.id = 0;
            self.listeners.forget(listened(index));
            while self.scribes.top > 0 && self.scribes.all[self.scribes.top - 1].id == 0 {
                self.scribes.top -= 1;
            }
        }
    }

    /// Its command has ended: all that is in its pipes now is to be in the file; the end of the socket that came along says so.
    pub fn settle_log(&mut self, mut from: Reader<'_>) {
        let Some(index) = from.u64().and_then(|id| self.scribes.index_of(id)) else { return };
        let (scribe, mut buffer) = (&mut self.scribes.all[index], [0; PIECE]); // the request lies in the keeper's own
        for stream in 0..2 {
            if scribe.log.drain(stream, &mut buffer) {
                scribe.log.leave(stream, self.epoll.raw());
            }
        }
        scribe.log.listeners = self.listeners.tell(listened(index));
        self.end_of_scribe(index);
    }

    /// Where it has ended, who would listen sees the end of his socket.
    pub fn listen_to_log(&mut self, id: u64, fd: &mut i32) {
        let Some(index) = self.scribes.index_of(id) else { return };
        if self.listeners.add(*fd, listened(index)) {
            *fd = -1;
            self.scribes.all[index].log.listeners = self.listeners.tell(listened(index));
        }
    }

    /// The container has ended, and with it whatever wrote there.
    pub fn end_scribes(&mut self, container: u64) {
        while let Some(index) = self.scribes.of_container(container) {
            let log = &mut self.scribes.all[index].log;
            for stream in 0..2 {
                log.drain(stream, self.message);
                log.leave(stream, self.epoll.raw());
            }
            self.end_of_scribe(index);
        }
    }
}
