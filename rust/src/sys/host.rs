//! What only the host process does: the sealed copy of the keeper, and its start through an intermediate that never execs.

use super::arch;
use super::constants::*;
use super::fs::{Fd, close_range, dup_above, dup_onto, openat};
use super::process::{CloneArgs, exit_group, setsid};
use super::{Errno, Result, call, check, nr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const STACK: usize = 64 * 1024;
/// A start that takes longer than this is an error; a slow disk or a frozen group must not hang the caller.
const PATIENCE_SECONDS: i64 = 10;

/// What the two clones share with the calling thread, which waits for both.
struct Start {
    control: i32,
    host: i32,
    null: i32,
    image: i32,
    /// Of the intermediate; the keeper's lies above it.
    stacks: usize,
    argv: [usize; 2],
    envp: [usize; 1],
    /// Cleared by the kernel when the intermediate has ended.
    intermediate_here: AtomicU32,
    /// Cleared by the kernel when the keeper has left this memory (exec or exit).
    keeper_here: AtomicU32,
    keeper_pid: AtomicI32,
    keeper_pidfd: AtomicI32,
    errno: AtomicI32,
}

/// A keeper that has been executed.
pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Starts the keeper from `image`: `control` becomes its descriptor 3, `host` (a pidfd of this process) its 4.
///
/// execve resets the exit signal to SIGCHLD (execve(2)), so no process that execs may be a child of the host: the intermediate
/// clones the keeper and exits, and the keeper is reparented away. Nothing between the clones and exec allocates, locks or
/// changes credentials: the memory is the host's.
pub fn start_keeper(
    image: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
    host: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
) -> Result<Started> {
    // Not on this stack: where the deadline passes, a clone may still come to use it.
    let start = Box::into_raw(Box::new(Start {
        control: control.as_raw_fd(),
        host: host.as_raw_fd(),
        null: null.as_raw_fd(),
        image: image.as_raw_fd(),
        stacks: map_stacks()?,
        argv: [c"pycontainer-keeper".as_ptr() as usize, 0],
        envp: [0],
        intermediate_here: AtomicU32::new(1),
        keeper_here: AtomicU32::new(1),
        keeper_pid: AtomicI32::new(0),
        keeper_pidfd: AtomicI32::new(-1),
        errno: AtomicI32::new(0),
    }));
    let old = block_all_signals();
    // SAFETY: just made; freed below only, when nobody else is left.
    let done = clone_and_wait(unsafe { &*start });
    restore_signals(old);
    // Where a clone could be neither waited for nor ended, it and its stacks are left for ever.
    done?;
    // SAFETY: both clones have left this memory.
    let start = unsafe { Box::from_raw(start) };
    // SAFETY: as above.
    let _ = unsafe { call(nr::MUNMAP, [start.stacks, 2 * STACK]) };
    let pidfd = start.keeper_pidfd.load(Ordering::Acquire);
    // SAFETY: the kernel made this descriptor for us in the shared table, and nobody else knows it.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    match (start.errno.load(Ordering::Acquire), pidfd) {
        (0, Some(pidfd)) => Ok(Started { pid: start.keeper_pid.load(Ordering::Acquire), pidfd }),
        (errno, _) => Err(Errno(errno.max(1))),
    }
}

fn map_stacks() -> Result<usize> {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS_STACK: usize = 0x20022;
    // SAFETY: a new mapping at an address of the kernel's choice touches no object.
    unsafe { call(nr::MMAP, [0, 2 * STACK, READ_WRITE, PRIVATE_ANONYMOUS_STACK, usize::MAX, 0]) }
}

