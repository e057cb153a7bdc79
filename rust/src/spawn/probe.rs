//! Looks for the reason of a refusal, and asks the kernel what `doctor()` wants to know. Changes nothing, starts no keeper.

use super::causes::{self, Cause};
use super::range;
use crate::sys::probe::{self as ask, NEEDED};
use crate::sys::{self, Errno};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const EUSERS: i32 = 87;

/// Each limit of namespaces, by the kind's name in /proc/sys/user.
const LIMITS: [(&str, &Cause); 8] = [
    ("cgroup", &causes::NO_CGROUP_NAMESPACES),
    ("ipc", &causes::NO_IPC_NAMESPACES),
    ("mnt", &causes::NO_MNT_NAMESPACES),
    ("net", &causes::NO_NET_NAMESPACES),
    ("pid", &causes::NO_PID_NAMESPACES),
    ("time", &causes::NO_TIME_NAMESPACES),
    ("user", &causes::NO_USER_NAMESPACES),
    ("uts", &causes::NO_UTS_NAMESPACES),
];

/// Why clone3 or unshare of new namespaces came back with `errno`, and the cure. Where it may be an outer container's doing, that is
/// said too, and the cure is the one for all walls of its engine: behind the filter there are more.
pub fn namespaces(errno: i32) -> (String, &'static str) {
    let cause = reason(errno);
    let filtered = [causes::CLONE3_ENOSYS, causes::CLONE3_EPERM, causes::UNSHARE_REFUSED, causes::OUTER_FILTER];
    if filtered.contains(cause) && nested() {
        return (format!("{}; {}", cause.why, causes::NESTED.why), causes::NESTED.fix);
    }
    (cause.why.into(), cause.fix)
}

fn reason(errno: i32) -> &'static Cause {
    match errno {
        ENOSYS => &causes::CLONE3_ENOSYS,
        ENOSPC | EUSERS => spent().unwrap_or(&causes::NAMESPACES_FULL),
        _ => refused(),
    }
}

/// The kind of namespace of which there may be none.
fn spent() -> Option<&'static Cause> {
    LIMITS.iter().find(|(kind, _)| sysctl(&format!("user/max_{kind}_namespaces")) == Some(0)).map(|(_, cause)| *cause)
}

/// EPERM has many fathers: the first that can be seen.
fn refused() -> &'static Cause {
    let plain = !rustix::process::geteuid().is_root();
    let [clone3, unshare] = filtered();
    match () {
        () if clone3 => &causes::CLONE3_EPERM,
        () if unshare => &causes::UNSHARE_REFUSED,
        () if chrooted() => &causes::CHROOT,
        () if plain && sysctl("kernel/unprivileged_userns_clone") == Some(0) => &causes::USERNS_SYSCTL,
        () if plain && sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1) => &causes::USERNS_APPARMOR,
        () if under_filter() => &causes::OUTER_FILTER,
        () if nested() => &causes::NESTED,
        () => &causes::USERNS_REFUSED,
    }
}

/// Whether a filter answers EPERM to clone3 and unshare before the kernel looks at their (impossible) arguments.
fn filtered() -> [bool; 2] {
    let answers = ask::in_copy::<2>(|question| ask::ask(&NEEDED[question])).unwrap_or_default();
    answers.map(|answer| matches!(answer, Some(EPERM | EACCES)))
}

fn sysctl(name: &str) -> Option<i64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// In a chroot the root is not where this mount namespace begins: no mount is attached at it, process 1 sees another one, or (as
/// root) what is refused here is allowed from there.
pub fn chrooted() -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return false };
    if !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")) {
        return true;
    }
    let same_namespace = std::fs::read_link("/proc/1/ns/mnt").ok() == std::fs::read_link("/proc/self/ns/mnt").ok();
    let root = |path: &str| std::fs::metadata(path).ok().map(|seen| (seen.dev(), seen.ino()));
    if same_namespace && root("/proc/1/root/").is_some_and(|first| root("/") != Some(first)) {
        return true;
    }
    ask::in_copy::<1>(|_| ask::enter_from_the_top()).is_ok_and(|[answer]| answer == Some(0))
}

/// A seccomp filter of somebody else's is in force (mode 2 in proc(5)).
pub fn under_filter() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// The marks that container engines leave: docker, podman, systemd's convention (container_interface), and our own PID 1.
fn nested() -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    marks.iter().any(|path| Path::new(path).exists())
        || std::fs::read("/proc/1/comm").is_ok_and(|name| name == b"pycontainer\n")
}

/// Why a step was refused that has no note of its own: a call that is not there, or (most likely) somebody's filter.
pub fn refusal(errno: i32) -> Option<String> {
    let filter = || under_filter().then(|| causes::OUTER_FILTER.note());
    match errno {
        ENOSYS => lacking().map(|call| format!("{}: {}", call.why, call.fix)).or_else(filter),
        EPERM => filter(),
        _ => None,
    }
}

/// A system call of the road that answers ENOSYS.
#[derive(Debug)]
pub struct Lacking {
    pub name: &'static str,
    pub why: String,
    pub fix: String,
}

