//! memory, swap, memory_high, oom_group: which files, in which order. Touches none.

use super::plan::{Draft, LIFTED, Missing};
use super::{Cap, Controller, State, Version};
use crate::error::Result;

pub(super) fn plan(draft: &mut Draft) -> Result<()> {
    // Version 1 keeps memory.memsw >= memory: the plain limit comes first, as a new group's memsw is unbounded.
    memory(draft)?;
    swap(draft)?;
    high(draft)?;
    oom_group(draft)
}

fn memory(draft: &mut Draft) -> Result<()> {
    let Some(cap) = draft.limits.memory else {
        return Ok(());
    };
    if draft.lifted("memory", cap == Cap::Max, Controller::Memory) {
        return Ok(());
    }
    let file = match draft.demand("memory", Controller::Memory)? {
        Some(Version::V1) => ("memory.limit_in_bytes", v1_text(cap)),
        Some(Version::V2) => ("memory.max", cap.text()),
        None => return Ok(()),
    };
    draft.hold("memory", Controller::Memory, vec![file]);
    Ok(())
}

/// Version 1 has no word for "max".
fn v1_text(cap: Cap) -> String {
    match cap {
        Cap::Max => "-1".to_owned(),
        Cap::Value(bytes) => bytes.to_string(),
    }
}

fn swap(draft: &mut Draft) -> Result<()> {
    let Some(cap) = draft.limits.swap else {
        return Ok(());
    };
    if draft.lifted("swap", cap == Cap::Max, Controller::Memory) {
        return Ok(());
    }
    let nothing_to_bound = cap == Cap::Value(0) && !draft.machine.swap;
    let file = match draft.version(Controller::Memory) {
        Some(Version::V2) => Ok(("memory.swap.max", cap.text())),
        Some(Version::V1) => v1_swap(draft, cap).map(|total| ("memory.memsw.limit_in_bytes", v1_text(total))),
        None if nothing_to_bound => Err(Missing::new("", "")),
        None => return draft.demand("swap", Controller::Memory).map(|_| ()),
    };
    match file {
        Ok(file) => {
            draft.hold("swap", Controller::Memory, vec![file]);
            if let Some(write) = draft.writes.last_mut() {
                write.optional = nothing_to_bound;
            }
        }
        Err(_) if nothing_to_bound => draft.row("swap", State::Held, "no swap on this machine", Missing::new("", "")),
        Err(missing) => draft.refuse("swap", missing)?,
    }
    Ok(())
}

/// Version 1 bounds memory and swap together, so `swap` becomes a sum.
fn v1_swap(draft: &Draft, swap: Cap) -> std::result::Result<Cap, Missing> {
    if !draft.machine.memsw {
        return Err(Missing::new("the kernel does not account for swap", "boot with swapaccount=1"));
    }
    match (draft.limits.memory, swap) {
        (_, Cap::Max) => Ok(Cap::Max),
        (Some(Cap::Value(memory)), Cap::Value(swap)) => Ok(Cap::Value(memory.saturating_add(swap))),
        (_, Cap::Value(_)) => {
            Err(Missing::new("cgroup v1 bounds the sum of memory and swap only", "give `memory` a number as well"))
        }
    }
}

fn high(draft: &mut Draft) -> Result<()> {
    let Some(cap) = draft.limits.memory_high else {
        return Ok(());
    };
    if cap == Cap::Max && draft.version(Controller::Memory) != Some(Version::V2) {
        draft.row("memory_high", State::Held, LIFTED, Missing::new("", ""));
        return Ok(());
    }
    match draft.demand("memory_high", Controller::Memory)? {
        Some(Version::V2) => draft.hold("memory_high", Controller::Memory, vec![("memory.high", cap.text())]),
        Some(Version::V1) => draft.refuse(
            "memory_high",
            Missing::new("cgroup v1 has no such limit", "boot with systemd.unified_cgroup_hierarchy=1"),
        )?,
        None => {}
    }
    Ok(())
}

