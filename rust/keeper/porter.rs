//! The porter of a container: the process that carries what comes to its published ports into its network namespace. Its start alone.
//!
//! It is a child of the keeper in the container's network namespace, and in nothing else of the container's: not in its user, pid and
//! mount namespaces, nor in its groups. So nobody inside can name it, what it uses is not the container's, and the container can be
//! frozen or run out of memory without it. It has no capability, no file, and nothing of the keeper's memory.

use crate::launch::abandon;
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned, PollFd};
use crate::sys::{Errno, Result, freestanding, net, security};
use crate::wire::{Fixed, Write, role};
use crate::{carry, maps, pid1};

/// Listening sockets of one container: two families for each of its ports.
pub const LISTENERS_MAX: usize = 128;
/// Nobody who is stuck may stop the keeper.
const PATIENCE_MS: i64 = 5000;
/// Who owns nothing, where the container's root is root of this machine.
const NOBODY: u32 = 65534;

pub fn wanted(plan: &Plan<'_>) -> bool {
    plan.fds.with_role(role::PORT).next().is_some()
}

/// In PID 1: its network namespace to the keeper. It alone may open that while it is undumpable.
pub fn send_network(control: i32) -> Result<()> {
    let own = fs::openat(AT_FDCWD, c"/proc/self/ns/net", O_RDONLY, 0)?;
    net::send(control, &[1], &[own.raw()], 0).map(drop)
}

/// Its pid and pidfd, once it listens.
pub fn start(plan: &Plan<'_>, container: i32, control: i32) -> Result<(i32, Fd)> {
    let network = maps::receive_namespace(control)?;
    let (ours, theirs) = net::socketpair()?;
    net::send(ours.raw(), order(plan, container).bytes(), &[], 0)?;
    let Cloned::Parent { pid, pidfd } = process::clone_copy(0, None)? else {
        let socket = theirs.raw();
        let ports = plan.fds.with_role(role::PORT).map(|(fd, _)| fd);
        let ready = process::setns(network.raw(), CLONE_NEWNET)
            .and_then(|()| pid1::keep_only(ports.chain([container, socket])))
            .and_then(|()| give_up_power(plan));
        if let Err(errno) = ready {
            tell(socket, errno);
            process::exit_group(1);
        }
        freestanding::forget_and(carry::serve, socket)
    };
    drop(theirs);
    match await_word(ours.raw()) {
        Ok(()) => Ok((pid, pidfd)),
        Err(errno) => {
            abandon(pidfd.raw(), pid);
            Err(errno)
        }
    }
}

/// Of one that was not told of its container's end: killed and reaped.
pub fn end((pid, pidfd): (i32, i32)) {
    if pid > 0 {
        abandon(pidfd, pid);
    }
}

/// What it serves: the container's pidfd; then for each socket its number, the port inside, and the protocol's number.
fn order(plan: &Plan<'_>, container: i32) -> Fixed<{ 4 + LISTENERS_MAX * 8 }> {
    let mut order = Fixed::new();
    order.put_i32(container);
    for (fd, argument) in plan.fds.with_role(role::PORT) {
        order.put_i32(fd);
        order.put_i32(argument);
    }
    order
}

/// 0, or the error that ends it.
pub fn tell(socket: i32, errno: Errno) {
    let _ = net::send(socket, &errno.0.to_le_bytes(), &[], 0);
}

fn await_word(socket: i32) -> Result<()> {
    let mut fds = [PollFd { fd: socket, events: POLLIN, revents: 0 }];
    if process::poll(&mut fds, PATIENCE_MS)? == 0 {
        return Err(Errno::TIMEDOUT);
    }
    let mut word = [0; 4];
    match net::receive(socket, &mut word, MSG_DONTWAIT)?.length {
        4 if word == [0; 4] => Ok(()),
        4 => Err(Errno(i32::from_le_bytes(word))),
        _ => Err(Errno::CHILD),
    }
}

/// Of its ids it takes the container's last ones: the kernel counts what its root's are against the bound on its tasks.
fn give_up_power(plan: &Plan<'_>) -> Result<()> {
    let _ = process::setgroups(&[]); // a keeper of one id may not, and has its user's alone
    let (uid, gid) = plan.maps.last().unwrap_or((NOBODY, NOBODY));
    process::setresgid(gid)?;
    process::setresuid(uid)?;
    security::capset(0)?;
    process::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    pid1::stay_undumpable();
    forget_files();
    // After the last change of ids, which clears it.
    process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0).map(drop)
}

/// By Landlock, where there is one: no file, under no name.
fn forget_files() {
    const ALL_OF_ABI_1: u64 = (1 << 13) - 1;
    if let Ok(ruleset) = security::landlock_ruleset(ALL_OF_ABI_1) {
        let _ = security::landlock_enter(ruleset.raw());
    }
}
