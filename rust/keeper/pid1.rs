//! PID 1 of a container: waits for its maps, sets the root up, starts the command as pid 2, reaps, reports, ends with the keeper.

use crate::command::{self, Command};
use crate::evidence;
use crate::exec;
use crate::guests::Guests;
use crate::inside;
use crate::outside::Slots;
use crate::plan::Plan;
use crate::porter;
use crate::sys::beside::Workspace;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::memory::Room;
use crate::sys::process::{self, PollFd};
use crate::sys::{Errno, memory, net};
use crate::wire::{self, Fixed, Write, errand, flag, phase, record, role, step};

/// What the keeper's copy hands to its child.
pub struct Inside<'a> {
    pub plan: &'a Plan<'a>,
    pub control: Fd,
    pub slots: &'a Slots,
    pub rootless: bool,
}

/// The keeper's word, instead of a signal for the command, that everything inside shall end.
pub const END_ALL: i32 = 0;
/// Likewise, that the descriptor which comes with it is of one more who has errands.
pub const VISITOR: i32 = -1;

/// Milliseconds after the last command in which a place for the next one is kept: it makes a start faster, and takes memory.
const SPARED: i64 = 1000;

/// A failed step: (phase, step, errno).
pub type Failed = (u8, u16, Errno);

pub fn enter(inside: Inside<'_>) -> ! {
    let control = inside.control.raw();
    let status = match run(&inside) {
        Ok(status) => status,
        Err(failed) => {
            tell_error(control, failed);
            1
        }
    };
    process::exit_group(status)
}

pub fn tell_error(control: i32, (phase, step, errno): Failed) {
    let mut record = Fixed::<16>::new();
    record.put_u8(record::ERROR);
    record.put_u8(phase);
    record.put_u16(step);
    record.put_i32(errno.0);
    let _ = net::send(control, record.bytes(), &[], 0);
}

fn run(inside: &Inside<'_>) -> Result<i32, Failed> {
    let plan = inside.plan;
    let failed = |step| move |errno| (phase::CLONE, step, errno);
    keep_only_ours(inside).map_err(failed(step::RELEASE))?;
    if inside.rootless && plan.head.clone_flags & CLONE_NEWUSER != 0 {
        crate::maps::send_namespace(inside.control.raw()).map_err(failed(step::UID_MAP))?;
    }
    if porter::wanted(plan) {
        porter::send_network(inside.control.raw()).map_err(failed(step::PORTER))?;
    }
    wait_for_release(inside.control.raw());
    become_root(plan).map_err(failed(step::BECOME_ROOT))?;
    // The keeper's socket says the same, but nobody looks at it during the set-up. After the last change of ids, which clears it.
    let _ = process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0);
    let _ = process::setsid();
    let mut state = inside::State::new(inside.slots);
    inside::run(plan, &mut state)?;
    if plan.head.skips(flag::SWAP_COVERED) {
        swap(state.root).map_err(failed(step::RELEASE))?;
    }
    if !plan.head.skips(flag::SKIP_MASKS | flag::SKIP_READ_ONLY)
        && let Some(index) = evidence::uncovered(plan, &state)
    {
        return Err((phase::INSIDE, index, Errno::NODATA));
    }
    let in_command = |(step, errno)| (phase::COMMAND, step, errno);
    if plan.head.has(flag::HOLD) {
        wait_for_word(inside).map_err(failed(step::RELEASE))?;
    }
    let mut room = Room::NONE;
    let workspace = workspace(plan, &mut room).map_err(failed(step::MEMORY))?;
    let mut command = Command::prepare(plan, &mut state, None, workspace).map_err(in_command)?;
    close_spent(inside, &state);
    let mut report = Fixed::<{ wire::EVIDENCE_MAX }>::new();
    report.put_u8(record::EXITED);
    if plan.head.has(flag::PID1) {
        put_exit(&mut report, 0, 0, 0, 0);
        evidence::of_mounts(plan, &state, 0, &mut report);
        net::send(inside.control.raw(), report.bytes(), &[], 0).map_err(failed(step::RELEASE))?;
        command.lifeline = inside.control.raw();
        return Err(in_command(command::become_it(&command)));
    }
    let pid = command.start().map_err(in_command)?;
    stay_undumpable();
    let started = process::now();
    // The keeper first: who hears that it runs may pause it, and its time limits go on then.
    if plan.head.has(flag::REPORT_START) {
        let _ = net::send(inside.control.raw(), &[record::STARTED], &[], 0);
    }
    if plan.head.has(flag::HANDLE | flag::TELL_RUNS) {
        exec::tell_running(plan.fds.report, Some(pid), started);
    }
    command.close_streams();
    let nested = core::mem::replace(&mut command.nested, Fd::NONE);
    drop(command);
    if plan.head.has(flag::HANDLE) {
        room.give_back(); // it may live long
    }
    let origin = exec::Origin::of(&state, nested.raw());
    let first = exec::First { inside, state: &state, origin };
    supervise(&first, pid, started, &mut report)
}

