//! The groups of one container: made with their limits, opened for the keeper, removed. Never moves a process and never kills one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::files::Directory;
use super::plan::{self, Missing, Write};
use super::tree::{Place, Tree};
use super::{Controller, Guarantee, Limits, State, Version};
use crate::error::{Error, Result};

/// How long a group may stay busy after its last process was reaped: its tasks leave it a little later.
const PATIENCE: Duration = Duration::from_millis(500);

/// Groups in a group, how deep they are looked for. Nothing of ours lets a container make any.
const DEPTH: usize = 64;

/// Holds the directories open. Dropping it removes nothing, as a forked copy of the host must not.
#[derive(Debug)]
pub struct Groups {
    pub(super) tree: Arc<Tree>,
    pub(super) name: String,
    pub(super) members: Vec<Member>,
    pub(super) rows: Vec<Guarantee>,
    pub(super) writes: Vec<Write>,
    pub(super) oom_event: bool,
    /// Bytes that its processes held when its memory group was made, late: the group does not count them.
    pub(super) uncharged: u64,
    killed_as_one: Option<&'static str>,
}

/// The groups of one container before any is there.
#[derive(Debug)]
pub struct Unmade<'a> {
    groups: Groups,
    limits: &'a Limits,
    needed: Vec<Controller>,
}

