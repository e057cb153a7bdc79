//! A failed step in words: the keeper and PID 1 send numbers, the plan knows what they meant. Pure.

use super::spec::{Spec, Who};
use crate::error::Error;
use crate::mount::layout::{Facts, Layout};
use crate::wire::{Ended, phase, step};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const ELIBACC: i32 = 79;
const ESTALE: i32 = 116;

pub fn explain(spec: &Spec, facts: &Facts, layout: Option<&Layout>, ended: &Ended) -> Error {
    let empty = Vec::new();
    let label = |labels: Option<&Vec<String>>| labels.unwrap_or(&empty).get(ended.step as usize).cloned();
    match ended.phase {
        phase::OUTSIDE => {
            mounting(label(layout.map(|layout| &layout.outside_labels)).unwrap_or_default(), facts, ended.errno)
        }
        phase::INSIDE => inside(label(layout.map(|layout| &layout.inside_labels)).unwrap_or_default(), ended.errno),
        phase::COMMAND => command(spec, facts, ended),
        _ => cloning(ended),
    }
}

fn with_note(step: impl Into<String>, errno: i32, note: Option<&str>) -> Error {
    Error::Setup { step: step.into(), path: None, errno, note: note.map(str::to_string) }
}

fn mounting(label: String, facts: &Facts, errno: i32) -> Error {
    let idmap = label.starts_with("idmap");
    if idmap && matches!(errno, EINVAL | EPERM | ENOSYS | 95) {
        let cause =
            format!("{label}: this file system cannot be idmapped (overlayfs, FUSE, NFS, or a kernel before 5.12)");
        let fix = "copy it to ext4, xfs, btrfs or (6.3) tmpfs, or set security=Security(user_namespace=\"host\")";
        return Error::unsupported("idmapped mounts", cause, fix);
    }
    let note = match errno {
        ESTALE => Some("another object took its name while the container was prepared"),
        EACCES if facts.rootless => Some("this user may not read it"),
        _ => None,
    };
    with_note(label, errno, note)
}

fn inside(label: String, errno: i32) -> Error {
    let note = match (label.as_str(), errno) {
        (label, EPERM) if label.starts_with("mount proc") => Some(
            "the kernel refuses a fresh /proc where this process's own is partly masked: inside another container, ask its engine for an unmasked /proc (docker: --security-opt systempaths=unconfined)",
        ),
        (label, EPERM) if label.starts_with("mount sysfs") => {
            Some("the kernel refuses a fresh /sys where this process's own is read-only or masked")
        }
        (label, 40 | 20) if label.starts_with("mount ") => {
            Some("a mount point is a symbolic link or not a directory; none of ours may be")
        }
        (label, 40) if label.starts_with("write ") => Some("its target is a symbolic link, which is not followed"),
        (label, 17) if label.starts_with("write ") => Some("its target exists and is not a regular file"),
        (_, ENOSPC) => Some("the writable layer is full: raise limits.disk or limits.memory"),
        _ => None,
    };
    with_note(label, errno, note)
}

fn cloning(ended: &Ended) -> Error {
    let (text, note) = match (ended.phase, ended.step) {
        (_, step::CLONE) if ended.errno == ENOSYS => {
            let cause = "clone3 is refused here, as by the seccomp filter of an old container engine";
            return Error::unsupported(
                "clone3",
                cause,
                "Linux 5.3, or the outer engine's --security-opt seccomp=unconfined",
            );
        }
        (_, step::CLONE) if ended.errno == 28 => {
            let cause = "clone3: ENOSPC: the limit on namespaces is reached";
            return Error::unsupported(
                "user_namespace",
                cause,
                "raise sysctl user.max_user_namespaces and its siblings",
            );
        }
        (_, step::CLONE) if ended.errno == EPERM => {
            let cause = "clone3: EPERM: new namespaces are refused (an outer seccomp filter, a chroot, or an LSM)";
            return Error::unsupported("user_namespace", cause, super::engine::user_namespace_fix());
        }
        (_, step::CLONE) => ("clone3 of the new namespaces", None),
        (_, step::UID_MAP) => ("write the maps of the user namespace", None),
        (_, step::OWN_STREAM) => ("give a pipe to the container's root", None),
        (_, step::OOM_SCORE) => ("set oom_score_adj", Some("lowering it needs CAP_SYS_RESOURCE")),
        (_, step::JOIN_CGROUP) => ("join the control groups", None),
        (_, step::BECOME_ROOT) => ("become the container's root", None),
        (_, step::JOIN_NAMESPACE) => ("join a namespace", None),
        (_, step::TOO_MANY) => ("keep one more container", Some("too many live containers in this process")),
        (_, step::NPROC) => ("bound the number of tasks", None),
        (_, step::RANGE) => ("take the uid of the container's range", None),
        (_, step::SOCKET) => ("make a socket", None),
        _ => ("release the container", None),
    };
    with_note(text, ended.errno, note)
}

