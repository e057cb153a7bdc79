//! The root file system of one container, described: which mounts, in which order, on what. Pure; the kernel's part is elsewhere.

use super::list::{Inside, Outside, Source, View};
use super::wanted::{MountKind, Space, Wanted};
use crate::sys::constants::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, S_IFCHR};
use crate::wire::{Slot, Write, create, idmap, inside};

pub const DEFAULT_UPPER: u64 = 256 << 20;
const SHM: u64 = 64 << 20;
const SAFE: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What the engine and this kernel are.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub rootless: bool,
    /// A user namespace with one id only: no other users.
    pub one_id: bool,
    /// Group 5, that of terminals, is mapped.
    pub tty_group: bool,
    /// Groups 0 to this one can be said to the kernel: docker's 2147483647 is EINVAL where it is not mapped (K31).
    pub last_to_ping: u32,
    pub user_namespace: bool,
    /// Detached mounts can be layers, and can be cloned again (6.15); and other containers see the same ids in them.
    pub cached_layers: bool,
    /// Pure cgroup v2: shown read-only inside. v1 hierarchies never are (release_agent, CVE-2022-0492).
    pub unified_only: bool,
    /// /sys/devices/system/cpu/cpuN/thermal_throttle of this machine.
    pub throttles: Vec<String>,
}

/// What was looked up on the host for this plan.
#[derive(Debug, Clone)]
pub struct Sources {
    pub root: RootSource,
    /// One per mount of the spec.
    pub mounts: Vec<Found>,
    /// (name below /dev, mode, major, minor, the host's node).
    pub devices: Vec<(String, u32, u32, u32, Source)>,
    /// The host's nodes of `DEVICES`, where device nodes cannot be made.
    pub nodes: Vec<Source>,
    /// /proc, /sys and /dev/mqueue of the host, where its namespaces are shared.
    pub shared: Vec<(&'static str, Source)>,
    /// Offset and length of each file's content, and its mode.
    pub files: Vec<(u64, u64, u32)>,
    pub upper: Upper,
    /// The root is a copy of its one layer, which lies in the directory of the writable one.
    pub copy: Option<Copy>,
    /// The root's layers have the container's owners as they are.
    pub shifted: bool,
    /// The program that shows the root, over one tree and the writable layer.
    pub served: Option<String>,
    /// Files of the copy that the keeper has to fill: a plain user may not read them, and is root there.
    pub unread: Vec<Vec<u8>>,
}

/// What a mount of the spec stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: a tmpfs.
    Nothing,
    One(Source),
    /// Layers of an image, the lowest first, which an overlay shows.
    Layers(Vec<Source>),
    /// An image in one tree; with the container's owners as it is, or to be seen with those.
    Tree {
        source: Source,
        shifted: bool,
    },
}

/// A root that no overlay shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// What it was copied from can be seen with the container's owners.
    pub mapped: bool,
    /// It is made as a snapshot of a subvolume.
    pub snapshot: bool,
}

/// Where the writable layer lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// In a tmpfs of this many bytes; 0 leaves it to the kernel.
    Memory(u64),
    /// In a directory that has `upper` and `work`.
    Directory(Vec<u8>),
    /// In an empty file system whose descriptor travels with the plan as `LAYER_UPPER`.
    Passed,
}

/// The numbers of layers that travel as descriptors: the skeleton of `Image.host()`, the writable layer's file system.
pub const LAYER_SKELETON: u8 = 0;
pub const LAYER_UPPER: u8 = 1;

#[derive(Debug, Clone)]
pub enum RootSource {
    Directory(Source),
    /// Layers of an image, the lowest first.
    Layers(Vec<Source>),
    /// None of its own: what the mount namespace shows that it shares.
    View,
    /// Trees of this machine over a skeleton whose descriptor travels with the plan as `LAYER_SKELETON`: read-only and with their owners
    /// as they are, or below a writable layer and with the owners mapped. Outer ones come first.
    Host {
        trees: Vec<Source>,
        writable: bool,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    pub outside: Vec<u8>,
    pub inside: Vec<u8>,
    pub outside_labels: Vec<String>,
    pub inside_labels: Vec<String>,
    /// Mounts that the keeper makes.
    pub slots: usize,
}

pub fn describe(spec: Wanted<'_>, facts: &Facts, sources: &Sources) -> Layout {
    let mut build = Build { spec, facts, sources, outside: Outside::default(), inside: Inside::default() };
    build.begin();
    if let RootSource::View = &sources.root {
        build.inside.step(inside::VIEW, "enter the mount namespace");
        build.settings();
    } else {
        build.container();
    }
    build.groups(Moment::Last);
    let slots = build.outside.slots;
    let (outside, outside_labels) = build.outside.finish();
    let (inside, inside_labels) = build.inside.finish();
    Layout { outside, inside, outside_labels, inside_labels, slots }
}

impl Upper {
    pub fn is_on_disk(&self) -> bool {
        !matches!(self, Upper::Memory(_))
    }
}

/// When PID 1 joins its control groups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    First,
    BeforeFiles,
    Last,
}

