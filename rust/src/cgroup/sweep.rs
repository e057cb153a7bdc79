//! Groups whose keeper is gone: finds them by their names, kills what is left in them, removes them. Touches no others.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::files::Directory;
use super::tree::{Hierarchy, Place};
use super::{Version, groups};
use crate::locked;

const PREFIX: &str = "pycontainer-";

/// How long killed processes may take to leave their group.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name by which a later engine sees whose a group was. `start` is field 22 of the keeper's /proc/PID/stat; neither number means
/// anything in another pid or time namespace, so no group is taken that its maker has locked.
pub fn group_name(keeper: u32, start: u64, serial: &str) -> String {
    format!("{PREFIX}{keeper}-{start}-{serial}")
}

/// (pid, start time) in such a name.
pub fn owner(name: &str) -> Option<(u32, u64)> {
    let mut fields = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let owner = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    fields.next().filter(|serial| !serial.is_empty()).map(|_| owner)
}

/// Field 22 of /proc/PID/stat, in clock ticks since the boot; the command in field 2 may hold blanks and brackets.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Removes the groups for whose keeper (pid, start time) `alive` says no. Returns how many went.
pub fn sweep(place: &Place, alive: impl Fn(u32, u64) -> bool) -> usize {
    let mut gone = 0;
    // The unified hierarchy first: cgroup.kill there empties the others too.
    let (mut hierarchies, last): (Vec<_>, Vec<_>) =
        place.tree.hierarchies.iter().partition(|h| h.version == Version::V2);
    hierarchies.extend(last);
    for hierarchy in hierarchies {
        for name in hierarchy.parent.children() {
            let dead = owner(&name).is_some_and(|(pid, start)| !alive(pid, start));
            gone += usize::from(dead && take(hierarchy, &name));
        }
    }
    gone
}

fn take(hierarchy: &Hierarchy, name: &str) -> bool {
    let Ok(directory) = hierarchy.parent.child(name) else {
        return false;
    };
    if !locked::take(directory.as_fd()) {
        return false;
    }
    let (begin, mut pause) = (Instant::now(), Duration::from_micros(200));
    loop {
        let Some(inside) = members(&directory) else {
            return false;
        };
        if inside.is_empty() {
            return groups::remove(&hierarchy.parent, name).is_ok();
        }
        // In a pid namespace that we are not in somebody else ends them.
        if begin.elapsed() > PATIENCE || !inside.iter().any(|&pid| ours(pid)) {
            return false;
        }
        kill(&directory, &inside);
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The processes in a group; 0 is one that our pid namespace does not see. None if the group cannot be read.
fn members(directory: &Directory) -> Option<Vec<i32>> {
    Some(directory.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Whether this process is of our pid namespace or of one directly below it, as a container's first process is; one that has just
/// ended counts as well, its group will be read again.
fn ours(pid: i32) -> bool {
    let depth = |who: &str| {
        let status = std::fs::read_to_string(format!("/proc/{who}/status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().count())
    };
    let own = depth("self").unwrap_or(1);
    pid != 0 && depth(&pid.to_string()).is_none_or(|depth| depth <= own + 1)
}

/// By cgroup.kill where there is one, else one by one: a pidfd first, then the list again, so that a pid that was given to somebody
/// else in between is not hit.
fn kill(directory: &Directory, inside: &[i32]) {
    if directory.write("cgroup.kill", "1").is_ok() {
        return;
    }
    let open = |&pid: &i32| Some((pid, rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?));
    let held: Vec<_> = inside.iter().filter_map(open).collect();
    let still = members(directory).unwrap_or_default();
    for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner() {
        assert_eq!(owner(&group_name(12, 345, "6")), Some((12, 345)));
        assert_eq!(owner("pycontainer-1-2-a-b"), Some((1, 2)));
        for other in [
            "pycontainer",
            "pycontainer-1-2",
            "pycontainer-1-2-",
            "pycontainer-x-2-3",
            "docker-1-2-3",
            "pycontainer--1-2-3",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn start_time_is_that_of_ps() {
        assert!(start_time(std::process::id()).is_some_and(|start| start > 0));
        assert_eq!(start_time(u32::MAX), None);
    }
}
