//! One container from plan to running PID 1: mounts, clone, id maps, release. Fails with the step, leaves nothing behind.

use crate::cache::Cache;
use crate::kept::{Files, Held};
use crate::maps::{self, StandIn};
use crate::outside::{self, Slots};
use crate::pid1::{self, Inside};
use crate::plan::Plan;
use crate::porter;
use crate::served::Daemon;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned};
use crate::sys::{Errno, net};
use crate::wire::{Decimal, Head, flag, phase, record, role, step};

/// Where the host left this process's own /proc/self/oom_score_adj open.
const OOM_SCORE: i32 = 5;

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
    /// The porter's pid and pidfd; 0 and none without published ports.
    pub porter: (i32, Fd),
    pub files: Held,
    /// The program that shows its root, if one does.
    pub daemon: Daemon,
}

pub type Outcome<T> = Result<T, Failure>;

pub fn at(phase: u8, step: u16) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { phase, step, errno }
}

/// `index` is that of the container among the live ones; `again`: after an attempt that had no descriptor left.
pub fn launch(plan: &Plan<'_>, cache: &mut Cache, rootless: bool, index: usize, again: bool) -> Outcome<Launched> {
    let head = &plan.head;
    let in_own = head.clone_flags & CLONE_NEWUSER != 0;
    // What is made in tmpfs belongs to the container's root.
    let root = if in_own { (head.base, head.group_base) } else { (0, 0) };
    let as_root = Ids::take(root.0, root.1, (0, 0))?;
    let mut slots = Slots::new(again);
    outside::run(plan, cache, &mut slots).map_err(|(index, errno)| at(phase::OUTSIDE, index)(errno))?;
    let files = Files::take(plan, cache, rootless, &slots).map_err(at(phase::KEEPER, step::TOO_MANY))?;
    let (ours, theirs) = net::socketpair().map_err(at(phase::KEEPER, step::SOCKET))?;
    let spaces = Joined::enter(plan)?;
    let into = (plan.fds.into_cgroup >= 0).then_some(plan.fds.into_cgroup);
    let bounds = Bounds::take(head, root, index)?;
    let cloned = process::clone_copy(head.clone_flags, into).map_err(at(phase::CLONE, step::CLONE));
    if let Ok(Cloned::Child) = cloned {
        pid1::enter(Inside { plan, control: theirs, slots: &slots, rootless });
    }
    drop(bounds);
    drop(spaces);
    drop(as_root);
    let Cloned::Parent { pid, pidfd } = cloned? else { process::exit_group(70) };
    drop(theirs);
    let porter = (0, Fd::NONE);
    let (upper, daemon) = (slots.keep_upper(), core::mem::replace(&mut slots.daemon, Daemon::NONE));
    let mut launched = Launched { pid, pidfd, control: ours, upper, porter, files, daemon };
    let released = release(plan, &mut launched, rootless);
    if released.is_err() {
        abandon(launched.pidfd.raw(), launched.pid);
        porter::end((launched.porter.0, launched.porter.1.raw()));
        if launched.upper >= 0 {
            fs::close(launched.upper);
        }
    }
    released.map(|()| launched)
}

/// The maps, what only this side may do to the child, and the byte that lets it go.
fn release(plan: &Plan<'_>, launched: &mut Launched, rootless: bool) -> Outcome<()> {
    let mut stand_in = None;
    if plan.head.clone_flags & CLONE_NEWUSER != 0 {
        stand_in = map(plan, launched, rootless).map_err(at(phase::CLONE, step::UID_MAP))?;
    }
    own_streams(plan)?;
    if porter::wanted(plan) {
        launched.porter = porter::start(plan, launched.pidfd.raw(), launched.control.raw())
            .map_err(at(phase::CLONE, step::PORTER))?;
    }
    if plan.head.has(flag::PID1) {
        // The command may shed its death signal (prctl, a change of ids, set-id bits): then the host ends it, if not we.
        net::send(plan.fds.report, &[record::FIRST], &[launched.pidfd.raw()], MSG_DONTWAIT)
            .map_err(at(phase::CLONE, step::RELEASE))?;
    }
    net::send(launched.control.raw(), &[1], &[], 0).map_err(at(phase::CLONE, step::RELEASE))?;
    drop(stand_in); // its end takes a moment, in which the container is under way already
    Ok(())
}

/// PID 1's files in /proc are root's, since it is undumpable: root of the host writes them, a plain user's keeper those of somebody
/// who stands in for it.
fn map(plan: &Plan<'_>, launched: &Launched, rootless: bool) -> crate::sys::Result<Option<StandIn>> {
    if !rootless {
        return maps::write(launched.pid, plan.maps).map(|()| None);
    }
    let namespace = maps::receive_namespace(launched.control.raw())?;
    let stand_in = StandIn::inside(namespace.raw())?;
    stand_in.write(plan.maps)?;
    Ok(Some(stand_in))
}

