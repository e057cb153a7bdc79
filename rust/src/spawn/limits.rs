//! The limits of one run against this machine: what the groups get, what else holds a limit, what may be degraded. Makes nothing.

use super::disk::{self, Bound, Means};
use super::engine::Engine;
use super::plan::{DEFAULT_PIDS, NEVER};
use super::seams;
use super::spec::{Space, Spec};
use crate::cgroup::{self, Cap, Guarantee, State};
use crate::error::{Error, Result};
use crate::mount::layout::DEFAULT_UPPER;

pub fn hard_limit(resource: u32) -> u64 {
    crate::sys::process::getrlimit(resource).map_or(NEVER, |(_, hard)| hard)
}

/// Limits of control groups: what was asked, plus what other limits need a group for. Our own PID 1 is one task more.
pub fn of_groups(engine: &Engine, spec: &Spec) -> cgroup::Limits {
    let mut limits = spec.limits.group.clone();
    limits.degrade = spec.degrade.clone();
    limits.unwritten = seams::unwritten();
    limits.cpu_time = spec.limits.cpu_time.is_some();
    // A command that is PID 1 can shed the signal of its keeper's death: where the host dies too, the next engine's sweep ends it.
    // Who has a handle pauses, measures and kills by it.
    limits.unified = spec.pid1 || spec.handle;
    limits.watched = spec.handle;
    // Without a pid namespace of its own the end of its first process ends nothing else.
    let shares_pids = spec.spaces.pid != Space::New && !seams::skips("namespace:pid");
    limits.killed_as_one = shares_pids.then_some("namespaces['pid']");
    limits.pids = match limits.pids {
        // A plain user's bound is the user namespace's own, which needs no group.
        Some(_) if engine.facts.rootless && !engine.place.has_pids() => None,
        // The kernel has no number above the most, and never as many tasks.
        Some(Cap::Value(pids)) if !spec.pid1 && pids < cgroup::MOST_PIDS => Some(Cap::Value(pids + 1)),
        other => other,
    };
    limits
}

/// Refuses the limits that this machine cannot hold without a group; those that may be degraded come back as rows of `enforced`.
pub fn degraded(engine: &Engine, spec: &Spec, copies: bool) -> Result<(Vec<Guarantee>, Option<Bound>)> {
    let (disk, bound) = disk(engine, spec, copies)?;
    let lacking = [disk, rlimits(spec, hard_limit), oom_score_adj(spec)];
    let mut rows = Vec::new();
    for row in lacking.into_iter().flatten() {
        if !spec.may_degrade(row.name) {
            return Err(Error::unsupported(row.name, row.why, row.fix));
        }
        rows.push(row);
    }
    Ok((rows, bound))
}

fn row(name: &'static str, state: State, by: &str, why: String, fix: &str) -> Option<Guarantee> {
    Some(Guarantee { name, state, by: by.into(), why, fix: fix.into() })
}

/// Since when a part of a mount that is in no namespace can be mounted.
const PARTS_OF_DETACHED: (u32, u32) = (6, 15);
const ONLY_BY_QUOTA: &str = "before Linux 6.15 a root that is a copy of its image is bounded by a project quota alone";
const HAVE_QUOTA: &str =
    "mount the store's file system with prjquota (ext4, XFS), or degrade=[\"disk\"], or the driver overlay";

/// What is lacking, or what holds a layer on the disk to its size.
fn disk(engine: &Engine, spec: &Spec, copies: bool) -> Result<(Option<Guarantee>, Option<Bound>)> {
    let missing = |why: String, fix| Ok((row("disk", State::Missing, "", why, fix), None));
    let Some(bytes) = spec.limits.disk.filter(|size| *size != NEVER) else { return Ok((None, None)) };
    if spec.upper_on_disk || copies {
        return match disk::means(engine, spec)? {
            Ok(Means::LoopFile) if copies && engine.kernel < PARTS_OF_DETACHED => {
                missing(ONLY_BY_QUOTA.into(), HAVE_QUOTA)
            }
            Ok(means) => Ok((None, Some(Bound { bytes, means }))),
            Err(lacking) => missing(lacking.why, lacking.fix),
        };
    }
    let too_old = engine.facts.rootless && engine.kernel < (6, 6);
    if too_old {
        return missing("a plain user's in-memory layer needs Linux 6.6".into(), "a newer kernel, or root");
    }
    Ok((None, None))
}

fn rlimits(spec: &Spec, most: impl Fn(u32) -> u64) -> Option<Guarantee> {
    let beyond = |&&(resource, soft, hard): &&(u32, u64, u64)| soft.max(hard) > most(resource);
    let (resource, ..) = spec.limits.rlimits.iter().find(beyond)?;
    let most = most(*resource);
    let why = format!("this process's hard limit is {most}, and a container never has CAP_SYS_RESOURCE");
    let fix = "raise the hard limit of this process (ulimit -H, LimitNOFILE=)";
    row("rlimits", State::Degraded, "setrlimit, cut to this process's hard limit", why, fix)
}

/// Only where it may be degraded: otherwise the keeper tries, and the kernel, which knows more than we can see, decides.
fn oom_score_adj(spec: &Spec) -> Option<Guarantee> {
    let wanted = spec.limits.oom_score_adj.filter(|_| spec.may_degrade("oom_score_adj"))?;
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
    let held = rustix::thread::capabilities(None).ok()?.effective;
    if wanted >= own || held.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) {
        return None;
    }
    row("oom_score_adj", State::Missing, "", format!("{LOWER}, and this process's own is {own}"), "CAP_SYS_RESOURCE")
}

pub const LOWER: &str = "oom_score_adj can be lowered with CAP_SYS_RESOURCE only";

/// Tasks of the container, our own PID 1 not counted; None where the caller lifted the bound or a group holds it.
pub fn pids_bound(engine: &Engine, spec: &Spec) -> Option<u64> {
    let ours = u64::from(!spec.pid1);
    match spec.limits.group.pids {
        Some(Cap::Max) => None,
        Some(Cap::Value(pids)) if engine.facts.rootless && !engine.place.has_pids() => Some(pids + ours),
        Some(Cap::Value(_)) => None,
        None => Some(DEFAULT_PIDS + ours),
    }
}

/// min(disk, memory/2): pages of the layer are charged to the container's memory (K15). 0 leaves it to the kernel.
pub fn upper_size(spec: &Spec) -> u64 {
    let half = match spec.limits.group.memory {
        Some(Cap::Value(bytes)) => bytes / 2,
        _ => NEVER,
    };
    match spec.limits.disk.unwrap_or(NEVER).min(half) {
        NEVER if spec.limits.disk.is_some() => 0,
        NEVER => DEFAULT_UPPER,
        bound => bound,
    }
}
