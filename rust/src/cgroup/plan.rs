//! From limits to the files that hold them. Pure: reads and writes nothing; `groups` carries it out.

use std::collections::BTreeSet;

use super::{Controller, Guarantee, Limits, State, Version, check, cpu, cpuset, io, memory, pids};
use crate::error::{Error, Result};

/// What of this machine decides whether a limit can be held.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    pub(super) online: BTreeSet<u32>,
    /// The processors of the group under which ours are made.
    pub(super) allowed: BTreeSet<u32>,
    /// The memory nodes of that group, as a list: a version 1 cpuset takes no task before it has some.
    pub(super) nodes: String,
    /// Bytes.
    pub(super) memory: u64,
    pub(super) swap: bool,
    /// Version 1 can bound swap (CONFIG_MEMCG_SWAP, swapaccount=1).
    pub(super) memsw: bool,
    /// The disks, and whether something divides them by weight.
    pub(super) disks: Vec<(String, bool)>,
}

/// What holds a limit of "max".
pub(super) const LIFTED: &str = "lifted, as asked";

/// Why a controller cannot be used, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) cause: String,
    pub(super) fix: String,
}

impl Missing {
    pub(super) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Missing {
        Missing { cause: cause.into(), fix: fix.into() }
    }
}

/// Where a controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seat {
    /// `hierarchy` counts as `Place::parents` does; `remark` says what is special about that place.
    At {
        hierarchy: usize,
        version: Version,
        remark: String,
    },
    Missing(Missing),
}

impl Seat {
    pub(super) fn at(&self) -> Option<(usize, Version)> {
        match self {
            Seat::At { hierarchy, version, .. } => Some((*hierarchy, *version)),
            Seat::Missing(_) => None,
        }
    }
}

/// One value for one file; `optional` where a kernel without the file holds the limit all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) limit: &'static str,
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) value: String,
    pub(super) optional: bool,
}

/// A plan while it grows, and when it is done.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) limits: &'a Limits,
    pub(super) machine: &'a Machine,
    seats: &'a [Seat],
    /// The controllers in whose hierarchies a group is needed.
    pub(super) needed: BTreeSet<Controller>,
    pub(super) writes: Vec<Write>,
    pub(super) rows: Vec<Guarantee>,
    /// The keeper must watch memory.oom_control.
    pub(super) oom_event: bool,
}

/// `seats` is indexed as `Controller::ALL`.
pub(super) fn plan<'a>(seats: &'a [Seat], machine: &'a Machine, limits: &'a Limits) -> Result<Draft<'a>> {
    check::check(limits, machine)?;
    let (needed, writes, rows) = (BTreeSet::new(), Vec::new(), Vec::new());
    let mut draft = Draft { limits, machine, seats, needed, writes, rows, oom_event: false };
    memory::plan(&mut draft)?;
    cpu::plan(&mut draft)?;
    cpuset::plan(&mut draft)?;
    pids::plan(&mut draft)?;
    io::plan(&mut draft)?;
    if let (Some(what), Seat::Missing(missing)) = (limits.killed_as_one, draft.seat(Controller::Unified)) {
        return Err(not_killed(what, missing));
    }
    if (limits.unified || limits.killed_as_one.is_some()) && draft.version(Controller::Unified).is_some() {
        draft.needed.insert(Controller::Unified);
    }
    Ok(draft)
}

/// What no file of the caller's can make up for, so that `degrade` has no say in it.
pub(super) fn not_killed(what: &str, missing: &Missing) -> Error {
    let cause = format!("only cgroup.kill ends all of its processes, and {}", missing.cause);
    Error::unsupported(what, cause, &missing.fix)
}

impl Draft<'_> {
    pub(super) fn seat(&self, controller: Controller) -> &Seat {
        &self.seats[controller as usize]
    }

    pub(super) fn version(&self, controller: Controller) -> Option<Version> {
        self.seat(controller).at().map(|(_, version)| version)
    }

    /// The version that `limit` has to be written for. None if it cannot be held and that was allowed.
    pub(super) fn demand(&mut self, limit: &'static str, controller: Controller) -> Result<Option<Version>> {
        match self.seat(controller).clone() {
            Seat::At { version, .. } => Ok(Some(version)),
            Seat::Missing(missing) => self.refuse(limit, missing).map(|()| None),
        }
    }

    /// A lifted limit needs nothing where there is no place for it: nothing bounds it.
    pub(super) fn lifted(&mut self, limit: &'static str, lifted: bool, controller: Controller) -> bool {
        let free = lifted && self.version(controller).is_none();
        if free {
            self.row(limit, State::Held, LIFTED, Missing::new("", ""));
        }
        free
    }

    /// Asks for a group with these files, and says that they hold `limit`.
    pub(super) fn hold(&mut self, limit: &'static str, controller: Controller, files: Vec<(&'static str, String)>) {
        if let Seat::At { version, remark, .. } = self.seat(controller).clone() {
            self.write(limit, controller, files);
            self.row(limit, State::Held, version.title(), Missing::new(remark, ""));
        }
    }

    pub(super) fn write(&mut self, limit: &'static str, controller: Controller, files: Vec<(&'static str, String)>) {
        self.needed.insert(controller);
        let write = |(file, value)| Write { limit, controller, file, value, optional: false };
        self.writes.extend(files.into_iter().map(write));
    }

    /// `limit` cannot be held: an error, or a row if `degrade` names it.
    pub(super) fn refuse(&mut self, limit: &'static str, missing: Missing) -> Result<()> {
        if !self.allowed(limit) {
            return Err(Error::unsupported(limit, missing.cause, missing.fix));
        }
        self.row(limit, State::Missing, "", missing);
        Ok(())
    }

    pub(super) fn allowed(&self, limit: &str) -> bool {
        self.limits.degrade.iter().any(|name| name == limit)
    }

    pub(super) fn row(&mut self, name: &'static str, state: State, by: impl Into<String>, missing: Missing) {
        self.rows.push(Guarantee { name, state, by: by.into(), why: missing.cause, fix: missing.fix });
    }
}

