//! Namespaces of others that a container shares: found, opened, checked. Enters none.

use super::sources::look;
use super::spec::{Space, Spec};
use crate::error::{Error, Result};
use crate::mount::list::Source;
use crate::sys;
use crate::sys::constants::*;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A namespace of the host's brings the host's view of it, read-only (K26).
pub fn shared(spec: &Spec) -> Result<Vec<(&'static str, Source)>> {
    let spaces = &spec.spaces;
    if spaces.mnt != Space::New {
        return Ok(Vec::new()); // what that one shows is what there is
    }
    let views = [("/proc", spaces.pid), ("/sys", spaces.net), ("/dev/mqueue", spaces.ipc)];
    let foreign = views.into_iter().filter(|(path, space)| *space != Space::New && Path::new(path).exists());
    foreign.map(|(path, _)| Ok((path, look(Path::new(path), "view of the host")?))).collect()
}

/// Those of processes: opened once, so that a pid that is used again changes nothing.
pub fn opened(spec: &Spec) -> Result<Vec<(OwnedFd, u64)>> {
    let spaces = &spec.spaces;
    let kinds = [
        (spaces.uts, "uts", CLONE_NEWUTS),
        (spaces.ipc, "ipc", CLONE_NEWIPC),
        (spaces.pid, "pid", CLONE_NEWPID),
        (spaces.net, "net", CLONE_NEWNET),
        (spaces.time, "time", CLONE_NEWTIME),
        (spaces.cgroup, "cgroup", CLONE_NEWCGROUP),
        (spaces.mnt, "mnt", CLONE_NEWNS),
    ];
    let mut found = Vec::new();
    for (space, name, kind) in kinds {
        if let Space::Of(pid) = space {
            let path = format!("/proc/{pid}/ns/{name}");
            let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let fd = fd.map_err(|errno| Error::setup_at("open the namespace", path, errno.raw_os_error()))?;
            if kind == CLONE_NEWNS {
                check_owner(&fd, pid)?;
            }
            found.push((fd, kind));
        }
    }
    Ok(found)
}

/// The root of a user namespace decides what is mounted in its own mount namespaces, /bin/sh and /etc/passwd too: nobody with the
/// ids of this machine goes there.
fn check_owner(space: &OwnedFd, pid: i32) -> Result<()> {
    let fail = |errno: i32| Error::setup_at("look at the mount namespace of process", pid.to_string(), errno);
    let owner = sys::process::owner_of_namespace(space.as_raw_fd()).map_err(|errno| fail(errno.0))?;
    let owner = rustix::fs::fstat(sys::host::borrow(owner.raw())).map_err(|errno| fail(errno.raw_os_error()))?;
    let own = std::fs::metadata("/proc/self/ns/user").map_err(|error| fail(error.raw_os_error().unwrap_or(5)))?;
    if owner.st_ino == own.ino() && owner.st_dev == own.dev() {
        return Ok(());
    }
    Err(Error::unsupported(
        "namespaces['mnt']",
        format!(
            "the mount namespace of process {pid} belongs to another user namespace, whose root decides what it shows"
        ),
        "a process of this machine's own, or Mount.bind for its files",
    ))
}
