//! A failed step in words: the keeper and PID 1 send numbers, the plan knows what they meant. Looks at the machine
//! only through `probe`, for the reason of a refusal.

use super::accounts;
use super::causes::{self, Cause};
use super::probe;
use super::spec::Spec;
use crate::error::Error;
use crate::mount::layout::{Facts, Layout};
use crate::wire::{Ended, phase, step};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENODEV: i32 = 19;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const ELIBACC: i32 = 79;
const EUSERS: i32 = 87;
const EOPNOTSUPP: i32 = 95;
const ESTALE: i32 = 116;

/// Where a list of the plan was left, or that there was none yet.
pub fn step_of(layout: Option<&Layout>, ended: &Ended) -> String {
    let labels = layout.map(|layout| match ended.phase {
        phase::OUTSIDE => &layout.outside_labels[..],
        phase::INSIDE => &layout.inside_labels[..],
        _ => &[],
    });
    let label = labels.and_then(|labels| labels.get(ended.step as usize));
    label.map_or_else(|| "set the container up".into(), String::clone)
}

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

/// No record came, and no evidence: PID 1 was killed before there was a command.
pub fn died_in_set_up(ended: &Ended, out_of_memory: bool) -> Error {
    let signal = ended.status & 0x7f;
    let out_of_memory = out_of_memory || ended.cause == crate::wire::cause::MEMORY;
    let why = if out_of_memory { "its memory limit is too small for the set-up" } else { "before the command ran" };
    let note = format!("its first process was killed by signal {signal}: {why}");
    let errno = if out_of_memory { 12 } else { 4 };
    Error::Setup { step: "set the container up".into(), path: None, errno, note: Some(note) }
}

/// Its processes were killed, and wait in the kernel for something that does not come.
pub fn does_not_die() -> Error {
    let note = "a process in it was killed and does not die: it waits for a device or a file system that does not answer (state D in ps); \
                the keeper removes what is left when it does, or ends itself";
    Error::Setup { step: "end the container".into(), path: None, errno: 110, note: Some(note.into()) }
}

fn with_note(step: impl Into<String>, errno: i32, note: Option<&str>) -> Error {
    let note = note.map(str::to_string).or_else(|| probe::refusal(errno));
    Error::Setup { step: step.into(), path: None, errno, note }
}

/// An error of the road that says no more than "Function not implemented" says which function, and since when there is one.
pub fn completed(error: Error) -> Error {
    match error {
        Error::Setup { step, path, errno: ENOSYS, note: None } => {
            Error::Setup { step, path, errno: ENOSYS, note: probe::refusal(ENOSYS) }
        }
        other => other,
    }
}

/// A machine that cannot hold a requirement, for a cause of the table.
pub fn unsupported(requirement: &str, cause: &Cause) -> Error {
    Error::unsupported(requirement, cause.why, cause.fix)
}

/// New namespaces were refused with this errno.
pub fn no_namespaces(requirement: &str, errno: i32) -> Error {
    let (cause, fix) = probe::namespaces(errno);
    Error::unsupported(requirement, cause, fix)
}

fn mounting(label: String, facts: &Facts, errno: i32) -> Error {
    let idmap = label.starts_with("idmap");
    if idmap && matches!(errno, EINVAL | EPERM | EOPNOTSUPP) {
        let cause = format!("{label}: {}", causes::NO_IDMAP.why);
        return Error::unsupported("idmapped mounts", cause, causes::NO_IDMAP.fix);
    }
    let overlay = label.starts_with("mount overlay");
    if overlay && errno == ENODEV {
        return unsupported("root", &causes::NO_OVERLAY);
    }
    let note = match errno {
        ESTALE => Some("another object took its name while the container was prepared"),
        EACCES if facts.rootless => Some("this user may not read it"),
        EPERM if overlay => Some(
            "the kernel refuses an overlay: with PYCONTAINER_STORAGE_DRIVER=vfs each container on an image gets a copy of it",
        ),
        EINVAL if overlay => Some(
            "a layer lies on a file system that overlayfs cannot stack (an overlay itself, FUSE, NFS): put image and store on ext4, xfs, btrfs or tmpfs",
        ),
        _ => None,
    };
    with_note(label, errno, note)
}

