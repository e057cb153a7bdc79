//! The command's own set-up between PID 1's vfork and exec: streams, limits, ids, capabilities, Landlock, seccomp. Only system calls.

use crate::inside::State;
use crate::maps::make_namespace;
use crate::plan::Plan;
use crate::sys::beside::Workspace;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, WordArray};
use crate::sys::{Errno, Result, errno::retry, memory::Arena, security};
use crate::users::{HOME_MAX, Identity};
use crate::wire::{Reader, flag, role, step};
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const STACK: usize = 64 * 1024;
/// The interpreter that a script or program names is missing (ELIBACC); the file itself is there.
const NO_INTERPRETER: Errno = Errno(79);

type Refused = (u16, Errno);
type Step<T> = core::result::Result<T, Refused>;

pub struct Command<'a> {
    plan: &'a Plan<'a>,
    root: i32,
    terminal: i32,
    identity: Identity,
    umask: u32,
    cwd: &'a CStr,
    rlimits: Reader<'a>,
    rlimit_count: u32,
    capabilities: u64,
    /// Filters in the order in which they are loaded; an empty one is none.
    seccomp: [&'a [u8]; 2],
    argv: WordArray<'a>,
    envp: WordArray<'a>,
    search: Reader<'a>,
    search_count: u32,
    /// The nested user namespace of a command that has CAP_SYS_ADMIN.
    pub nested: Fd,
    progress: Progress,
    workspace: Workspace<'a>,
    /// The keeper's socket, of a command that is PID 1 itself.
    pub lifeline: i32,
}

/// Bytes of a workspace for a plan of that length, of which a word of argv or envp takes at least four.
pub fn workspace_size(plan: usize) -> usize {
    STACK + HOME_MAX + 2 * plan + 4096
}

/// What the child tells its sleeping parent through their common memory.
struct Progress {
    /// Set just before exec, and taken back where exec failed.
    reached_exec: AtomicBool,
    /// Step and error number, plus one bit to be never zero.
    refused: AtomicU64,
}

impl Progress {
    const SAID: u64 = 1 << 63;

    fn refuse(&self, (step, errno): Refused) {
        self.refused.store(Self::SAID | (step as u64) << 32 | errno.0 as u32 as u64, Ordering::Relaxed);
    }

    fn refusal(&self) -> Option<Refused> {
        let word = self.refused.load(Ordering::Relaxed);
        (word != 0).then_some(((word >> 32) as u16, Errno(word as u32 as i32)))
    }
}

fn at(step: u16) -> impl Fn(Errno) -> Refused {
    move |errno| (step, errno)
}

impl<'a> Command<'a> {
    /// Everything that needs memory or a lookup, while there is still one process.
    /// `nested`: the namespace that the container's first command has, where this is another one.
    pub fn prepare(
        plan: &'a Plan<'a>,
        state: &mut State<'_>,
        nested: Option<i32>,
        mut workspace: Workspace<'a>,
    ) -> Step<Command<'a>> {
        let mut from = skip_who(plan.command)?;
        let malformed = (step::DECODE, Errno::PROTO);
        let (umask, cwd) = from.u32().zip(from.text()).ok_or(malformed)?;
        let rlimit_count = from.u32().ok_or(malformed)?;
        let rlimits = from;
        from.take(rlimit_count as usize * 20).ok_or(malformed)?;
        let capabilities = from.u64().ok_or(malformed)?;
        let (guard, filter) = from.bytes().zip(from.bytes()).ok_or(malformed)?;
        state.identity(plan)?;
        let identity = state.take_identity().ok_or(malformed)?;
        own_streams(plan, &identity).map_err(at(step::OWN_STREAM))?;
        let memory = &mut workspace.memory;
        let argv = words(&mut from, None, memory)?;
        let home = home_variable(plan, &identity, memory)?;
        let envp = words(&mut from, home, memory)?;
        let search_count = from.u32().ok_or(malformed)?;
        if plan.head.has(flag::LANDLOCK) && !plan.head.skips(flag::SKIP_LANDLOCK) {
            enter_landlock(plan, state).map_err(at(step::LANDLOCK))?;
        }
        Ok(Command {
            plan,
            root: state.root,
            terminal: state.terminal,
            identity,
            umask,
            cwd,
            rlimits,
            rlimit_count,
            capabilities,
            seccomp: [guard, filter],
            argv,
            envp,
            search: from,
            search_count,
            nested: nested.map_or_else(|| nested_namespace(plan), |fd| Ok(Fd::own(fd)))?,
            progress: Progress { reached_exec: AtomicBool::new(false), refused: AtomicU64::new(0) },
            workspace,
            lifeline: -1,
        })
    }

    /// Forks the command; comes back when it has been executed, or with the step that failed.
    pub fn start(&mut self) -> Step<i32> {
        let stack = self.workspace.memory.stack(STACK).map_err(at(step::MEMORY))?;
        let pid = process::vfork(stack, self.workspace.guest, self, |command| {
            command.progress.refuse(become_it(command));
            127
        })
        .map_err(at(step::FORK))?;
        let refusal = self.progress.refusal();
        if self.progress.reached_exec.load(Ordering::Relaxed) && refusal.is_none() {
            return Ok(pid);
        }
        let (_, status, _) = process::wait4(pid, WALL).map_err(at(step::WAIT))?;
        // A child that died without a word was killed in its set-up: the signal, negative, stands in for an error number.
        Err(refusal.unwrap_or((step::EXEC, Errno(-(status & 0x7f)))))
    }

    /// Only the command's tree may hold its streams: their end is the end of the last writer.
    pub fn close_streams(&self) {
        let fds = &self.plan.fds;
        fds.streams.iter().filter(|fd| **fd >= 0).for_each(|fd| fs::close(*fd));
        fds.with_role(role::PASS).for_each(|(fd, _)| fs::close(fd));
        if self.terminal >= 0 {
            fs::close(self.terminal);
        }
    }
}

