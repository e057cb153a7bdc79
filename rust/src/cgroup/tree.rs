//! Which hierarchies this machine has, and where in each our groups go. Changes nothing but, as root on cgroup v2, one empty group.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::delegation::{self, Found, Unified};
use super::files::Directory;
use super::parse::{self, Membership, Mount};
use super::plan::{Machine, Missing, Seat};
use super::{Controller, Version};

/// Where the groups of an engine go. Found once; what is missing is remembered with its cause and cure.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) tree: Arc<Tree>,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) hierarchies: Vec<Hierarchy>,
    /// Indexed as `Controller::ALL`.
    pub(super) seats: Vec<Seat>,
    pub(super) machine: Machine,
}

#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    pub(super) parent: Directory,
    /// Version 2: the group above the parent, where controllers are turned on first.
    above: Option<Directory>,
    /// Version 2: controllers known to be on, as bits.
    enabled: AtomicU32,
}

impl Hierarchy {
    fn new(version: Version, parent: Directory, above: Option<Directory>) -> Hierarchy {
        Hierarchy { version, parent, above, enabled: AtomicU32::new(0) }
    }

    /// Lets groups under the parent have this controller; the error says in which directory that failed.
    pub(super) fn enable(&self, controller: Controller) -> Result<(), (String, Errno)> {
        let bit = 1 << controller as u32;
        let Some(name) = controller.v2_name().filter(|_| self.version == Version::V2) else {
            return Ok(());
        };
        if self.enabled.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        for directory in self.above.iter().chain([&self.parent]) {
            let on = directory.read("cgroup.subtree_control").unwrap_or_default();
            if !on.split_ascii_whitespace().any(|word| word == name) {
                let written = directory.write("cgroup.subtree_control", &format!("+{name}"));
                written.map_err(|errno| (directory.path.clone(), errno))?;
            }
        }
        self.enabled.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }
}

impl Tree {
    /// As another process has found it.
    pub(super) fn of(seats: Vec<Seat>) -> Tree {
        Tree { hierarchies: Vec::new(), seats, machine: Machine::default() }
    }
}

impl Place {
    /// Never fails. `root`: this program may make groups that nobody delegated to it.
    pub fn discover(root: bool) -> Place {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mounts = parse::mounts(&read("/proc/self/mountinfo"));
        let own = parse::memberships(&read("/proc/self/cgroup"));
        let wanted = std::env::var("PYCONTAINER_CGROUP").ok().filter(|path| !path.is_empty());
        let mut survey = Survey { mounts, own, root, hierarchies: Vec::new(), seats: Vec::new() };
        survey.all(wanted.as_deref());
        let machine = machine(&survey);
        Place { tree: Arc::new(Tree { hierarchies: survey.hierarchies, seats: survey.seats, machine }) }
    }

    /// How many processors can run at one time.
    pub fn processors(&self) -> u32 {
        self.tree.machine.online.len().max(1) as u32
    }

    /// There is a place for groups of the pids controller.
    pub fn has_pids(&self) -> bool {
        self.tree.seats[Controller::Pids as usize].at().is_some()
    }

    /// The directories in which groups are made; the index is the bit in `Groups::mask`.
    pub fn parents(&self) -> Vec<BorrowedFd<'_>> {
        self.tree.hierarchies.iter().map(|h| h.parent.as_fd()).collect()
    }
}

/// A discovery while it goes on.
struct Survey {
    mounts: Vec<Mount>,
    own: Vec<Membership>,
    root: bool,
    hierarchies: Vec<Hierarchy>,
    seats: Vec<Seat>,
}

impl Survey {
    fn all(&mut self, wanted: Option<&str>) {
        let unified = self.unified(wanted);
        // Version 1 first: which hierarchy a membership already became, by its index in `own`.
        let mut seen: Vec<(usize, Seat)> = Vec::new();
        let mut seats: Vec<Option<Seat>> = Vec::new();
        for controller in Controller::ALL {
            let line = self
                .own
                .iter()
                .position(|own| controller.v1_name().is_some_and(|n| own.controllers.iter().any(|c| c == n)));
            seats.push(line.map(|line| self.v1(line, &mut seen)));
        }
        let found = unified.map(|found| self.adopt(found));
        let v2 = |controller| v2_seat(controller, &found);
        self.seats = Controller::ALL.into_iter().zip(seats).map(|(c, seat)| seat.unwrap_or_else(|| v2(c))).collect();
    }

    fn unified(&self, wanted: Option<&str>) -> Result<Found, Missing> {
        let mount = self.mounts.iter().rfind(|mount| mount.version == Version::V2);
        let own = self.own.iter().find(|own| own.controllers.is_empty());
        match (mount, own) {
            (Some(mount), Some(own)) => delegation::find(&Unified { mount, own: &own.path, root: self.root }, wanted),
            (None, Some(_)) => {
                Err(Missing::new("no cgroup2 file system is mounted here", "mount -t cgroup2 none /sys/fs/cgroup"))
            }
            _ => {
                Err(Missing::new("/proc/self/cgroup names no cgroup2 group", "Linux 5.7 or later, with /proc mounted"))
            }
        }
    }

