//! Control groups: where they go, which files hold which limit, what they counted. Never moves a process itself: the keeper does.
//!
//! The road: `Place::discover` once per engine, `Groups::plan` and its `make` before the attach, `Groups::counters` and `Groups::remove` after
//! the last process has been reaped. `plan` decides without touching the kernel which file gets which value.

mod check;
mod cpu;
mod cpuset;
mod delegation;
mod describe;
mod files;
mod found;
mod freeze;
mod groups;
mod io;
mod live;
mod memory;
mod parse;
mod pids;
mod plan;
mod pressure;
mod processes;
mod stats;
mod sweep;
mod tree;
mod update;
mod verify;

#[cfg(test)]
mod tests;

pub use check::MOST_PIDS;
pub use found::{Found, SEATS};
pub use groups::{CpuClock, CpuFormat, Groups, Unmade};
pub use live::{Breakdown, LiveStats};
pub use pressure::{OomWatch, Resource};
pub use processes::parent;
pub use stats::Counters;
pub use sweep::{group_name, owner, sweep};
pub use tree::Place;
pub use update::{Changed, Inside, in_use};

/// A bound: a number, or none at all ("max").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    Max,
    Value(u64),
}

impl Cap {
    /// The text that both cgroup versions' newer files take.
    fn text(self) -> String {
        match self {
            Cap::Max => "max".to_owned(),
            Cap::Value(value) => value.to_string(),
        }
    }
}

/// Rates for one block device; bytes or operations per second. A rate that is None is not bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoRule {
    /// Major and minor number of a whole disk; the kernel refuses partitions.
    pub device: (u32, u32),
    pub read_bps: Option<u64>,
    pub write_bps: Option<u64>,
    pub read_iops: Option<u64>,
    pub write_iops: Option<u64>,
}

/// What the groups of one container shall hold. The default asks for nothing.
#[derive(Debug, Default, Clone)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<Cap>,
    /// Bytes on top of `memory`, as in cgroup v2; 0 forbids swap.
    pub swap: Option<Cap>,
    pub memory_high: Option<Cap>,
    /// Processors' worth of time; infinity lifts the bound.
    pub cpus: Option<f64>,
    /// 1 to 10000, 100 is everybody's.
    pub cpu_weight: Option<u32>,
    /// A list as in cpuset(7): "0-3,8".
    pub cpuset: Option<String>,
    /// The keeper needs a clock of the whole tree's processor time.
    pub cpu_time: bool,
    pub pids: Option<Cap>,
    pub io: Vec<IoRule>,
    /// 1 to 10000, 100 is everybody's.
    pub io_weight: Option<u32>,
    /// None is on wherever there is a memory group.
    pub oom_group: Option<bool>,
    /// A cgroup2 group is wanted for kill, freeze and pressure, if there can be one; no error without.
    pub unified: bool,
    /// Of a handle: a version 2 group counts memory, tasks and bytes from its start, where its place has these controllers; no error
    /// without.
    pub watched: bool,
    /// What only cgroup.kill can end as one, by the name under which it is refused where there is none.
    pub killed_as_one: Option<&'static str>,
    /// Names of limits that may be held badly or not at all, instead of being refused.
    pub degrade: Vec<String>,
    /// Of tests: limits whose files are left as they are. Otherwise empty.
    pub unwritten: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Held,
    Degraded,
    Missing,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Degraded => "degraded",
            State::Missing => "missing",
        }
    }
}

/// One row of `enforced` and of `doctor`: how well a limit is held here, by what, and if badly why and what cures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    pub name: &'static str,
    pub state: State,
    pub by: String,
    pub why: String,
    pub fix: String,
}

/// What carries a limit. The order is the order of `Place::parents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Pids,
    Io,
    /// Version 1 only; in version 2 every group has a cpu.stat.
    Cpuacct,
    /// Being in a cgroup2 group at all, which needs no controller.
    Unified,
}

impl Controller {
    const ALL: [Controller; 7] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Pids,
        Controller::Io,
        Controller::Cpuacct,
        Controller::Unified,
    ];

    /// The name in /proc/self/cgroup and in the options of a version 1 mount.
    fn v1_name(self) -> Option<&'static str> {
        match self {
            Controller::Memory => Some("memory"),
            Controller::Cpu => Some("cpu"),
            Controller::Cpuset => Some("cpuset"),
            Controller::Pids => Some("pids"),
            Controller::Io => Some("blkio"),
            Controller::Cpuacct => Some("cpuacct"),
            Controller::Unified => None,
        }
    }

    /// The name in cgroup.controllers and cgroup.subtree_control.
    fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Io => Some("io"),
            Controller::Cpuacct | Controller::Unified => None,
            other => other.v1_name(),
        }
    }

    fn title(self) -> &'static str {
        self.v2_name().or(self.v1_name()).unwrap_or("cgroup2")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn title(self) -> &'static str {
        match self {
            Version::V1 => "cgroup v1",
            Version::V2 => "cgroup v2",
        }
    }
}
