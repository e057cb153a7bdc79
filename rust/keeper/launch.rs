//! One container from plan to running PID 1: mounts, clone, id maps, release. Fails with the step, leaves nothing behind.

use crate::cache::{Cache, Mapping, write_maps};
use crate::outside::{self, Slots};
use crate::pid1::{self, Inside};
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned};
use crate::sys::{Errno, net};
use crate::wire::{Decimal, flag, phase, role, step};

/// Where a launch failed.
#[derive(Clone, Copy)]
pub struct Failure {
    pub phase: u8,
    pub step: u16,
    pub errno: Errno,
}

/// What a launch leaves in the keeper's hands.
pub struct Launched {
    pub pid: i32,
    pub pidfd: Fd,
    pub control: Fd,
    pub upper: i32,
}

pub type Outcome<T> = Result<T, Failure>;

pub fn at(phase: u8, step: u16) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { phase, step, errno }
}

pub fn launch(plan: &Plan<'_>, cache: &mut Cache, rootless: bool) -> Outcome<Launched> {
    let launched = start(plan, cache, rootless);
    if rootless {
        let _ = process::prctl(PR_SET_DUMPABLE, 0, 0); // again, also where it failed half-way
    }
    launched
}

fn start(plan: &Plan<'_>, cache: &mut Cache, rootless: bool) -> Outcome<Launched> {
    let owner = Ownership::take(plan, rootless)?;
    let mut slots = Slots::new();
    outside::run(plan, cache, &mut slots).map_err(|(index, errno)| at(phase::OUTSIDE, index)(errno))?;
    let (ours, theirs) = net::socketpair().map_err(at(phase::KEEPER, step::SOCKET))?;
    let spaces = Joined::enter(plan)?;
    let into = (plan.fds.into_cgroup >= 0).then_some(plan.fds.into_cgroup);
    let cloned = process::clone_copy(plan.head.clone_flags, into).map_err(at(phase::CLONE, step::CLONE));
    if let Ok(Cloned::Child) = cloned {
        pid1::enter(Inside { plan, control: theirs, slots: &slots });
    }
    drop(spaces);
    owner.give_back();
    let Cloned::Parent { pid, pidfd } = cloned? else { process::exit_group(70) };
    drop(theirs);
    let launched = Launched { pid, pidfd, control: ours, upper: slots.keep_upper() };
    release(plan, &launched, rootless).inspect_err(|_| {
        abandon(launched.pidfd.raw(), launched.pid);
        if launched.upper >= 0 {
            fs::close(launched.upper);
        }
    })?;
    Ok(launched)
}

/// The maps, what only this side may do to the child, and the byte that lets it go.
fn release(plan: &Plan<'_>, launched: &Launched, rootless: bool) -> Outcome<()> {
    let head = &plan.head;
    if head.clone_flags & CLONE_NEWUSER != 0 {
        let mapping = Mapping::ids(head.base, head.count, rootless);
        write_maps(launched.pid, mapping).map_err(at(phase::CLONE, step::UID_MAP))?;
    }
    if rootless {
        // The maps of an undumpable process belong to the first user namespace's root; see `pid1::enter` for the child.
        let _ = process::prctl(PR_SET_DUMPABLE, 0, 0);
    }
    own_streams(plan)?;
    if head.oom_score_adj != i32::MIN {
        set_oom_score(launched.pid, head.oom_score_adj).map_err(at(phase::CLONE, step::OOM_SCORE))?;
    }
    net::send(launched.control.raw(), &[1], &[], 0).map_err(at(phase::CLONE, step::RELEASE)).map(drop)
}

fn set_oom_score(pid: i32, score: i32) -> crate::sys::Result<()> {
    let digits = Decimal::new(score.unsigned_abs() as u64);
    let mut text = [b'-'; 24];
    text[1..1 + digits.bytes().len()].copy_from_slice(digits.bytes());
    let line = &text[usize::from(score >= 0)..1 + digits.bytes().len()];
    crate::cache::with_proc_path(pid, b"/oom_score_adj", |path| fs::write_file(AT_FDCWD, path, line))
}