    fn adopt(&mut self, found: Found) -> (usize, Vec<Controller>, String, Missing) {
        self.hierarchies.push(Hierarchy::new(Version::V2, found.parent, found.above));
        (self.hierarchies.len() - 1, found.controllers, found.remark, found.missing)
    }

    /// The seat of the hierarchy in line `line` of /proc/self/cgroup; controllers mounted together share it.
    fn v1(&mut self, line: usize, seen: &mut Vec<(usize, Seat)>) -> Seat {
        if let Some((_, seat)) = seen.iter().find(|(index, _)| *index == line) {
            return seat.clone();
        }
        let seat = match self.v1_parent(&self.own[line]) {
            Ok(parent) => {
                self.hierarchies.push(Hierarchy::new(Version::V1, parent, None));
                Seat::At { hierarchy: self.hierarchies.len() - 1, version: Version::V1, remark: String::new() }
            }
            Err(missing) => Seat::Missing(missing),
        };
        seen.push((line, seat.clone()));
        seat
    }

    fn v1_parent(&self, own: &Membership) -> Result<Directory, Missing> {
        let name = own.controllers.join(",");
        let shows =
            |mount: &&Mount| mount.version == Version::V1 && own.controllers.iter().all(|c| mount.options.contains(c));
        let fix = || format!("mount -t cgroup -o {name} none /sys/fs/cgroup/{name}");
        let mut missing = Missing::new(format!("the cgroup v1 hierarchy {name} is not mounted here"), fix());
        for mount in self.mounts.iter().filter(shows) {
            let Some(below) = parse::below(&mount.root, &own.path) else {
                missing =
                    Missing::new(format!("{} does not show the program's group {}", mount.point, own.path), fix());
                continue;
            };
            let path = format!("{}/{below}", mount.point);
            let opened = Directory::open(&path, Version::V1).and_then(|parent| parent.writable().map(|()| parent));
            match opened {
                Ok(parent) => return Ok(parent),
                Err(errno) => missing = delegation::boot(delegation::refusal(path.trim_end_matches('/'), errno, false)),
            }
        }
        Err(missing)
    }
}

fn v2_seat(controller: Controller, found: &Result<(usize, Vec<Controller>, String, Missing), Missing>) -> Seat {
    match found {
        Err(missing) => Seat::Missing(missing.clone()),
        Ok((hierarchy, given, remark, _)) if controller == Controller::Unified || given.contains(&controller) => {
            Seat::At { hierarchy: *hierarchy, version: Version::V2, remark: remark.clone() }
        }
        Ok((.., missing)) => {
            Seat::Missing(Missing { cause: format!("{}: {}", controller.title(), missing.cause), ..missing.clone() })
        }
    }
}

fn machine(survey: &Survey) -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let online = parse::cpu_list(&read("/sys/devices/system/cpu/online")).unwrap_or_default();
    let parent =
        |c: Controller| survey.seats[c as usize].at().map(|(hierarchy, _)| &survey.hierarchies[hierarchy].parent);
    let cpuset =
        |names: [&str; 3]| names.iter().find_map(|name| parent(Controller::Cpuset)?.read(name)).unwrap_or_default();
    let allowed =
        parse::cpu_list(&cpuset(["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"])).unwrap_or_default();
    let nodes = cpuset(["cpuset.mems.effective", "cpuset.effective_mems", "cpuset.mems"]).trim().to_owned();
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let memsw = parent(Controller::Memory).is_some_and(|p| p.read("memory.memsw.limit_in_bytes").is_some());
    Machine {
        allowed: if allowed.is_empty() { online.clone() } else { allowed },
        online,
        nodes,
        memory: memory.map_or(u64::MAX, |kib: u64| kib << 10),
        swap: read("/proc/swaps").lines().count() > 1,
        memsw,
        disks: disks(),
    }
}

/// The disks that are hardware and not a drive with a medium, and whether bfq, which alone reads a group's weight, schedules them.
fn disks() -> Vec<(String, bool)> {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    let fixed = |entry: &std::fs::DirEntry| {
        let removable = std::fs::read_to_string(entry.path().join("removable"));
        entry.path().join("device").exists() && removable.is_ok_and(|text| text.trim() == "0")
    };
    let hardware = entries.filter(fixed);
    let disk = |entry: std::fs::DirEntry| {
        let scheduler = std::fs::read_to_string(entry.path().join("queue/scheduler")).unwrap_or_default();
        (entry.file_name().to_string_lossy().into_owned(), scheduler.contains("[bfq]"))
    };
    hardware.map(disk).collect()
}