/// Pipes of ours belong to who runs the command, so that /dev/stdout opens; the keeper has given them to the container's root.
fn own_streams(plan: &Plan<'_>, identity: &Identity) -> Result<()> {
    if (identity.uid, identity.gid) == (0, 0) {
        return Ok(());
    }
    let ours = [flag::OWN_STDIN, flag::OWN_STDOUT, flag::OWN_STDERR];
    let pipes = plan.fds.streams.iter().zip(ours).filter(|(fd, flag)| **fd >= 0 && plan.head.has(*flag));
    for (fd, _) in pipes {
        match fs::fchown(*fd, identity.uid, identity.gid) {
            Err(Errno::INVAL) => {} // not an id of this namespace: refused where it would be taken
            other => other?,
        }
    }
    Ok(())
}

fn skip_who<'a>(mut from: Reader<'a>) -> Step<Reader<'a>> {
    let malformed = (step::DECODE, Errno::PROTO);
    for _ in 0..2 {
        crate::users::read_who(&mut from).ok_or(malformed)?;
    }
    for _ in 0..from.u32().ok_or(malformed)? {
        crate::users::read_who(&mut from).ok_or(malformed)?;
    }
    Ok(from)
}

fn words<'a>(from: &mut Reader<'a>, extra: Option<&'a CStr>, memory: &mut Arena<'a>) -> Step<WordArray<'a>> {
    let malformed = (step::DECODE, Errno::PROTO);
    let count = from.u32().ok_or(malformed)?;
    let mut words = WordArray::with_room(count as usize + 1, memory).map_err(at(step::MEMORY))?;
    for _ in 0..count {
        words.push(from.text().ok_or(malformed)?).map_err(at(step::MEMORY))?;
    }
    if let Some(extra) = extra {
        words.push(extra).map_err(at(step::MEMORY))?;
    }
    Ok(words)
}

/// HOME=..., from the container's passwd, where the plan says that nobody else set it.
fn home_variable<'a>(plan: &Plan<'_>, identity: &Identity, memory: &mut Arena<'a>) -> Step<Option<&'a CStr>> {
    if !plan.head.has(flag::SET_HOME) {
        return Ok(None);
    }
    let text = memory.bytes(HOME_MAX + 6).map_err(at(step::MEMORY))?;
    let home = identity.home().to_bytes_with_nul();
    text[..5].copy_from_slice(b"HOME=");
    text[5..5 + home.len()].copy_from_slice(home);
    CStr::from_bytes_until_nul(text).map(Some).map_err(|_| (step::MEMORY, Errno::INVAL))
}

/// CAP_SYS_ADMIN could clear read-only flags and unmount masks; only a child user namespace locks them (kernel: MNT_LOCKED).
fn nested_namespace(plan: &Plan<'_>) -> Step<Fd> {
    if !plan.head.has(flag::NESTED) {
        return Ok(Fd::NONE);
    }
    make_namespace(plan.nested).map_err(at(step::NESTED))
}