/// Pipes that the host made for this container belong to its root, so that /dev/stdout opens; inherited ones are left alone.
fn own_streams(plan: &Plan<'_>) -> Outcome<()> {
    let ours = [flag::OWN_STDIN, flag::OWN_STDOUT, flag::OWN_STDERR];
    for (fd, flag) in plan.fds.streams.iter().zip(ours) {
        if *fd >= 0 && plan.head.has(flag) {
            fs::fchown(*fd, plan.head.base, plan.head.base).map_err(at(phase::CLONE, step::OWN_STREAM))?;
        }
    }
    Ok(())
}

/// Ends a child of ours that was not let go, or that could not be watched, and waits for its end.
pub fn abandon(pidfd: i32, pid: i32) {
    // A wait for a child that was not killed would be for ever.
    if process::pidfd_send_signal(pidfd, SIGKILL).is_ok() || process::kill(pid, SIGKILL).is_ok() {
        let _ = crate::sys::errno::retry(|| process::wait4(pid, WALL));
    }
}

/// While one container is made, this process has the uid of its range: the kernel then counts all tasks of the new user namespace
/// against RLIMIT_NPROC (5.14), and what is made in tmpfs belongs to the container's root.
struct Ownership {
    changed: bool,
    limit: Option<(u64, u64)>,
}

impl Ownership {
    fn take(plan: &Plan<'_>, rootless: bool) -> Outcome<Ownership> {
        let mut taken = Ownership { changed: false, limit: None };
        if plan.head.nproc != u64::MAX {
            let (soft, hard) = process::getrlimit(RLIMIT_NPROC).map_err(at(phase::KEEPER, step::NPROC))?;
            process::setrlimit(RLIMIT_NPROC, plan.head.nproc.min(hard), hard)
                .map_err(at(phase::KEEPER, step::NPROC))?;
            taken.limit = Some((soft, hard));
        }
        if rootless {
            let _ = process::prctl(PR_SET_DUMPABLE, 1, 0);
        } else if plan.head.clone_flags & CLONE_NEWUSER != 0 {
            process::setresgid(plan.head.base).map_err(at(phase::KEEPER, step::RANGE))?;
            process::setresuid(plan.head.base).map_err(at(phase::KEEPER, step::RANGE))?;
            taken.changed = true;
        }
        Ok(taken)
    }

    /// Early, on the way of success; a failure comes here by drop.
    fn give_back(self) {}
}

impl Drop for Ownership {
    fn drop(&mut self) {
        if self.changed {
            let _ = process::setresuid(0);
            let _ = process::setresgid(0);
        }
        if let Some((soft, hard)) = self.limit {
            let _ = process::setrlimit(RLIMIT_NPROC, soft, hard);
        }
    }
}

/// Namespaces of others that the container shall share: entered by this single-threaded process for the moment of the clone.
struct Joined {
    home: [(i32, u64); 8],
    count: usize,
}

impl Joined {
    fn enter(plan: &Plan<'_>) -> Outcome<Joined> {
        let mut joined = Joined { home: [(-1, 0); 8], count: 0 };
        for (fd, kind) in plan.fds.with_role(role::NAMESPACE) {
            let kind = kind as u32 as u64;
            let home = fs::openat(AT_FDCWD, own_namespace(kind), O_RDONLY, 0)
                .map_err(at(phase::CLONE, step::JOIN_NAMESPACE))?;
            process::setns(fd, kind).map_err(at(phase::CLONE, step::JOIN_NAMESPACE))?;
            joined.home[joined.count] = (home.release(), kind);
            joined.count += 1;
        }
        Ok(joined)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        for (fd, kind) in &self.home[..self.count] {
            let _ = process::setns(*fd, *kind);
            fs::close(*fd);
        }
    }
}

fn own_namespace(kind: u64) -> &'static core::ffi::CStr {
    match kind {
        CLONE_NEWUTS => c"/proc/self/ns/uts",
        CLONE_NEWIPC => c"/proc/self/ns/ipc",
        CLONE_NEWPID => c"/proc/self/ns/pid",
        CLONE_NEWNET => c"/proc/self/ns/net",
        CLONE_NEWTIME => c"/proc/self/ns/time",
        _ => c"/proc/self/ns/cgroup",
    }
}
