//! The host's side of one keeper: its start, its messages, its death.

use super::{causes, probe};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::sys;
use crate::wire::{self, Reader, Write, record, request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Built by build.rs from rust/keeper.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pycontainer-keeper"));
/// After so long it is woken, after as long again it is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ESRCH: i32 = 3;
const EMFILE: i32 = 24;
const ETIMEDOUT: i32 = 110;

/// The keeper of this interpreter.
#[derive(Debug)]
pub struct Keeper {
    pub pid: i32,
    /// Clock ticks after boot (field 22 of /proc/PID/stat): with the pid it names one process for ever.
    pub start_time: u64,
    /// The beginning of the names of all that its containers have on this machine.
    pub prefix: String,
    pidfd: Ours,
    control: Ours,
}

/// What a keeper without privileges does first; see rust/keeper/rootless.rs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Privileges {
    Privileged,
    OneId,
    /// newuidmap and newgidmap with their arguments after the pid.
    Range(Vec<(String, Vec<String>)>),
}

impl Keeper {
    pub fn start(mode: &Privileges, places: &[BorrowedFd<'_>]) -> Result<Keeper> {
        let fail = |errno: sys::Errno| Error::setup("start the keeper", errno.0);
        let image = program_file()?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| ("open /dev/null", e))?;
        let host = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
            .map_err(|errno| ("pidfd_open of this process", errno))?;
        let (ours, theirs) = sys::net::socketpair().map_err(fail)?;
        // Before the first message is sent: one without credentials would be refused.
        sys::net::pass_credentials(theirs.raw()).map_err(fail)?;
        let (ours, theirs) = (sys::host::adopt(ours.release()), sys::host::adopt(theirs.release()));
        let started =
            sys::host::start_keeper(image.as_fd(), theirs.as_fd(), host.as_fd(), null.as_fd()).map_err(not_started)?;
        drop(theirs);
        // With a wrong one the next engine would take this one's containers for leftovers.
        let start_time = start_time(started.pid)
            .map_err(|error| Error::setup("read the keeper's start time", error.raw_os_error().unwrap_or(71)))?;
        let prefix = prefix(started.pid, start_time);
        let (pidfd, control) = (Ours::new(started.pidfd), Ours::new(ours));
        let keeper = Keeper { pid: started.pid, start_time, prefix, pidfd, control };
        keeper.greet(mode, places)?;
        Ok(keeper)
    }