#[cfg(test)]
#[path = "stage.rs"]
pub(super) mod stage;

#[cfg(test)]
mod tests {
    use super::super::{Cap, IoRule};
    use super::*;

    fn everything() -> Limits {
        let io = IoRule { device: (8, 0), read_bps: Some(1), write_bps: None, read_iops: None, write_iops: None };
        Limits {
            memory: Some(Cap::Value(1 << 30)),
            swap: Some(Cap::Value(1 << 20)),
            memory_high: Some(Cap::Value(1 << 29)),
            cpus: Some(1.0),
            cpu_weight: Some(100),
            cpuset: Some("0".into()),
            cpu_time: true,
            pids: Some(Cap::Value(10)),
            io: vec![io],
            io_weight: Some(100),
            oom_group: Some(true),
            unified: true,
            watched: false,
            killed_as_one: None,
            degrade: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    const NAMES: [&str; 11] = [
        "memory",
        "swap",
        "memory_high",
        "oom_group",
        "cpus",
        "cpu_weight",
        "cpu_time",
        "cpuset",
        "pids",
        "io",
        "io_weight",
    ];

    #[test]
    fn nothing_asked_needs_no_group() {
        let (machine, limits) = (stage::machine(), Limits::default());
        for seats in [stage::nothing(), stage::seats(Version::V1), stage::seats(Version::V2)] {
            let draft = plan(&seats, &machine, &limits).unwrap();
            assert!(draft.needed.is_empty() && draft.writes.is_empty() && draft.rows.is_empty());
        }
    }

    #[test]
    fn without_a_place_each_limit_is_refused_or_named_missing() {
        let (seats, machine, mut limits) = (stage::nothing(), stage::machine(), everything());
        for name in NAMES {
            assert_eq!(stage::refused(&seats, &machine, &limits).0, name);
            limits.degrade.push(name.into());
        }
        let (writes, rows) = stage::outcome(&seats, &machine, &limits).unwrap();
        assert!(writes.is_empty());
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), NAMES);
        let state = |name| if name == "cpu_time" { State::Degraded } else { State::Missing };
        assert!(rows.iter().all(|r| r.1 == state(r.0)));
    }

    #[test]
    fn v2_holds_everything_in_one_group() {
        let (seats, machine, limits) = (stage::seats(Version::V2), stage::machine(), everything());
        let draft = plan(&seats, &machine, &limits).unwrap();
        assert!(draft.rows.iter().all(|r| r.state == State::Held), "{:?}", draft.rows);
        let used: BTreeSet<_> = draft.needed.iter().map(|&c| seats[c as usize].at().unwrap().0).collect();
        assert_eq!(used.len(), 1);
    }

    #[test]
    fn v1_joins_only_what_was_asked_for() {
        let (seats, machine) = (stage::seats(Version::V1), stage::machine());
        let limits = Limits { pids: Some(Cap::Value(5)), unified: true, ..Limits::default() };
        let draft = plan(&seats, &machine, &limits).unwrap();
        assert_eq!(draft.needed, BTreeSet::from([Controller::Pids, Controller::Unified]));
    }

    #[test]
    fn a_wish_for_the_unified_group_never_fails() {
        let (machine, limits) = (stage::machine(), Limits { unified: true, ..Limits::default() });
        assert!(plan(&stage::nothing(), &machine, &limits).unwrap().needed.is_empty());
    }

    #[test]
    fn what_only_the_kill_file_ends_is_refused_without_one_whatever_may_be_degraded() {
        let degrade = vec!["x".into()];
        let (machine, limits) = (stage::machine(), Limits { killed_as_one: Some("x"), degrade, ..Limits::default() });
        let (name, cause) = stage::refused(&stage::nothing(), &machine, &limits);
        assert_eq!(
            (name.as_str(), cause.as_str()),
            ("x", "only cgroup.kill ends all of its processes, and no cgroup2")
        );
        let seats = stage::seats(Version::V1);
        let draft = plan(&seats, &machine, &limits).unwrap();
        assert_eq!(draft.needed, BTreeSet::from([Controller::Unified]));
    }
}
