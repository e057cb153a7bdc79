//! Processes: clone, wait, ids, limits, signals, exec, events, clocks. No policy.

use super::constants::*;
use super::fs::Fd;
use super::memory::Arena;
use super::{Errno, Result, arch, call, check, nr};
use core::ffi::CStr;
use core::sync::atomic::AtomicI32;

/// struct clone_args of clone3(2), version 2 (5.7).
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// Which of the two processes this is after a clone.
pub enum Cloned {
    Child,
    Parent { pid: i32, pidfd: Fd },
}

/// clone3 with a copy of this process's memory, as fork: for single-threaded programs without libc.
pub fn clone_copy(flags: u64, cgroup: Option<i32>) -> Result<Cloned> {
    let mut pidfd = -1i32;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let args = CloneArgs {
        flags: flags | CLONE_PIDFD | into,
        pidfd: &raw mut pidfd as u64,
        exit_signal: SIGCHLD as u64,
        cgroup: cgroup.unwrap_or(0) as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has this memory to itself; args live across the call.
    let pid = unsafe { call(nr::CLONE3, [&raw const args as usize, size_of::<CloneArgs>()]) }? as i32;
    // SAFETY: the kernel wrote the number behind our back.
    let pidfd = unsafe { core::ptr::read_volatile(&raw const pidfd) };
    Ok(if pid == 0 { Cloned::Child } else { Cloned::Parent { pid, pidfd: Fd::own(pidfd) } })
}

#[repr(C)]
struct Errand<'a, T> {
    body: fn(&T) -> i32,
    context: &'a T,
}

extern "C" fn run_errand<T>(errand: *mut u8) -> ! {
    // SAFETY: `vfork` passes a live Errand<T>, and its parent sleeps until this process execs or exits.
    let errand = unsafe { &*(errand as *const Errand<'_, T>) };
    exit_group((errand.body)(errand.context))
}

/// A child that shares this memory until it execs or exits, while this process sleeps, as vfork(2). Single-threaded programs only.
///
/// The context is shared, not exclusive: what the child has to say goes through atomics in it. (Through `&mut` the compiler may
/// drop a store that only the parent reads, since the child never returns.)
///
/// `guest` has its number as long as it is on this memory: where this process is killed in its sleep, the child goes on.
pub fn vfork<T>(stack: &mut [u8], guest: &AtomicI32, context: &T, body: fn(&T) -> i32) -> Result<i32> {
    let errand = Errand { body, context };
    let args = CloneArgs {
        flags: CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
        parent_tid: guest.as_ptr() as u64,
        child_tid: guest.as_ptr() as u64,
        exit_signal: SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: stack.len() as u64,
        ..CloneArgs::default()
    };
    let at = &raw const errand as *mut u8;
    // SAFETY: CLONE_VFORK: stack and errand outlive the child's use of them, and nobody else touches them meanwhile.
    check(unsafe { arch::clone3_onto_stack(&raw const args as *const u8, size_of::<CloneArgs>(), run_errand::<T>, at) })
        .map(|pid| pid as i32)
}

pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { call(nr::EXIT_GROUP, [status as usize]) };
    }
}

/// struct rusage as the kernel fills it.
#[repr(C)]
#[derive(Default, Clone, Copy, Debug)]
pub struct Rusage {
    pub user: [i64; 2],
    pub system: [i64; 2],
    pub max_rss_kib: i64,
    others: [i64; 3],
    faults: [i64; 3],
    pub blocks_in: i64,
    pub blocks_out: i64,
    more: [i64; 5],
}

/// wait4(2): (pid, status, rusage); pid 0 where WNOHANG found nothing.
pub fn wait4(pid: i32, options: usize) -> Result<(i32, i32, Rusage)> {
    let mut status = 0i32;
    let mut usage = Rusage::default();
    let arguments = [pid as usize, &raw mut status as usize, options, &raw mut usage as usize];
    // SAFETY: both results live across the call.
    let pid = unsafe { call(nr::WAIT4, arguments) }? as i32;
    // SAFETY: written by the kernel behind our back.
    let status = unsafe { core::ptr::read_volatile(&raw const status) };
    // SAFETY: written by the kernel behind our back.
    let usage = unsafe { core::ptr::read_volatile(&raw const usage) };
    Ok((pid, status, usage))
}

pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::KILL, [pid as usize, signal as usize]) }.map(drop)
}