/// What the first command's set-up has to itself.
fn workspace<'a>(plan: &Plan<'_>, room: &'a mut Room) -> crate::sys::Result<Workspace<'a>> {
    Workspace::of(room.make(command::workspace_size(plan.command.rest().len()))?)
}

/// Everything is there but the command. The host's word lets it start; the keeper's is that all shall end.
fn wait_for_word(inside: &Inside<'_>) -> crate::sys::Result<()> {
    let report = inside.plan.fds.report;
    net::send(report, &[record::READY_TO_RUN], &[], 0)?;
    let mut fds = [inside.control.raw(), report].map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
    crate::sys::errno::retry(|| process::poll(&mut fds, -1))?;
    let mut word = [0];
    if fds[0].revents == 0 && net::receive(report, &mut word, MSG_DONTWAIT)?.length == 1 && word == [errand::GO] {
        return Ok(());
    }
    process::exit_group(1)
}

/// Test-only: what another container that shares a directory may do between the covering and the look.
pub fn swap(root: i32) -> crate::sys::Result<()> {
    fs::renameat2(root, c"seam/one", root, c"seam/aside")?;
    fs::renameat2(root, c"seam/two", root, c"seam/one")?;
    fs::renameat2(root, c"seam/aside", root, c"seam/two")
}

fn put_exit(report: &mut impl Write, is_pid2: u8, status: i32, started: u64, ended: u64) {
    report.put_u8(is_pid2);
    report.put_i32(status);
    report.put_u64(started);
    report.put_u64(ended);
}

/// Closes what this copy of the keeper got besides the plan's descriptors: other containers' sockets above all.
fn keep_only_ours(inside: &Inside<'_>) -> crate::sys::Result<()> {
    let fds = &inside.plan.fds;
    keep_only(fds.all[..fds.count].iter().copied().chain(inside.slots.own()).chain([inside.control.raw()]))
}

pub fn keep_only(wanted: impl Iterator<Item = i32> + Clone) -> crate::sys::Result<()> {
    let mut next = 0;
    loop {
        let Some(kept) = wanted.clone().filter(|fd| *fd >= next).min() else {
            return fs::close_range(next as u32, u32::MAX, false);
        };
        if kept > next {
            fs::close_range(next as u32, kept as u32 - 1, false)?;
        }
        next = kept + 1;
    }
}

/// One byte when the maps are written; the end of the socket is the keeper's death.
fn wait_for_release(control: i32) {
    if !matches!(crate::sys::errno::retry(|| fs::read(control, &mut [0u8; 1])), Ok(1)) {
        process::exit_group(1);
    }
}

fn become_root(plan: &Plan<'_>) -> crate::sys::Result<()> {
    if plan.head.clone_flags & CLONE_NEWUSER == 0 {
        return Ok(());
    }
    if plan.head.has(flag::SET_GROUPS) {
        process::setgroups(&[])?;
    }
    process::setresgid(0)?;
    process::setresuid(0)?;
    stay_undumpable();
    Ok(())
}

/// A change of ids makes a process what sysctl fs.suid_dumpable says, and its sibling in the same memory too.
pub fn stay_undumpable() {
    let _ = process::prctl(PR_SET_DUMPABLE, 0, 0);
}

/// Mount descriptors, group files and the report socket have done their work; the command must not see them.
fn close_spent(inside: &Inside<'_>, state: &inside::State<'_>) {
    let fds = &inside.plan.fds;
    for i in 0..fds.count {
        let spent = match fds.roles[i] {
            role::STDIN | role::STDOUT | role::STDERR | role::PASS | role::RANGE_LOCK => false,
            role::REPORT => !inside.plan.head.has(flag::TELL_GONE | flag::HANDLE | flag::TELL_RUNS),
            _ => true,
        };
        if spent {
            fs::close(fds.all[i]);
        }
    }
    inside.slots.own().filter(|fd| *fd != state.root).for_each(fs::close);
}

