//! A command beside the first one: PID 1 forks a supervisor for each, which starts it, reports its end and can kill all that came of it.
//!
//! Nothing joins the container: the supervisor is a child of PID 1 on its memory, with its namespaces, groups, Landlock domain, and as
//! undumpable. It is the subreaper of what it started, so that no child gets away by forking twice or by setsid.

use crate::command::{self, Command};
use crate::inside::State;
use crate::outside::Slots;
use crate::pid1::{self, Failed, Inside};
use crate::plan::{self, Plan};
use crate::sys::beside::{Place, Places, Sizes, Workspace};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::net::{self, Received};
use crate::sys::process::{self, PollFd, Rusage};
use crate::sys::{Errno, Result};
use crate::wire::{Fixed, Reader, Write, errand, flag, phase, record, step};
use core::ffi::CStr;

/// Rounds in which all children that are left are killed. What forks faster than that is stopped first, with everything else inside.
const ROUNDS: usize = 100;
/// Milliseconds in which one that was killed can be reaped while everything else stands still.
const TRACED_FOR: usize = 20;
const CHILDREN_TEXT: usize = 4096;

/// Supervisors on PID 1's memory at one time; those beyond get a copy.
const AT_ONCE: usize = 128;
/// The longest plan: argv and envp, of which execve(2) takes 6 MiB at most.
const PLAN_MAX: usize = 16 << 20;
/// Of a supervisor that could not read its plan.
const UNREADABLE: i32 = 71;

/// PID 1, as far as its guests and errands are concerned.
pub struct First<'a> {
    pub inside: &'a Inside<'a>,
    pub state: &'a State<'a>,
    pub origin: Origin,
}

/// What a supervisor takes over from PID 1.
#[derive(Clone, Copy)]
pub struct Origin {
    root: i32,
    proc: i32,
    landlocked: usize,
    /// The nested user namespace of a command with CAP_SYS_ADMIN, or -1.
    nested: i32,
}

impl Origin {
    pub fn of(state: &State<'_>, nested: i32) -> Origin {
        Origin { root: state.root, proc: state.proc, landlocked: state.landlocked, nested }
    }

    /// Whether a supervisor may be on PID 1's memory. Its child makes dumpable what it is on, for a moment, where this machine's setting
    /// says so of whatever changes its ids: there it is a copy, which has no socket of PID 1's.
    fn shares(&self) -> bool {
        let mut setting = [b'1'];
        let _ = fs::openat(self.proc, c"sys/fs/suid_dumpable", O_RDONLY, 0)
            .and_then(|file| fs::read_full(file.raw(), &mut setting));
        setting != [b'1']
    }
}

/// One command, as PID 1 hands it on.
#[derive(Clone, Copy)]
struct Task {
    origin: Origin,
    /// The plan is in the file of the last descriptor.
    in_file: bool,
    fds: [i32; net::MAX_FDS],
    fd_count: usize,
}

pub type Supervisors = Places<AT_ONCE>;

/// One errand, from the report socket or a guest's. False at its end: the other is gone, or wants nothing more.
pub fn serve(first: &First<'_>, supervisors: &mut Supervisors, socket: i32, buffer: &mut [u8]) -> bool {
    let received = match net::receive(socket, buffer, MSG_DONTWAIT) {
        Ok(received) if received.length > 0 => received,
        Err(Errno::AGAIN | Errno::INTR) => return true,
        _ => return false,
    };
    if let (&[errand::SOCKET, family], 1) = (&buffer[..received.length], received.fd_count) {
        crate::lend::socket(family, received.fds[0]);
    } else if let [kind @ (errand::EXEC | errand::EXEC_FILE), plan @ ..] = &buffer[..received.length] {
        // A start that failed shows to the host as the end of the socket that it had sent.
        let _ = start(first, supervisors, *kind == errand::EXEC_FILE, plan, &received);
    }
    received.fds[..received.fd_count].iter().for_each(|fd| fs::close(*fd));
    true
}

/// A plan too long for a message is in a file; the message says how long it is.
fn start(
    first: &First<'_>,
    supervisors: &mut Supervisors,
    in_file: bool,
    plan: &[u8],
    received: &Received,
) -> Result<()> {
    let told = if in_file { Reader::new(plan).u64().ok_or(Errno::PROTO)? as usize } else { plan.len() };
    if told > PLAN_MAX {
        return Err(Errno::NOMEM);
    }
    let begins = if in_file { &[] } else { plan };
    let sizes = Sizes { told, begins, made: command::workspace_size(told) };
    let task = Task { origin: first.origin, in_file, fds: received.fds, fd_count: received.fd_count };
    supervisors.start(first.origin.shares(), &sizes, task, supervise)
}

