//! A live container against the running kernel: what is counted of it, how it is stopped and released, what tells of its shortages.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::*;
use super::{Inside, MIB, gone, name, place, wait_for};
use crate::error::Error;

/// 64 MiB in the memory of one process, until it is killed.
pub(super) const HOLDER: &str = "(head -c 67108864 /dev/zero; exec sleep 60) | tail";

fn unified() -> Limits {
    Limits { unified: true, watched: true, ..Limits::default() }
}

fn grows_by_64_mib(groups: &Groups, first: Option<i32>, before: u64) {
    let memory = || groups.live_stats(first).memory.unwrap();
    wait_for(|| (memory() >= before + 60 * MIB).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    let now = groups.live_stats(first);
    assert!(now.memory.unwrap() < before + 72 * MIB, "{before} {now:?}");
    assert!(now.breakdown.anon.unwrap() >= 60 * MIB && now.breakdown.file.is_some(), "{now:?}");
}

#[test]
fn two_looks_around_an_allocation_differ_by_it() {
    let Some(place) = place(&["kill", "pressure", "memory"]) else { return };
    for limits in [unified(), Limits { memory: Some(Cap::Value(512 * MIB)), ..unified() }] {
        let groups = Groups::create(&place, &name(), &limits).unwrap();
        assert_eq!(groups.live_stats(None).pids, Some(0));
        let inside = Inside::start(&groups, &format!("sleep 0.3; {HOLDER}"));
        let before = groups.live_stats(None);
        assert!(before.pressure.is_some() && before.cpu_usec.is_some() && before.pids.unwrap() >= 1, "{before:?}");
        grows_by_64_mib(&groups, None, before.memory.unwrap());
        let after = groups.live_stats(None);
        assert!(after.cpu_usec > before.cpu_usec && after.pids.unwrap() >= 3, "{after:?}");
        let counted = limits.memory.is_some() || groups.counted(Controller::Memory).is_some();
        assert_eq!((after.memory_peak.is_some(), after.oom_kills.is_some()), (counted, counted), "{after:?}");
        rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
        inside.end();
        gone(groups);
    }
}

fn opened(path: &str) -> std::os::fd::OwnedFd {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn another_process_counts_the_same_in_what_it_is_handed() {
    let Some(place) = place(&["kill", "pressure", "memory"]) else { return };
    let limits = Limits { memory: Some(Cap::Value(512 * MIB)), pids: Some(Cap::Value(50)), ..unified() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let inside = Inside::start(&groups, "sleep 60 & sleep 60");
    wait_for(|| (groups.live_stats(None).pids == Some(3)).then_some(()));
    let handed = groups.members.iter().map(|member| (member.hierarchy as u8, opened(&member.directory.path))).collect();
    let found = Found::of(place.seats(), handed, 0).unwrap();
    let (own, seen) = (groups.live_stats(None), found.live_stats(None));
    assert!(!found.is_empty() && seen.pids == own.pids && seen.memory_peak == own.memory_peak, "{own:?} {seen:?}");
    assert!(seen.memory.unwrap().abs_diff(own.memory.unwrap()) < MIB && seen.cpu_usec >= own.cpu_usec, "{seen:?}");
    // What a late group does not count is told; what is no group is refused.
    let handed = groups.members.iter().map(|member| (member.hierarchy as u8, opened(&member.directory.path))).collect();
    let late = Found::of(place.seats(), handed, MIB).unwrap().live_stats(None);
    assert_eq!(late.memory_peak, own.memory_peak.map(|peak| peak + MIB));
    assert!(Found::of(place.seats(), vec![(0, opened("/tmp"))], 0).is_err());
    rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
    inside.end();
    gone(groups);
}

#[test]
fn without_a_group_the_tree_of_its_first_process_is_counted() {
    let Some(place) = place(&[]) else { return };
    let groups = Groups::create(&place, &name(), &Limits::default()).unwrap();
    assert!(groups.is_empty());
    assert_eq!(groups.live_stats(None), LiveStats::default());
    let mut outer = std::process::Command::new("sh").args(["-c", &format!("sleep 0.3; {HOLDER}")]).spawn().unwrap();
    let first = Some(outer.id() as i32);
    let before = groups.live_stats(first);
    assert!(before.cpu_usec.is_some() && before.pids.unwrap() >= 1 && before.pressure.is_none(), "{before:?}");
    grows_by_64_mib(&groups, first, before.memory.unwrap());
    for pid in super::super::processes::tree(outer.id() as i32).unwrap().pids {
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
    }
    outer.wait().unwrap();
}

#[test]
fn what_is_frozen_uses_no_time_until_it_is_released_and_dies_when_killed() {
    let Some(place) = place(&["kill", "freeze"]) else { return };
    let groups = Groups::create(&place, &name(), &unified()).unwrap();
    let inside = Inside::start(&groups, "while :; do :; done & while :; do :; done");
    let spent = || groups.live_stats(None).cpu_usec.unwrap();
    let in_a_while = || {
        let before = spent();
        std::thread::sleep(Duration::from_millis(300));
        spent() - before
    };
    assert!(in_a_while() > 50_000);
    assert_eq!(groups.is_frozen(), Some(false));
    groups.stop().unwrap().wait().unwrap();
    groups.stop().unwrap().wait().unwrap();
    assert_eq!((groups.is_frozen(), in_a_while()), (Some(true), 0));
    groups.resume().unwrap();
    assert!(in_a_while() > 50_000);
    groups.stop().unwrap().wait().unwrap();
    rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
    let begin = Instant::now();
    assert_eq!(inside.end().0, Some(9));
    assert!(begin.elapsed() < Duration::from_secs(5));
    gone(groups);
}

#[test]
fn what_has_no_group_is_not_stopped_and_says_why() {
    let Some(place) = place(&[]) else { return };
    let groups = Groups::create(&place, &name(), &Limits::default()).unwrap();
    for refused in [
        groups.stop().map(drop),
        groups.resume(),
        groups.pressure_trigger(Resource::Cpu, false, Duration::from_millis(1), Duration::from_secs(2)).map(drop),
    ] {
        match refused {
            Err(Error::NotSupported { cause, fix, .. }) => assert!(!cause.is_empty() && !fix.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    assert!(groups.oom_watch().unwrap().is_none() && groups.is_frozen().is_none());
}

fn ready(fd: impl std::os::fd::AsFd, events: PollFlags, seconds: i64) -> bool {
    let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let mut fds = [PollFd::new(&fd, events)];
    poll(&mut fds, Some(&timeout)).unwrap() == 1 && fds[0].revents().contains(events)
}

#[test]
fn a_trigger_fires_when_tasks_wait_for_a_processor_and_not_before() {
    let Some(place) = place(&["kill", "pressure", "cpus"]) else { return };
    let groups = Groups::create(&place, &name(), &Limits { cpus: Some(0.1), ..unified() }).unwrap();
    let (stall, window) = (Duration::from_millis(200), Duration::from_secs(2));
    let trigger = groups.pressure_trigger(Resource::Cpu, false, stall, window).unwrap();
    assert!(!ready(&trigger, PollFlags::PRI, 0));
    let inside = Inside::start(&groups, "while :; do :; done & while :; do :; done");
    assert!(ready(&trigger, PollFlags::PRI, 30));
    rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
    inside.end();
    drop(trigger);
    gone(groups);
}

#[test]
fn windows_that_the_kernel_does_not_take_are_refused() {
    let Some(place) = place(&["pressure"]) else { return };
    let groups = Groups::create(&place, &name(), &unified()).unwrap();
    let ms = Duration::from_millis;
    for (stall, window) in [(0, 2000), (1, 499), (1, 10_001), (2001, 2000)] {
        let refused = groups.pressure_trigger(Resource::Io, true, ms(stall), ms(window));
        assert!(matches!(refused, Err(Error::Value(_))), "{stall} {window}");
    }
    let uneven = groups.pressure_trigger(Resource::Memory, true, ms(100), ms(1000));
    let all_powerful = rustix::thread::capabilities(None).unwrap().effective;
    if all_powerful.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) {
        uneven.unwrap();
    } else {
        assert!(
            matches!(&uneven, Err(Error::NotSupported { cause, .. }) if cause.contains("CAP_SYS_RESOURCE")),
            "{uneven:?}"
        );
    }
    gone(groups);
}

#[test]
fn the_oom_killer_is_told_of() {
    let Some(place) = place(&["memory", "kill"]) else { return };
    let limits = Limits { memory: Some(Cap::Value(16 * MIB)), ..unified() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let watch = groups.oom_watch().unwrap().unwrap();
    assert!(!ready(&watch, watch.events(), 0) && watch.kills() == Some(0));
    let inside = Inside::start(&groups, "dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 60");
    assert!(ready(&watch, watch.events(), 30));
    wait_for(|| watch.kills().filter(|kills| *kills > 0));
    rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
    inside.end();
    gone(groups);
}