pub fn pidfd_send_signal(pidfd: i32, signal: i32) -> Result<()> {
    // SAFETY: no siginfo.
    unsafe { call(nr::PIDFD_SEND_SIGNAL, [pidfd as usize, signal as usize, 0, 0]) }.map(drop)
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<Fd> {
    // SAFETY: no pointers.
    unsafe { call(nr::PIDFD_OPEN, [pid as usize, 0]) }.map(|fd| Fd::own(fd as i32))
}

pub fn getpid() -> i32 {
    // SAFETY: no pointers; never fails.
    unsafe { call(nr::GETPID, []) }.unwrap_or(0) as i32
}

/// 0 where the parent is in a pid namespace further out.
pub fn getppid() -> i32 {
    // SAFETY: no pointers; never fails.
    unsafe { call(nr::GETPPID, []) }.unwrap_or(0) as i32
}

pub fn geteuid() -> u32 {
    // SAFETY: no pointers; never fails.
    unsafe { call(nr::GETEUID, []) }.unwrap_or(0) as u32
}

pub fn getegid() -> u32 {
    // SAFETY: no pointers; never fails.
    unsafe { call(nr::GETEGID, []) }.unwrap_or(0) as u32
}

pub fn setsid() -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::SETSID, []) }.map(drop)
}

pub fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::SETRESUID, [uid as usize; 3]) }.map(drop)
}

pub fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::SETRESGID, [gid as usize; 3]) }.map(drop)
}

pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the list lives across the call.
    unsafe { call(nr::SETGROUPS, [groups.len(), groups.as_ptr() as usize]) }.map(drop)
}

pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: no pointers. Callers are single-threaded programs.
    unsafe { call(nr::UNSHARE, [flags as usize]) }.map(drop)
}

pub fn setns(fd: i32, kind: u64) -> Result<()> {
    // SAFETY: no pointers. Callers are single-threaded programs.
    unsafe { call(nr::SETNS, [fd as usize, kind as usize]) }.map(drop)
}

/// The user namespace to which another namespace belongs (ioctl_ns(2)).
pub fn owner_of_namespace(fd: i32) -> Result<Fd> {
    const NS_GET_USERNS: usize = 0xb701;
    super::fs::ioctl(fd, NS_GET_USERNS, 0).map(|fd| Fd::own(fd as i32))
}

pub fn sethostname(name: &[u8]) -> Result<()> {
    // SAFETY: the name is readable for its length.
    unsafe { call(nr::SETHOSTNAME, [name.as_ptr() as usize, name.len()]) }.map(drop)
}

/// prctl(2) with numbers only.
pub fn prctl(option: usize, a: usize, b: usize) -> Result<usize> {
    // SAFETY: the options used in this engine take no pointers, except PR_SET_NAME, which `set_name` wraps.
    unsafe { call(nr::PRCTL, [option, a, b, 0, 0]) }
}

pub fn set_name(name: &CStr) -> Result<()> {
    prctl(PR_SET_NAME, name.as_ptr() as usize, 0).map(drop)
}

/// (soft, hard) of a resource limit; RLIM_INFINITY is u64::MAX.
pub fn getrlimit(resource: u32) -> Result<(u64, u64)> {
    getrlimit_of(0, resource)
}

pub fn getrlimit_of(pid: i32, resource: u32) -> Result<(u64, u64)> {
    let mut old = [0u64; 2];
    // SAFETY: the result lives across the call.
    unsafe { call(nr::PRLIMIT64, [pid as usize, resource as usize, 0, old.as_mut_ptr() as usize]) }?;
    Ok((old[0], old[1]))
}

pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let new = [soft, hard];
    // SAFETY: the values live across the call.
    unsafe { call(nr::PRLIMIT64, [0, resource as usize, new.as_ptr() as usize, 0]) }.map(drop)
}

/// Blocks (or unblocks) the signals of `mask`, and nothing else.
pub fn set_signal_mask(mask: u64) -> Result<()> {
    const SIG_SETMASK: usize = 2;
    // SAFETY: the mask lives across the call; the kernel's sigset has 8 bytes.
    unsafe { call(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, 8]) }.map(drop)
}

/// Gives every signal its default action; undoes what the interpreter ignores (SIGPIPE, SIGXFSZ).
pub fn default_signals() {
    let action = [0u64; 4]; // SIG_DFL, no flags, no restorer, empty mask
    for signal in 1..=64usize {
        // SAFETY: the action lives across the call. SIGKILL and SIGSTOP refuse, which is right.
        let _ = unsafe { call(nr::RT_SIGACTION, [signal, action.as_ptr() as usize, 0, 8]) };
    }
}

/// A descriptor that becomes readable when a signal of `mask` is pending.
pub fn signalfd(mask: u64) -> Result<Fd> {
    let flags = O_NONBLOCK | O_CLOEXEC;
    // SAFETY: the mask lives across the call.
    unsafe { call(nr::SIGNALFD4, [usize::MAX, &raw const mask as usize, 8, flags]) }.map(|fd| Fd::own(fd as i32))
}