fn supervise(mut task: Task, place: Place) -> i32 {
    if task.in_file && read_file(&mut task, place.told).is_err() {
        return UNREADABLE;
    }
    let Some(plan) = plan::read(place.told, task.fds, task.fd_count) else { return UNREADABLE };
    match run(&task.origin, &plan, place.workspace) {
        Ok(()) => 0,
        Err(failed) => {
            pid1::tell_error(plan.fds.report, failed);
            1
        }
    }
}

fn read_file(task: &mut Task, plan: &mut [u8]) -> Result<()> {
    task.fd_count = task.fd_count.checked_sub(1).ok_or(Errno::PROTO)?;
    let file = Fd::own(task.fds[task.fd_count]);
    if fs::read_full(file.raw(), plan)? == plan.len() { Ok(()) } else { Err(Errno::PROTO) }
}

fn run(first: &Origin, plan: &Plan<'_>, workspace: Workspace<'_>) -> core::result::Result<(), Failed> {
    let failed = |step| move |errno| (phase::COMMAND, step, errno);
    let own = [first.root, first.proc, first.nested];
    let kept = plan.fds.all[..plan.fds.count].iter().copied().chain(own);
    pid1::keep_only(kept).map_err(failed(step::RELEASE))?;
    let _ = process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0);
    process::prctl(PR_SET_CHILD_SUBREAPER, 1, 0).map_err(failed(step::RELEASE))?;
    let slots = Slots::new(false);
    let mut state = State::beside(&slots, first.root, first.proc, first.landlocked);
    if plan.head.has(flag::TTY) {
        state.terminal = terminal(plan, &mut state).map_err(failed(step::TERMINAL))?;
    }
    let in_command = |(step, errno)| (phase::COMMAND, step, errno);
    let nested = (first.nested >= 0).then_some(first.nested);
    let mut command = Command::prepare(plan, &mut state, nested, workspace).map_err(in_command)?;
    let pid = command.start().map_err(in_command)?;
    pid1::stay_undumpable();
    let started = process::now();
    // Who waits for its end alone has no use for the descriptor, and would have to look whose it is.
    tell_running(plan.fds.report, plan.head.has(flag::HANDLE).then_some(pid), started);
    command.close_streams();
    let mut tree = Tree { report: plan.fds.report, proc: state.proc, command: pid, started, ..Tree::default() };
    tree.reap_to_the_end().map_err(failed(step::WAIT))
}

/// The command runs: since when, and its pidfd where it is wanted.
pub fn tell_running(report: i32, pid: Option<i32>, started: u64) {
    let mut record = Fixed::<16>::new();
    record.put_u8(record::RUNS);
    record.put_u64(started);
    let pidfd = pid.and_then(|pid| process::pidfd_open(pid).ok());
    let fds = pidfd.as_ref().map_or([-1], |pidfd| [pidfd.raw()]);
    let _ = net::send(report, record.bytes(), if fds[0] < 0 { &[] } else { &fds }, 0);
}

/// A terminal of the container's own devpts: the outer end goes to the host.
fn terminal(plan: &Plan<'_>, state: &mut State<'_>) -> Result<i32> {
    let window = Reader::new(plan.inside.rest()).u32().ok_or(Errno::PROTO)?;
    let (master, peer) = crate::inside::terminal(state.root, window)?;
    let identity = state.identity(plan).map_err(|(_, errno)| errno)?;
    fs::fchown(peer.raw(), identity.uid, u32::MAX)?;
    net::send(plan.fds.report, &[record::TERMINAL], &[master.raw()], 0)?;
    Ok(peer.release())
}

/// What one supervisor has started: a command, and what came of it.
#[derive(Default)]
struct Tree {
    report: i32,
    proc: i32,
    command: i32,
    started: u64,
    /// The command has ended, and the host knows.
    told: bool,
    /// The host has closed its end.
    deserted: bool,
    killing: bool,
    rounds: usize,
    used: Used,
}

#[derive(Default)]
struct Used {
    user: u64,
    system: u64,
    max_rss_kib: u64,
}

impl Used {
    fn add(&mut self, usage: &Rusage) {
        let micros = |time: [i64; 2]| time[0] as u64 * 1_000_000 + time[1] as u64;
        self.user += micros(usage.user);
        self.system += micros(usage.system);
        self.max_rss_kib = self.max_rss_kib.max(usage.max_rss_kib as u64);
    }
}

impl Tree {
    /// Until nothing is left of it, or it has ended and the host wants no more of it: what it left running is PID 1's then, as after a
    /// command of docker exec.
    fn reap_to_the_end(&mut self) -> Result<()> {
        let children = process::signalfd(1 << (SIGCHLD - 1))?;
        loop {
            let any = self.reap();
            if !any || (self.told && self.deserted && !self.killing) {
                return Ok(());
            }
            if self.killing {
                self.kill_children();
            }
            let report = if self.deserted { -1 } else { self.report };
            let mut fds = [children.raw(), report].map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
            let _ = process::poll(&mut fds, if self.killing { 10 } else { -1 });
            let _ = fs::read(children.raw(), &mut [0u8; 128 * 4]);
            if fds[1].revents != 0 {
                self.hear();
            }
        }
    }

