//! The streams of one command, served by the thread that waits for it: polled, read, fed, drained.

use super::{Goes, Read, Streams};
use crate::error::{Error, Result};
use crate::spawn::feed::Feed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// As much as a pipe can hold (fs.pipe-max-size, unless root raised it).
const PIPE_MAX: usize = 1 << 20;
const EIO: i32 = 5;
/// How many descriptors a caller may have polled beside the streams.
const RECORDS: usize = 2;

impl Streams {
    /// Which of them are ready: 0 and 1 stand for `records`, then stdout, stderr and stdin. Streams come first, since what is told in a
    /// record follows them. None where a signal ended the wait.
    pub fn poll(
        &self,
        records: &[BorrowedFd<'_>],
        milliseconds: u64,
    ) -> Result<Option<impl Iterator<Item = usize> + use<>>> {
        let mut wanted: [Option<(BorrowedFd<'_>, PollFlags)>; RECORDS + 3] = [None; RECORDS + 3];
        for (place, record) in wanted.iter_mut().zip(records) {
            *place = Some((*record, PollFlags::IN));
        }
        wanted[RECORDS] = self.waits_for(0);
        wanted[RECORDS + 1] = self.waits_for(1);
        wanted[RECORDS + 2] = self.stdin.as_ref().map(Feed::waits_for);
        let mut fds = Vec::with_capacity(wanted.len());
        let mut which = [0usize; RECORDS + 3];
        for (index, fd) in wanted.iter().enumerate() {
            if let Some((fd, events)) = fd {
                which[fds.len()] = index;
                fds.push(PollFd::from_borrowed_fd(*fd, *events));
            }
        }
        let nanoseconds = milliseconds % 1000 * 1_000_000;
        let time = Timespec { tv_sec: (milliseconds / 1000) as i64, tv_nsec: nanoseconds as _ };
        match poll(&mut fds, Some(&time)) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(("wait for the container", errno).into()), // EINVAL: RLIMIT_NOFILE below 5
            Ok(_) => {}
        }
        let mut ready = [false; RECORDS + 3];
        for (fd, index) in fds.iter().zip(which) {
            ready[index] = !fd.revents().is_empty();
        }
        Ok(Some([2, 3, 4, 0, 1].into_iter().filter(move |index| ready[*index])))
    }

    /// One read of stdout (0) or stderr (1). `Read::Drained` also where it waits for who takes what was read before.
    pub fn read(&mut self, index: usize, tty: bool) -> Result<Read> {
        if !self.pass_on(index) {
            return Ok(Read::Drained);
        }
        let (stream, capture) = match index {
            0 => (&mut self.stdout, &mut self.captured[0]),
            _ => (&mut self.stderr, &mut self.captured[1]),
        };
        let Some(fd) = stream.as_ref() else { return Ok(Read::Drained) };
        let came = capture.read(fd);
        if self.goes[index] == Goes::Nowhere {
            capture.data.clear();
        }
        match came {
            Read::Ended => *stream = None,
            Read::Failed(EIO) if tty => *stream = None,
            Read::Failed(errno) => return Err(Error::setup("read the output", errno)),
            _ => {}
        }
        self.pass_on(index);
        Ok(came)
    }

    pub fn supply(&mut self) {
        if !self.stdin.as_mut().is_some_and(Feed::step) {
            self.stdin = None;
        }
    }

    /// What is left in the pipes of a command that has ended.
    pub fn drain(&mut self, tty: bool) -> Result<()> {
        for index in 0..2 {
            let mut drained = 0; // a stranger that still writes must not keep us here
            while drained <= PIPE_MAX && matches!(self.read(index, tty)?, Read::More | Read::OverCap) {
                drained += self.captured[index].last;
            }
        }
        Ok(())
    }
}
