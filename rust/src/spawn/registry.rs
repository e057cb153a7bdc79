//! Where the processes of one user find each other's containers: a directory per keeper, locked as long as that lives, with a socket in it.
//!
//! What lies there is Python's to write and read (`_registry.py`). The keeper removes its directory when its host is gone; one that
//! was killed leaves it, and the next engine sweeps it.

use super::engine;
use super::keeper::Keeper;
use super::keeper::start_time;
use crate::error::{Error, Result};
use crate::{cgroup, gate, locked, removal, runtime};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub const SOCKET: &str = "socket";
/// Connections that the keeper has not looked at yet.
const BACKLOG: i32 = 64;

/// The directory of all keepers of this user. It may not be there.
pub fn place() -> PathBuf {
    runtime::directory(rustix::process::geteuid().as_raw()).join("keepers")
}

fn fail(path: &Path) -> impl Fn(Errno) -> Error + '_ {
    move |errno| Error::setup_at("make a place to be found at", path.display().to_string(), errno.raw_os_error())
}

/// Makes the directory of this keeper, and has it listen there. Sweeps those of dead ones.
pub fn announce(keeper: &Keeper) -> Result<PathBuf> {
    let place = place();
    runtime::make_private_directory(&place)?;
    let path = place.join(&keeper.prefix);
    let parent = rustix::fs::open(&place, DIRECTORY, Mode::empty()).map_err(fail(&place))?;
    // What is about to be there goes with the keeper, however its host ends.
    keeper.announce_uppers(parent.as_fd())?;
    // A forked copy that held one of these would make a dead keeper look alive.
    let gate = gate::spawning();
    let directory = locked::make(parent.as_fd(), &keeper.prefix, 0o700).map_err(fail(&path))?;
    let listener = listen(&directory).map_err(fail(&path))?;
    keeper.listen(listener.as_fd(), directory.as_fd())?;
    drop((listener, directory));
    drop(gate);
    sweep(&parent);
    Ok(path)
}

/// By way of its directory's descriptor: a socket's path is at most 108 bytes long.
fn listen(directory: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&listener, &address(directory)?)?;
    rustix::fs::chmodat(directory, SOCKET, Mode::from_raw_mode(0o600), AtFlags::empty())?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn address(directory: &OwnedFd) -> std::result::Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

/// A connection to the keeper whose directory that is. CONNREFUSED or NOENT where it is gone.
pub fn connect(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let directory = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
    let line = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&line, &address(&directory)?))?;
    Ok(line)
}

/// Whether the keeper lives that has a directory of this name. One that does not loses it.
pub fn lives(name: &str) -> bool {
    let opened = rustix::fs::open(place(), DIRECTORY, Mode::empty());
    opened.is_ok_and(|parent| !take(&parent, name))
}

fn sweep(parent: &OwnedFd) {
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", parent.as_raw_fd())).into_iter().flatten().flatten() {
        take(parent, &entry.file_name().to_string_lossy());
    }
}

/// True where its keeper is gone: its lock can be had, and where pids mean something, nobody is there under its own. What it left
/// is removed then.
fn take(parent: &OwnedFd, name: &str) -> bool {
    let Some(owner) = cgroup::owner(name) else { return true }; // none of ours
    let Ok(directory) = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) else { return true };
    let (Ok(seen), own) = (rustix::fs::fstat(&directory), rustix::process::geteuid().as_raw()) else { return true };
    if seen.st_uid != own || !locked::take(directory.as_fd()) {
        return seen.st_uid != own;
    }
    let here = name.ends_with(&super::keeper::space());
    if here && engine::keeper_is_alive(owner.0, owner.1) {
        return false;
    }
    if let Ok(name) = CString::new(name) {
        let _ = removal::remove(parent.as_raw_fd(), &name);
    }
    true
}

/// Somebody may have stopped it. Only where its pid means something.
pub fn wake(name: &str) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some((pid, start)) = cgroup::owner(name).filter(|_| name.ends_with(&super::keeper::space())) else { return };
    let Some(Ok(pidfd)) = Pid::from_raw(pid as i32).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    if start_time(pid as i32).is_ok_and(|seen| seen == start) {
        let _ = pidfd_send_signal(&pidfd, Signal::CONT);
    }
}
