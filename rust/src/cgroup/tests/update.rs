//! New limits of a live container against the running kernel: they hold, or nothing has changed and nobody has died.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::*;
use super::live::HOLDER;
use super::{Inside as Shell, MIB, gone, name, place, wait_for};
use crate::error::Error;

const LEAST: Inside = Inside { first: None, ours: 0 };

fn limits(memory: u64) -> Limits {
    Limits { memory: Some(Cap::Value(memory)), unified: true, watched: true, ..Limits::default() }
}

fn kill(groups: &Groups) {
    rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
}

/// The number in the file that holds the memory limit.
fn bound(groups: &Groups) -> u64 {
    let (version, directory) = groups.counted(Controller::Memory).unwrap();
    let file = if version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
    directory.number(file).unwrap_or(u64::MAX)
}

#[test]
fn memory_below_its_use_is_refused_with_both_numbers_and_nobody_dies() {
    let Some(place) = place(&["memory", "kill"]) else { return };
    let mut groups = Groups::create(&place, &name(), &limits(256 * MIB)).unwrap();
    let shell = Shell::start(&groups, HOLDER);
    wait_for(|| groups.live_stats(None).memory.filter(|memory| *memory >= 64 * MIB));
    for _ in 0..5 {
        match groups.update(&limits(32 * MIB), LEAST) {
            Err(Error::Setup { step, errno: 16, .. }) => {
                let numbers: Vec<u64> = step.split(' ').filter_map(|word| word.parse().ok()).collect();
                assert_eq!((numbers.len(), numbers[0]), (2, 32 * MIB), "{step}");
                assert!(numbers[1] > 32 * MIB, "{step}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bound(&groups), 256 * MIB);
    }
    assert_eq!(groups.is_frozen(), Some(false));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(groups.live_stats(None).oom_kills, Some(0));
    groups.update(&limits(128 * MIB), LEAST).unwrap();
    assert_eq!(bound(&groups), 128 * MIB);
    assert!(groups.live_stats(None).memory.unwrap() >= 64 * MIB);
    assert!(groups.verified().iter().all(|row| row.state == State::Held), "{:?}", groups.verified());
    kill(&groups);
    shell.end();
    gone(groups);
}

#[test]
fn page_cache_makes_room() {
    let Some(place) = place(&["memory", "kill"]) else { return };
    let mut groups = Groups::create(&place, &name(), &limits(256 * MIB)).unwrap();
    let file = std::env::temp_dir().join(name());
    let script =
        format!("head -c 67108864 /dev/zero >{0}; cat {0} >/dev/null; sync {0}; echo; exec sleep 60", file.display());
    let shell = Shell::start(&groups, &script);
    wait_for(|| groups.live_stats(None).breakdown.file.filter(|file| *file >= 60 * MIB));
    std::thread::sleep(Duration::from_secs(1));
    let changed = groups.update(&limits(16 * MIB), LEAST);
    std::fs::remove_file(file).unwrap();
    changed.unwrap();
    assert_eq!((bound(&groups), groups.live_stats(None).oom_kills), (16 * MIB, Some(0)));
    kill(&groups);
    shell.end();
    gone(groups);
}

#[test]
fn memory_and_swap_go_up_and_down_together() {
    let Some(place) = place(&["memory", "swap"]) else { return };
    let both = |memory, swap| Limits { swap: Some(Cap::Value(swap)), ..limits(memory) };
    let mut groups = Groups::create(&place, &name(), &both(64 * MIB, 0)).unwrap();
    for (memory, swap) in [(256, 0), (64, 256), (32, 0), (512, 512), (16, 16), (16, 1024), (300, 1)] {
        groups.update(&both(memory * MIB, swap * MIB), LEAST).unwrap();
        assert_eq!(bound(&groups), memory * MIB);
        assert!(groups.verified().iter().all(|row| row.state == State::Held), "{:?}", groups.verified());
    }
    gone(groups);
}

#[test]
fn groups_that_come_late_have_every_process_and_hold() {
    let Some(place) = place(&["memory", "pids", "cpus", "kill", "freeze"]) else { return };
    let mut groups = Groups::create(&place, &name(), &Limits { unified: true, ..Limits::default() }).unwrap();
    // Always another process, and one that stays.
    let shell = Shell::start(&groups, "sleep 60 & while :; do true | true; done");
    std::thread::sleep(Duration::from_millis(100));
    let asked = Limits { pids: Some(Cap::Value(40)), cpus: Some(0.5), ..limits(64 * MIB) };
    groups.update(&asked, LEAST).unwrap();
    assert!(groups.verified().iter().all(|row| row.state == State::Held), "{:?}", groups.verified());
    assert_eq!(groups.is_frozen(), Some(false));
    groups.stop().unwrap().wait().unwrap();
    let all: BTreeSet<i32> = groups.members_of(Controller::Unified).unwrap().into_iter().collect();
    for controller in [Controller::Memory, Controller::Pids, Controller::Cpu] {
        let there = groups.members_of(controller).unwrap().into_iter().collect();
        assert_eq!(all, there, "{}", controller.title());
    }
    assert!(all.len() >= 2);
    kill(&groups);
    shell.end();
    gone(groups);
}

#[test]
fn a_late_memory_group_stops_a_hog() {
    let Some(place) = place(&["memory", "kill", "freeze"]) else { return };
    let mut groups = Groups::create(&place, &name(), &Limits { unified: true, ..Limits::default() }).unwrap();
    let shell = Shell::start(&groups, &format!("{HOLDER} & sleep 2; exec dd if=/dev/zero of=/dev/null bs=60M count=1"));
    wait_for(|| groups.live_stats(None).breakdown.anon.filter(|anon| *anon >= 62 * MIB));
    let refused = groups.update(&limits(60 * MIB), LEAST);
    assert!(matches!(refused, Err(Error::Setup { errno: 16, .. })), "{refused:?}");
    assert!(groups.counted(Controller::Memory).is_none_or(|(version, _)| version == Version::V2));
    // 64 MiB are held already, and 60 come: more than 100, though neither alone is.
    groups.update(&limits(100 * MIB), LEAST).unwrap();
    assert!(groups.live_stats(None).memory.unwrap() >= 64 * MIB);
    assert_eq!(shell.end().0, Some(9));
    let row = groups.held().iter().find(|row| row.name == "memory").unwrap().clone();
    assert!(
        row.state == State::Held
            && (groups.counted(Controller::Memory).unwrap().0 == Version::V2 || row.why.contains("taken off")),
        "{row:?}"
    );
    kill(&groups);
    gone(groups);
}

#[test]
fn a_failure_half_way_changes_nothing() {
    let Some(place) = place(&["memory", "pids", "kill"]) else { return };
    let start = Limits { unified: true, watched: true, pids: Some(Cap::Value(50)), ..Limits::default() };
    let mut groups = Groups::create(&place, &name(), &start).unwrap();
    let shell = Shell::start(&groups, "sleep 60 & exec sleep 60");
    wait_for(|| (groups.live_stats(None).pids == Some(2)).then_some(()));
    let (paths, rows) = (groups.paths(), groups.held().to_vec());
    let io = IoRule { device: (0, 0), read_bps: Some(1), write_bps: None, read_iops: None, write_iops: None };
    let asked = Limits { pids: Some(Cap::Value(60)), io: vec![io], degrade: vec!["io".into()], ..limits(64 * MIB) };
    match groups.update(&asked, LEAST) {
        Err(Error::Setup { step, .. }) => assert!(step.contains("0:0"), "{step}"),
        Ok(_) => return println!("skipped: io is {:?}", groups.held()),
        Err(other) => panic!("{other}"),
    }
    let few = Limits { pids: Some(Cap::Value(1)), ..start };
    match groups.update(&few, LEAST) {
        Err(Error::Setup { step, errno: 16, .. }) => assert_eq!(step, "lower pids to 1 with 2 tasks in use"),
        other => panic!("{other:?}"),
    }
    assert_eq!((groups.paths(), groups.held().to_vec(), groups.is_frozen()), (paths, rows, Some(false)));
    let (_, pids) = groups.counted(Controller::Pids).unwrap();
    assert_eq!((pids.number("pids.max"), groups.live_stats(None).pids), (Some(50), Some(2)));
    for hierarchy in place.tree.hierarchies.iter().filter(|hierarchy| hierarchy.version == Version::V1) {
        let ours = groups.paths().iter().any(|path| path.starts_with(&format!("{}/", hierarchy.parent.path)));
        assert_eq!(hierarchy.parent.child(groups.name()).is_ok(), ours, "{}", hierarchy.parent.path);
    }
    kill(&groups);
    shell.end();
    gone(groups);
}

#[test]
fn an_update_can_be_taken_back() {
    let Some(place) = place(&["memory", "cpus", "kill"]) else { return };
    let start = Limits { cpus: Some(0.5), unified: true, watched: true, ..Limits::default() };
    let mut groups = Groups::create(&place, &name(), &start).unwrap();
    let shell = Shell::start(&groups, "sleep 60 & exec sleep 60");
    let before = (groups.paths(), groups.verified());
    let changed = groups.update(&Limits { cpus: Some(1.0), ..limits(64 * MIB) }, LEAST).unwrap();
    assert_ne!(before.1, groups.verified());
    groups.revert(changed);
    assert_eq!(before, (groups.paths(), groups.verified()));
    kill(&groups);
    shell.end();
    gone(groups);
}
