//! Questions to the kernel that change nothing here: a forked copy asks them, and may die of the answer. No policy.

use super::constants::{CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS, MSG_DONTWAIT, WALL};
use super::{Errno, Result, call, fs, net, nr, process};

#[cfg(target_arch = "x86_64")]
const CLONE: usize = 56;
#[cfg(target_arch = "aarch64")]
const CLONE: usize = 220;
const RLIMIT_MSGQUEUE: u32 = 12;

/// A system call that the road needs, and the first kernel that has it.
pub struct Needed {
    pub name: &'static str,
    number: usize,
    pub since: (u32, u32),
}

const fn needed(name: &'static str, number: usize, since: (u32, u32)) -> Needed {
    Needed { name, number, since }
}

pub const NEEDED: [Needed; 17] = [
    needed("clone3", nr::CLONE3, (5, 3)),
    needed("unshare", nr::UNSHARE, (2, 6)),
    needed("setns", nr::SETNS, (3, 0)),
    needed("pivot_root", nr::PIVOT_ROOT, (2, 6)),
    needed("openat2", nr::OPENAT2, (5, 6)),
    needed("open_tree", nr::OPEN_TREE, (5, 2)),
    needed("move_mount", nr::MOVE_MOUNT, (5, 2)),
    needed("fsopen", nr::FSOPEN, (5, 2)),
    needed("fsconfig", nr::FSCONFIG, (5, 2)),
    needed("fsmount", nr::FSMOUNT, (5, 2)),
    needed("mount_setattr", nr::MOUNT_SETATTR, (5, 12)),
    needed("pidfd_open", nr::PIDFD_OPEN, (5, 3)),
    needed("pidfd_send_signal", nr::PIDFD_SEND_SIGNAL, (5, 1)),
    needed("close_range", nr::CLOSE_RANGE, (5, 9)),
    needed("memfd_create", nr::MEMFD_CREATE, (3, 17)),
    needed("execveat", nr::EXECVEAT, (3, 19)),
    needed("seccomp", nr::SECCOMP, (3, 17)),
];

/// What calling it with arguments that every kernel refuses comes to: its own complaint, or ENOSYS, or a filter's word.
pub fn ask(which: &Needed) -> i32 {
    let mut arguments = [usize::MAX; 6];
    if which.number == nr::UNSHARE {
        // Debian's kernel.unprivileged_userns_clone says EPERM to this flag before it sees that the others are nonsense.
        arguments[0] = !(CLONE_NEWUSER as usize);
    }
    // SAFETY: all other bits are 1: no valid descriptor, flag set, size or user address, so the call can only fail.
    unsafe { call(which.number, arguments) }.err().map_or(0, |errno| errno.0)
}

/// Enters a user namespace with one id and uses a privilege there; 0, or the errno of the first step that was refused.
pub fn enter_user_namespace() -> i32 {
    let (uid, gid) = (process::geteuid(), process::getegid());
    let enter = || -> Result<()> {
        process::unshare(CLONE_NEWUSER | CLONE_NEWNS)?;
        super::fs::write_file(super::constants::AT_FDCWD, c"/proc/self/setgroups", b"deny")?;
        map(c"/proc/self/uid_map", uid)?;
        map(c"/proc/self/gid_map", gid)?;
        process::unshare(CLONE_NEWUTS)
    };
    enter().err().map_or(0, |errno| errno.0)
}

/// Whether a user namespace can be entered from where this mount namespace begins; 0 where it can. setns(2) moves the root there.
pub fn enter_from_the_top() -> i32 {
    let enter = || -> Result<()> {
        let flags = super::constants::O_RDONLY | super::constants::O_CLOEXEC;
        let own = fs::openat(super::constants::AT_FDCWD, c"/proc/self/ns/mnt", flags, 0)?;
        process::setns(own.raw(), CLONE_NEWNS)?;
        process::unshare(CLONE_NEWUSER)
    };
    enter().err().map_or(0, |errno| errno.0)
}

fn map(path: &core::ffi::CStr, id: u32) -> Result<()> {
    let mut line = *b"0 4294967295 1";
    let mut rest = id;
    for digit in line[2..12].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    fs::write_file(super::constants::AT_FDCWD, path, &line)
}

/// Lowers a hard limit of this (forked) process and raises it again, which takes CAP_SYS_RESOURCE in the first user namespace.
pub fn raise_hard_limit() -> i32 {
    let raise = || -> Result<()> {
        let (_, hard) = process::getrlimit(RLIMIT_MSGQUEUE)?;
        let lower = hard.saturating_sub(1);
        process::setrlimit(RLIMIT_MSGQUEUE, lower, lower)?;
        process::setrlimit(RLIMIT_MSGQUEUE, lower, hard)
    };
    raise().err().map_or(0, |errno| errno.0)
}

/// Asks `count` questions in one forked copy of this process, so that none of them changes it. An answer is an errno, 0, or -signal
/// where the copy died of the question (a filter that kills); later ones are then unanswered.
///
/// The copy is made by clone(2), not clone3, which may be what is refused; it has exit signal 0, so the host's own waits do not see it.
pub fn in_copy<const N: usize>(ask: impl Fn(usize) -> i32) -> Result<[Option<i32>; N]> {
    let (ours, theirs) = net::socketpair()?;
    // SAFETY: without CLONE_VM the copy has this memory to itself; it makes plain system calls and exits.
    let pid = unsafe { call(CLONE, [0; 5]) }? as i32;
    if pid == 0 {
        for question in 0..N {
            let _ = net::send(theirs.raw(), &ask(question).to_ne_bytes(), &[], 0);
        }
        process::exit_group(0);
    }
    drop(theirs);
    let (_, status, _) = super::errno::retry(|| process::wait4(pid, WALL))?;
    let mut answers = [None; N];
    for answer in &mut answers {
        let mut word = [0u8; 4];
        *answer = match net::receive(ours.raw(), &mut word, MSG_DONTWAIT) {
            Ok(received) if received.length == 4 => Some(i32::from_ne_bytes(word)),
            _ if status & 0x7f != 0 => {
                *answer = Some(-(status & 0x7f));
                return Ok(answers);
            }
            _ => return Err(Errno::PROTO),
        };
    }
    Ok(answers)
}
