//! The layers of a root file system: what lies below, and the writable one above. Pure, as layout.rs, of which it is a part.

use super::host;
use super::layout::{Build, Copy, DEFAULT_UPPER, LAYER_SKELETON, LAYER_UPPER, RootSource, Upper};
use super::list::{Source, View};
use crate::sys::constants::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::wire::{Slot, create, idmap, overlay};

/// Directories of the writable layer, outer ones first, with their modes: a pair for the root, and one for each tree that is not read-only.
pub fn upper_directories(root: &RootSource) -> Vec<(String, u32)> {
    let pair = |upper: String, work: String, mode| [(upper, mode), (work, 0o755)];
    match root {
        RootSource::View => Vec::new(),
        RootSource::Directory(source) => pair("upper".into(), "work".into(), source.mode & 0o7777).into(),
        RootSource::Layers(layers) => {
            let mode = layers.last().map_or(0o755, |top| top.mode & 0o7777);
            pair("upper".into(), "work".into(), mode).into()
        }
        RootSource::Host { trees, writable } => {
            let made = host::WRITABLE.iter().map(|(name, mode)| (format!("upper/{name}"), *mode));
            let trees = trees.iter().enumerate().filter(|(_, tree)| *writable && tree.is_directory);
            let trees = trees.flat_map(|(i, tree)| pair(upper_of(i), work_of(i), tree.mode & 0o7777));
            pair("upper".into(), "work".into(), 0o755).into_iter().chain(made).chain(trees).collect()
        }
    }
}

fn upper_of(tree: usize) -> String {
    format!("upper{tree}")
}

fn work_of(tree: usize) -> String {
    format!("work{tree}")
}

impl RootSource {
    /// Of a root that stands on one tree, that.
    pub fn lowest(&self) -> Option<&Source> {
        match self {
            RootSource::Directory(source) => Some(source),
            RootSource::Layers(layers) => layers.first(),
            RootSource::Host { .. } | RootSource::View => None,
        }
    }
}

