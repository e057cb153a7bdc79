//! Each limit against the running kernel, shown by what it stops and not by what its file says.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::super::*;
use super::{Inside, MIB, gone, name, place};

/// A process of 200 MB; the shell itself is replaced by it.
const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=200M count=1";

#[test]
fn a_memory_hog_dies_of_its_own_limit() {
    let Some(place) = place(&["memory"]) else {
        return;
    };
    let limits = Limits { memory: Some(Cap::Value(32 * MIB)), unified: true, ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let (signal, _, _) = Inside::start(&groups, HOG).end();
    assert_eq!(signal, Some(9));
    let counters = groups.counters();
    // Once, or with memory.oom.group twice.
    assert!(matches!(counters.oom_kills, Some(1 | 2)), "{counters:?}");
    assert_eq!(counters.own_limit_hit, Some(true));
    assert!(counters.memory_peak.is_some_and(|peak| (16 * MIB..=32 * MIB).contains(&peak)), "{counters:?}");
    gone(groups);
}

#[test]
fn within_its_memory_a_process_lives() {
    let Some(place) = place(&["memory"]) else {
        return;
    };
    let limits = Limits { memory: Some(Cap::Value(32 * MIB)), ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    assert_eq!(Inside::start(&groups, "echo here").end(), (None, Some(0), "here\n".to_owned()));
    let counters = groups.counters();
    assert_eq!((counters.oom_kills, counters.own_limit_hit), (Some(0), Some(false)));
    gone(groups);
}

#[test]
fn v1_tells_of_the_oom_through_an_eventfd() {
    let Some(place) = place(&["memory"]) else {
        return;
    };
    let limits = Limits { memory: Some(Cap::Value(16 * MIB)), ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let Some((event, _)) = groups.oom_event().unwrap() else {
        println!("skipped: memory is not on cgroup v1");
        return gone(groups);
    };
    assert!(!readable(&event, 0), "before the hog");
    let hog = Inside::start(&groups, HOG);
    assert!(readable(&event, 5000), "after the hog");
    hog.end();
    gone(groups);
}

fn readable(fd: impl AsFd, milliseconds: i64) -> bool {
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 1
}

#[test]
fn the_task_after_the_last_one_is_refused() {
    let Some(place) = place(&["pids"]) else {
        return;
    };
    let limits = Limits { pids: Some(Cap::Value(8)), ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    // The shell is the first of the eight; it tells each task that it got, and gives up at the first that it does not get.
    let script = "i=0; while [ $i -lt 20 ]; do sleep 0.3 >&- & i=$((i+1)); echo $i; done";
    let (_, code, text) = Inside::start(&groups, script).end();
    assert_eq!((code, text.lines().count()), (Some(2), 7));
    let counters = groups.counters();
    assert!(counters.pids_denied.is_none_or(|denied| denied >= 1), "{counters:?}");
    assert!(counters.pids_peak.is_none_or(|peak| peak == 8), "{counters:?}");
    gone(groups);
}

#[test]
fn a_spinning_process_gets_its_share_and_no_more() {
    let Some(place) = place(&["cpus", "cpu_time"]) else {
        return;
    };
    let limits = Limits { cpus: Some(0.2), cpu_time: true, ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let clock = groups.cpu_clock().unwrap();
    let begin = Instant::now();
    let spin = Inside::start(&groups, "exec timeout -s KILL 1.5 sh -c 'while :; do :; done'");
    spin.end();
    let used = groups.counters().cpu_usec.unwrap() as f64 / 1e6;
    let share = used / begin.elapsed().as_secs_f64();
    assert!((0.12..0.25).contains(&share), "{share}");
    assert!((seconds(&clock) - used).abs() < 0.01);
    gone(groups);
}

fn seconds(clock: &CpuClock) -> f64 {
    let mut text = [0; 512];
    let length = rustix::io::pread(&clock.fd, &mut text[..], 0).unwrap();
    let text = std::str::from_utf8(&text[..length]).unwrap();
    match clock.format {
        CpuFormat::StatUsec => parse::keyed(text, "usage_usec").unwrap() as f64 / 1e6,
        CpuFormat::UsageNsec => text.trim().parse::<f64>().unwrap() / 1e9,
    }
}

#[test]
fn a_cpuset_is_all_that_a_process_sees() {
    let Some(place) = place(&["cpuset"]) else {
        return;
    };
    let last = place.tree.machine.allowed.last().unwrap().to_string();
    let limits = Limits { cpuset: Some(last.clone()), ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let (.., text) = Inside::start(&groups, "grep Cpus_allowed_list /proc/self/status").end();
    assert_eq!(text, format!("Cpus_allowed_list:\t{last}\n"));
    gone(groups);
}

#[test]
fn two_weights_share_one_processor() {
    let Some(place) = place(&["cpu_weight", "cpuset", "cpu_time"]) else {
        return;
    };
    let cpuset = place.tree.machine.allowed.first().map(u32::to_string);
    let limits =
        |weight| Limits { cpu_weight: Some(weight), cpuset: cpuset.clone(), cpu_time: true, ..Limits::default() };
    let groups = [400, 100].map(|weight| Groups::create(&place, &name(), &limits(weight)).unwrap());
    let spinning = groups.each_ref().map(|groups| Inside::start(groups, "while :; do :; done"));
    let clocks = groups.each_ref().map(|groups| groups.cpu_clock().unwrap());
    std::thread::sleep(Duration::from_millis(500));
    let before = clocks.each_ref().map(seconds);
    std::thread::sleep(Duration::from_millis(1500));
    let [heavy, light] = clocks.each_ref().map(seconds);
    drop(spinning);
    let ratio = (heavy - before[0]) / (light - before[1]);
    assert!((3.0..5.0).contains(&ratio), "{ratio}");
    groups.into_iter().for_each(gone);
}

#[test]
fn direct_io_keeps_its_rate_where_v1_holds_it() {
    let Some(place) = place(&[]) else { return };
    let Some(device) = disk_of("/var/tmp") else {
        return println!("skipped: /var/tmp lies on no disk");
    };
    let io = IoRule { device, read_bps: None, write_bps: Some(MIB), read_iops: None, write_iops: None };
    let limits = Limits { io: vec![io], degrade: vec!["io".into()], ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    if groups.is_empty() {
        return println!("skipped: io is {}", groups.held()[0].why);
    }
    let file = format!("/var/tmp/{}", name());
    let begin = Instant::now();
    let (_, code, _) =
        Inside::start(&groups, &format!("exec dd if=/dev/zero of={file} bs=256k count=8 oflag=direct")).end();
    let _ = std::fs::remove_file(&file);
    assert_eq!(code, Some(0));
    assert!(begin.elapsed() > Duration::from_millis(1200), "{:?}", begin.elapsed());
    gone(groups);
}

/// The whole disk on which a directory lies: of a partition the disk above it.
fn disk_of(path: &str) -> Option<(u32, u32)> {
    let device = rustix::fs::stat(path).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let entry = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if entry.join("partition").exists() { entry.parent()?.to_owned() } else { entry };
    let text = std::fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
