//! The pipes of one run: made, handed over, read and fed by the calling thread alone.

use super::feed::Feed;
use super::spec::{Spec, Stream};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

mod serve;

/// Captured bytes of one stream, up to its cap.
#[derive(Debug, Default)]
pub struct Capture {
    pub data: Vec<u8>,
    pub truncated: bool,
    /// Bytes that the last read took from the pipe, kept or not.
    pub last: usize,
    cap: Option<u64>,
    /// The pipe was made larger, since its writer fills it.
    grown: bool,
}

/// What becomes of the output that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    Captured,
    /// Copied: to a terminal of the caller's, or where a container's terminal prints.
    To(i32),
    Nowhere,
}

/// The caller's side of the three streams, and the container's side until it has been sent.
#[derive(Debug)]
pub struct Streams {
    pub stdin: Option<Feed>,
    pub stdout: Option<Ours>,
    pub stderr: Option<Ours>,
    pub captured: [Capture; 2],
    pub goes: [Goes; 2],
    /// (rows, columns) that the container's terminal was last given.
    window: (u16, u16),
    theirs: Vec<OwnedFd>,
    /// The caller's own ends of stdin, stdout and stderr, until it takes them.
    pub pipes: [Option<OwnedFd>; 3],
    /// The ends from which the keeper logs stdout and stderr, until they are handed over.
    pub logged: [Option<OwnedFd>; 2],
    /// (descriptor, whether it is a pipe of ours).
    pub ends: [(i32, bool); 3],
}

impl Streams {
    pub fn open(spec: &Spec) -> Result<Streams> {
        let cap = spec.limits.output;
        let capture = || Capture { data: Vec::new(), truncated: false, last: 0, cap, grown: false };
        let mut streams = Streams {
            stdin: None,
            stdout: None,
            stderr: None,
            captured: [capture(), capture()],
            goes: [Goes::Captured; 2],
            window: spec.window,
            theirs: Vec::new(),
            pipes: [const { None }; 3],
            logged: [const { None }; 2],
            ends: [(-1, false); 3],
        };
        streams.open_stdin(spec)?;
        streams.stdout = streams.open_output(1, spec.stdout, spec)?;
        streams.stderr = streams.open_output(2, spec.stderr, spec)?;
        Ok(streams)
    }

    fn open_stdin(&mut self, spec: &Spec) -> Result<()> {
        if spec.tty {
            // The terminal's outer end arrives later; input is written to it then.
            self.ends[0] = (self.null()?, false);
            return Ok(());
        }
        match (spec.stdin, &spec.input) {
            (_, Some(input)) => self.feed(input.clone(), None)?,
            (Stream::Terminal(fd), None) => self.feed(Vec::new(), Some(fd))?,
            (Stream::Fd(fd), None) => self.ends[0] = (fd, false),
            (Stream::Pipe, None) => {
                let (read, write) = pipe()?;
                self.ends[0] = (read.as_raw_fd(), true);
                self.theirs.push(read);
                self.pipes[0] = Some(write);
            }
            _ => self.ends[0] = (self.null()?, false),
        }
        Ok(())
    }

    fn feed(&mut self, input: Vec<u8>, from: Option<i32>) -> Result<()> {
        let (read, write) = pipe()?;
        set_nonblocking(&write)?;
        self.ends[0] = (read.as_raw_fd(), true);
        self.theirs.push(read);
        self.stdin = Some(Feed::of_pipe(Ours::new(write), input, from));
        Ok(())
    }

    fn open_output(&mut self, index: usize, stream: Stream, spec: &Spec) -> Result<Option<Ours>> {
        match stream {
            Stream::Capture | Stream::Terminal(_) => {
                if let Stream::Terminal(fd) = stream {
                    self.goes[index - 1] = Goes::To(fd);
                }
                let (read, write) = pipe()?;
                set_nonblocking(&read)?;
                self.ends[index] = (write.as_raw_fd(), true);
                self.theirs.push(write);
                return Ok(Some(Ours::new(read)));
            }
            Stream::Pipe | Stream::Log if spec.tty => self.ends[index] = (self.null()?, false),
            Stream::Pipe | Stream::Log => {
                let (read, write) = pipe()?;
                self.ends[index] = (write.as_raw_fd(), true);
                self.theirs.push(write);
                if stream == Stream::Log {
                    set_nonblocking(&read)?;
                    self.logged[index - 1] = Some(read);
                } else {
                    self.pipes[index] = Some(read);
                }
            }
            Stream::Stdout => self.ends[index] = self.ends[1],
            Stream::Fd(fd) => self.ends[index] = (fd, false),
            Stream::Null => self.ends[index] = (self.null()?, false),
        }
        Ok(None)
    }