    fn greet(&self, mode: &Privileges, places: &[BorrowedFd<'_>]) -> Result<()> {
        let mut hello = Vec::new();
        hello.put_u8(request::HELLO);
        hello.put_u8((*mode != Privileges::Privileged) as u8);
        hello.put_bytes(self.prefix.as_bytes());
        let helpers: &[_] = if let Privileges::Range(helpers) = mode { helpers } else { &[] };
        hello.put_u8(helpers.len() as u8);
        for (program, arguments) in helpers {
            hello.put_bytes(program.as_bytes());
            hello.put_u8(arguments.len() as u8);
            arguments.iter().for_each(|argument| hello.put_bytes(argument.as_bytes()));
        }
        self.send(&hello, &places.iter().map(|place| place.as_raw_fd()).collect::<Vec<_>>())?;
        self.await_ready(mode)
    }

    fn await_ready(&self, mode: &Privileges) -> Result<()> {
        if let Err(error) = self.await_answer(self.control.as_fd()) {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
            return Err(error);
        }
        let mut answer = [0u8; 16];
        let length = rustix::net::recv(&self.control, &mut answer[..], rustix::net::RecvFlags::DONTWAIT)
            .map_or(0, |(length, _)| length);
        let mut from = Reader::new(&answer[..length]);
        match (from.u8(), from.u16(), from.i32()) {
            (Some(record::READY), _, Some(0)) => Ok(()),
            (Some(record::READY), Some(step), Some(errno)) => Err(refused(mode, step, errno)),
            _ => Err(Error::setup("start the keeper: it ended before it was ready", 3)),
        }
    }

    /// Until there is something to read from `from`, or the keeper has ended. However many signals come meanwhile.
    fn await_answer(&self, from: BorrowedFd<'_>) -> Result<()> {
        let mut fds = [PollFd::new(&from, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
        for _ in 0..2 {
            let deadline = Instant::now() + ANSWER_WITHIN;
            loop {
                match poll(&mut fds, Some(&left_until(deadline))) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(0) => break,
                    Ok(_) => return Ok(()),
                    Err(errno) => return Err(("wait for the keeper", errno).into()),
                }
            }
            self.wake();
        }
        Err(Error::setup("wait for the keeper: it does not answer", ETIMEDOUT))
    }

    /// Somebody may have stopped it, and its time limits with it; nothing else would let it go on.
    pub fn wake(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::CONT);
    }

    /// One message, whole, to the keeper. Its death shows as EPIPE or ECONNREFUSED.
    pub fn send(&self, message: &[u8], fds: &[i32]) -> Result<()> {
        match sys::errno::retry(|| sys::net::send(self.control.as_raw_fd(), message, fds, 0)) {
            Ok(_) => Ok(()),
            Err(errno) if errno.is_closed_end() => Err(died()),
            Err(errno) => Err(Error::setup("send to the keeper", errno.0)),
        }
    }

    pub fn kill(&self, id: u64, cause: u8) -> Result<()> {
        let mut message = Vec::with_capacity(10);
        message.put_u8(request::KILL);
        message.put_u64(id);
        message.put_u8(cause);
        self.send(&message, &[])
    }

    /// Its tasks are about to stand still, or go on.
    pub fn frozen(&self, id: u64, frozen: bool) -> Result<()> {
        let mut message = Vec::with_capacity(10);
        message.put_u8(request::FROZEN);
        message.put_u64(id);
        message.put_u8(u8::from(frozen));
        self.send(&message, &[])
    }

    /// A signal for the command of a container.
    pub fn signal(&self, id: u64, signal: i32) -> Result<()> {
        let mut message = vec![request::SIGNAL];
        message.put_u64(id);
        message.put_i32(signal);
        self.send(&message, &[])
    }

    /// The socket gets a byte when something was written to the log of a container, or to the log of this number, and ends with it.
    pub fn subscribe(&self, id: u64, listener: BorrowedFd<'_>) -> Result<()> {
        self.about(request::SUBSCRIBE, id, listener)
    }

    /// This user's other processes may come in there; the directory is locked as long as the keeper holds it.
    pub fn listen(&self, listener: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> Result<()> {
        self.send(&[request::LISTEN], &[listener.as_raw_fd(), directory.as_raw_fd()])
    }

    /// What comes out of these pipes goes to a log of its own, which this number stands for.
    pub fn keep_log(&self, id: u64, container: u64, file: BorrowedFd<'_>, pipes: &[Option<OwnedFd>; 2]) -> Result<()> {
        let mut message = vec![request::KEEP_LOG];
        message.put_u64(id);
        message.put_u64(container);
        message.put_u8(u8::from(pipes[0].is_some()) | u8::from(pipes[1].is_some()) << 1);
        let pipes = pipes.iter().flatten().map(AsRawFd::as_raw_fd);
        self.send(&message, &[file.as_raw_fd()].into_iter().chain(pipes).collect::<Vec<_>>())
    }

    /// What is left in its pipes is in the file when `told` has no other end.
    pub fn settle_log(&self, id: u64, told: BorrowedFd<'_>) -> Result<()> {
        self.about(request::SETTLE_LOG, id, told)
    }

    /// What comes out of a container's terminal goes to its log.
    pub fn log_terminal(&self, id: u64, master: BorrowedFd<'_>) -> Result<()> {
        self.about(request::TERMINAL, id, master)
    }

    fn about(&self, kind: u8, id: u64, descriptor: BorrowedFd<'_>) -> Result<()> {
        let mut message = vec![kind];
        message.put_u64(id);
        self.send(&message, &[descriptor.as_raw_fd()])
    }

    /// An empty tmpfs, held by its descriptor only.
    pub fn skeleton(&self, size: u64, inodes: u64) -> Result<OwnedFd> {
        // A forked copy that held the other end would hide the keeper's death from us.
        let _gate = crate::gate::spawning();
        let (ours, theirs) = sys::net::socketpair().map_err(|errno| Error::setup("socketpair", errno.0))?;
        let mut message = Vec::new();
        message.put_u8(request::SKELETON);
        message.put_u64(size);
        message.put_u64(inodes);
        message.put_u32(0o755);
        message.put_u64(sys::constants::MOUNT_ATTR_NOSUID | sys::constants::MOUNT_ATTR_NODEV);
        self.send(&message, &[theirs.raw()])?;
        drop(theirs);
        self.await_answer(sys::host::borrow(ours.raw()))?;
        let mut answer = [0u8; 16];
        let received = sys::errno::retry(|| sys::net::receive(ours.raw(), &mut answer, 0));
        let received = received.map_err(|errno| Error::setup("make a tmpfs", errno.0))?;
        let mut from = Reader::new(&answer[..received.length]);
        match (from.u8(), from.i32()) {
            (Some(record::SKELETON), Some(0)) if received.fd_count == 1 => Ok(sys::host::adopt(received.fds[0])),
            (Some(record::SKELETON), Some(0)) => Err(Error::setup("receive a tmpfs", EMFILE)),
            (Some(record::SKELETON), Some(errno)) => Err(Error::setup("make a tmpfs", errno)),
            _ => Err(died()),
        }
    }

    /// Other limits of a container that no group holds. (A word of `wire::bound`, an error number, how much is in use.)
    pub fn update(&self, update: &wire::Update, descriptors: &[(u8, i32)]) -> Result<(u8, i32, u64)> {
        let _gate = crate::gate::spawning();
        let (ours, theirs) = sys::net::socketpair().map_err(|errno| Error::setup("socketpair", errno.0))?;
        let mut message = vec![request::UPDATE];
        update.write(&mut message);
        descriptors.iter().for_each(|(role, _)| message.put_u8(*role));
        let fds: Vec<i32> = [theirs.raw()].into_iter().chain(descriptors.iter().map(|(_, fd)| *fd)).collect();
        self.send(&message, &fds)?;
        drop(theirs);
        self.await_answer(sys::host::borrow(ours.raw()))?;
        let mut answer = [0u8; 16];
        let received = sys::errno::retry(|| sys::net::receive(ours.raw(), &mut answer, 0));
        let received = received.map_err(|errno| Error::setup("update the limits", errno.0))?;
        let mut from = Reader::new(&answer[..received.length]);
        match (from.u8(), from.u8(), from.i32(), from.u64()) {
            (Some(record::UPDATED), Some(which), Some(errno), Some(used)) => Ok((which, errno, used)),
            _ => Err(died()),
        }
    }

    /// From now on the keeper removes what is ours in this directory when we are gone.
    pub fn announce_uppers(&self, directory: BorrowedFd<'_>) -> Result<()> {
        self.send(&[request::UPPERS], &[directory.as_raw_fd()])
    }

    /// A container is about to join a v1 group: the kernel's grace period can begin.
    pub fn attach_soon(&self, procs: BorrowedFd<'_>) {
        let _ = self.send(&[request::ATTACH_SOON], &[procs.as_raw_fd()]);
    }

    /// Groups and a writable layer of that name, where this process cannot remove them itself.
    pub fn remove(&self, name: &str) {
        let mut message = vec![request::REMOVE];
        message.put_bytes(name.as_bytes());
        let _ = self.send(&message, &[]);
    }

    /// Nobody will ask for the files of this container again.
    pub fn forget(&self, id: u64) {
        let mut message = vec![request::FORGET];
        message.put_u64(id);
        let _ = self.send(&message, &[]);
    }

    pub fn pidfd(&self) -> &Ours {
        &self.pidfd
    }

    pub fn is_alive(&self) -> bool {
        self.outlives(Duration::ZERO)
    }

    /// Whether it lives, and is not about to be dead: a dying process closes its descriptors, in no certain order (`task_work_run`),
    /// and shows in its pidfd last.
    pub fn outlives(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&self.control, PollFlags::empty())];
        let deadline = Instant::now() + time;
        loop {
            // Even a poll that does not wait is interrupted by a signal that has just come: like every error of a poll, that says
            // nothing of the keeper. A dead one answers the next message with EPIPE.
            match poll(&mut fds, Some(&left_until(deadline))) {
                Err(rustix::io::Errno::INTR) => {}
                seen => return !matches!(seen, Ok(1..)),
            }
        }
    }
}