    /// False where no child is left.
    fn reap(&mut self) -> bool {
        loop {
            match process::wait4(-1, WNOHANG | WALL) {
                Ok((0, ..)) | Err(Errno::INTR) => return true,
                Ok((pid, status, usage)) => self.reaped(pid, status, &usage),
                Err(_) => return false,
            }
        }
    }

    fn reaped(&mut self, pid: i32, status: i32, usage: &Rusage) {
        self.used.add(usage);
        if pid == self.command && !self.told {
            self.tell_end(status);
        }
    }

    fn tell_end(&mut self, status: i32) {
        let mut record = Fixed::<64>::new();
        record.put_u8(record::EXITED);
        record.put_i32(status);
        for number in [self.started, process::now(), self.used.user, self.used.system, self.used.max_rss_kib] {
            record.put_u64(number);
        }
        let _ = net::send(self.report, record.bytes(), &[], MSG_DONTWAIT);
        self.told = true;
    }

    /// A signal for the command, or the end of all of it; the end of the socket before the command's is that too.
    fn hear(&mut self) {
        let mut message = [0u8; 8];
        match net::receive(self.report, &mut message, MSG_DONTWAIT) {
            Ok(received) if received.length >= 4 => {
                match i32::from_le_bytes([message[0], message[1], message[2], message[3]]) {
                    pid1::END_ALL => self.killing = true,
                    signal if !self.told => drop(process::kill(self.command, signal)),
                    _ => {}
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                self.deserted = true;
                self.killing |= !self.told;
            }
        }
    }

    /// The children that are left; theirs become ours when they die, and have their turn in the next round.
    fn kill_children(&mut self) {
        self.rounds += 1;
        let stop_all = self.rounds > ROUNDS && process::getppid() == 1;
        if stop_all {
            // All but PID 1 and this process, under one lock of the kernel's: no fork is half-way. Those of others go on afterwards.
            let _ = process::kill(-1, SIGSTOP);
        }
        loop {
            let mut text = [0u8; CHILDREN_TEXT];
            let length = fs::openat(self.proc, c"thread-self/children", O_RDONLY, 0)
                .and_then(|file| fs::read_full(file.raw(), &mut text))
                .unwrap_or(0);
            let mut any = false;
            // A number that was cut off at the end of the text is one of the next round's.
            for pid in text[..length].split_inclusive(|byte| *byte == b' ').filter_map(number) {
                any |= process::kill(pid, SIGKILL).is_ok();
                if stop_all {
                    kill_tracer(self.proc, pid);
                }
            }
            if length == 0 {
                // A kernel without CONFIG_PROC_CHILDREN: at least the command.
                let _ = if self.told { Ok(()) } else { process::kill(self.command, SIGKILL) };
            }
            if !stop_all || !any || !self.reap_killed() {
                break;
            }
        }
        if stop_all {
            let _ = process::kill(-1, SIGCONT);
        }
    }

    /// Waits for one that was killed, then takes all others that are dead. False where none is left, or none comes: one that somebody
    /// traces is his to wait for first, and he may be among those that stand still.
    fn reap_killed(&mut self) -> bool {
        for _ in 0..TRACED_FOR {
            match process::wait4(-1, WNOHANG | WALL) {
                Ok((0, ..)) | Err(Errno::INTR) => drop(process::poll(&mut [], 1)),
                Ok((pid, status, usage)) => {
                    self.reaped(pid, status, &usage);
                    return self.reap();
                }
                Err(_) => return false,
            }
        }
        false
    }
}

/// What is traced when it dies stays until its tracer has waited for it. One who does not, for as long as it takes to come here, dies too.
fn kill_tracer(proc: i32, pid: i32) {
    const NAME: &[u8] = b"TracerPid:\t";
    let mut text = [0u8; 512];
    let read = |path: &CStr| fs::openat(proc, path, O_RDONLY, 0).and_then(|file| fs::read_full(file.raw(), &mut text));
    let Ok(length) = crate::procfs::with_path_below(pid, b"/status", read) else { return };
    let Some(at) = text[..length].windows(NAME.len()).position(|window| window == NAME) else { return };
    let digits = text[at + NAME.len()..length].iter().take_while(|byte| byte.is_ascii_digit());
    let tracer = digits.fold(0, |number, digit| number * 10 + i32::from(digit - b'0'));
    if tracer > 1 {
        let _ = process::kill(tracer, SIGKILL);
    }
}

fn number(text: &[u8]) -> Option<i32> {
    let digits = text.strip_suffix(b" ")?;
    Some(digits.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0')))
}