fn inside(label: String, errno: i32) -> Error {
    let note = match (label.as_str(), errno) {
        (label, ENOSPC) if label.starts_with("unshare ") => {
            return no_namespaces("user_namespace", errno);
        }
        (label, EPERM) if label.starts_with("mount proc") => {
            return with_note(label, errno, Some(&causes::MASKED_PROC.note()));
        }
        (label, EPERM) if label.starts_with("mount sysfs") => {
            return with_note(label, errno, Some(&causes::MASKED_SYS.note()));
        }
        (label, 40 | 20) if label.starts_with("mount ") => {
            Some("a mount point is a symbolic link or not a directory; none of ours may be")
        }
        (label, 40) if label.starts_with("write ") => Some("its target is a symbolic link, which is not followed"),
        (label, 17) if label.starts_with("write ") => Some("its target exists and is not a regular file"),
        (_, ENOSPC) => Some("the writable layer is full: raise limits.disk or limits.memory"),
        ("join the control groups", EINVAL) => Some(
            "a cpu group of cgroup v1 takes no real-time process: if this one has such a policy (chrt), run without it",
        ),
        _ => None,
    };
    with_note(label, errno, note)
}

fn cloning(ended: &Ended) -> Error {
    let (text, note) = match (ended.phase, ended.step) {
        (_, step::CLONE) if matches!(ended.errno, ENOSYS | ENOSPC | EUSERS | EPERM) => {
            return no_namespaces("user_namespace", ended.errno);
        }
        (_, step::CLONE) => ("clone3 of the new namespaces", None),
        (_, step::UID_MAP) => ("write the maps of the user namespace", None),
        (_, step::OWN_STREAM) => ("give a pipe to the container's root", None),
        (_, step::OOM_SCORE) if matches!(ended.errno, EACCES | EPERM) => {
            return Error::unsupported("oom_score_adj", super::limits::LOWER, "run with CAP_SYS_RESOURCE, or degrade=");
        }
        (_, step::OOM_SCORE) => ("set oom_score_adj", None),
        (_, step::BECOME_ROOT) => ("become the container's root", None),
        (_, step::JOIN_NAMESPACE) => ("join a namespace", None),
        (_, step::NO_WAY_BACK) if ended.errno == EPERM => return unsupported("namespaces", &causes::NO_WAY_BACK),
        (_, step::NO_WAY_BACK) => ("make sure of the way back from a namespace", None),
        (_, step::TOO_MANY) => ("keep one more container", Some("too many live containers in this process")),
        (_, step::NPROC) => ("bound the number of tasks", None),
        (_, step::RANGE) => ("take the uid of the container's range", None),
        (_, step::PORTER) => ("start the process that carries connections to published ports", None),
        (_, step::SOCKET) => ("make a socket", None),
        _ => ("release the container", None),
    };
    with_note(text, ended.errno, note)
}

fn command(spec: &Spec, facts: &Facts, ended: &Ended) -> Error {
    if let Some(error) = accounts::explain(spec, facts, ended.step, ended.errno) {
        return error;
    }
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
        (step::CWD, errno) => Error::setup_at("cwd", String::from_utf8_lossy(&spec.cwd), errno),
        (step::LANDLOCK, errno) => {
            let cause = format!("{} ({})", causes::NO_LANDLOCK.why, std::io::Error::from_raw_os_error(errno));
            Error::unsupported("landlock", cause, causes::NO_LANDLOCK.fix)
        }
        (which, errno) => with_note(describe(which), errno, None),
    }
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
        step::OWN_STREAM => "give a pipe to the command's user",
        step::TERMINAL => "take the terminal",
        step::MEMORY => "get memory for the command line",
        step::FORK => "fork the command",
        step::NESTED => "enter a nested user namespace",
        step::WAIT => "wait for the command",
        _ => "read the plan",
    }
}
