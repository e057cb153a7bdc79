//! One socket to one agent, from the keeper's message to the agent's last word. Waits without a timeout, and can be interrupted.

use super::refused;
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::sys::constants::{MSG_DONTWAIT, MSG_NOSIGNAL};
use crate::sys::{self, Errno};
use crate::transfer::input::Input;
use crate::transfer::{BUFFER, Stream};
use crate::wire::files::entry;
use crate::wire::{Write, request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A message to the keeper, with descriptors.
pub type Send<'a> = &'a dyn Fn(&[u8], &[i32]) -> Result<()>;

/// Where a container's files are asked for.
pub struct Door<'a> {
    pub send: Send<'a>,
    /// The keeper's pidfd.
    pub keeper: BorrowedFd<'a>,
    pub id: u64,
    /// Bits of `wire::files::ask` that a test wants besides.
    pub seams: u8,
    /// Asked when a signal came, and every second: true ends the errand.
    pub interrupted: &'a mut dyn FnMut() -> bool,
}

impl Door<'_> {
    /// For one errand of several.
    pub fn again(&mut self) -> Door<'_> {
        let Door { send, keeper, id, seams, .. } = *self;
        Door { send, keeper, id, seams, interrupted: &mut *self.interrupted }
    }
}

pub struct Session<'a> {
    socket: Ours,
    keeper: BorrowedFd<'a>,
    interrupted: &'a mut dyn FnMut() -> bool,
    asked: Instant,
}

/// Between two questions whether to go on, where there is no need to wait.
const PACE: Duration = Duration::from_millis(50);

/// An agent's last word.
pub struct Verdict {
    pub errno: Errno,
    pub left: (u64, Errno),
    /// Where it went wrong, or of the first that was left out; beneath what was asked for.
    pub path: Vec<u8>,
}

impl<'a> Session<'a> {
    /// For one errand, `what` of `wire::files::ask`; the words it begins with are written.
    pub fn open(door: Door<'a>, what: u8, words: &[&[u8]]) -> Result<Session<'a>> {
        let fail = |errno: Errno| Error::setup("reach the container's files", errno.0);
        // A forked copy that held the other end would hide the agent's death from us.
        let gate = gate::spawning();
        let (ours, theirs) = sys::net::stream_pair().map_err(fail)?;
        let mut message = vec![request::FILES];
        message.put_u64(door.id);
        message.put_u8(what | door.seams);
        (door.send)(&message, &[theirs.raw()])?;
        drop(theirs);
        let socket = Ours::new(sys::host::adopt(ours.release()));
        drop(gate);
        let mut session = Session { socket, keeper: door.keeper, interrupted: door.interrupted, asked: Instant::now() };
        let mut said = Vec::new();
        for word in words {
            said.put_u32(word.len() as u32);
            said.extend_from_slice(word);
        }
        // Where there is no agent the answer says so.
        let _ = session.write(&said);
        Ok(session)
    }

    /// What the agent says at the end, or in the middle, where it ended early.
    pub fn verdict(self) -> std::result::Result<Verdict, Errno> {
        let mut buffer = vec![0; BUFFER];
        let mut input = Input::new(self, &mut buffer);
        let entry = input.entry()?;
        if entry.head.kind != entry::VERDICT {
            return Err(Errno::PROTO);
        }
        let left = (entry.head.size, Errno(entry.head.uid as i32));
        Ok(Verdict { errno: Errno(entry.head.mode as i32), left, path: entry.extra.to_vec() })
    }

    /// CANCELED where a signal's handler raised something, PIPE where the keeper has died.
    fn wait(&mut self, events: PollFlags) -> sys::Result<()> {
        let mut fds = [PollFd::new(&self.socket, events), PollFd::new(&self.keeper, PollFlags::IN)];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
        let (ready, dead) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        match polled {
            Ok(0) | Err(rustix::io::Errno::INTR) if (self.interrupted)() => Err(Errno::CANCELED),
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) if dead && !ready => Err(Errno::PIPE),
            Ok(_) => Ok(()),
            Err(errno) => Err(Errno(errno.raw_os_error())),
        }
    }
}

impl Stream for Session<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> sys::Result<usize> {
        if self.asked.elapsed() >= PACE {
            self.asked = Instant::now();
            if (self.interrupted)() {
                return Err(Errno::CANCELED);
            }
        }
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(|(count, _)| count).map_err(|errno| Errno(errno.raw_os_error())),
            }
        }
    }

    fn write(&mut self, data: &[u8]) -> sys::Result<usize> {
        loop {
            match sys::net::send(self.socket.as_raw_fd(), data, &[], MSG_DONTWAIT | MSG_NOSIGNAL) {
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

/// The session broke off: the agent or its keeper died, or this process was interrupted.
pub fn broken(step: &str, path: &[u8], errno: Errno) -> Error {
    if errno != Errno::PIPE && !errno.is_closed_end() {
        return refused(step, path, errno);
    }
    let note = Some("the process that served it was killed: the container was closed, or its keeper died".into());
    let path = Some(String::from_utf8_lossy(path).into_owned());
    Error::Setup { step: step.into(), path, errno: errno.0, note }
}