/// Pipes that the host made for this container belong to its root, so that /dev/stdout opens; inherited ones are left alone.
fn own_streams(plan: &Plan<'_>) -> Outcome<()> {
    let ours = [flag::OWN_STDIN, flag::OWN_STDOUT, flag::OWN_STDERR];
    for (fd, flag) in plan.fds.streams.iter().zip(ours) {
        if *fd >= 0 && plan.head.has(flag) {
            fs::fchown(*fd, plan.head.base, plan.head.group_base).map_err(at(phase::CLONE, step::OWN_STREAM))?;
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

/// The keeper has other ids, with all its capabilities, until this is dropped.
struct Ids {
    home: Option<(u32, u32)>,
}

impl Ids {
    fn take(uid: u32, gid: u32, home: (u32, u32)) -> Outcome<Ids> {
        if (uid, gid) == home {
            return Ok(Ids { home: None });
        }
        let taken = Ids { home: Some(home) }; // also where the second call fails
        set_ids(uid, gid).map_err(at(phase::KEEPER, step::RANGE))?;
        Ok(taken)
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.home {
            let _ = set_ids(uid, gid);
        }
    }
}

fn set_ids(uid: u32, gid: u32) -> crate::sys::Result<()> {
    process::setresgid(gid)?;
    process::setresuid(uid)?;
    process::prctl(PR_SET_DUMPABLE, 0, 0).map(drop) // a change of ids makes it what sysctl fs.suid_dumpable says
}

/// What a child keeps of its creator: the bound on tasks, and the score for the OOM killer.
///
/// From 5.14 the kernel counts all tasks of a user namespace under the uid that made it, and holds them to the RLIMIT_NPROC of that
/// moment. So each live container has a creator of its own: root's keeper is its range's first id by now, a plain user's takes one
/// of the ids that it has.
struct Bounds {
    _creator: Ids,
    limit: Option<(u64, u64)>,
    score: Option<Score>,
}

impl Bounds {
    fn take(head: &Head, root: (u32, u32), index: usize) -> Outcome<Bounds> {
        let mut taken = Bounds { _creator: Ids { home: None }, limit: None, score: None };
        if head.oom_score_adj != i32::MIN {
            taken.score = Some(Score::take(head.oom_score_adj).map_err(at(phase::CLONE, step::OOM_SCORE))?);
        }
        if head.nproc != u64::MAX {
            let (soft, hard) = process::getrlimit(RLIMIT_NPROC).map_err(at(phase::KEEPER, step::NPROC))?;
            taken.limit = Some((soft, hard));
            process::setrlimit(RLIMIT_NPROC, head.nproc.min(hard), hard).map_err(at(phase::KEEPER, step::NPROC))?;
        }
        if head.creators > 0 {
            taken._creator = Ids::take(1 + index as u32 % head.creators, root.1, root)?;
        }
        Ok(taken)
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.limit {
            let _ = process::setrlimit(RLIMIT_NPROC, soft, hard);
        }
    }
}

/// The keeper's own oom_score_adj, which a child begins with. Through the descriptor that it was started with: the file of an
/// undumpable process belongs to root of the host.
struct Score {
    before: [u8; 8],
    length: usize,
}

impl Score {
    fn take(score: i32) -> crate::sys::Result<Score> {
        let mut before = [0; 8];
        let length = fs::pread(OOM_SCORE, &mut before, 0)?;
        let digits = Decimal::new(score.unsigned_abs() as u64);
        let mut text = [b'-'; 24];
        text[1..1 + digits.bytes().len()].copy_from_slice(digits.bytes());
        let line = &text[usize::from(score >= 0)..1 + digits.bytes().len()];
        fs::write(OOM_SCORE, line)?;
        Ok(Score { before, length })
    }
}

impl Drop for Score {
    fn drop(&mut self) {
        let _ = fs::write(OOM_SCORE, &self.before[..self.length]);
    }
}

/// Namespaces of others that the container shall share: entered by this single-threaded process for the moment of the clone. A
/// keeper that stayed in one would make all later containers there.
struct Joined {
    home: [(i32, u64); 8],
    count: usize,
}

impl Joined {
    fn enter(plan: &Plan<'_>) -> Outcome<Joined> {
        let mut joined = Joined { home: [(-1, 0); 8], count: 0 };
        for (fd, kind) in plan.fds.with_role(role::NAMESPACE).filter(|space| !crate::view::is_mount(space)) {
            let kind = kind as u32 as u64;
            let home = fs::openat(AT_FDCWD, own_namespace(kind), O_RDONLY, 0)
                .map_err(at(phase::CLONE, step::JOIN_NAMESPACE))?;
            // A plain user's keeper has no power over where it was started: refused now, while nothing has changed.
            process::setns(home.raw(), kind).map_err(at(phase::CLONE, step::NO_WAY_BACK))?;
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
            if process::setns(*fd, *kind).is_err() {
                process::exit_group(71); // EX_OSERR; the host reports a keeper that died
            }
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