impl Drop for Keeper {
    /// A host that is a child subreaper becomes the keeper's parent: it is not left with its zombie. Elsewhere this is ECHILD.
    fn drop(&mut self) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let dying = if self.is_alive() { WaitIdOptions::NOHANG } else { WaitIdOptions::empty() };
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | dying);
    }
}

pub fn died() -> Error {
    let note = Some(
        "the keeper of this interpreter's containers died, and all of them with it; the next call starts a new one"
            .into(),
    );
    Error::Setup { step: "run a container".into(), path: None, errno: 32, note }
}

/// The keeper lives, and let go of this container without a word.
pub fn mute() -> Error {
    Error::setup("run a container: the keeper refused the plan", 71)
}

/// The sealed memfd; where the machine forbids executable ones, the copy that the wheel carries.
fn program_file() -> Result<OwnedFd> {
    match sys::host::sealed_program(PROGRAM) {
        Ok(file) => Ok(file),
        Err(sys::Errno(13 | 1)) => super::engine::packaged_program(),
        Err(errno) => Err(Error::setup("memfd_create", errno.0)),
    }
}

/// Two clones and an execveat, which only a filter or an old kernel refuses.
fn not_started(errno: sys::Errno) -> Error {
    match errno.0 {
        38 if let Some(call) = probe::lacking().filter(|call| call.name != "clone3") => {
            Error::unsupported("keeper", call.why, call.fix)
        }
        1 | 38 => super::explain::no_namespaces("keeper", errno.0),
        errno => Error::setup("start the keeper", errno),
    }
}

