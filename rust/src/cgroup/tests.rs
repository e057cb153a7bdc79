//! The groups against the running kernel: each limit is shown by what it stops. Needs root; a skip says what it lacked.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::error::Error;

mod limits;
mod live;
mod update;

const MIB: u64 = 1 << 20;

/// The place, if these limits can be held here; otherwise prints why the test says nothing.
fn place(needs: &[&str]) -> Option<Place> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let place = Place::discover(true);
    let rows = place.describe();
    for name in needs {
        let row = rows.iter().find(|row| row.name == *name).expect("a row");
        if row.state != State::Held {
            println!("skipped: {name} is {}: {}", row.state.as_str(), row.why);
            return None;
        }
    }
    Some(place)
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    group_name(pid, sweep::start_time(pid).unwrap(), &format!("test{serial}"))
}

/// A shell that waits outside, is put into the groups, and is then let go.
struct Inside(Child);

impl Inside {
    fn start(groups: &Groups, script: &str) -> Inside {
        let script = format!("read go; {script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pid = child.id().to_string();
        for procs in groups.procs() {
            rustix::io::write(procs, pid.as_bytes()).unwrap();
        }
        if let Some((_, unified)) = groups.counted(Controller::Unified) {
            unified.write("cgroup.procs", &pid).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        Inside(child)
    }

    /// The killing signal or exit status, and what was printed.
    fn end(mut self) -> (Option<i32>, Option<i32>, String) {
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.0.wait().unwrap();
        (status.signal(), status.code(), text)
    }
}

/// A test that fails leaves no process.
impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gone(groups: Groups) {
    let paths = groups.paths();
    assert!(!paths.is_empty() && paths.iter().all(|path| std::path::Path::new(path).is_dir()), "{paths:?}");
    groups.remove().unwrap();
    assert!(paths.iter().all(|path| !std::path::Path::new(path).exists()), "{paths:?}");
}

#[test]
fn the_kill_file_ends_the_whole_tree() {
    let Some(place) = place(&["kill", "pressure"]) else {
        return;
    };
    let groups = Groups::create(&place, &name(), &Limits { unified: true, ..Limits::default() }).unwrap();
    assert!(groups.into_cgroup().is_some() && groups.mask().count_ones() == 1);
    let tree = Inside::start(&groups, "sleep 60 & sleep 60");
    rustix::io::write(groups.kill_file().unwrap().unwrap(), b"1").unwrap();
    let begin = Instant::now();
    assert_eq!(tree.end().0, Some(9));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(groups.counters().pressure.is_some());
    gone(groups);
}

#[test]
fn groups_that_were_made_inside_go_too() {
    let Some(place) = place(&["kill"]) else {
        return;
    };
    let groups = Groups::create(&place, &name(), &Limits { unified: true, ..Limits::default() }).unwrap();
    std::fs::create_dir_all(format!("{}/a/b/c", groups.paths()[0])).unwrap();
    std::fs::create_dir(format!("{}/d", groups.paths()[0])).unwrap();
    gone(groups);
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    let Some(place) = place(&["memory", "pids"]) else {
        return;
    };
    let io = IoRule { device: (0, 0), read_bps: Some(1), write_bps: None, read_iops: None, write_iops: None };
    let (memory, pids) = (Some(Cap::Value(16 * MIB)), Some(Cap::Value(4)));
    let limits = Limits { memory, pids, io: vec![io], degrade: vec!["io".into()], unified: true, ..Limits::default() };
    let name = name();
    match Groups::create(&place, &name, &limits) {
        Err(Error::Setup { step, path, errno, .. }) => {
            assert!(step.contains("0:0") && path.unwrap().contains(&name) && errno != 0, "{step}");
        }
        Ok(groups) => return println!("skipped: io is {:?}", groups.held()),
        Err(other) => panic!("{other}"),
    }
    for hierarchy in &place.tree.hierarchies {
        assert!(hierarchy.parent.child(&name).is_err(), "{}", hierarchy.parent.path);
    }
}

#[test]
fn a_group_of_somebody_else_is_neither_used_nor_removed() {
    let Some(place) = place(&["pids"]) else {
        return;
    };
    let (name, limits) = (name(), Limits { pids: Some(Cap::Value(4)), ..Limits::default() });
    let first = Groups::create(&place, &name, &limits).unwrap();
    match Groups::create(&place, &name, &limits) {
        Err(Error::Setup { errno, .. }) => {
            assert_eq!(errno, rustix::io::Errno::EXIST.raw_os_error())
        }
        other => panic!("{other:?}"),
    }
    gone(first);
}

#[test]
fn a_busy_group_is_an_error_and_stays() {
    let Some(place) = place(&["kill"]) else {
        return;
    };
    let groups = Groups::create(&place, &name(), &Limits { unified: true, ..Limits::default() }).unwrap();
    let inside = Inside::start(&groups, "exec sleep 60");
    let (kill, name) = (groups.kill_file().unwrap().unwrap(), groups.name().to_owned());
    let (hierarchy, _) = place.tree.seats[Controller::Unified as usize].at().unwrap();
    assert!(matches!(groups.remove(), Err(Error::Setup { .. })));
    rustix::io::write(kill, b"1").unwrap();
    inside.end();
    assert_eq!(super::groups::remove(&place.tree.hierarchies[hierarchy].parent, &name), Ok(()));
}

#[test]
fn a_sweep_takes_what_has_no_keeper_and_nothing_else() {
    let Some(place) = place(&["pids", "kill"]) else {
        return;
    };
    // No process has a pid above PID_MAX_LIMIT, so this is nobody's group but ours.
    let (dead, alive) = (u32::MAX, std::process::id());
    let only = |limits: &Limits, keeper| Groups::create(&place, &group_name(keeper, 1, &name()), limits).unwrap();
    let v1 = Limits { pids: Some(Cap::Value(50)), ..Limits::default() };
    let both = Limits { unified: true, ..v1.clone() };
    let (orphan, plain, kept) = (only(&both, dead), only(&v1, dead), only(&both, alive));
    let processes = [&orphan, &plain].map(|groups| Inside::start(groups, "sleep 60 >&- & exec sleep 60"));
    assert_eq!(sweep(&place, |pid, _| pid != dead), 0, "their host lives");
    [&orphan, &plain].into_iter().for_each(Groups::unlock);
    // A zombie, which only its parent can reap, keeps no group busy.
    let swept = sweep(&place, |pid, _| pid != dead);
    let expected = orphan.mask().count_ones() + plain.mask().count_ones();
    assert_eq!(swept as u32, expected);
    for groups in [&orphan, &plain] {
        assert!(groups.paths().iter().all(|path| !std::path::Path::new(path).exists()));
    }
    assert_eq!(processes.map(|inside| inside.end().0), [Some(9), Some(9)]);
    gone(kept);
}

#[test]
fn a_sweep_leaves_processes_of_another_pid_namespace() {
    let Some(place) = place(&["pids"]) else {
        return;
    };
    // As of an engine in a pid namespace of its own: its keeper has no pid here, its container is two levels down.
    let mut outer =
        Command::new("unshare").args(["-pf", "unshare", "-pf", "sleep", "60"]).stderr(Stdio::null()).spawn().unwrap();
    let first = wait_for(|| children(outer.id()).first().copied());
    let inner = wait_for(|| children(first).first().copied());
    let dead = u32::MAX - 1;
    let limits = Limits { pids: Some(Cap::Value(50)), ..Limits::default() };
    let groups = Groups::create(&place, &group_name(dead, 1, &name()), &limits).unwrap();
    groups.unlock();
    let (_, directory) = groups.counted(Controller::Pids).unwrap();
    directory.write("cgroup.procs", &inner.to_string()).unwrap();
    assert_eq!(sweep(&place, |pid, _| pid != dead), 0);
    assert!(outer.try_wait().unwrap().is_none());
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(inner as i32).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    outer.wait().unwrap();
    gone(groups);
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_can_be_held_is_told_and_nothing_stays() {
    let Some(place) = place(&[]) else { return };
    let rows = place.describe();
    assert_eq!(rows.len(), 14);
    for row in &rows {
        let told = if row.state == State::Held { &row.by } else { &row.why };
        assert!(!told.is_empty(), "{row:?}");
    }
    let trials = |h: &tree::Hierarchy| {
        h.parent
            .children()
            .into_iter()
            .filter(|n| n.contains(&format!("-{}-", std::process::id())) && n.contains("trial"))
            .count()
    };
    assert!(rows.iter().any(|row| row.state == State::Held));
    // Trials of tests that run beside this one end by themselves.
    let begin = Instant::now();
    while place.tree.hierarchies.iter().map(trials).sum::<usize>() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "trial groups stay");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_fd_closes_on_exec() {
    let Some(place) = place(&["pids", "kill"]) else {
        return;
    };
    let limits =
        Limits { memory: Some(Cap::Value(16 * MIB)), pids: Some(Cap::Value(9)), cpu_time: true, ..Limits::default() };
    let groups = Groups::create(&place, &name(), &limits).unwrap();
    let (event, clock) = (groups.oom_event().unwrap(), groups.cpu_clock().unwrap());
    let kill = groups.kill_file().unwrap().unwrap();
    let mut fds: Vec<_> = groups.procs().into_iter().chain(groups.into_cgroup()).chain(place.parents()).collect();
    fds.extend([clock.fd.as_fd(), kill.as_fd()].into_iter().chain(event.as_ref().map(|(event, _)| event.as_fd())));
    for fd in fds {
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{}", fd.as_raw_fd());
    }
    gone(groups);
}

#[test]
fn names_that_are_paths_are_refused() {
    let place = Place::discover(false);
    for name in ["", ".", "..", "a/b", "a\nb"] {
        assert!(matches!(Groups::create(&place, name, &Limits::default()), Err(Error::Value(_))), "{name:?}");
    }
}
