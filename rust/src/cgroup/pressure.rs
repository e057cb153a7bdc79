//! Descriptors that become ready when a container is short of something: pressure stall triggers, and the OOM killer. Nothing waits here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::files::Directory;
use super::{Controller, Groups, Version, parse};
use crate::error::{Error, Result};

/// WINDOW_MIN_US and WINDOW_MAX_US of kernel/sched/psi.c.
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);
/// What a caller without CAP_SYS_RESOURCE may ask for is averaged in such steps (PSI_FREQ there).
const STEP: Duration = Duration::from_secs(2);
const WHAT: &str = "pressure";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
    Io,
}

impl Resource {
    pub fn parse(name: &str) -> Option<Resource> {
        match name {
            "cpu" => Some(Resource::Cpu),
            "memory" => Some(Resource::Memory),
            "io" => Some(Resource::Io),
            _ => None,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu.pressure",
            Resource::Memory => "memory.pressure",
            Resource::Io => "io.pressure",
        }
    }
}

/// Ready when an OOM killer took a process of the container, or (version 1) when one was about to.
#[derive(Debug)]
pub struct OomWatch {
    event: OwnedFd,
    counter: OwnedFd,
    version: Version,
}

impl OomWatch {
    /// What poll has to ask for.
    pub fn events(&self) -> PollFlags {
        if self.version == Version::V1 { PollFlags::IN } else { PollFlags::PRI }
    }

    /// Processes taken so far; not ready any more until the next one.
    pub fn kills(&self) -> Option<u64> {
        if self.version == Version::V1 {
            let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
        }
        let mut text = [0u8; 512];
        let length = rustix::io::pread(&self.counter, &mut text, 0).ok()?;
        parse::keyed(&String::from_utf8_lossy(&text[..length]), "oom_kill")
    }
}

impl OomWatch {
    /// The one to poll, and on version 1 another one that counts.
    pub fn into_parts(self) -> (OwnedFd, Option<OwnedFd>) {
        if self.version == Version::V1 { (self.event, Some(self.counter)) } else { (self.counter, None) }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.version == Version::V1 { self.event.as_fd() } else { self.counter.as_fd() }
    }
}

impl Groups {
    /// Stalled seconds so far, in the order of `Counters::pressure`.
    pub(super) fn pressure(&self) -> Option<[f64; 5]> {
        self.counted(Controller::Unified).and_then(|(_, directory)| stalled(directory))
    }

    /// Ready (POLLPRI) once in each window in which tasks (`full`: all of them at a time) were stalled for `stall` in all.
    pub fn pressure_trigger(&self, of: Resource, full: bool, stall: Duration, window: Duration) -> Result<OwnedFd> {
        if !WINDOWS.contains(&window) || stall.is_zero() || stall > window {
            let text =
                "pressure: a window has 0.5 to 10 seconds, and a stall at least a microsecond and at most the window";
            return Err(Error::Value(text.to_owned()));
        }
        let directory = self.unified().map_err(|missing| Error::unsupported(WHAT, missing.cause, missing.fix))?;
        let file = directory.file(of.file(), OFlags::RDWR | OFlags::NONBLOCK);
        let file = file.map_err(|errno| refused(directory, of, errno, window))?;
        let kind = if full { "full" } else { "some" };
        // The kernel takes the closing zero for the end.
        let order = format!("{kind} {} {}\0", stall.as_micros(), window.as_micros());
        match rustix::io::retry_on_intr(|| rustix::io::write(&file, order.as_bytes())) {
            Ok(_) => Ok(file),
            Err(errno) => Err(refused(directory, of, errno, window)),
        }
    }

    /// None where no group counts what an OOM killer takes.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        let Some((version, directory)) = self.counted(Controller::Memory) else { return Ok(None) };
        let file = if version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        let failed =
            |errno: Errno| Error::setup_at("watch", format!("{}/{file}", directory.path), errno.raw_os_error());
        let counter = match directory.file(file, OFlags::RDONLY) {
            Err(Errno::NOENT) => return Ok(None),
            counter => counter.map_err(failed)?,
        };
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(|errno| Error::from(("eventfd", errno)))?;
        if version == Version::V1 {
            let order = format!("{} {}", event.as_raw_fd(), counter.as_raw_fd());
            directory.write("cgroup.event_control", &order).map_err(failed)?;
        }
        let watch = OomWatch { event, counter, version };
        // A file of kernfs is ready until it has been read once.
        watch.kills();
        Ok(Some(watch))
    }
}

pub(super) fn stalled(directory: &Directory) -> Option<[f64; 5]> {
    let [cpu, memory, io] = ["cpu.pressure", "memory.pressure", "io.pressure"].map(|file| directory.read(file));
    let (cpu, memory, io) = (cpu?, memory?, io?);
    let total = |text: &str, kind| parse::stalled(text, kind);
    Some([
        total(&cpu, "some")?,
        total(&memory, "some")?,
        total(&memory, "full")?,
        total(&io, "some")?,
        total(&io, "full")?,
    ])
}

fn refused(directory: &Directory, of: Resource, errno: Errno, window: Duration) -> Error {
    let uneven = !window.as_micros().is_multiple_of(STEP.as_micros());
    let (cause, fix) = match errno {
        Errno::NOENT => ("this kernel keeps no pressure", "a kernel with CONFIG_PSI, booted without psi=0"),
        Errno::OPNOTSUPP => {
            ("pressure is turned off here", "boot with psi=1; 1 in cgroup.pressure of the groups above")
        }
        Errno::PERM | Errno::ACCESS => (
            "before Linux 6.5 only CAP_SYS_RESOURCE may set a trigger",
            "CAP_SYS_RESOURCE, or Linux 6.5 with a window of 2, 4, 6, 8 or 10 seconds",
        ),
        Errno::INVAL if uneven => (
            "without CAP_SYS_RESOURCE the kernel takes windows of 2, 4, 6, 8 and 10 seconds only",
            "such a window, or CAP_SYS_RESOURCE",
        ),
        errno => {
            let path = format!("{}/{}", directory.path, of.file());
            return Error::setup_at("set a pressure trigger on", path, errno.raw_os_error());
        }
    };
    Error::unsupported(WHAT, cause, fix)
}