fn command(spec: &Spec, facts: &Facts, ended: &Ended) -> Error {
    let name = String::from_utf8_lossy(spec.argv.first().map_or(b"", Vec::as_slice)).into_owned();
    match (ended.step, ended.errno) {
        (step::EXEC, ENOENT) | (step::EXEC, 20) => Error::CommandNotFound { command: name },
        (step::EXEC, ELIBACC) => {
            let note = "the program is there, but the interpreter or dynamic loader that it names is not";
            Error::Setup { step: format!("execute {name}"), path: None, errno: ENOENT, note: Some(note.into()) }
        }
        (step::EXEC, errno) if errno < 0 => {
            with_note(format!("execute {name}: its set-up was killed by signal {}", -errno), 4, None)
        }
        (step::EXEC, errno) => Error::CommandNotExecutable { command: name, errno },
        (step::USER, errno) => unknown("user", &spec.user, errno),
        (step::GROUP, errno) => unknown("group", &spec.group, errno),
        (step::CWD, errno) => Error::setup_at("cwd", String::from_utf8_lossy(&spec.cwd), errno),
        (step::SETUID | step::SETGID | step::SETGROUPS, EINVAL) => {
            let note = if facts.one_id {
                "this user namespace has one id, 0; give this user a range in /etc/subuid and /etc/subgid and install newuidmap (package uidmap)"
            } else {
                "the id is outside the container's range"
            };
            Error::unsupported("user", format!("{:?} has no id in the container's user namespace", spec.user), note)
        }
        (step::LANDLOCK, errno) => {
            let cause = format!("the kernel has no Landlock ABI 2 ({})", std::io::Error::from_raw_os_error(errno));
            Error::unsupported("landlock", cause, "Linux 5.19 with landlock in the lsm= list")
        }
        (which, errno) => with_note(describe(which), errno, None),
    }
}

fn unknown(what: &str, who: &Who, errno: i32) -> Error {
    let name = match who {
        Who::Name(name) => name.clone(),
        Who::Number(number) => number.to_string(),
        Who::Unsaid => "0".into(),
    };
    let (file, note) = match (what, errno) {
        ("user", ENOENT) => ("/etc/passwd", "the container's /etc/passwd does not name it; a number needs no entry"),
        (_, ENOENT) => ("/etc/group", "the container's /etc/group does not name it; a number needs no entry"),
        (_, _) => ("/etc/passwd or /etc/group", "the container's account files could not be read as such"),
    };
    Error::Setup { step: format!("unknown {what} {name:?}"), path: Some(file.into()), errno, note: Some(note.into()) }
}

fn describe(which: u16) -> &'static str {
    match which {
        step::RLIMIT => "set a resource limit",
        step::SETGROUPS => "set the supplementary groups",
        step::SETGID => "set the group id",
        step::SETUID => "set the user id",
        step::BOUNDING_SET => "cut the bounding set",
        step::CAPABILITIES => "set the capabilities",
        step::NO_NEW_PRIVS => "set no_new_privs",
        step::SECCOMP => "load the seccomp filter",
        step::STREAMS => "place the descriptors",
        step::TERMINAL => "take the terminal",
        step::MEMORY => "get memory for the command line",
        step::FORK => "fork the command",
        step::NESTED => "enter a nested user namespace",
        step::WAIT => "wait for the command",
        _ => "read the plan",
    }
}
