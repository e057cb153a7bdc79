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

/// Tasks that were told to stop. Nothing of the container is needed to wait for them.
#[derive(Debug)]
pub struct Stopping {
    freeze: OwnedFd,
    events: OwnedFd,
    path: String,
}

impl Stopping {
    /// Until all stand still. Those that do not, within some seconds, go on, and so do the others.
    pub fn wait(self) -> Result<()> {
        match settled(&self.events, PATIENCE) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.freeze, b"0"));
                let note = Some("a task is held up in the kernel and does not stop; all of them run again".to_owned());
                let (step, errno) = (STEP.to_owned(), Errno::TIMEDOUT.raw_os_error());
                Err(Error::Setup { step, path: Some(self.path), errno, note })
            }
            Err(_) => Err(Error::State("the container has ended".to_owned())),
        }
    }
}

impl Groups {
    pub fn stop(&self) -> Result<Stopping> {
        let directory = self.unified().map_err(|missing| Error::unsupported(STEP, missing.cause, missing.fix))?;
        let failed = |errno: Errno| match errno {
            Errno::NOENT => Error::unsupported(STEP, "this kernel has no cgroup.freeze", "Linux 5.2 or later"),
            errno => directory.write_error("cgroup.freeze", "1", errno, None),
        };
        let freeze = directory.file("cgroup.freeze", OFlags::WRONLY).map_err(failed)?;
        let events = directory.file("cgroup.events", OFlags::RDONLY).map_err(failed)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&freeze, b"1")).map_err(failed)?;
        Ok(Stopping { freeze, events, path: directory.path.clone() })
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        let directory = self.unified().map_err(|missing| Error::unsupported("resume", missing.cause, missing.fix))?;
        let written = directory.write("cgroup.freeze", "0");
        written.map_err(|errno| directory.write_error("cgroup.freeze", "0", errno, None))
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
        let events = directory.file("cgroup.events", OFlags::RDONLY).ok()?;
        settled(&events, patience).ok()?.then_some(still)
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

/// Whether all tasks have stopped in time: "frozen 1" in cgroup.events, whose changes are events. An error where the group is gone.
fn settled(events: &OwnedFd, patience: Duration) -> std::result::Result<bool, Errno> {
    let deadline = Instant::now() + patience;
    loop {
        let mut text = [0u8; 128];
        let length = rustix::io::pread(events, &mut text, 0)?;
        if parse::keyed(&String::from_utf8_lossy(&text[..length]), "frozen") == Some(1) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos() as _ };
        let _ = poll(&mut [PollFd::new(events, PollFlags::PRI)], Some(&left));
    }
}