pub(super) struct Build<'a> {
    pub(super) spec: Wanted<'a>,
    pub(super) facts: &'a Facts,
    pub(super) sources: &'a Sources,
    pub(super) outside: Outside,
    pub(super) inside: Inside,
}

impl Build<'_> {
    /// Layers show the container's ids where the keeper may say so; a plain user's own files are root's inside anyway.
    pub(super) fn range(&self) -> u8 {
        if self.facts.rootless || !self.facts.user_namespace { idmap::NONE } else { idmap::RANGE }
    }

    fn container(&mut self) {
        let upper = self.upper();
        let root = self.root(upper);
        self.inside.root(root);
        self.kernel_file_systems();
        self.devices();
        if let RootSource::Host { trees, writable } = &self.sources.root {
            self.trees(trees, writable.then_some(upper));
        }
        self.mounts();
        self.groups(Moment::BeforeFiles);
        self.provided();
        self.files();
        self.settings();
        self.walls();
    }

    fn begin(&mut self) {
        self.inside.step(inside::KEYRING, "join a session keyring");
        self.groups(Moment::First);
    }

    /// Where nothing speaks against it the groups are joined last: joining one of version 1 waits for a grace period of RCU, which
    /// passes while the root is set up. What is written into the writable layer is charged to the container, so files come after.
    fn groups(&mut self, now: Moment) {
        let moment = match () {
            () if self.facts.unified_only => Moment::First, // clone3 has joined it, and cgroup2 shows this namespace's root
            () if !self.spec.files.is_empty() => Moment::BeforeFiles,
            () => Moment::Last,
        };
        if now != moment {
            return;
        }
        self.inside.step(inside::JOIN_CGROUPS, "join the control groups");
        if self.spec.spaces.cgroup == Space::New {
            self.inside.step(inside::CGROUP_NAMESPACE, "unshare the cgroup namespace");
        }
    }

    fn shared(&mut self, path: &str) -> bool {
        let Some((_, source)) = self.sources.shared.iter().find(|(name, _)| *name == path) else { return false };
        let slot = self.outside.tree(source, View::PLAIN);
        self.inside.attach_own(slot, path);
        true
    }

    fn kernel_file_systems(&mut self) {
        if !self.shared("/proc") {
            self.inside.step(inside::PROC, "mount proc on /proc");
        }
        if !self.shared("/sys") {
            self.inside.step(inside::SYSFS, "mount sysfs on /sys");
            if self.facts.unified_only && self.spec.spaces.cgroup == Space::New {
                self.inside.step(inside::CGROUP2, "mount cgroup2 on /sys/fs/cgroup");
            }
        }
    }

    fn devices(&mut self) {
        let number = |major, minor| if self.facts.rootless { (0, 0) } else { (major, minor) };
        let standard =
            DEVICES.iter().map(|(name, major, minor)| (name.to_string(), S_IFCHR | 0o666, number(*major, *minor)));
        let asked = self
            .sources
            .devices
            .iter()
            .map(|(name, mode, major, minor, _)| (name.clone(), *mode, number(*major, *minor)));
        let nodes: Vec<_> =
            standard.chain(asked).map(|(name, mode, (major, minor))| (name, mode, major, minor)).collect();
        let dev = self.outside.dev(&nodes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        self.inside.attach_own(dev, "/dev");
        if self.facts.rootless {
            let asked = self.sources.devices.iter().map(|device| &device.4);
            let sources: Vec<&Source> = self.sources.nodes.iter().chain(asked).collect();
            for (source, (name, ..)) in sources.iter().zip(&nodes) {
                let view = View { read_only: false, devices: true, recursive: false, ..View::PLAIN };
                let slot = self.outside.tree(source, view);
                self.inside.attach(
                    slot,
                    &format!("/dev/{name}"),
                    create::NOTHING,
                    format!("bind the device /dev/{name}"),
                );
            }
        }
        let with_group = self.facts.tty_group;
        self.inside.step(inside::DEVPTS, "mount devpts on /dev/pts").put_u8(with_group as u8);
        let shm = self.outside.tmpfs(SHM, 0, 0o1777, SAFE, "/dev/shm");
        self.inside.attach_own(shm, "/dev/shm");
        // Of a namespace that is not ours a mount is refused; a host without the directory has nothing to show.
        if !self.shared("/dev/mqueue") && self.spec.spaces.ipc == Space::New {
            self.inside.step(inside::MQUEUE, "mount mqueue on /dev/mqueue");
        }
    }

    fn mounts(&mut self) {
        let mut order: Vec<usize> = (0..self.spec.mounts.len()).collect();
        order.sort_by_key(|i| self.spec.mounts[*i].target.matches('/').count());
        for index in order {
            let mount = &self.spec.mounts[index];
            let (slot, missing) = match (&mount.kind, &self.sources.mounts[index]) {
                (MountKind::Bind { read_only, owner, .. }, Found::One(source)) => self.bind(source, *read_only, *owner),
                (MountKind::Overlay { .. }, Found::One(source)) => {
                    (self.view(source, &mount.target), create::DIRECTORY)
                }
                (MountKind::Cache { .. }, Found::One(source)) => {
                    let view = View { idmap: self.range(), read_only: false, recursive: false, ..View::PLAIN };
                    (self.outside.tree(source, view), create::DIRECTORY)
                }
                (MountKind::Image(_), Found::Layers(layers)) => (self.image(layers, &mount.target), create::DIRECTORY),
                (MountKind::Image(_), Found::Tree { source, shifted }) => {
                    let idmap = if *shifted { idmap::NONE } else { self.range() };
                    (self.outside.tree(source, View { idmap, recursive: false, ..View::PLAIN }), create::DIRECTORY)
                }
                (MountKind::Tmpfs { size, mode }, _) => {
                    let size = size.unwrap_or(SHM);
                    (
                        self.outside.tmpfs(
                            size,
                            (size / 4096).max(64),
                            *mode,
                            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                            &mount.target,
                        ),
                        create::DIRECTORY,
                    )
                }
                _ => continue,
            };
            self.inside.attach(slot, &mount.target, missing, format!("mount on {}", mount.target));
        }
        if self.spec.read_only {
            self.small_tmpfs();
        }
    }

    /// read_only leaves /tmp and /run writable, in memory, unless something was mounted there.
    fn small_tmpfs(&mut self) {
        for (target, mode) in [("/tmp", 0o1777), ("/run", 0o755)] {
            if !self.spec.mounts.iter().any(|mount| mount.target == target) {
                let slot = self.outside.tmpfs(SHM, 16384, mode, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, target);
                self.inside.attach(slot, target, create::DIRECTORY, format!("mount a tmpfs on {target}"));
            }
        }
    }

    /// A writable bind shows one owner as the container's root and nobody else: a set-id file planted there gains nothing (K32).
    fn bind(&mut self, source: &Source, read_only: bool, owner: Option<u32>) -> (Slot, u8) {
        let idmap = match (self.range() != idmap::NONE, read_only) {
            (_, false) if !self.facts.rootless => idmap::OWNER, // also without a user namespace, where root inside is root
            (true, true) => idmap::RANGE_IF_POSSIBLE,
            _ => idmap::NONE,
        };
        let uid = owner.unwrap_or(source.uid);
        let gid = if source.gid == 0 && uid != 0 { uid } else { source.gid };
        let view = View { idmap, owner: (uid, gid), read_only, ..View::PLAIN };
        let slot = self.outside.tree(source, view);
        (slot, if source.is_directory { create::DIRECTORY } else { create::FILE })
    }

    fn provided(&mut self) {
        self.spec.provided.iter().for_each(|(target, content)| self.inside.provide(target, content));
        if let Some(directory) = self.spec.directory {
            self.inside.directory(directory);
        }
    }

    fn files(&mut self) {
        let mut files: Vec<_> = self.spec.files.iter().zip(&self.sources.files).collect();
        // The owner of every other file is looked up in these two.
        files.sort_by_key(|(file, _)| !matches!(file.target.as_str(), "/etc/passwd" | "/etc/group"));
        for (file, (offset, length, mode)) in files {
            self.inside.write(&file.target, *mode, *offset, *length);
        }
    }

    fn settings(&mut self) {
        let spaces = self.spec.spaces;
        if self.spec.admin && self.facts.user_namespace {
            // No control group namespace but ours, now or later: one of the command's own could be mounted, and in it lie the
            // limits of this container and of whatever else belongs to a plain user.
            let ours = if spaces.cgroup == Space::New { "1" } else { "0" };
            self.inside.sysctl("user.max_cgroup_namespaces", ours);
        }
        if spaces.net == Space::New && spaces.pid == Space::New {
            let last = self.facts.last_to_ping;
            self.inside.sysctl("net.ipv4.ping_group_range", &format!("0 {last}"));
            self.inside.sysctl("net.ipv4.ip_unprivileged_port_start", "0");
        }
        if spaces.net == Space::New {
            self.inside.step(inside::LOOPBACK, "bring the loopback interface up");
        }
        if spaces.uts == Space::New {
            self.inside.step(inside::HOSTNAME, "set the host name").put_bytes(self.spec.hostname);
        }
        if self.spec.tty {
            let bytes = self.inside.step(inside::CONSOLE, "open a terminal");
            bytes.put_u32(u32::from(self.spec.window.0) << 16 | u32::from(self.spec.window.1));
        }
    }

    /// Masks come after the kernel's file systems were mounted: a masked /proc would forbid that (mount_too_revealing).
    fn walls(&mut self) {
        let throttles = self.facts.throttles.iter().filter(|_| !self.spec.masked_paths.is_empty());
        self.spec.masked_paths.iter().chain(throttles).for_each(|path| self.inside.mask(path));
        self.spec.readonly_paths.iter().for_each(|path| self.inside.read_only(path));
        if self.spec.read_only {
            self.inside.step(inside::ROOT_READ_ONLY, "make the root read-only");
        }
        self.inside.step(inside::PIVOT, "pivot_root");
    }
}