/// Reaps until the command ends, or the keeper does. Everything else inside dies with this process.
fn supervise(
    first: &exec::First<'_>,
    command: i32,
    started: u64,
    report: &mut Fixed<{ wire::EVIDENCE_MAX }>,
) -> Result<i32, Failed> {
    let failed = |errno| (phase::COMMAND, step::WAIT, errno);
    let (plan, control) = (first.inside.plan, first.inside.control.raw());
    let children = process::signalfd(1 << (SIGCHLD - 1)).map_err(failed)?;
    let mut errands = errands(plan).map_err(failed)?;
    let mut host = if errands.is_some() { plan.fds.report } else { -1 };
    let (mut guests, mut supervisors) = (Guests::none(), exec::Supervisors::none());
    testify(first, command, started, report);
    loop {
        let mut patience = if supervisors.has_spare() { SPARED } else { -1 };
        loop {
            let (pid, status) = match process::wait4(-1, WNOHANG | WALL | WUNTRACED) {
                Ok((0, ..)) | Err(Errno::CHILD) => break,
                Ok((pid, status, _)) => (pid, status),
                Err(_) => {
                    patience = 10; // milliseconds: the signal that told of this child does not come again
                    break;
                }
            };
            if status & 0xff == STOPPED {
                // Root inside may stop a supervisor: it would neither tell an end nor hear that it shall make one.
                if supervisors.has(pid) {
                    let _ = process::kill(pid, SIGCONT);
                }
                continue;
            }
            if pid == command {
                report.clear();
                report.put_u8(record::EXITED);
                put_exit(report, 1, status, started, process::now());
                let _ = net::send(control, report.bytes(), &[], 0);
                end_all();
                while crate::sys::errno::retry(|| process::wait4(-1, WALL)).is_ok() {}
                tell_gone(plan);
                return Ok(0);
            }
            supervisors.ended(pid);
        }
        let watched = [children.raw(), control, host].map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
        let mut fds = guests.after(watched);
        if process::poll(&mut fds, patience) == Ok(0) {
            supervisors.give_spare_back();
        }
        let _ = fs::read(children.raw(), &mut [0u8; 128 * 4]);
        if fds[1].revents != 0 && serve(first, command, started, &mut guests).is_none() {
            return Ok(1);
        }
        if let Some(buffer) = &mut errands {
            if fds[2].revents != 0 && !exec::serve(first, &mut supervisors, host, buffer) {
                host = -1;
            }
            guests.serve(first, &mut supervisors, &fds, buffer);
        }
    }
}

/// Room for the host's errands, where it has any.
fn errands(plan: &Plan<'_>) -> crate::sys::Result<Option<&'static mut [u8]>> {
    if !plan.head.has(flag::HANDLE) {
        return Ok(None);
    }
    memory::map_bytes(wire::MESSAGE_MAX).map(Some)
}

/// What the kernel says of the command now. Sent at once, and read after the end: a container that is killed has its evidence too.
fn testify(first: &exec::First<'_>, command: i32, started: u64, report: &mut Fixed<{ wire::EVIDENCE_MAX }>) {
    let plan = first.inside.plan;
    put_exit(report, 0, 0, started, 0);
    let head = report.bytes().len();
    evidence::of_command(command, plan, first.state, report);
    let _ = net::send(first.inside.control.raw(), report.bytes(), &[], 0);
    if plan.head.has(flag::HANDLE) {
        let mut seen = Fixed::<{ wire::EVIDENCE_MAX }>::new();
        seen.put_u8(record::EVIDENCE);
        let sections = &report.bytes()[head..];
        seen.free()[..sections.len()].copy_from_slice(sections);
        seen.advance(sections.len());
        let _ = net::send(plan.fds.report, seen.bytes(), &[], MSG_DONTWAIT);
    }
}

/// The end of this process takes the kernel a while, in which the host can count.
fn tell_gone(plan: &Plan<'_>) {
    if plan.head.has(flag::TELL_GONE) && process::getpid() == 1 {
        let _ = net::send(plan.fds.report, &[record::GONE], &[], MSG_DONTWAIT);
    }
}

/// Every process of a namespace whose PID 1 this is. The kernel would do so at our exit, but without adding up what they used.
fn end_all() {
    if process::getpid() == 1 {
        let _ = process::kill(-1, SIGKILL);
    }
}

/// A request of the keeper: a signal for the command, the end of everything, a guest. None at the end of the socket.
fn serve(first: &exec::First<'_>, command: i32, started: u64, guests: &mut Guests) -> Option<()> {
    let mut message = [0u8; 8];
    let received = net::receive(first.inside.control.raw(), &mut message, MSG_DONTWAIT);
    match received {
        Ok(received) if received.length >= 4 => {
            let guest = Fd::own(received.fds[0]);
            match i32::from_le_bytes([message[0], message[1], message[2], message[3]]) {
                END_ALL => end_all(),
                VISITOR => guests.admit(first, guest, command, started),
                signal => drop(process::kill(command, signal)),
            }
            Some(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Some(()),
        _ => None,
    }
}
