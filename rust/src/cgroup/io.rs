//! io, io_weight: which files. Touches none.

use super::plan::{Draft, Missing};
use super::{Controller, IoRule, State, Version};
use crate::error::Result;

pub(super) fn plan(draft: &mut Draft) -> Result<()> {
    rates(draft)?;
    weight(draft)
}

fn rates(draft: &mut Draft) -> Result<()> {
    let rules = draft.limits.io.clone();
    if rules.is_empty() {
        return Ok(());
    }
    match draft.demand("io", Controller::Io)? {
        Some(Version::V2) => draft.hold("io", Controller::Io, rules.iter().map(|r| ("io.max", v2_rule(r))).collect()),
        Some(Version::V1) => v1_rates(draft, &rules)?,
        None => {}
    }
    Ok(())
}

fn v2_rule(rule: &IoRule) -> String {
    let rates =
        [("rbps", rule.read_bps), ("wbps", rule.write_bps), ("riops", rule.read_iops), ("wiops", rule.write_iops)];
    let (major, minor) = rule.device;
    let said = rates.iter().filter_map(|&(key, rate)| Some(format!(" {key}={}", rate?)));
    format!("{major}:{minor}{}", said.collect::<String>())
}

/// Version 1 sees a buffered write only when a kernel thread of the root group writes it back: 40 MB passed a limit of 1 MB/s at once.
fn v1_rates(draft: &mut Draft, rules: &[IoRule]) -> Result<()> {
    let why = Missing::new(
        "cgroup v1 holds reads and O_DIRECT writes only; buffered writes pass",
        "boot with systemd.unified_cgroup_hierarchy=1",
    );
    if !draft.allowed("io") {
        return draft.refuse("io", why);
    }
    draft.write("io", Controller::Io, rules.iter().flat_map(v1_rule).collect());
    draft.row("io", State::Degraded, Version::V1.title(), why);
    Ok(())
}

fn v1_rule(rule: &IoRule) -> Vec<(&'static str, String)> {
    let (major, minor) = rule.device;
    // The kernel cuts operations per second to 32 bits without a word (block/blk-throttle.c, tg_set_conf).
    let cut = |rate: Option<u64>| rate.map(|rate| rate.min(u64::from(u32::MAX)));
    let rates = [
        ("blkio.throttle.read_bps_device", rule.read_bps),
        ("blkio.throttle.write_bps_device", rule.write_bps),
        ("blkio.throttle.read_iops_device", cut(rule.read_iops)),
        ("blkio.throttle.write_iops_device", cut(rule.write_iops)),
    ];
    rates.into_iter().filter_map(|(file, rate)| Some((file, format!("{major}:{minor} {}", rate?)))).collect()
}

/// The files exist under any scheduler, and do nothing under most.
fn weight(draft: &mut Draft) -> Result<()> {
    let Some(weight) = draft.limits.io_weight else {
        return Ok(());
    };
    let Some(version) = draft.demand("io_weight", Controller::Io)? else {
        return Ok(());
    };
    let idle: Vec<_> =
        draft.machine.disks.iter().filter(|(_, weighed)| !weighed).map(|(name, _)| name.as_str()).collect();
    if draft.machine.disks.is_empty() || !idle.is_empty() {
        let cause = match idle.as_slice() {
            [] => "no disk of this machine can be seen".to_owned(),
            idle => format!("nothing divides {} by weight", idle.join(", ")),
        };
        return draft.refuse("io_weight", Missing::new(cause, "echo bfq > /sys/block/DISK/queue/scheduler"));
    }
    let file = match version {
        Version::V1 => ("blkio.bfq.weight", bfq(weight).to_string()),
        Version::V2 => ("io.bfq.weight", bfq(weight).to_string()),
    };
    draft.hold("io_weight", Controller::Io, vec![file]);
    Ok(())
}

/// bfq takes 1 to 1000, so what lies above 100 is compressed, as systemd does (BFQ_WEIGHT in src/shared/cgroup-setup.c).
fn bfq(weight: u32) -> u32 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9_900 }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::plan::stage;
    use super::*;

    fn rule() -> IoRule {
        IoRule {
            device: (253, 16),
            read_bps: Some(1 << 20),
            write_bps: None,
            read_iops: Some(u64::MAX),
            write_iops: Some(7),
        }
    }

    #[test]
    fn v2_writes_one_line_per_device() {
        let asked = Limits { io: vec![rule()], ..Limits::default() };
        let line = format!("253:16 rbps=1048576 riops={} wiops=7", u64::MAX);
        assert_eq!(stage::files(Version::V2, &asked), [("io.max", line)]);
    }

    #[test]
    fn v1_is_refused_or_degraded() {
        let (seats, machine) = (stage::seats(Version::V1), stage::machine());
        let mut asked = Limits { io: vec![rule()], ..Limits::default() };
        assert_eq!(stage::refused(&seats, &machine, &asked).0, "io");
        asked.degrade.push("io".into());
        let (writes, rows) = stage::outcome(&seats, &machine, &asked).unwrap();
        let expected = [
            ("blkio.throttle.read_bps_device", "253:16 1048576"),
            ("blkio.throttle.read_iops_device", "253:16 4294967295"),
            ("blkio.throttle.write_iops_device", "253:16 7"),
        ];
        assert_eq!(writes, expected.map(|(f, v)| (f, v.to_owned())));
        assert_eq!(rows[0].1, State::Degraded);
    }

    #[test]
    fn a_weight_needs_a_scheduler_that_reads_it() {
        let (seats, mut machine) = (stage::seats(Version::V2), stage::machine());
        let asked = Limits { io_weight: Some(10_000), ..Limits::default() };
        assert_eq!(stage::files(Version::V2, &asked), [("io.bfq.weight", "1000".to_owned())]);
        machine.disks.push(("vda".into(), false));
        assert!(stage::refused(&seats, &machine, &asked).1.contains("vda"));
        machine.disks.clear();
        assert!(stage::refused(&seats, &machine, &asked).1.contains("no disk"));
    }

    #[test]
    fn bfq_weights_stay_in_range() {
        assert_eq!([1, 100, 10_000].map(bfq), [1, 100, 1000]);
    }
}