impl Build<'_> {
    /// The slot with the directories of the writable layer.
    pub(super) fn upper(&mut self) -> Slot {
        let slot = match self.sources.upper {
            // The host has made what is in it.
            Upper::Directory(ref path) => return self.outside.directory(path),
            Upper::Passed => self.outside.upper_fd(LAYER_UPPER),
            Upper::Memory(size) => self.outside.tmpfs(
                size,
                (size / 4096).max(64),
                0o755,
                MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                "the writable layer",
            ),
        };
        if self.sources.copy.is_none() {
            for (name, mode) in upper_directories(&self.sources.root) {
                self.outside.mkdir(slot, &name, mode);
            }
        }
        slot
    }

    pub(super) fn root(&mut self, upper: Slot) -> Slot {
        match (self.sources.copy, &self.sources.upper) {
            (Some(copy), Upper::Directory(path)) => return self.copied(copy, Some(path), upper),
            (Some(copy), Upper::Passed) => return self.copied(copy, None, upper),
            _ => {}
        }
        if let Some((program, lower)) = self.sources.served.as_ref().zip(self.sources.root.lowest()) {
            let view = View { idmap: self.range(), recursive: false, ..View::PLAIN };
            let lower = self.outside.tree(lower, view);
            let attributes = self.image_attributes();
            return self.outside.served(program, lower, upper, ("upper", "work"), attributes);
        }
        let lowers = match &self.sources.root {
            RootSource::Directory(source) => vec![self.layer(source)],
            RootSource::Layers(layers) => layers.iter().rev().map(|layer| self.layer(layer)).collect(),
            RootSource::Host { .. } | RootSource::View => vec![self.outside.layer_fd(LAYER_SKELETON)],
        };
        let attributes = self.image_attributes();
        let options = self.overlay_options(self.sources.upper.is_on_disk());
        self.outside.overlay(&lowers, upper, ("upper", "work"), attributes, options, "/")
    }

    /// The copy itself, which has the container's owners on the disk; below it, to be compared with it and for nothing else, the original.
    fn copied(&mut self, copy: Copy, path: Option<&[u8]>, upper: Slot) -> Slot {
        let idmap = if copy.mapped { self.range() } else { idmap::NONE };
        // Not kept: of a subvolume that is gone the next one takes over the number of the device, and each one's root is inode 256.
        let view = View { idmap, recursive: false, ..View::PLAIN };
        let lower = self.sources.root.lowest().map(|source| self.outside.tree(source, view));
        let attributes = self.image_attributes();
        let root = self.outside.copied(path, upper, lower, attributes);
        for (lower, unread) in self.sources.unread.iter().filter_map(|path| Some((lower?, path))) {
            self.outside.fill(root, lower, unread);
        }
        root
    }

    /// A directory of the host as the container's root sees it, kept by the keeper for the next container of these ids.
    fn layer(&mut self, source: &Source) -> Slot {
        if self.sources.shifted {
            return self.outside.tree(source, View { recursive: false, ..View::PLAIN });
        }
        self.mapped_layer(source)
    }

    fn mapped_layer(&mut self, source: &Source) -> Slot {
        let view = View { idmap: self.range(), recursive: false, cached: self.facts.cached_layers, ..View::PLAIN };
        self.outside.tree(source, view)
    }

    fn image_attributes(&self) -> u64 {
        MOUNT_ATTR_NODEV | if self.spec.no_new_privileges { MOUNT_ATTR_NOSUID } else { 0 }
    }

    /// A layer that ends with its container need not survive a power failure: at its end nothing waits for the disk, and fsync
    /// inside is quick (volatile, 5.10). An error of the disk is still told.
    fn overlay_options(&self, on_disk: bool) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        flag(self.facts.rootless, overlay::USERXATTR) | flag(on_disk, overlay::VOLATILE)
    }

    /// `upper` where they are writable: an overlay does not see what is mounted in its layers, so each mount is a tree of its own.
    pub(super) fn trees(&mut self, trees: &[Source], upper: Option<Slot>) {
        for (i, source) in trees.iter().enumerate() {
            let target = String::from_utf8_lossy(&source.path).into_owned();
            let slot = match upper {
                None => self.outside.tree(source, View::PLAIN),
                Some(upper) if source.is_directory => self.writable_tree(i, source, upper, &target),
                Some(_) => self.outside.tree(source, View { idmap: self.range(), ..View::PLAIN }),
            };
            let missing = if source.is_directory { create::DIRECTORY } else { create::FILE };
            self.inside.attach(slot, &target, missing, format!("mount {target} of this machine"));
        }
    }

    fn writable_tree(&mut self, number: usize, source: &Source, upper: Slot, target: &str) -> Slot {
        let lower = self.layer(source);
        let read_only = if self.spec.read_only { MOUNT_ATTR_RDONLY } else { 0 };
        let attributes = self.image_attributes() | read_only;
        let options = self.overlay_options(self.sources.upper.is_on_disk());
        let names = (upper_of(number), work_of(number));
        self.outside.overlay(&[lower], upper, (&names.0, &names.1), attributes, options, target)
    }

    /// An image beside the root, read-only: an overlay that has nothing to write to. What whiteouts say of one layer alone is only said
    /// by an overlay, too, and the kernel makes none of one layer, so there is an empty one below it.
    pub(super) fn image(&mut self, layers: &[Source], target: &str) -> Slot {
        let safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY;
        let nothing = |build: &mut Self| build.outside.tmpfs(4096, 2, 0o755, safe, target);
        if layers.is_empty() {
            return nothing(self);
        }
        let mut lowers: Vec<Slot> = layers.iter().rev().map(|layer| self.mapped_layer(layer)).collect();
        if lowers.len() == 1 {
            lowers.push(nothing(self));
        }
        self.outside.overlay(&lowers, overlay::NO_UPPER, ("", ""), safe, self.overlay_options(false), target)
    }

    /// A copy-on-write view of a directory, for a mount of the caller's, with a layer of its own.
    pub(super) fn view(&mut self, source: &Source, target: &str) -> Slot {
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        let scratch = self.outside.tmpfs(DEFAULT_UPPER, DEFAULT_UPPER / 4096, 0o755, attributes, target);
        self.outside.mkdir(scratch, "upper", source.mode & 0o7777);
        self.outside.mkdir(scratch, "work", 0o755);
        let view = View { idmap: self.range(), recursive: false, ..View::PLAIN };
        let lower = self.outside.tree(source, view);
        let (attributes, options) = (self.image_attributes(), self.overlay_options(false));
        self.outside.overlay(&[lower], scratch, ("upper", "work"), attributes, options, target)
    }
}
