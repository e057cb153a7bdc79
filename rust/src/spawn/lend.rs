//! A socket of a running container's network namespace, asked of its PID 1. Who connects it reaches what listens inside.

use super::exec::Home;
use crate::error::{Error, Result};
use crate::gate;
use crate::sys::{self, Errno};
use crate::wire::errand;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsRawFd, OwnedFd};

/// Of this family, for streams, not blocking. None where PID 1 does not answer within `milliseconds`: it has ended, or is frozen.
pub fn socket(container: &impl Home, family: u8, milliseconds: u64) -> Result<Option<OwnedFd>> {
    let pid1 = match container.errands() {
        Err(Error::State(_)) => return Ok(None),
        pid1 => pid1?,
    };
    let gate = gate::spawning();
    let (ours, theirs) = sys::net::socketpair().map_err(failed)?;
    let sent =
        sys::net::send(pid1.as_raw_fd(), &[errand::SOCKET, family], &[theirs.raw()], sys::constants::MSG_DONTWAIT);
    drop(theirs);
    drop(gate);
    match sent {
        Err(Errno::AGAIN) => return Ok(None),
        Err(errno) if errno.is_closed_end() => return Ok(None),
        sent => sent.map_err(failed)?,
    };
    let ours = gate::Ours::new(sys::host::adopt(ours.release()));
    let time = Timespec { tv_sec: (milliseconds / 1000) as i64, tv_nsec: (milliseconds % 1000 * 1_000_000) as _ };
    if !matches!(poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&time)), Ok(1..)) {
        return Ok(None);
    }
    let mut errno = [0; 4];
    match sys::net::receive(ours.as_raw_fd(), &mut errno, sys::constants::MSG_DONTWAIT) {
        Ok(received) if received.fd_count == 1 => Ok(Some(sys::host::adopt(received.fds[0]))),
        Ok(received) if received.length == 4 => Err(failed(Errno(i32::from_le_bytes(errno)))),
        _ => Ok(None),
    }
}

fn failed(errno: Errno) -> Error {
    Error::setup("get a socket of the container's", errno.0)
}