fn refused(mode: &Privileges, step: u16, errno: i32) -> Error {
    let cause = format!("{} ({})", describe(step), std::io::Error::from_raw_os_error(errno));
    match mode {
        Privileges::Privileged => Error::setup(format!("start the keeper: {}", describe(step)), errno),
        _ if step == wire::step::GID_MAP => Error::unsupported("user_namespace", cause, causes::ONE_ID.fix),
        _ => {
            let (why, fix) = probe::namespaces(errno);
            let (why, fix) = probe::lacking().map_or((why, fix.to_string()), |call| (call.why, call.fix));
            Error::unsupported("user_namespace", format!("{}: {why}", describe(step)), fix)
        }
    }
}

fn describe(step: u16) -> &'static str {
    match step {
        wire::step::CLONE => "unshare(CLONE_NEWUSER) was refused",
        wire::step::UID_MAP => "the user namespace's maps could not be written",
        wire::step::GID_MAP => "newuidmap or newgidmap failed",
        wire::step::RANGE => "the keeper could not keep its capabilities",
        _ => "the keeper refused its first message",
    }
}

/// The rest of a wait that a signal interrupted.
fn left_until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ }
}

/// With the pid namespace: two of them have the same pids, and engines in both may share a store.
fn prefix(pid: i32, start_time: u64) -> String {
    crate::cgroup::group_name(pid as u32, start_time, &space())
}

/// How the names of keepers of this pid namespace end: elsewhere their pids mean nothing.
pub fn space() -> String {
    use std::os::unix::fs::MetadataExt;
    let space = std::fs::metadata("/proc/self/ns/pid").map_or(0, |seen| seen.ino());
    format!("{space}.")
}

/// Field 22 of /proc/PID/stat; the name in field 2 may hold anything, so the count starts after its last parenthesis. ESRCH for one
/// that has ended: where nobody reaps (the first process of a container often does not) it is a zombie for ever.
pub fn start_time(pid: i32) -> std::io::Result<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    let text = String::from_utf8_lossy(&text);
    let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    match (fields.next(), fields.nth(18).and_then(|field| field.parse().ok())) {
        (Some("Z" | "X"), _) => Err(std::io::Error::from_raw_os_error(ESRCH)),
        (_, Some(start)) => Ok(start),
        _ => Err(std::io::Error::from_raw_os_error(71)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    #[test]
    fn one_that_has_ended_and_that_nobody_has_reaped_is_not_there() {
        assert!(start_time(std::process::id() as i32).is_ok());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        waitid(WaitId::Pid(Pid::from_raw(pid).unwrap()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(start_time(pid).unwrap_err().raw_os_error(), Some(ESRCH));
        child.wait().unwrap();
    }
}