fn clone_and_wait(start: &Start) -> Result<()> {
    let args = CloneArgs {
        flags: CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID | CLONE_CLEAR_SIGHAND,
        child_tid: start.intermediate_here.as_ptr() as u64,
        stack: start.stacks as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    let at = start as *const Start as *mut u8;
    // SAFETY: `start` and its stacks live until both clones are gone, or for ever (see the deadline).
    let cloned =
        check(unsafe { arch::clone3_onto_stack((&raw const args).cast(), size_of::<CloneArgs>(), intermediate, at) });
    let pid = match cloned {
        Ok(pid) => pid as i32,
        Err(errno) => {
            start.errno.store(errno.0, Ordering::Release); // nobody uses this memory
            return Ok(());
        }
    };
    // A late clone would go on with numbers of descriptors that are somebody else's by then: with this pending it never does.
    wait_until_clear(&start.intermediate_here).inspect_err(|_| {
        let _ = super::process::kill(pid, SIGKILL);
    })?;
    // exit_signal 0: only a wait with __WALL sees this child, so no waitpid(-1) of the host's can take it.
    super::errno::retry(|| super::process::wait4(pid, WALL))?;
    if start.keeper_pid.load(Ordering::Acquire) > 0 {
        let pidfd = start.keeper_pidfd.load(Ordering::Acquire);
        wait_until_clear(&start.keeper_here).inspect_err(|_| {
            let _ = super::process::pidfd_send_signal(pidfd, SIGKILL);
        })?;
    }
    Ok(())
}

/// Never execs, so its exit signal stays 0.
extern "C" fn intermediate(start: *mut u8) -> ! {
    // SAFETY: `clone_and_wait` keeps it alive and only reads its atomics.
    let start = unsafe { &*(start as *const Start) };
    let args = CloneArgs {
        flags: CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | CLONE_CLEAR_SIGHAND,
        pidfd: start.keeper_pidfd.as_ptr() as u64,
        child_tid: start.keeper_here.as_ptr() as u64,
        stack: (start.stacks + STACK) as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    let at = start as *const Start as *mut u8;
    // SAFETY: as for the intermediate itself; the stack is the second one.
    match check(unsafe { arch::clone3_onto_stack((&raw const args).cast(), size_of::<CloneArgs>(), keeper, at) }) {
        Ok(pid) => start.keeper_pid.store(pid as i32, Ordering::Release),
        Err(errno) => start.errno.store(errno.0, Ordering::Release),
    }
    exit_group(0)
}

extern "C" fn keeper(start: *mut u8) -> ! {
    // SAFETY: as in `intermediate`.
    let start = unsafe { &*(start as *const Start) };
    let errno = become_keeper(start).err().unwrap_or(Errno(0));
    start.errno.store(errno.0, Ordering::Release);
    exit_group(71)
}

/// A table of descriptors of its own (this clone copied it), with nothing of the host's but the four, and one more that it can open
/// only now: from exec on it is undumpable, and its files in /proc belong to root of the host.
fn become_keeper(start: &Start) -> Result<()> {
    const AFTER_ALL: i32 = 16;
    let _ = setsid();
    let image = dup_above(start.image, AFTER_ALL)?.release();
    let control = dup_above(start.control, AFTER_ALL)?.release();
    let host = dup_above(start.host, AFTER_ALL)?.release();
    let null = dup_above(start.null, AFTER_ALL)?.release();
    (0..3).try_for_each(|stream| dup_onto(null, stream, false))?;
    dup_onto(control, 3, false)?;
    dup_onto(host, 4, false)?;
    // Without it 5 is a descriptor that takes no bytes, and who asks for a score is told so.
    let score =
        openat(AT_FDCWD, c"/proc/self/oom_score_adj", O_RDWR, 0).and_then(|file| dup_above(file.release(), AFTER_ALL));
    dup_onto(score.as_ref().map_or(host, Fd::raw), 5, false)?;
    dup_onto(image, 6, true)?;
    close_range(7, u32::MAX, false)?;
    let arguments =
        [6, c"".as_ptr() as usize, start.argv.as_ptr() as usize, start.envp.as_ptr() as usize, AT_EMPTY_PATH];
    // SAFETY: the arrays end with a null and hold constant C strings.
    unsafe { call(nr::EXECVEAT, arguments) }.map(drop)
}

/// A futex wait with a deadline: the word is cleared, and its waiters are woken, when the clone execs or exits.
fn wait_until_clear(word: &AtomicU32) -> Result<()> {
    const FUTEX_WAIT: usize = 0;
    let deadline = super::process::now() + PATIENCE_SECONDS as u64 * 1_000_000_000;
    while word.load(Ordering::Acquire) != 0 {
        let left = deadline.saturating_sub(super::process::now());
        if left == 0 {
            return Err(Errno::TIMEDOUT);
        }
        let time = [(left / 1_000_000_000) as i64, (left % 1_000_000_000) as i64];
        // SAFETY: word and time live across the call.
        let _ = unsafe { call(nr::FUTEX, [word.as_ptr() as usize, FUTEX_WAIT, 1, time.as_ptr() as usize]) };
    }
    Ok(())
}

/// No handler of the host's may run in a clone that shares its memory.
fn block_all_signals() -> u64 {
    const SIG_SETMASK: usize = 2;
    let (all, mut old) = (u64::MAX, 0u64);
    // SAFETY: both masks live across the call.
    let _ = unsafe { call(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const all as usize, &raw mut old as usize, 8]) };
    old
}

fn restore_signals(old: u64) {
    let _ = super::process::set_signal_mask(old);
}

/// An executable, sealed memfd with `program` in it: no process can change what the keeper runs (CVE-2019-5736), and a plain user
/// cannot read it, which makes the kernel start it undumpable (execve(2)).
pub fn sealed_program(program: &[u8]) -> Result<OwnedFd> {
    const MFD_CLOEXEC_ALLOW_SEALING: usize = 3;
    const MFD_EXEC: usize = 0x10;
    const F_ADD_SEALS: usize = 1033;
    const ALL_SEALS: usize = 0xf;
    let name = c"pycontainer-keeper".as_ptr() as usize;
    let create = |flags| {
        // SAFETY: a constant name.
        unsafe { call(nr::MEMFD_CREATE, [name, flags]) }
    };
    let fd = match create(MFD_CLOEXEC_ALLOW_SEALING | MFD_EXEC) {
        Err(Errno::INVAL) => create(MFD_CLOEXEC_ALLOW_SEALING), // before 6.3 every memfd is executable
        other => other,
    }?;
    // SAFETY: just made, ours alone.
    let file = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut rest = program;
    while !rest.is_empty() {
        rest = &rest[super::fs::write(file.as_raw_fd(), rest)?..];
    }
    super::fs::fchmod(file.as_raw_fd(), 0o111)?;
    // SAFETY: no pointers.
    unsafe { call(nr::FCNTL, [fd, F_ADD_SEALS, ALL_SEALS]) }?;
    Ok(file)
}

/// A descriptor number that Python or the kernel gave us to own.
pub fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: callers pass numbers that were made for them (SCM_RIGHTS, dup) and that nobody else closes.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor that somebody else owns and keeps open for the length of the use.
pub fn borrow<'a>(fd: i32) -> BorrowedFd<'a> {
    // SAFETY: callers have checked the number with fcntl and hold the GIL-side object for the length of the use.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// A value of the process that a forked copy replaces by a fresh one, since its locks may be held by threads that the copy lacks.
#[derive(Debug)]
pub struct ForkCell<T: 'static> {
    at: AtomicPtr<T>,
    fresh: fn() -> T,
}

impl<T: Sync> ForkCell<T> {
    pub const fn new(fresh: fn() -> T) -> Self {
        ForkCell { at: AtomicPtr::new(std::ptr::null_mut()), fresh }
    }

    pub fn get(&'static self) -> &'static T {
        let at = self.at.load(Ordering::Acquire);
        if !at.is_null() {
            // SAFETY: only `get` and `replace` store, always leaked boxes that are never freed.
            return unsafe { &*at };
        }
        let made = Box::into_raw(Box::new((self.fresh)()));
        match self.at.compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: leaked just above.
            Ok(_) => unsafe { &*made },
            Err(first) => {
                // SAFETY: `made` was never shared.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: the one that another thread leaked.
                unsafe { &*first }
            }
        }
    }

    /// In a forked copy: the old value stays where it is, unused.
    pub fn replace(&'static self) {
        self.at.store(Box::into_raw(Box::new((self.fresh)())), Ordering::Release);
    }
}