/// The first of them, asked for now; None where all are there.
pub fn lacking() -> Option<Lacking> {
    let (name, since, _) = calls().into_iter().find(|(.., answer)| *answer == ENOSYS)?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Some(why_lacking(name, since, &release, under_filter()))
}

/// The words of `too_old` in python/pycontainer/_causes.py; and of its doctor where the kernel is new enough.
fn why_lacking(name: &'static str, since: (u32, u32), release: &str, filtered: bool) -> Lacking {
    let first = format!("Linux {}.{}", since.0, since.1);
    let (why, fix) = match () {
        () if sys::version::of(release) < since => {
            (format!("{name} needs {first}, and this is {release}"), format!("{first} or later"))
        }
        () if filtered => {
            (format!("{name} answers ENOSYS: {}", causes::OUTER_FILTER.why), causes::OUTER_FILTER.fix.to_string())
        }
        () => (
            format!("{name} answers ENOSYS, which {first} has, and this is {release}"),
            "a kernel that was built with it".to_string(),
        ),
    };
    Lacking { name, why, fix }
}

/// What `doctor()` asks; an answer is an errno, 0, or a signal as a negative number.
pub struct Answers {
    /// (name, first kernel, answer) of each system call that the road needs.
    pub calls: Vec<(&'static str, (u32, u32), i32)>,
    /// Why a user namespace cannot be had; None where it was entered and used.
    pub user_namespace: Option<(String, &'static str)>,
    pub sys_resource: bool,
    /// The ABI, or a negative errno.
    pub landlock: i32,
    /// The errno of an executable memfd.
    pub memfd: i32,
    /// (newuidmap and newgidmap are there, this user has a range of both kinds).
    pub subuid: (bool, bool),
}

pub fn everything() -> Answers {
    let _gate = crate::gate::spawning();
    let calls = calls();
    let answers = ask::in_copy::<2>(|question| match question {
        0 => ask::raise_hard_limit(),
        _ => ask::enter_user_namespace(),
    });
    let [sys_resource, entered] = answers.unwrap_or_default();
    let clone3 = calls[0].2;
    let user_namespace = match (clone3, entered) {
        (ENOSYS | EPERM, _) => Some(namespaces(clone3)),
        (_, Some(0)) => None,
        (_, answer) => Some(namespaces(answer.unwrap_or(EPERM))),
    };
    Answers {
        calls,
        user_namespace,
        sys_resource: sys_resource == Some(0),
        landlock: sys::security::landlock_abi().map_or_else(|errno| -errno.0, |abi| abi as i32),
        memfd: sys::host::sealed_program(super::keeper::PROGRAM).err().map_or(0, |errno: Errno| errno.0),
        subuid: range::parts(),
    }
}

/// One copy asks all; where a filter kills it, the next one goes on behind that question.
fn calls() -> Vec<(&'static str, (u32, u32), i32)> {
    let mut answers = [None; NEEDED.len()];
    while let Some(first) = answers.iter().position(Option::is_none) {
        let more = ask::in_copy::<{ NEEDED.len() }>(|i| NEEDED.get(first + i).map_or(0, ask::ask));
        let Ok(more) = more else { break };
        for (answer, new) in answers[first..].iter_mut().zip(more) {
            *answer = new;
        }
    }
    NEEDED.iter().zip(answers).map(|(call, answer)| (call.name, call.since, answer.unwrap_or(0))).collect()
}

/// /sys/devices/system/cpu/cpuN/thermal_throttle of this machine.
pub fn throttles() -> Vec<String> {
    let of = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    (0..4096).map(of).take_while(|path| Path::new(path).exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_refusal_is_told_apart() {
        assert_eq!(reason(ENOSYS).name, "clone3_enosys");
        assert!(["namespaces_full"].contains(&reason(ENOSPC).name) || spent().is_some());
    }

    #[test]
    fn an_old_kernel_is_told_from_a_filter_and_from_one_that_lacks_it() {
        let why = |release, filtered| why_lacking("openat2", (5, 6), release, filtered).why;
        assert_eq!(why("5.4.0-1-amd64", false), "openat2 needs Linux 5.6, and this is 5.4.0-1-amd64");
        assert_eq!(why("5.4.0-1-amd64", true), "openat2 needs Linux 5.6, and this is 5.4.0-1-amd64");
        assert!(why("6.1", true).starts_with("openat2 answers ENOSYS: this process runs under a seccomp filter"));
        assert_eq!(why("6.1", false), "openat2 answers ENOSYS, which Linux 5.6 has, and this is 6.1");
    }

    #[test]
    fn no_two_causes_share_a_name() {
        let mut names: Vec<_> = causes::ALL.iter().map(|cause| cause.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), causes::ALL.len());
    }

    #[test]
    fn every_needed_call_of_this_kernel_answers() {
        for (name, _, answer) in calls() {
            assert!(answer > 0 && answer != ENOSYS, "{name}: {answer}");
        }
    }
}
