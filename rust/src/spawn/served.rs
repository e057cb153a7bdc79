//! The program that shows a container's root where the kernel gives no overlay: found here, and heard where it fails. The keeper starts
//! it (rust/keeper/served.rs).

use super::causes::{self, Cause};
use super::driver::VARIABLE;
use super::range::find_program;
use super::seams;
use crate::error::{Error, Result};
use crate::gate::Ours;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use std::os::fd::{AsRawFd, OwnedFd};

pub const PROGRAM: &str = "fuse-overlayfs";

/// What this user lacks for it.
pub fn lacking() -> Option<&'static Cause> {
    if program().is_none() {
        return Some(&causes::NO_FUSE_PROGRAM);
    }
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    device.err().map(|_| &causes::NO_FUSE_DEVICE)
}

pub fn program() -> Option<String> {
    find_program(PROGRAM).filter(|_| !seams::skips(PROGRAM))
}

/// Where it says what is wrong: this end, and its own. What nobody reads is lost when the pipe is full; it never waits for that.
pub fn log() -> Result<(Ours, OwnedFd)> {
    let made = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    made.map(|(ours, theirs)| (Ours::new(ours), theirs)).map_err(|errno| Error::from(("pipe", errno)))
}

/// Set-up failed with this errno at this step: whether it is that nobody shows the files any more, and what was said last.
pub fn died(log: &Ours, step: &str, errno: i32) -> Option<Error> {
    if !matches!(errno, libc::ENOTCONN | libc::ECONNABORTED | libc::ECONNREFUSED) {
        return None;
    }
    let mut said = vec![0; 64 << 10];
    let length = crate::sys::fs::read(log.as_raw_fd(), &mut said).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..length]).into_owned();
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let last = last.trim();
    let note = format!("{PROGRAM}, which shows the image, has ended: {last}; {VARIABLE}=vfs copies images instead");
    Some(Error::Setup { step: step.into(), path: None, errno, note: Some(note) })
}
