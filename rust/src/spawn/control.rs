//! A live container: looked at, stopped, watched, given other limits. All or nothing; who is outside a group is moved into it.

use super::disk::Means;
use super::engine::Engine;
use super::handle::Handle;
use super::limits;
use super::plan::NEVER;
use super::run::{Live, overdue};
use super::spec::{Limits, Root, Spec};
use crate::cgroup::{Cap, Changed, CpuFormat, Groups, Inside, LiveStats, OomWatch, Resource, in_use, parent};
use crate::error::{Error, Result};
use crate::wire::{Update, bound, role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

const CHILD: i32 = 10;
const EBUSY: i32 = 16;
const EOPNOTSUPP: i32 = 95;
const BYTES_PER_INODE: u64 = 4096;
const LEAST_INODES: u64 = 64;

/// A container that can be looked at, of this process or of another one.
pub trait Measured: Sync {
    /// What it uses at this moment.
    fn stats(&self) -> Result<LiveStats>;
    fn pressure_trigger(&self, of: Resource, full: bool, stall: Duration, window: Duration) -> Result<OwnedFd>;
}

impl Measured for Handle {
    fn stats(&self) -> Result<LiveStats> {
        let counted = self.with_live(|live| Ok(live.groups.as_ref().is_some_and(|groups| !groups.is_empty())))?;
        let first = if counted { None } else { self.first()? };
        self.with_live(|live| {
            let mut now = groups(live)?.live_stats(first);
            if now.cpu_usec.is_none() && live.has_no_command() {
                return Err(ended());
            }
            // Our own PID 1 is none of the container's tasks.
            now.pids = now.pids.map(|tasks| tasks.saturating_sub(ours(&live.spec)));
            Ok(now)
        })
    }

    fn pressure_trigger(&self, of: Resource, full: bool, stall: Duration, window: Duration) -> Result<OwnedFd> {
        self.with_live(|live| groups(live)?.pressure_trigger(of, full, stall, window))
    }
}

impl Handle {
    /// Back when every task has stopped, or goes on.
    pub fn freeze(&self, stop: bool) -> Result<()> {
        if !stop {
            return self.with_live(|live| groups(live)?.resume().and_then(|()| live.frozen(false)));
        }
        // The keeper hears of it: PID 1 of what is killed meanwhile cannot be asked to end it, and is not waited for.
        let stopping = self.with_live(|live| {
            let stopping = groups(live)?.stop()?;
            live.frozen(true)?;
            Ok(stopping)
        })?;
        // Not while others cannot get at it: they may want to kill it.
        stopping.wait().inspect_err(|_| drop(self.with_live(|live| live.frozen(false))))
    }

    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        self.with_live(|live| groups(live)?.oom_watch())
    }

    /// `limits` are all that hold from now on. After an error nothing is changed.
    pub fn update(&self, limits: Limits) -> Result<()> {
        let first = self.first()?;
        self.with_live(|live| change(live, self.spec(), limits, first))
    }

    /// PID 1, as this process numbers it.
    fn first(&self) -> Result<Option<i32>> {
        let (_, command) = self.command()?;
        let command = Some(command).filter(|pid| *pid > 0);
        Ok(if self.spec().pid1 { command } else { command.and_then(parent) })
    }
}

impl Live {
    fn frozen(&self, frozen: bool) -> Result<()> {
        self.engine.keeper.frozen(self.id, frozen)
    }