impl Unmade<'_> {
    /// Whether there are any, each of version 1: those are joined from inside, late, and may be made while that goes on.
    pub fn joined_late(&self) -> bool {
        let version =
            |controller: &Controller| self.groups.tree.seats[*controller as usize].at().map(|(_, version)| version);
        let mut versions = self.needed.iter().filter_map(version).peekable();
        versions.peek().is_some() && versions.all(|version| version == Version::V1)
    }

    /// After an error nothing is left.
    pub fn make(self) -> Result<Groups> {
        let Unmade { mut groups, limits, needed } = self;
        let made = needed.into_iter().try_for_each(|controller| groups.join(controller));
        groups.count(limits.watched);
        match made.and_then(|()| groups.write(limits)) {
            Ok(()) => Ok(groups),
            Err(error) => {
                let _ = groups.remove();
                Err(error)
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) hierarchy: usize,
    pub(super) directory: Directory,
    /// Version 1: cgroup.procs. The kernel checks the opener's rights (5.16), so the keeper can use it with fewer.
    procs: Option<OwnedFd>,
}

impl Member {
    /// A group that is only looked at.
    pub(super) fn seen(hierarchy: usize, directory: Directory) -> Member {
        Member { hierarchy, directory, procs: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuFormat {
    /// The line "usage_usec N" of a cpu.stat: microseconds.
    StatUsec,
    /// The whole file is one number: nanoseconds.
    UsageNsec,
}

/// A file from which the tree's processor time can be read again and again, at offset 0.
#[derive(Debug)]
pub struct CpuClock {
    pub fd: OwnedFd,
    pub format: CpuFormat,
}

impl Groups {
    /// What `limits` needs, possibly nothing (`is_empty`). Nothing is made yet; what this machine cannot hold is refused.
    pub fn plan<'a>(place: &Place, name: &str, limits: &'a Limits) -> Result<Unmade<'a>> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\n', '\0']) {
            return Err(Error::Value(format!("{name:?} cannot name a group")));
        }
        let tree = &place.tree;
        let draft = plan::plan(&tree.seats, &tree.machine, limits)?;
        let (members, rows, oom_event) = (Vec::new(), draft.rows, draft.oom_event);
        let (tree, name, writes) = (Arc::clone(tree), name.to_owned(), draft.writes);
        let killed_as_one = limits.killed_as_one;
        let groups = Groups { tree, name, members, rows, writes, oom_event, uncharged: 0, killed_as_one };
        Ok(Unmade { groups, limits, needed: draft.needed.into_iter().collect() })
    }

    /// What somebody else has made, to be read.
    pub(super) fn of(tree: Arc<Tree>, members: Vec<Member>, uncharged: u64) -> Groups {
        let (name, rows, writes) = (String::new(), Vec::new(), Vec::new());
        Groups { tree, name, members, rows, writes, oom_event: false, uncharged, killed_as_one: None }
    }

    /// Bytes that its memory group does not count.
    pub fn uncharged(&self) -> u64 {
        self.uncharged
    }

    /// Both steps at once. After an error nothing is left.
    pub fn create(place: &Place, name: &str, limits: &Limits) -> Result<Groups> {
        Groups::plan(place, name, limits)?.make()
    }

    /// Whether a version 1 group is among them: clone3 places nobody there, so the process itself joins.
    pub fn has_v1(&self) -> bool {
        self.members.iter().any(|member| member.procs.is_some())
    }

    /// cgroup.procs of the parent of the first version 1 group; None where there is no such group.
    pub fn attached_beside(&self) -> Option<OwnedFd> {
        let member = self.members.iter().find(|member| member.procs.is_some())?;
        self.tree.hierarchies[member.hierarchy].parent.file("cgroup.procs", OFlags::WRONLY).ok()
    }

    /// The group's directory in the hierarchy of this controller, made unless it is there.
    pub(super) fn join(&mut self, controller: Controller) -> Result<()> {
        let Some((hierarchy, version)) = self.tree.seats[controller as usize].at() else {
            return Ok(());
        };
        if self.members.iter().any(|member| member.hierarchy == hierarchy) {
            return Ok(());
        }
        let parent = &self.tree.hierarchies[hierarchy].parent;
        let path = || format!("{}/{}", parent.path, self.name);
        let directory = parent.make(&self.name);
        let directory = directory.map_err(|errno| Error::setup_at("make the group", path(), errno.raw_os_error()))?;
        self.members.push(Member { hierarchy, directory, procs: None });
        if version == Version::V1 {
            self.open_procs()?;
        }
        Ok(())
    }

    fn open_procs(&mut self) -> Result<()> {
        let Some(member) = self.members.last_mut() else {
            return Ok(());
        };
        let opened = member.directory.file("cgroup.procs", OFlags::WRONLY);
        let path = || format!("{}/cgroup.procs", member.directory.path);
        member.procs = Some(opened.map_err(|errno| Error::setup_at("open", path(), errno.raw_os_error()))?);
        Ok(())
    }

    /// Turned on for all groups in that place, once for an engine.
    fn count(&self, watched: bool) {
        for controller in [Controller::Memory, Controller::Pids, Controller::Io].into_iter().filter(|_| watched) {
            if let Some((hierarchy, _)) = self.seat(controller) {
                let _ = self.tree.hierarchies[hierarchy].enable(controller);
            }
        }
    }

    fn write(&mut self, limits: &Limits) -> Result<()> {
        let said = |limit: &str, names: &[String]| names.iter().any(|name| name == limit);
        for index in 0..self.writes.len() {
            let limit = self.writes[index].limit;
            if !said(limit, &limits.unwritten)
                && let Err(missing) = self.put(&self.writes[index])?
            {
                self.lack(limit, missing, &limits.degrade)?;
            }
        }
        Ok(())
    }

    /// The outer error is a failure, the inner one a machine that cannot hold the limit.
    pub(super) fn put(&self, write: &Write) -> Result<std::result::Result<(), Missing>> {
        let Some((hierarchy, directory)) = self.seat(write.controller) else {
            return Ok(Ok(()));
        };
        if let Err((path, errno)) = self.tree.hierarchies[hierarchy].enable(write.controller) {
            return Ok(Err(not_enabled(write.controller, &path, errno)));
        }
        match directory.write(write.file, &write.value) {
            Ok(()) => Ok(Ok(())),
            Err(Errno::NOENT) if write.optional => Ok(Ok(())),
            Err(Errno::NOENT) => {
                Ok(Err(Missing::new(format!("this kernel has no {}", write.file), "a kernel that has it")))
            }
            Err(errno) => Err(directory.write_error(write.file, &write.value, errno, note(write.file, errno))),
        }
    }

    pub(super) fn lack(&mut self, limit: &'static str, missing: Missing, degrade: &[String]) -> Result<()> {
        if !degrade.iter().any(|name| name == limit) {
            return Err(Error::unsupported(limit, missing.cause, missing.fix));
        }
        for row in self.rows.iter_mut().filter(|row| row.name == limit) {
            (row.state, row.by) = (State::Missing, String::new());
            (row.why, row.fix) = (missing.cause.clone(), missing.fix.clone());
        }
        Ok(())
    }

    pub(super) fn seat(&self, controller: Controller) -> Option<(usize, &Directory)> {
        let (hierarchy, _) = self.tree.seats[controller as usize].at()?;
        let member = self.members.iter().find(|member| member.hierarchy == hierarchy)?;
        Some((hierarchy, &member.directory))
    }

    /// The group in which this controller counts, if there is one.
    pub(super) fn counted(&self, controller: Controller) -> Option<(Version, &Directory)> {
        let (_, version) = self.tree.seats[controller as usize].at()?;
        self.seat(controller).map(|(_, directory)| (version, directory))
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// One row per limit that was asked for, and for oom_group where it is on by itself.
    pub fn held(&self) -> &[Guarantee] {
        &self.rows
    }

    /// For CLONE_INTO_CGROUP.
    pub fn into_cgroup(&self) -> Option<BorrowedFd<'_>> {
        self.counted(Controller::Unified).map(|(_, directory)| directory.as_fd())
    }

    /// cgroup.procs of each version 1 group, open for writing.
    pub fn procs(&self) -> Vec<BorrowedFd<'_>> {
        self.members.iter().filter_map(|member| member.procs.as_ref()).map(AsFd::as_fd).collect()
    }

    /// Bit i: there is a directory of this name in the i-th of `Place::parents`.
    pub fn mask(&self) -> u32 {
        self.members.iter().fold(0, |mask, member| mask | 1 << member.hierarchy)
    }

    pub fn paths(&self) -> Vec<String> {
        self.members.iter().map(|member| member.directory.path.clone()).collect()
    }

    /// Version 1 with oom_group: an event that becomes readable when the memory limit has no more to give (the keeper then kills all), and
    /// memory.oom_control, which counts the processes of this very group that an OOM killer took.
    pub fn oom_event(&self) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let Some((Version::V1, directory)) = self.counted(Controller::Memory).filter(|_| self.oom_event) else {
            return Ok(None);
        };
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(|errno| Error::from(("eventfd", errno)))?;
        let control = directory.file("memory.oom_control", OFlags::RDONLY);
        let failed = |errno: Errno| {
            let path = format!("{}/memory.oom_control", directory.path);
            Error::setup_at("register an event on", path, errno.raw_os_error())
        };
        let control = control.map_err(failed)?;
        let order = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        directory.write("cgroup.event_control", &order).map_err(failed)?;
        Ok(Some((event, control)))
    }

    pub fn cpu_clock(&self) -> Option<CpuClock> {
        let open = |controller, file, format| {
            let (_, directory) = self.counted(controller)?;
            Some(CpuClock { fd: directory.file(file, OFlags::RDONLY).ok()?, format })
        };
        open(Controller::Unified, "cpu.stat", CpuFormat::StatUsec)
            .or_else(|| open(Controller::Cpuacct, "cpuacct.usage", CpuFormat::UsageNsec))
    }

    /// cgroup.kill (Linux 5.14), open for writing; None where nothing needs it and there is none.
    pub fn kill_file(&self) -> Result<Option<OwnedFd>> {
        let Some((_, directory)) = self.counted(Controller::Unified) else {
            return Ok(None);
        };
        match (directory.file("cgroup.kill", OFlags::WRONLY), self.killed_as_one) {
            (Ok(file), _) => Ok(Some(file)),
            (Err(Errno::NOENT), None) => Ok(None),
            (Err(Errno::NOENT), Some(what)) => {
                Err(plan::not_killed(what, &Missing::new("this kernel has no such file", "Linux 5.14 or later")))
            }
            (Err(errno), _) => {
                Err(Error::setup_at("open", format!("{}/cgroup.kill", directory.path), errno.raw_os_error()))
            }
        }
    }

    /// As if this process had ended.
    #[cfg(test)]
    pub(super) fn unlock(&self) {
        self.members.iter().for_each(|member| crate::locked::forsake(member.directory.as_fd()));
    }

    /// Removes every group; the first error is told after all have been tried. Their processes must be gone.
    pub fn remove(self) -> Result<()> {
        let mut result = Ok(());
        for member in self.members.iter().rev() {
            let parent = &self.tree.hierarchies[member.hierarchy].parent;
            if let Err(errno) = remove(parent, &self.name) {
                let error = Error::setup_at("remove the group", member.directory.path.clone(), errno.raw_os_error());
                result = result.and(Err(error));
            }
        }
        result
    }
}

