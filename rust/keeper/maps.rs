//! User namespaces and their id maps, written through a process that stands in for the one they are meant for. Knows no container.

use crate::procfs;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned};
use crate::sys::{Errno, Result, freestanding, net};
use crate::wire::Decimal;

/// Nobody who is stuck may stop the keeper.
const PATIENCE_MS: i64 = 5000;

/// Both maps as the kernel takes them: lines of `inside outside count`.
#[derive(Clone, Copy)]
pub struct Maps<'a> {
    pub uid: &'a [u8],
    pub gid: &'a [u8],
}

impl Maps<'_> {
    /// Whether a group is one of the namespace's; without a map of its own each is.
    pub fn has_gid(&self, gid: u32) -> bool {
        let holds = |line: &[u8]| {
            let mut numbers = line.split(|byte| *byte == b' ').map(number);
            let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
            first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&u64::from(gid)))
        };
        self.gid.is_empty() || self.gid.split(|byte| *byte == b'\n').any(holds)
    }

    /// The last uid and gid of each map, as they are outside.
    pub fn last(&self) -> Option<(u32, u32)> {
        last_of(self.uid).zip(last_of(self.gid))
    }
}

fn last_of(map: &[u8]) -> Option<u32> {
    let line = map.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?;
    let mut numbers = line.split(|byte| *byte == b' ').map(number).skip(1);
    numbers.next().zip(numbers.next()).map(|(first, count)| (first + count).saturating_sub(1) as u32)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
}

/// A process whose maps can be written, in a user namespace where somebody else shall live.
///
/// The files of an undumpable process in /proc belong to root of the host (proc(5)), so a plain user's keeper could not write the
/// maps of itself, or of a copy. Dumpable is this process alone, for as long as the maps take. It has closed every descriptor but
/// its socket, and unmapped what the keeper knew: whoever of the same user takes hold of it (CVE-2026-41163) has got nothing.
pub struct StandIn {
    pub pid: i32,
    pidfd: Fd,
    socket: Fd,
}

impl StandIn {
    /// With a new user namespace of its own.
    pub fn in_new() -> Result<(StandIn, Fd)> {
        let (ours, theirs) = net::socketpair()?;
        let stand_in = StandIn::of(process::clone_copy(CLONE_NEWUSER, None)?, ours, theirs, send_namespace);
        // Before it was dumpable: nobody can have made it another namespace.
        let namespace = receive_namespace(stand_in.socket.raw())?;
        stand_in.await_word()?;
        Ok((stand_in, namespace))
    }

    /// In the one of that descriptor, which is a child of ours.
    pub fn inside(namespace: i32) -> Result<StandIn> {
        let (ours, theirs) = net::socketpair()?;
        let stand_in =
            StandIn::of(process::clone_copy(0, None)?, ours, theirs, |_| process::setns(namespace, CLONE_NEWUSER));
        stand_in.await_word()?;
        Ok(stand_in)
    }

    fn of(cloned: Cloned, ours: Fd, theirs: Fd, arrive: impl Fn(i32) -> Result<()>) -> StandIn {
        let Cloned::Parent { pid, pidfd } = cloned else {
            let socket = theirs.raw();
            if arrive(socket).and_then(|()| keep_only(socket)).is_err() {
                process::exit_group(1);
            }
            freestanding::forget_and(stand, socket)
        };
        StandIn { pid, pidfd, socket: ours }
    }

    fn await_word(&self) -> Result<()> {
        match await_message(self.socket.raw())?.length {
            1 => Ok(()),
            _ => Err(Errno::CHILD),
        }
    }

    pub fn write(&self, maps: Maps<'_>) -> Result<()> {
        write(self.pid, maps)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(self.pidfd.raw(), SIGKILL);
        let mut fds = [process::PollFd { fd: self.pidfd.raw(), events: POLLIN, revents: 0 }];
        let _ = process::poll(&mut fds, PATIENCE_MS);
        // One that a stranger traces is that one's to reap first, and then a zombie of ours.
        let _ = process::wait4(self.pid, WALL | WNOHANG);
    }
}

fn keep_only(fd: i32) -> Result<()> {
    if fd > 0 {
        fs::close_range(0, fd as u32 - 1, false)?;
    }
    fs::close_range(fd as u32 + 1, u32::MAX, false)
}

/// Until its parent closes the other end, or dies.
fn stand(socket: i32) -> ! {
    let _ = process::set_name(c"pycontainer-ids");
    let _ = process::prctl(PR_SET_DUMPABLE, 1, 0);
    let _ = fs::write(socket, &[1]);
    while fs::read(socket, &mut [0u8; 1]) == Err(Errno::INTR) {}
    process::exit_group(0)
}

/// This process's user namespace to the other end of a socket: it alone may open it while it is undumpable.
pub fn send_namespace(socket: i32) -> Result<()> {
    let own = fs::openat(AT_FDCWD, c"/proc/self/ns/user", O_RDONLY, 0)?;
    net::send(socket, &[1], &[own.raw()], 0).map(drop)
}

pub fn receive_namespace(socket: i32) -> Result<Fd> {
    let received = await_message(socket)?;
    if received.fd_count == 1 { Ok(Fd::own(received.fds[0])) } else { Err(Errno::CHILD) }
}

fn await_message(socket: i32) -> Result<net::Received> {
    let mut fds = [process::PollFd { fd: socket, events: POLLIN, revents: 0 }];
    if process::poll(&mut fds, PATIENCE_MS)? == 0 {
        return Err(Errno::TIMEDOUT);
    }
    net::receive(socket, &mut [0u8; 1], MSG_DONTWAIT)
}

/// A user namespace in which nobody lives, kept by its descriptor.
pub fn make_namespace(maps: Maps<'_>) -> Result<Fd> {
    let (stand_in, namespace) = StandIn::in_new()?;
    stand_in.write(maps)?;
    Ok(namespace)
}

/// One line for each map; the namespace of one id of each kind.
pub fn make_namespace_of_one(uid: [u32; 2], gid: [u32; 2]) -> Result<Fd> {
    let (uid, gid) = (Line::new([uid[0], uid[1], 1]), Line::new([gid[0], gid[1], 1]));
    make_namespace(Maps { uid: uid.text(), gid: gid.text() })
}

/// Of a process that waits for them, and whose files in /proc are ours to write.
pub fn write(pid: i32, maps: Maps<'_>) -> Result<()> {
    let one = |file: &[u8], text: &[u8]| procfs::with_path(pid, file, |path| fs::write_file(AT_FDCWD, path, text));
    one(b"/uid_map", maps.uid)?;
    one(b"/gid_map", maps.gid)
}

/// `inside outside count` in decimal.
pub struct Line {
    text: [u8; 36],
    used: usize,
}

impl Line {
    pub fn new(numbers: [u32; 3]) -> Line {
        let mut line = Line { text: [0; 36], used: 0 };
        for (number, end) in numbers.iter().zip([b' ', b' ', b'\n']) {
            let digits = Decimal::new(*number as u64);
            let count = digits.bytes().len();
            line.text[line.used..line.used + count].copy_from_slice(digits.bytes());
            line.text[line.used + count] = end;
            line.used += count + 1;
        }
        line
    }

    pub fn text(&self) -> &[u8] {
        &self.text[..self.used]
    }
}
