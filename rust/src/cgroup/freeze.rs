//! Stops and releases all tasks of a container by the unified hierarchy's freezer (Linux 5.2). Kills nothing.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::files::Directory;
use super::plan::{Missing, Seat};
use super::{Controller, Groups, parse};
use crate::error::{Error, Result};

/// How long a task may go on in the kernel before the others are released again: one that waits for a disk does not stop.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: &str = "pause";

/// A container whose tasks stand still as long as this lives. One that stood still before goes on doing so.
#[derive(Debug)]
pub(super) struct Still(OwnedFd);

impl Drop for Still {
    fn drop(&mut self) {
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.0, b"0"));
    }
}

impl Groups {
    /// Back when every task has stopped, or runs again. After an error none is stopped.
    pub fn freeze(&self, stop: bool) -> Result<()> {
        let directory = self.unified().map_err(|missing| Error::unsupported(STEP, missing.cause, missing.fix))?;
        let value = if stop { "1" } else { "0" };
        match directory.write("cgroup.freeze", value) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                return Err(Error::unsupported(STEP, "this kernel has no cgroup.freeze", "Linux 5.2 or later"));
            }
            Err(errno) => return Err(directory.write_error("cgroup.freeze", value, errno, None)),
        }
        if stop && !settled(directory, PATIENCE) {
            let _ = directory.write("cgroup.freeze", "0");
            let note = Some("a task is held up in the kernel and does not stop; all of them run again".to_owned());
            let (step, errno) = (STEP.to_owned(), Errno::TIMEDOUT.raw_os_error());
            return Err(Error::Setup { step, path: Some(directory.path.clone()), errno, note });
        }
        Ok(())
    }

    /// Whether somebody has asked for it to stop; None where there is no freezer.
    pub fn is_frozen(&self) -> Option<bool> {
        self.unified().ok()?.number("cgroup.freeze").map(|number| number == 1)
    }

    /// Holds the container still if that can be had within `patience`; a convenience, never an error.
    pub(super) fn still(&self, patience: Duration) -> Option<Still> {
        let directory = self.unified().ok()?;
        // The descriptor first: without one nothing could release it.
        let file = directory.file("cgroup.freeze", OFlags::WRONLY).ok()?;
        if directory.number("cgroup.freeze") != Some(0) || rustix::io::write(&file, b"1").is_err() {
            return None;
        }
        let still = Still(file);
        settled(directory, patience).then_some(still)
    }

    /// The group for what needs no controller.
    pub(super) fn unified(&self) -> std::result::Result<&Directory, Missing> {
        match (self.counted(Controller::Unified), &self.tree.seats[Controller::Unified as usize]) {
            (Some((_, directory)), _) => Ok(directory),
            (None, Seat::Missing(missing)) => Err(missing.clone()),
            (None, Seat::At { .. }) => {
                Err(Missing::new("this container has no group in the cgroup2 hierarchy", "pycontainer doctor"))
            }
        }
    }
}

/// Whether all tasks have stopped in time: "frozen 1" in cgroup.events, whose changes are events.
fn settled(directory: &Directory, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let Ok(events) = directory.file("cgroup.events", OFlags::RDONLY) else { return false };
    loop {
        let mut text = [0u8; 128];
        let length = rustix::io::pread(&events, &mut text, 0).unwrap_or(0);
        if parse::keyed(&String::from_utf8_lossy(&text[..length]), "frozen") == Some(1) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left));
    }
}
