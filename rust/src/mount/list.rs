//! The two lists of operations under construction, with a label for each, so that a failed step has a name.

use crate::sys::constants::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::wire::{Slot, Write, copied, create, idmap, inside, outside};

/// An object of the host's file system, looked at once: the keeper refuses another one under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: Vec<u8>,
    pub dev: u64,
    pub ino: u64,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub is_directory: bool,
}

/// How a source is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub idmap: u8,
    pub owner: (u32, u32),
    pub read_only: bool,
    pub devices: bool,
    pub recursive: bool,
    pub cached: bool,
}

impl View {
    /// Read-only, without devices or set-id bits, its owners as they are.
    pub const PLAIN: View =
        View { idmap: idmap::NONE, owner: (0, 0), read_only: true, devices: false, recursive: true, cached: false };

    fn attributes(&self) -> u64 {
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        MOUNT_ATTR_NOSUID | flag(self.read_only, MOUNT_ATTR_RDONLY) | flag(!self.devices, MOUNT_ATTR_NODEV)
    }
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outside {
    pub bytes: Vec<u8>,
    pub labels: Vec<String>,
    /// How many slots the list uses; more than the keeper has are refused before they are sent.
    pub slots: usize,
}

impl Outside {
    fn begin(&mut self, kind: u8, slot: Slot, label: String) {
        self.bytes.put_u8(kind);
        self.bytes.put_u16(slot);
        self.labels.push(label);
    }

    pub fn new_slot(&mut self) -> Slot {
        self.slots += 1;
        (self.slots - 1) as Slot // of a list that is refused any number will do
    }

    pub fn tmpfs(&mut self, size: u64, inodes: u64, mode: u32, attributes: u64, label: &str) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::TMPFS, slot, format!("make a tmpfs for {label}"));
        self.bytes.put_u64(size);
        self.bytes.put_u64(inodes);
        self.bytes.put_u32(mode);
        self.bytes.put_u64(attributes);
        slot
    }

    pub fn directory(&mut self, path: &[u8]) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::DIRECTORY, slot, format!("open {}", String::from_utf8_lossy(path)));
        self.bytes.put_bytes(path);
        slot
    }

    pub fn tree(&mut self, source: &Source, view: View) -> Slot {
        let slot = self.new_slot();
        let verb = if view.idmap == idmap::NONE { "clone the mount of" } else { "idmap the mount of" };
        self.begin(outside::TREE, slot, format!("{verb} {}", String::from_utf8_lossy(&source.path)));
        self.bytes.put_bytes(&source.path);
        self.bytes.put_u64(source.dev);
        self.bytes.put_u64(source.ino);
        self.bytes.put_u8(view.idmap);
        self.bytes.put_u32(view.owner.0);
        self.bytes.put_u32(view.owner.1);
        self.bytes.put_u64(view.attributes());
        self.bytes.put_u8(view.recursive as u8);
        self.bytes.put_u8(view.cached as u8);
        slot
    }

    /// A mount whose descriptor travels with the plan, as number `index` of its kind.
    pub fn layer_fd(&mut self, index: u8) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::LAYER_FD, slot, "take over a layer".into());
        self.bytes.put_u8(index);
        slot
    }

    /// As `layer_fd`, and it is the file system of the writable layer.
    pub fn upper_fd(&mut self, index: u8) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::UPPER_FD, slot, "take over the writable layer's file system".into());
        self.bytes.put_u8(index);
        slot
    }

    pub fn mkdir(&mut self, slot: Slot, name: &str, mode: u32) {
        self.begin(outside::MKDIR, slot, format!("make directory {name} of the writable layer"));
        self.bytes.put_bytes(name.as_bytes());
        self.bytes.put_u32(mode);
    }

    /// `lowers` from the top down; `upper` holds directories of the two names, or is overlay::NO_UPPER.
    pub fn overlay(
        &mut self,
        lowers: &[Slot],
        upper: Slot,
        names: (&str, &str),
        attributes: u64,
        options: u8,
        target: &str,
    ) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::OVERLAY, slot, format!("mount overlay for {target}"));
        self.bytes.put_u16(lowers.len() as u16);
        lowers.iter().for_each(|lower| self.bytes.put_u16(*lower));
        self.bytes.put_u16(upper);
        self.bytes.put_bytes(names.0.as_bytes());
        self.bytes.put_bytes(names.1.as_bytes());
        self.bytes.put_u64(attributes);
        self.bytes.put_u8(options);
        slot
    }

    /// As an overlay of one layer below, by a program.
    pub fn served(&mut self, program: &str, lower: Slot, upper: Slot, names: (&str, &str), attributes: u64) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::SERVED, slot, format!("start {program}"));
        self.bytes.put_bytes(program.as_bytes());
        self.bytes.put_u16(lower);
        self.bytes.put_u16(upper);
        self.bytes.put_bytes(names.0.as_bytes());
        self.bytes.put_bytes(names.1.as_bytes());
        self.bytes.put_u64(attributes);
        slot
    }

    /// The root that lies as a copy in the directory of the writable layer, at this path or, None, in the slot alone; `lower` is what it was
    /// copied from.
    pub fn copied(&mut self, path: Option<&[u8]>, upper: Slot, lower: Option<Slot>, attributes: u64) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::COPIED, slot, "clone the mount of the image's copy".into());
        let path = path.map(|path| [path, b"/", copied::ROOT.to_bytes()].concat());
        self.bytes.put_bytes(&path.unwrap_or_default());
        self.bytes.put_u16(upper);
        self.bytes.put_u16(lower.unwrap_or(copied::NO_LOWER));
        self.bytes.put_u64(attributes);
        slot
    }

    /// Into a file of that root the content of the original, which the host may not read.
    pub fn fill(&mut self, root: Slot, lower: Slot, path: &[u8]) {
        self.begin(outside::FILL, root, format!("copy /{} of the image", String::from_utf8_lossy(path)));
        self.bytes.put_u16(lower);
        self.bytes.put_bytes(path);
    }

    /// /dev with nodes (name, mode, major, minor); major 0 is an empty file for a bind.
    pub fn dev(&mut self, nodes: &[(String, u32, u32, u32)], attributes: u64) -> Slot {
        let slot = self.new_slot();
        self.begin(outside::DEV, slot, "make /dev".into());
        self.bytes.put_u64(64 << 10);
        self.bytes.put_u64(0);
        self.bytes.put_u32(0o755);
        self.bytes.put_u64(attributes);
        self.bytes.put_u8(nodes.len() as u8);
        for (name, mode, major, minor) in nodes {
            self.bytes.put_bytes(name.as_bytes());
            self.bytes.put_u32(*mode);
            self.bytes.put_u32(*major);
            self.bytes.put_u32(*minor);
        }
        slot
    }

    pub fn finish(mut self) -> (Vec<u8>, Vec<String>) {
        self.bytes.put_u8(outside::END);
        (self.bytes, self.labels)
    }
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Inside {
    pub bytes: Vec<u8>,
    pub labels: Vec<String>,
}

