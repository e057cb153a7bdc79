//! cpus, cpu_weight, cpu_time: which files. Touches none.

use super::plan::{Draft, Missing, Seat};
use super::{Controller, State, Version};
use crate::error::Result;

/// The kernel's own default period, in microseconds.
const PERIOD: f64 = 100_000.0;
/// min_cfs_quota_period and max_cfs_quota_period, kernel/sched/core.c.
const LEAST_QUOTA: f64 = 1_000.0;
const LONGEST_PERIOD: f64 = 1_000_000.0;

pub(super) fn plan(draft: &mut Draft) -> Result<()> {
    cpus(draft)?;
    weight(draft)?;
    time(draft)
}

fn cpus(draft: &mut Draft) -> Result<()> {
    let Some(cpus) = draft.limits.cpus else {
        return Ok(());
    };
    if draft.lifted("cpus", cpus.is_infinite(), Controller::Cpu) {
        return Ok(());
    }
    let (quota, period) = quota(cpus);
    let files = match draft.demand("cpus", Controller::Cpu)? {
        Some(Version::V1) => {
            let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
            vec![("cpu.cfs_period_us", period.to_string()), ("cpu.cfs_quota_us", quota)]
        }
        Some(Version::V2) => {
            let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
            vec![("cpu.max", format!("{quota} {period}"))]
        }
        None => return Ok(()),
    };
    draft.hold("cpus", Controller::Cpu, files);
    Ok(())
}

/// Quota (None: unbounded) and period in microseconds. A share too small for the usual period gets a longer one.
fn quota(cpus: f64) -> (Option<u64>, u64) {
    if cpus.is_infinite() {
        return (None, PERIOD as u64);
    }
    let period = (LEAST_QUOTA / cpus).ceil().clamp(PERIOD, LONGEST_PERIOD);
    (Some((cpus * period).round().max(LEAST_QUOTA) as u64), period as u64)
}

fn weight(draft: &mut Draft) -> Result<()> {
    let Some(weight) = draft.limits.cpu_weight else {
        return Ok(());
    };
    let file = match draft.demand("cpu_weight", Controller::Cpu)? {
        Some(Version::V1) => ("cpu.shares", shares(weight).to_string()),
        Some(Version::V2) => ("cpu.weight", weight.to_string()),
        None => return Ok(()),
    };
    draft.hold("cpu_weight", Controller::Cpu, vec![file]);
    Ok(())
}

/// 100 in version 2 is 1024 in version 1, whose least value is 2.
fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

/// The keeper reads the tree's clock: cpu.stat of any cgroup2 group, or cpuacct where there is no cgroup2.
fn time(draft: &mut Draft) -> Result<()> {
    if !draft.limits.cpu_time {
        return Ok(());
    }
    for (controller, by) in
        [(Controller::Unified, "keeper on cgroup v2 cpu.stat"), (Controller::Cpuacct, "keeper on cgroup v1 cpuacct")]
    {
        if draft.version(controller).is_some() {
            draft.needed.insert(controller);
            draft.row("cpu_time", State::Held, by, Missing::new("", ""));
            return Ok(());
        }
    }
    let Seat::Missing(missing) = draft.seat(Controller::Unified).clone() else { return Ok(()) };
    if !draft.allowed("cpu_time") {
        return draft.refuse("cpu_time", missing);
    }
    // `spawn::plan` sets it.
    draft.row("cpu_time", State::Degraded, "RLIMIT_CPU, process by process", missing);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Limits;
    use super::super::plan::{plan, stage};
    use super::*;

    #[test]
    fn files() {
        let asked = Limits { cpus: Some(1.5), cpu_weight: Some(200), ..Limits::default() };
        let v1 = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000"), ("cpu.shares", "2048")];
        assert_eq!(stage::files(Version::V1, &asked), v1.map(|(f, v)| (f, v.to_owned())));
        let v2 = [("cpu.max", "150000 100000"), ("cpu.weight", "200")];
        assert_eq!(stage::files(Version::V2, &asked), v2.map(|(f, v)| (f, v.to_owned())));
    }

    #[test]
    fn infinity_lifts() {
        let asked = Limits { cpus: Some(f64::INFINITY), ..Limits::default() };
        assert_eq!(stage::files(Version::V2, &asked), [("cpu.max", "max 100000".to_owned())]);
        assert_eq!(stage::files(Version::V1, &asked)[1], ("cpu.cfs_quota_us", "-1".to_owned()));
    }

    #[test]
    fn weights_map_onto_shares() {
        assert_eq!([1, 100, 10_000].map(shares), [10, 1024, 102_400]);
    }

    #[test]
    fn the_clock_prefers_cgroup2() {
        let (machine, asked) = (stage::machine(), Limits { cpu_time: true, ..Limits::default() });
        let mut seats = stage::seats(Version::V1);
        let needed = |seats: &[_]| plan(seats, &machine, &asked).unwrap().needed.into_iter().collect::<Vec<_>>();
        assert_eq!(needed(&seats), [Controller::Unified]);
        seats[Controller::Unified as usize] = stage::nothing()[0].clone();
        assert_eq!(needed(&seats), [Controller::Cpuacct]);
    }

    proptest! {
        #[test]
        fn the_kernel_takes_every_quota_and_it_is_what_was_asked(cpus in 0.001f64..4096.0) {
            let (quota, period) = quota(cpus);
            let quota = quota.unwrap();
            prop_assert!(quota >= 1_000 && (100_000..=1_000_000).contains(&period));
            prop_assert!((quota as f64 / period as f64 - cpus).abs() <= 0.01 * cpus.max(0.001));
        }
    }
}