/// execve(2). Comes back only with the error.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings that end with a null.
pub unsafe fn execve(path: &CStr, argv: *const usize, envp: *const usize) -> Errno {
    // SAFETY: the caller's promise.
    match unsafe { call(nr::EXECVE, [path.as_ptr() as usize, argv as usize, envp as usize]) } {
        Err(errno) => errno,
        Ok(_) => Errno(0),
    }
}

/// execve on arrays that `WordArray` built.
pub fn exec(path: &CStr, argv: &WordArray<'_>, envp: &WordArray<'_>) -> Errno {
    // SAFETY: WordArray holds addresses of C strings that it borrows, and a null.
    unsafe { execve(path, argv.words.as_ptr(), envp.words.as_ptr()) }
}

/// An argv or envp under construction; always ends with a null word.
pub struct WordArray<'a> {
    words: &'a mut [usize],
    used: usize,
    texts: core::marker::PhantomData<&'a CStr>,
}

impl<'a> WordArray<'a> {
    pub fn with_room(count: usize, memory: &mut Arena<'a>) -> Result<WordArray<'a>> {
        Ok(WordArray { words: memory.words(count + 1)?, used: 0, texts: core::marker::PhantomData })
    }

    pub fn push(&mut self, text: &'a CStr) -> Result<()> {
        if self.used + 1 >= self.words.len() {
            return Err(Errno::NOMEM);
        }
        self.words[self.used] = text.as_ptr() as usize;
        self.used += 1;
        Ok(())
    }
}

#[repr(C, packed)]
#[derive(Clone, Copy)]
#[cfg(target_arch = "x86_64")]
struct EpollEvent {
    events: u32,
    data: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
#[cfg(target_arch = "aarch64")]
struct EpollEvent {
    events: u32,
    data: u64,
}

pub fn epoll_create() -> Result<Fd> {
    // SAFETY: no pointers.
    unsafe { call(nr::EPOLL_CREATE1, [O_CLOEXEC]) }.map(|fd| Fd::own(fd as i32))
}

pub fn epoll_add(epoll: i32, fd: i32, events: u32, data: u64) -> Result<()> {
    let event = EpollEvent { events, data };
    // SAFETY: the event lives across the call.
    unsafe { call(nr::EPOLL_CTL, [epoll as usize, EPOLL_CTL_ADD, fd as usize, &raw const event as usize]) }.map(drop)
}

/// Another set of events for one that is watched.
pub fn epoll_change(epoll: i32, fd: i32, events: u32, data: u64) -> Result<()> {
    let event = EpollEvent { events, data };
    // SAFETY: the event lives across the call.
    unsafe { call(nr::EPOLL_CTL, [epoll as usize, EPOLL_CTL_MOD, fd as usize, &raw const event as usize]) }.map(drop)
}

pub fn epoll_remove(epoll: i32, fd: i32) {
    // SAFETY: DEL takes no event.
    let _ = unsafe { call(nr::EPOLL_CTL, [epoll as usize, EPOLL_CTL_DEL, fd as usize, 0]) };
}

/// Waits for one event; None at the deadline. Timeout in milliseconds, -1 for ever.
pub fn epoll_wait(epoll: i32, timeout_ms: i32) -> Result<Option<(u64, u32)>> {
    let mut event = EpollEvent { events: 0, data: 0 };
    let arguments = [epoll as usize, &raw mut event as usize, 1, timeout_ms as usize, 0, 8];
    // SAFETY: room for one event lives across the call.
    let count = unsafe { call(nr::EPOLL_PWAIT, arguments) }?;
    // SAFETY: written by the kernel behind our back.
    let event = unsafe { core::ptr::read_volatile(&raw const event) };
    Ok((count > 0).then_some((event.data, event.events)))
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

/// ppoll(2); timeout in milliseconds, -1 for ever.
pub fn poll(fds: &mut [PollFd], timeout_ms: i64) -> Result<usize> {
    let time = [timeout_ms / 1000, timeout_ms % 1000 * 1_000_000];
    let at = if timeout_ms < 0 { 0 } else { time.as_ptr() as usize };
    // SAFETY: the array and the time live across the call.
    unsafe { call(nr::PPOLL, [fds.as_mut_ptr() as usize, fds.len(), at, 0, 8]) }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now() -> u64 {
    let mut time = [0i64; 2];
    // SAFETY: the result lives across the call; this clock always exists.
    let _ = unsafe { call(nr::CLOCK_GETTIME, [1, time.as_mut_ptr() as usize]) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}