    fn null(&mut self) -> Result<i32> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| ("open /dev/null", e))?;
        let fd = null.as_raw_fd();
        self.theirs.push(null);
        Ok(fd)
    }

    /// The container has its ends: ours of them are closed, so that its end shows as end of file.
    pub fn hand_over(&mut self) {
        self.theirs.clear();
        self.logged = [const { None }; 2];
    }

    /// Something was read that has not reached its place yet.
    pub fn owe(&self) -> bool {
        [0, 1].into_iter().any(|index| self.debt(index).is_some())
    }

    fn debt(&self, index: usize) -> Option<BorrowedFd<'_>> {
        match self.goes[index] {
            Goes::To(fd) if !self.captured[index].data.is_empty() => Some(sys::host::borrow(fd)),
            _ => None,
        }
    }

    /// The stream, or while something is owed the place that takes it.
    pub fn waits_for(&self, index: usize) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let stream = if index == 0 { &self.stdout } else { &self.stderr };
        let owed = self.debt(index).map(|fd| (fd, PollFlags::OUT));
        owed.or_else(|| stream.as_ref().map(reading))
    }

    /// Writes what is owed, as much as there is room for: a terminal that was stopped must not hold this thread, nor its signals.
    /// True when nothing is left.
    pub fn pass_on(&mut self, index: usize) -> bool {
        const PIECE: usize = 4096;
        let mut done = 0;
        while let Some(target) = self.debt(index) {
            let left = &self.captured[index].data[done..];
            let mut ready = [PollFd::from_borrowed_fd(target, PollFlags::OUT)];
            if left.is_empty() || !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(1)) {
                break;
            }
            match rustix::io::write(target, &left[..left.len().min(PIECE)]) {
                Ok(count) => done += count,
                Err(Errno::INTR | Errno::AGAIN) => break,
                Err(_) => done = self.captured[index].data.len(), // nobody is there any more
            }
        }
        if done > 0 {
            self.captured[index].data.drain(..done);
        }
        self.debt(index).is_none()
    }

    /// A terminal stands for all three streams.
    pub fn take_terminal(&mut self, master: OwnedFd, spec: &Spec) -> Result<()> {
        set_nonblocking(&master)?;
        let from = match spec.stdin {
            Stream::Fd(fd) | Stream::Terminal(fd) => Some(fd),
            _ => None,
        };
        if from.is_some() || spec.input.is_some() {
            let again = rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(|errno| ("dup of the terminal", errno))?;
            self.stdin = Some(Feed::of_terminal(Ours::new(again), spec.input.clone().unwrap_or_default(), from));
        }
        match spec.stdout {
            Stream::Fd(fd) => self.goes[0] = Goes::To(fd),
            Stream::Null => self.goes[0] = Goes::Nowhere,
            _ => {}
        }
        self.stdout = Some(Ours::new(master));
        Ok(())
    }

    /// The container's terminal gets the size that the caller's has now.
    pub fn follow_window(&mut self, spec: &Spec) {
        let (Some(theirs), Some(master)) = (spec.terminal(), self.stdout.as_ref()) else { return };
        if let Ok(window) = sys::fs::window(theirs)
            && window != self.window
            && sys::fs::set_window(master.as_raw_fd(), window).is_ok()
        {
            self.window = window;
        }
    }
}

pub fn reading(fd: &Ours) -> (BorrowedFd<'_>, PollFlags) {
    (fd.as_fd(), PollFlags::IN)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| ("make a pipe", errno).into())
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).map_err(|errno| ("fcntl of a pipe", errno))?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(|errno| Error::from(("fcntl of a pipe", errno)))
}

/// What reading a stream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    More,
    Drained,
    Ended,
    OverCap,
    /// With its error number; EIO of a terminal is its end.
    Failed(i32),
}

impl Capture {
    const FIRST: usize = 16 * 1024;
    const MOST: usize = 1 << 20;

    /// Reads once into free room that grows with the stream; at the cap the rest is dropped.
    pub fn read(&mut self, fd: &Ours) -> Read {
        self.last = 0;
        let room = self.room();
        if room == 0 {
            return self.discard(fd);
        }
        let spare = self.data.len();
        // An interpreter that runs into its own memory limit gets an error, not an abort.
        if self.data.capacity() - spare < room && self.data.try_reserve(room.max(self.data.len())).is_err() {
            return Read::Failed(Errno::NOMEM.raw_os_error());
        }
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut self.data)) {
            Ok(0) => Read::Ended,
            Ok(count) => {
                self.last = count;
                self.grow(fd, count);
                self.clip()
            }
            Err(Errno::AGAIN) => Read::Drained,
            Err(Errno::INTR) => Read::More,
            Err(errno) => Read::Failed(errno.raw_os_error()),
        }
    }

    /// A full pipe of the default size: fewer, larger reads from now on (pipe-max-size is 1 MiB unless somebody changed it).
    fn grow(&mut self, fd: &Ours, count: usize) {
        const DEFAULT_PIPE: usize = 64 * 1024;
        if !self.grown && count >= DEFAULT_PIPE {
            self.grown = true;
            let _ = rustix::pipe::fcntl_setpipe_size(fd, Self::MOST);
        }
    }

    fn room(&self) -> usize {
        let grown = self.data.len().clamp(Self::FIRST, Self::MOST);
        self.cap.map_or(grown, |cap| grown.min((cap as usize).saturating_sub(self.data.len())))
    }

    fn clip(&mut self) -> Read {
        let cap = self.cap.map_or(usize::MAX, |cap| cap as usize);
        if self.data.len() <= cap {
            return Read::More;
        }
        self.data.truncate(cap);
        self.truncated = true;
        Read::OverCap
    }

    fn discard(&mut self, fd: &Ours) -> Read {
        let mut sink = [0u8; 64 * 1024];
        match rustix::io::read(fd, &mut sink[..]) {
            Ok(0) => Read::Ended,
            Ok(count) => {
                self.last = count;
                self.truncated = true;
                Read::OverCap
            }
            Err(Errno::AGAIN) => Read::Drained,
            Err(Errno::INTR) => Read::More,
            Err(errno) => Read::Failed(errno.raw_os_error()),
        }
    }
}