    /// It has ended, and nobody has said so yet.
    fn has_no_command(&self) -> bool {
        let Some((_, Some(pidfd))) = &self.runs else { return false };
        let mut fds = [PollFd::new(&**pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

fn groups(live: &Live) -> Result<&Groups> {
    live.groups.as_ref().ok_or_else(ended)
}

pub(super) fn ended() -> Error {
    Error::State("the container has ended".into())
}

pub(super) fn ours(spec: &Spec) -> u64 {
    u64::from(!spec.pid1)
}

/// Groups first, then what else holds a limit; each is taken back where a later one fails.
fn change(live: &mut Live, start: &Spec, limits: Limits, first: Option<i32>) -> Result<()> {
    let engine = live.engine.clone();
    let old = live.spec.clone();
    let spec = Spec { limits, ..(*old).clone() };
    let of_groups = limits::of_groups(&engine, &spec);
    tasks(live, &engine, start, &spec)?;
    let size = size_in_memory(live, &spec);
    let mut groups = live.groups.take().ok_or_else(ended)?;
    let inside = Inside { first, ours: ours(&spec) };
    let done = groups.update(&of_groups, inside).and_then(|changed| {
        let rest = on_disk(live, &spec).and_then(|bounded| {
            let told = tell(live, &engine, &groups, &changed, &spec, size);
            told.inspect_err(|_| {
                drop(old.limits.disk.filter(|_| bounded).and_then(|bytes| live.prepared.rebound(bytes)))
            })
        });
        rest.inspect_err(|_| groups.revert(changed))
    });
    live.groups = Some(groups);
    done?;
    live.overdue = overdue(&spec);
    live.spec = Arc::new(spec);
    Ok(())
}

/// The bound of a user namespace is made with it: a group can hold less, and nothing more.
fn tasks(live: &Live, engine: &Engine, start: &Spec, spec: &Spec) -> Result<()> {
    let asked = spec.limits.group.pids;
    let by_namespace = limits::pids_bound(engine, start).filter(|_| live.prepared.facts().user_namespace);
    let (Some(most), false) = (by_namespace, asked == live.spec.limits.group.pids) else { return Ok(()) };
    let fix = "pids= (\"max\" too) when the container is made";
    if engine.facts.rootless && !engine.place.has_pids() {
        let cause = "the bound of the container's user namespace is made with it, and no group can hold another";
        return Err(Error::unsupported("pids", cause, fix));
    }
    let most = most - ours(spec);
    match asked {
        Some(Cap::Value(asked)) if asked <= most => Ok(()),
        _ => Err(Error::unsupported("pids", format!("the container's user namespace was made for {most} tasks"), fix)),
    }
}

/// The size that a layer in memory has from now on, where that is another one.
fn size_in_memory(live: &Live, spec: &Spec) -> Option<u64> {
    let size = limits::upper_size(spec);
    let there = !live.prepared.upper_is_on_disk() && spec.root != Root::View;
    (there && size != limits::upper_size(&live.spec)).then_some(size)
}

/// Whether its layer on the disk has another bound now.
fn on_disk(live: &mut Live, spec: &Spec) -> Result<bool> {
    if !live.prepared.upper_is_on_disk() || spec.limits.disk == live.spec.limits.disk {
        return Ok(false);
    }
    let fix = "disk= when the container is made";
    let asked = spec.limits.disk.filter(|bytes| *bytes != NEVER);
    let cause = match (asked, live.prepared.bound.map(|bound| bound.means)) {
        (Some(bytes), Some(Means::ProjectQuota)) => {
            let changed = live.prepared.rebound(bytes);
            let none = || Err(Error::unsupported("disk", "its layer has no project quota", fix));
            return changed.unwrap_or_else(none).map(|()| true);
        }
        (_, Some(Means::LoopFile)) => "the file system of a loop file keeps its size",
        (None, Some(Means::ProjectQuota)) => "a project quota of a live container is changed, not lifted",
        (_, None) => "its layer on the disk was made without a bound",
    };
    Err(Error::unsupported("disk", cause, fix))
}

/// What the keeper holds: times, the size of a layer in memory; and what it watches of groups that were made now.
fn tell(
    live: &Live,
    engine: &Engine,
    groups: &Groups,
    changed: &Changed,
    spec: &Spec,
    size: Option<u64>,
) -> Result<()> {
    let times = |spec: &Spec| (spec.limits.wall_time, spec.limits.cpu_time);
    let late = changed.late_memory(groups);
    if times(spec) == times(&live.spec) && size.is_none() && !late {
        return Ok(());
    }
    let (event, control) = groups.oom_event()?.filter(|_| late).unzip();
    let clock = groups.cpu_clock().filter(|_| spec.limits.cpu_time.is_some());
    let cpu_v1 = u8::from(clock.as_ref().is_some_and(|clock| clock.format == CpuFormat::UsageNsec));
    let clock = clock.map(|clock| clock.fd);
    let roles = [(role::OOM_EVENT, &event), (role::OOM_CONTROL, &control), (role::CPU_USAGE, &clock)];
    let descriptors: Vec<_> =
        roles.into_iter().filter_map(|(role, fd)| Some((role, fd.as_ref()?.as_raw_fd()))).collect();
    let nanoseconds = |seconds: Option<f64>| seconds.map_or(NEVER, |seconds| (seconds * 1e9).clamp(0.0, 9e18) as u64);
    let inodes = size.filter(|size| *size > 0).map_or(0, |size| (size / BYTES_PER_INODE).max(LEAST_INODES));
    let update = Update {
        id: live.id,
        wall_time: nanoseconds(spec.limits.wall_time),
        cpu_time: nanoseconds(spec.limits.cpu_time),
        cpu_v1,
        resize: u8::from(size.is_some()),
        size: size.unwrap_or(0),
        inodes,
        uncharged: groups.uncharged(),
    };
    match engine.keeper.update(&update, &descriptors)? {
        (_, 0, _) => Ok(()),
        (which, errno, used) => Err(refused(&update, which, errno, used)),
    }
}

fn refused(update: &Update, which: u8, errno: i32, used: u64) -> Error {
    let past = |limit: &str, asked: u64, what: &str| {
        let seconds = |nanoseconds: u64| format!("{:.3}", nanoseconds as f64 / 1e9);
        let step = format!("lower {limit} to {} with {} seconds {what}", seconds(asked), seconds(used));
        Error::Setup { step, path: None, errno, note: Some("no limit was changed".into()) }
    };
    match (which, errno) {
        (_, CHILD) => ended(),
        (bound::WALL_TIME, _) => past("wall_time", update.wall_time, "passed"),
        (bound::CPU_TIME, EOPNOTSUPP) => {
            Error::unsupported("cpu_time", "no group counts the container's time", "cpu_time= when it is made")
        }
        (bound::CPU_TIME, _) => past("cpu_time", update.cpu_time, "spent"),
        (bound::DISK, EBUSY) => in_use("disk", update.size, used, "bytes"),
        (bound::DISK, errno) => Error::setup("change the size of the writable layer", errno),
        (_, errno) => Error::setup("update the limits", errno),
    }
}
