//! Refuses limits that no group could hold: absurd numbers, and what this machine does not have. Pure; the caller's mistakes only.

use std::collections::BTreeSet;

use super::plan::Machine;
use super::{Cap, IoRule, Limits, parse};
use crate::error::{Error, Result};

/// Below this the container's own first processes do not fit, and their death would look like the command's.
const LEAST_MEMORY: u64 = 1 << 20;

/// PID_MAX_LIMIT of 64-bit kernels, include/linux/threads.h.
pub const MOST_PIDS: u64 = 4 << 20;

/// A quota is at least 1 ms (min_cfs_quota_period), in a period of at most 1 s.
const LEAST_CPUS: f64 = 0.001;

const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

pub(super) fn check(limits: &Limits, machine: &Machine) -> Result<()> {
    memory("memory", limits.memory, machine)?;
    memory("memory_high", limits.memory_high, machine)?;
    cpus(limits.cpus, machine)?;
    weight("cpu_weight", limits.cpu_weight)?;
    weight("io_weight", limits.io_weight)?;
    limits.cpuset.as_deref().map_or(Ok(()), |list| cpuset(list, machine))?;
    pids(limits.pids)?;
    limits.io.iter().try_for_each(rule)
}

fn memory(name: &str, cap: Option<Cap>, machine: &Machine) -> Result<()> {
    match cap {
        Some(Cap::Value(bytes)) if bytes < LEAST_MEMORY => {
            refuse(format!("{name}: {bytes} bytes is less than a container itself needs ({LEAST_MEMORY})"))
        }
        Some(Cap::Value(bytes)) if bytes > machine.memory => {
            refuse(format!("{name}: {bytes} bytes is more than this machine has ({})", machine.memory))
        }
        _ => Ok(()),
    }
}

fn cpus(cpus: Option<f64>, machine: &Machine) -> Result<()> {
    let there = machine.online.len();
    match cpus {
        Some(n) if n.is_nan() || n < LEAST_CPUS => refuse(format!("cpus: {n} is less than {LEAST_CPUS}")),
        Some(n) if n.is_finite() && n > there as f64 => {
            refuse(format!("cpus: {n} is more than this machine has ({there})"))
        }
        _ => Ok(()),
    }
}

fn weight(name: &str, weight: Option<u32>) -> Result<()> {
    match weight {
        Some(weight) if !WEIGHTS.contains(&weight) => {
            refuse(format!("{name}: {weight} is not within {} to {}", WEIGHTS.start(), WEIGHTS.end()))
        }
        _ => Ok(()),
    }
}

fn cpuset(list: &str, machine: &Machine) -> Result<()> {
    let asked = parse::cpu_list(list).map_err(|why| Error::Value(format!("cpuset: {why}")))?;
    if asked.is_empty() {
        return refuse("cpuset: empty; at least one processor is needed".to_owned());
    }
    let missing = |there: &BTreeSet<u32>| parse::cpu_text(&asked.difference(there).copied().collect());
    if !asked.is_subset(&machine.online) {
        let there = parse::cpu_text(&machine.online);
        return refuse(format!("cpuset: no processor {} here; this machine has {there}", missing(&machine.online)));
    }
    if !asked.is_subset(&machine.allowed) {
        let there = parse::cpu_text(&machine.allowed);
        return refuse(format!(
            "cpuset: processor {} is not this program's own; it has {there}",
            missing(&machine.allowed)
        ));
    }
    Ok(())
}

fn pids(cap: Option<Cap>) -> Result<()> {
    match cap {
        Some(Cap::Value(n)) if !(1..=MOST_PIDS).contains(&n) => {
            refuse(format!("pids: {n} is not within 1 to {MOST_PIDS}"))
        }
        _ => Ok(()),
    }
}

fn rule(rule: &IoRule) -> Result<()> {
    let (major, minor) = rule.device;
    let rates = [rule.read_bps, rule.write_bps, rule.read_iops, rule.write_iops];
    if rates.iter().all(Option::is_none) {
        return refuse(format!("io: nothing is said for device {major}:{minor}"));
    }
    // Version 1 takes 0 for "no limit", version 2 for an error.
    if rates.contains(&Some(0)) {
        return refuse(format!("io: a rate of 0 for device {major}:{minor}; it would never end"));
    }
    Ok(())
}

fn refuse(text: String) -> Result<()> {
    Err(Error::Value(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let online = BTreeSet::from([0, 1, 2, 3]);
        Machine { online, allowed: BTreeSet::from([0, 1]), memory: 1 << 30, ..Machine::default() }
    }

    fn text(limits: Limits) -> String {
        match check(&limits, &machine()) {
            Err(Error::Value(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_refusal_names_its_argument() {
        let one = |cpuset: &str| Limits { cpuset: Some(cpuset.into()), ..Limits::default() };
        let rule = |read_bps| IoRule { device: (8, 0), read_bps, write_bps: None, read_iops: None, write_iops: None };
        let cases = [
            ("memory: 4096", Limits { memory: Some(Cap::Value(4096)), ..Limits::default() }),
            ("memory: 2147483648", Limits { memory: Some(Cap::Value(2 << 30)), ..Limits::default() }),
            ("memory_high: 0", Limits { memory_high: Some(Cap::Value(0)), ..Limits::default() }),
            ("cpus: 4.5", Limits { cpus: Some(4.5), ..Limits::default() }),
            ("cpus: NaN", Limits { cpus: Some(f64::NAN), ..Limits::default() }),
            ("cpus: -1", Limits { cpus: Some(-1.0), ..Limits::default() }),
            ("cpu_weight: 0", Limits { cpu_weight: Some(0), ..Limits::default() }),
            ("io_weight: 10001", Limits { io_weight: Some(10_001), ..Limits::default() }),
            ("pids: 0", Limits { pids: Some(Cap::Value(0)), ..Limits::default() }),
            ("cpuset: empty", one("")),
            ("cpuset: \"x\"", one("x")),
            ("cpuset: no processor 4,7 here; this machine has 0-3", one("0,4,7")),
            ("cpuset: processor 3 is not this program's own; it has 0-1", one("1,3")),
            ("io: nothing", Limits { io: vec![rule(None)], ..Limits::default() }),
            ("io: a rate of 0", Limits { io: vec![rule(Some(0))], ..Limits::default() }),
        ];
        for (begin, limits) in cases {
            let text = text(limits);
            assert!(text.starts_with(begin), "{text}");
        }
    }

    #[test]
    fn what_the_machine_has_is_taken() {
        let limits = Limits {
            memory: Some(Cap::Value(1 << 30)),
            memory_high: Some(Cap::Max),
            cpus: Some(4.0),
            cpu_weight: Some(10_000),
            cpuset: Some("0-1".into()),
            pids: Some(Cap::Value(1)),
            ..Limits::default()
        };
        assert_eq!(check(&limits, &machine()), Ok(()));
        assert_eq!(check(&Limits { cpus: Some(f64::INFINITY), ..Limits::default() }, &machine()), Ok(()));
    }
}