/// A second wall: everything beneath the root, nothing outside it. One domain for all processes, so PID 1 enters it.
fn enter_landlock(plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    let abi = match security::landlock_abi() {
        Ok(abi) if abi >= 2 => abi, // ABI 1 (5.13) has no REFER: every rename across directories would fail
        Ok(_) if plan.head.has(flag::LANDLOCK_REQUIRED) => return Err(Errno::OPNOTSUPP),
        Err(errno) if plan.head.has(flag::LANDLOCK_REQUIRED) => return Err(errno),
        _ => return Ok(()),
    };
    let bits = 14 + usize::from(abi >= 3) + usize::from(abi >= 5);
    let rights = (1u64 << bits) - 1;
    let ruleset = security::landlock_ruleset(rights)?;
    security::landlock_allow_beneath(ruleset.raw(), state.root, rights)?;
    let strict = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    if plan.head.clone_flags & CLONE_NEWNS == 0 {
        // Ours, for the evidence, which lies beneath no root; the command has no descriptor of it.
        security::landlock_allow_beneath(ruleset.raw(), state.proc, rights)?;
    }
    // Message queues lie on a mount of the kernel's own: without a rule for it mq_open would be refused.
    if let Ok(queues) = fs::openat2(state.root, c"dev/mqueue", O_PATH | O_DIRECTORY, 0, strict) {
        security::landlock_allow_beneath(ruleset.raw(), queues.raw(), rights)?;
    }
    security::landlock_enter(ruleset.raw())?;
    state.landlocked = abi;
    Ok(())
}

/// From PID 1's child (or PID 1 itself) to the command. Comes back only with the step that failed.
pub fn become_it(command: &Command<'_>) -> Refused {
    match drop_everything(command) {
        Ok(()) => execute(command),
        Err(refused) => refused,
    }
}

fn drop_everything(command: &Command<'_>) -> Step<()> {
    let plan = command.plan;
    process::set_signal_mask(0).map_err(at(step::STREAMS))?;
    let _ = process::setsid(); // PID 1 itself already leads its session
    let needed = take_streams(command)?;
    if needed.nested >= 0 {
        process::setns(needed.nested, CLONE_NEWUSER).map_err(at(step::NESTED))?;
        process::unshare(CLONE_NEWNS).map_err(at(step::NESTED))?;
    }
    if plan.head.clone_flags & CLONE_NEWUSER == 0 {
        let _ = process::prctl(PR_SET_SECUREBITS, 0, 0); // undo the keeper's; a new user namespace does so itself
    }
    let capabilities = if plan.head.skips(flag::SKIP_CAPABILITIES) { u64::MAX >> 23 } else { command.capabilities };
    security::cut_bounding_set(capabilities).map_err(at(step::BOUNDING_SET))?;
    let no_new_privs = plan.head.has(flag::NO_NEW_PRIVS) && !plan.head.skips(flag::SKIP_NO_NEW_PRIVS);
    let mut directory = Fd::NONE;
    if !no_new_privs {
        directory = open_cwd(needed.root, command.cwd)?; // now: beside a writable bind the filter leaves no openat2
        set_rlimits(command)?;
        load_filter(command)?; // needs CAP_SYS_ADMIN, which the next lines drop
    }
    change_ids(command)?;
    process::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0).map_err(at(step::CAPABILITIES))?;
    let kept = if command.identity.uid == 0 { capabilities } else { 0 };
    security::capset(kept).map_err(at(step::CAPABILITIES))?;
    let directory = if no_new_privs { open_cwd(needed.root, command.cwd)? } else { directory };
    fs::fchdir(directory.raw()).map_err(at(step::CWD))?;
    fs::umask(command.umask);
    if needed.lifeline >= 0 {
        end_with_keeper(needed.lifeline)?;
    }
    if no_new_privs {
        process::prctl(PR_SET_NO_NEW_PRIVS, 1, 0).map_err(at(step::NO_NEW_PRIVS))?;
        set_rlimits(command)?;
        load_filter(command)?;
    }
    Ok(())
}

/// Where the command is PID 1 nobody inside watches the keeper's socket. After the last change of ids, which clears the signal.
fn end_with_keeper(lifeline: i32) -> Step<()> {
    process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0).map_err(at(step::RELEASE))?;
    let mut fds = [process::PollFd { fd: lifeline, events: 0, revents: 0 }];
    match retry(|| process::poll(&mut fds, 0)) {
        Ok(0) => Ok(()),
        Ok(_) => process::exit_group(1),           // it died before
        Err(errno) => Err((step::RELEASE, errno)), // no word of the command's: its exit status would be taken for one
    }
}

