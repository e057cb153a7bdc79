//! What goes into a container's stdin: bytes, or what a descriptor of the caller's gives. Waits for nothing: the run's poll does.

use crate::gate::Ours;
use crate::sys;
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Typed where the input of a terminal ends, as script(1) of util-linux does: a terminal knows no other end of file. VEOF as the
/// kernel sets it in a new one.
const END_OF_FILE: u8 = 4;
/// As much as a terminal holds of one line.
const PIECE: usize = 4096;

#[derive(Debug)]
pub struct Feed {
    to: Ours,
    /// Written up to `done`.
    data: Vec<u8>,
    done: usize,
    from: Option<i32>,
    /// The end is to be typed.
    types_end: bool,
    /// What was written last was not the end of a line.
    in_line: bool,
}

impl Feed {
    pub fn of_pipe(to: Ours, data: Vec<u8>, from: Option<i32>) -> Feed {
        Feed { to, data, done: 0, from, types_end: false, in_line: false }
    }

    pub fn of_terminal(to: Ours, data: Vec<u8>, from: Option<i32>) -> Feed {
        Feed { types_end: true, ..Feed::of_pipe(to, data, from) }
    }

    /// What the next step waits for.
    pub fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self.empty() {
            Some(from) => (sys::host::borrow(from), PollFlags::IN),
            None => (self.to.as_fd(), PollFlags::OUT),
        }
    }

    /// One read or one write; false when all that there is was written.
    pub fn step(&mut self) -> bool {
        match self.empty() {
            Some(from) => self.read(from),
            None => self.write(),
        }
        self.done < self.data.len() || self.from.is_some() || self.type_end()
    }

    /// The source, where its last piece has been written.
    fn empty(&self) -> Option<i32> {
        self.from.filter(|_| self.done == self.data.len())
    }

    fn read(&mut self, from: i32) {
        self.done = 0;
        self.data.resize(PIECE, 0);
        let count = match rustix::io::read(sys::host::borrow(from), &mut self.data) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return self.data.clear(),
            Err(_) => 0, // EIO: it has hung up
        };
        self.data.truncate(count);
        if count == 0 {
            self.from = None;
        }
    }

    fn write(&mut self) {
        match rustix::io::write(&self.to, &self.data[self.done..]) {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(count) => {
                self.done += count;
                self.in_line = self.data[self.done - 1] != b'\n';
            }
            Err(_) => self.give_up(),
        }
    }

    /// EPIPE: nobody reads any more, which is the command's right.
    fn give_up(&mut self) {
        self.done = self.data.len();
        self.from = None;
        self.types_end = false;
    }

    /// In the middle of a line the first one ends the line, and only the next one is the end (termios(3), VEOF).
    fn type_end(&mut self) -> bool {
        self.data = vec![END_OF_FILE; if self.in_line { 2 } else { 1 }];
        self.done = 0;
        std::mem::take(&mut self.types_end)
    }
}