/// Removes one group and what is in it, and waits a little for it to become idle.
pub(super) fn remove(parent: &Directory, name: &str) -> std::result::Result<(), Errno> {
    let (begin, mut pause) = (Instant::now(), Duration::from_micros(100));
    loop {
        match parent.remove(name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if begin.elapsed() < PATIENCE => {}
            Err(errno) => return Err(errno),
        }
        if let Ok(directory) = parent.child(name) {
            clear(&directory, DEPTH);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn clear(directory: &Directory, depth: usize) {
    for name in directory.children() {
        if directory.remove(&name) == Err(Errno::BUSY)
            && depth > 0
            && let Ok(child) = directory.child(&name)
        {
            clear(&child, depth - 1);
            let _ = directory.remove(&name);
        }
    }
}

fn not_enabled(controller: Controller, path: &str, errno: Errno) -> Missing {
    let name = controller.title();
    match errno {
        Errno::BUSY => Missing::new(
            format!("{path} has processes of its own, so it cannot give {name} to groups in it"),
            super::delegation::cure(rustix::process::geteuid().is_root()),
        ),
        errno => Missing::new(
            format!("{name} cannot be turned on in {path}/cgroup.subtree_control: {}", std::io::Error::from(errno)),
            super::delegation::cure(rustix::process::geteuid().is_root()),
        ),
    }
}

/// What a failed write usually means.
fn note(file: &str, errno: Errno) -> Option<String> {
    let note = match (file, errno) {
        ("cpu.cfs_quota_us", Errno::INVAL) => "a group above has a smaller quota",
        ("cpuset.cpus" | "cpuset.mems", Errno::INVAL | Errno::ACCESS) => {
            "a group above does not have all of these, or another has them alone"
        }
        ("io.max", Errno::NODEV | Errno::NXIO) => "there is no such disk; a partition cannot be limited, only its disk",
        (file, Errno::NODEV | Errno::NXIO) if file.starts_with("blkio.") => {
            "there is no such disk; a partition cannot be limited, only its disk"
        }
        _ => return None,
    };
    Some(note.to_owned())
}