fn load_filter(command: &Command<'_>) -> Step<()> {
    if command.plan.head.skips(flag::SKIP_SECCOMP) {
        return Ok(());
    }
    let programs = command.seccomp.iter().filter(|program| !program.is_empty());
    programs.copied().try_for_each(security::seccomp_load).map_err(at(step::SECCOMP))
}

/// What the set-up still needs when the command's own descriptors are in place.
struct Needed {
    root: i32,
    nested: i32,
    lifeline: i32,
}

/// Moved above all numbers that the command gets: a passed descriptor could take the root's place, and lead the cwd out of it.
fn out_of_the_way(command: &Command<'_>, highest: i32) -> Result<Needed> {
    let above = |fd: i32| if fd < 0 { Ok(fd) } else { fs::dup_above(fd, highest + 1).map(Fd::release) };
    Ok(Needed { root: above(command.root)?, nested: above(command.nested.raw())?, lifeline: above(command.lifeline)? })
}

/// 0, 1, 2 and the passed descriptors at their numbers; nothing else survives exec.
fn take_streams(command: &Command<'_>) -> Step<Needed> {
    let failed = at(step::STREAMS);
    let fds = &command.plan.fds;
    let highest = fds.with_role(role::PASS).map(|(_, target)| target).max().unwrap_or(2).max(2);
    let needed = out_of_the_way(command, highest).map_err(&failed)?;
    let mut passed = [(-1, -1); 64];
    let mut count = 0;
    for (fd, target) in fds.with_role(role::PASS).take(passed.len()) {
        passed[count] = (fs::dup_above(fd, highest + 1).map_err(&failed)?.release(), target);
        count += 1;
    }
    let mut streams = [-1; 3];
    for (stream, fd) in streams.iter_mut().zip(fds.streams) {
        let fd = if command.terminal >= 0 { command.terminal } else { fd };
        *stream = fs::dup_above(fd, highest + 1).map_err(&failed)?.release();
    }
    for (target, stream) in streams.iter().enumerate() {
        fs::dup_onto(*stream, target as i32, false).map_err(&failed)?;
    }
    fs::close_range(3, u32::MAX, true).map_err(&failed)?;
    for (fd, target) in &passed[..count] {
        fs::dup_onto(*fd, *target, false).map_err(&failed)?;
    }
    if command.terminal >= 0 {
        fs::set_controlling_terminal(0).map_err(at(step::TERMINAL))?;
    }
    Ok(needed)
}

/// As late as a filter of the caller's allows: the set-up itself needs more than a small limit leaves, of descriptors above all.
fn set_rlimits(command: &Command<'_>) -> Step<()> {
    let mut from = command.rlimits;
    for _ in 0..command.rlimit_count {
        let (resource, (soft, hard)) =
            from.u32().zip(from.u64().zip(from.u64())).ok_or((step::DECODE, Errno::PROTO))?;
        process::setrlimit(resource, soft, hard).map_err(at(step::RLIMIT))?;
    }
    Ok(())
}

fn change_ids(command: &Command<'_>) -> Step<()> {
    let who = &command.identity;
    if command.plan.head.has(flag::SET_GROUPS) {
        process::setgroups(&who.groups[..who.group_count]).map_err(at(step::SETGROUPS))?;
    }
    process::setresgid(who.gid).map_err(at(step::SETGID))?;
    process::setresuid(who.uid).map_err(at(step::SETUID))?;
    crate::pid1::stay_undumpable(); // this memory is PID 1's until exec
    Ok(())
}

/// Beneath the root and through no magic link: a working directory cannot lead out (CVE-2024-21626).
fn open_cwd(root: i32, cwd: &CStr) -> Step<Fd> {
    let flags = O_PATH | O_DIRECTORY;
    fs::openat2(root, cwd, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS).map_err(at(step::CWD))
}

/// Tries each place of the command in turn, as execvp(3): what is missing is passed over, a refusal is remembered.
fn execute(command: &Command<'_>) -> Refused {
    let mut from = command.search;
    let mut answer = Errno::NOENT;
    for _ in 0..command.search_count {
        let Some(path) = from.text() else { break };
        command.progress.reached_exec.store(true, Ordering::Relaxed);
        let errno = process::exec(path, &command.argv, &command.envp);
        command.progress.reached_exec.store(false, Ordering::Relaxed);
        match errno {
            Errno::NOENT if fs::statx(AT_FDCWD, path, 0).is_ok() => return (step::EXEC, NO_INTERPRETER),
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCES => answer = Errno::ACCES,
            other => return (step::EXEC, other),
        }
    }
    (step::EXEC, answer)
}