/// On wherever there is a memory group, unless it was refused: half a tree that lost a process is worse than none.
fn oom_group(draft: &mut Draft) -> Result<()> {
    let wish = draft.limits.oom_group;
    if wish == Some(false) {
        draft.row("oom_group", State::Held, "the kernel's default", Missing::new("", ""));
        return Ok(());
    }
    if wish.is_none() && !draft.needed.contains(&Controller::Memory) {
        return Ok(());
    }
    match draft.demand("oom_group", Controller::Memory)? {
        Some(Version::V2) => draft.hold("oom_group", Controller::Memory, vec![("memory.oom.group", "1".to_owned())]),
        Some(Version::V1) => {
            draft.needed.insert(Controller::Memory);
            draft.oom_event = true;
            draft.row("oom_group", State::Held, "keeper on cgroup v1 memory.oom_control", Missing::new("", ""));
        }
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Limits;
    use super::super::plan::{plan, stage};
    use super::*;

    fn limits(memory: Option<Cap>, swap: Option<Cap>) -> Limits {
        Limits { memory, swap, ..Limits::default() }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn v2_files() {
        let asked = Limits { memory_high: Some(Cap::Max), ..limits(Some(Cap::Value(64 * MIB)), Some(Cap::Value(0))) };
        let expected =
            [("memory.max", "67108864"), ("memory.swap.max", "0"), ("memory.high", "max"), ("memory.oom.group", "1")];
        assert_eq!(stage::files(Version::V2, &asked), expected.map(|(f, v)| (f, v.to_owned())));
    }

    #[test]
    fn v1_files_in_the_order_the_kernel_needs() {
        let asked = limits(Some(Cap::Value(64 * MIB)), Some(Cap::Value(MIB)));
        let expected = [("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "68157440")];
        assert_eq!(stage::files(Version::V1, &asked), expected.map(|(f, v)| (f, v.to_owned())));
        let lifted = stage::files(Version::V1, &limits(Some(Cap::Max), Some(Cap::Max)));
        assert!(lifted.iter().all(|(_, value)| value == "-1"));
    }

    #[test]
    fn v1_swap_needs_memory_and_accounting() {
        let (seats, mut machine) = (stage::seats(Version::V1), stage::machine());
        let refused = |machine: &_, asked| stage::refused(&seats, machine, &asked);
        assert!(refused(&machine, limits(None, Some(Cap::Value(MIB)))).1.contains("sum"));
        machine.memsw = false;
        let asked = limits(Some(Cap::Value(MIB)), Some(Cap::Value(0)));
        assert!(refused(&machine, asked.clone()).1.contains("swap"));
        machine.swap = false;
        let (_, rows) = stage::outcome(&seats, &machine, &asked).unwrap();
        assert!(rows.contains(&("swap", State::Held, "no swap on this machine".to_owned())));
    }

    #[test]
    fn no_swap_is_held_even_where_there_is_no_group() {
        let mut machine = stage::machine();
        machine.swap = false;
        let (writes, rows) = stage::outcome(&stage::nothing(), &machine, &limits(None, Some(Cap::Value(0)))).unwrap();
        assert_eq!((writes.len(), rows[0].1), (0, State::Held));
    }

    #[test]
    fn v1_has_no_memory_high() {
        let (seats, machine) = (stage::seats(Version::V1), stage::machine());
        let mut asked = Limits { memory_high: Some(Cap::Value(8 * MIB)), ..Limits::default() };
        assert_eq!(stage::refused(&seats, &machine, &asked).0, "memory_high");
        asked.degrade.push("memory_high".into());
        let draft = plan(&seats, &machine, &asked).unwrap();
        assert!(draft.needed.is_empty() && draft.rows[0].state == State::Missing);
    }

    #[test]
    fn oom_group_follows_the_memory_group() {
        let (v1, v2, machine) = (stage::seats(Version::V1), stage::seats(Version::V2), stage::machine());
        let event = |seats: &[_], asked: &Limits| plan(seats, &machine, asked).unwrap().oom_event;
        assert!(event(&v1, &limits(Some(Cap::Value(MIB)), None)));
        assert!(!event(&v2, &limits(Some(Cap::Value(MIB)), None)));
        assert!(event(&v1, &Limits { oom_group: Some(true), ..Limits::default() }));
        assert!(!event(&v1, &Limits { oom_group: Some(false), ..limits(Some(Cap::Value(MIB)), None) }));
    }

    proptest! {
        #[test]
        fn memsw_is_never_below_memory(memory in MIB..(1 << 40), swap in any::<u64>()) {
            let files = stage::files(Version::V1, &limits(Some(Cap::Value(memory)), Some(Cap::Value(swap))));
            let total: u64 = files[1].1.parse().unwrap();
            prop_assert!(total >= memory && total >= swap);
        }
    }
}
