//! Machines as the tests of the planners need them. Touches no kernel.

use super::*;

pub(in crate::cgroup) fn machine() -> Machine {
    let online = BTreeSet::from([0, 1, 2, 3]);
    let nodes = "0".to_owned();
    let disks = vec![("sda".to_owned(), true)];
    Machine { allowed: online.clone(), online, nodes, memory: 1 << 40, swap: true, memsw: true, disks }
}

/// Every controller in a hierarchy of its own of this version; the unified one is always there.
pub(in crate::cgroup) fn seats(version: Version) -> Vec<Seat> {
    let seat = |c: Controller| match (c, version) {
        (Controller::Unified, _) => at(Controller::Unified as usize, Version::V2),
        (Controller::Cpuacct, Version::V2) => Seat::Missing(Missing::new("no cpuacct", "none")),
        (_, Version::V2) => at(Controller::Unified as usize, Version::V2),
        (c, Version::V1) => at(c as usize, Version::V1),
    };
    Controller::ALL.map(seat).to_vec()
}

pub(in crate::cgroup) fn nothing() -> Vec<Seat> {
    Controller::ALL.map(|c| Seat::Missing(Missing::new(format!("no {}", c.title()), "cure"))).to_vec()
}

fn at(hierarchy: usize, version: Version) -> Seat {
    Seat::At { hierarchy, version, remark: String::new() }
}

/// The writes as (file, value) and the rows as (name, state, by).
pub(in crate::cgroup) type Outcome = (Vec<(&'static str, String)>, Vec<(&'static str, State, String)>);

pub(in crate::cgroup) fn outcome(seats: &[Seat], machine: &Machine, limits: &Limits) -> Result<Outcome> {
    let draft = plan(seats, machine, limits)?;
    let writes = draft.writes.into_iter().map(|w| (w.file, w.value)).collect();
    Ok((writes, draft.rows.into_iter().map(|r| (r.name, r.state, r.by)).collect()))
}

pub(in crate::cgroup) fn files(version: Version, limits: &Limits) -> Vec<(&'static str, String)> {
    outcome(&seats(version), &machine(), limits).expect("can be held").0
}

pub(in crate::cgroup) fn refused(seats: &[Seat], machine: &Machine, limits: &Limits) -> (String, String) {
    match outcome(seats, machine, limits) {
        Err(Error::NotSupported { requirement, cause, .. }) => (requirement, cause),
        other => panic!("{other:?}"),
    }
}