impl Inside {
    pub fn step(&mut self, kind: u8, label: impl Into<String>) -> &mut Vec<u8> {
        self.bytes.put_u8(kind);
        self.labels.push(label.into());
        &mut self.bytes
    }

    pub fn root(&mut self, slot: Slot) {
        self.step(inside::ROOT, "attach the new root").put_u16(slot);
    }

    pub fn attach(&mut self, slot: Slot, target: &str, missing: u8, label: String) {
        let bytes = self.step(inside::ATTACH, label);
        bytes.put_u16(slot);
        bytes.put_bytes(relative(target).as_bytes());
        bytes.put_u8(missing);
    }

    pub fn attach_own(&mut self, slot: Slot, target: &str) {
        self.attach(slot, target, create::OWN, format!("mount on {target}"));
    }

    pub fn mask(&mut self, path: &str) {
        self.step(inside::MASK, format!("mask {path}")).put_bytes(relative(path).as_bytes());
    }

    pub fn read_only(&mut self, path: &str) {
        self.step(inside::READ_ONLY, format!("make {path} read-only")).put_bytes(relative(path).as_bytes());
    }

    pub fn provide(&mut self, target: &str, content: &[u8]) {
        let bytes = self.step(inside::PROVIDE, format!("provide {target}"));
        bytes.put_bytes(relative(target).as_bytes());
        bytes.put_bytes(content);
    }

    pub fn directory(&mut self, target: &str) {
        let bytes = self.step(inside::MKDIR, format!("make directory {target}"));
        bytes.put_bytes(relative(target).as_bytes());
        bytes.put_u32(0o755);
    }

    pub fn sysctl(&mut self, name: &str, value: &str) {
        let bytes = self.step(inside::SYSCTL, format!("set sysctl {name}"));
        bytes.put_bytes(format!("sys/{}", name.replace('.', "/")).as_bytes());
        bytes.put_bytes(value.as_bytes());
    }

    pub fn write(&mut self, target: &str, mode: u32, offset: u64, length: u64) {
        let bytes = self.step(inside::WRITE, format!("write {target}"));
        bytes.put_bytes(relative(target).as_bytes());
        bytes.put_u32(mode);
        bytes.put_u64(offset);
        bytes.put_u64(length);
    }

    pub fn finish(mut self) -> (Vec<u8>, Vec<String>) {
        self.bytes.put_u8(inside::END);
        (self.bytes, self.labels)
    }
}

/// openat2 beneath the root's descriptor wants no leading slash, and no trailing one ever reaches the kernel.
fn relative(path: &str) -> &str {
    let path = path.trim_matches('/');
    if path.is_empty() { "." } else { path }
}
