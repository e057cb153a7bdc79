//! What the keeper keeps between containers: a user namespace per id range (for idmapped mounts) and idmapped layers.

use crate::maps::{Maps, make_namespace, make_namespace_of_one};
use crate::sys::fs::{self, Fd};
use crate::sys::{Result, memory};

const NAMESPACES: usize = 4608;
const OWNERS: usize = 32;
const LAYERS: usize = 1024;
/// As many as a host keeps (engine.rs).
const SKELETONS: usize = 8;

#[derive(Clone, Copy)]
struct Namespace {
    key: u64,
    fd: i32,
}

#[derive(Clone, Copy)]
struct Skeleton {
    dev: u64,
    ino: u64,
    fd: i32,
}

#[derive(Clone, Copy)]
struct Layer {
    base: u32,
    attributes: u64,
    dev: u64,
    ino: u64,
    fd: i32,
}

pub struct Cache {
    ranges: [Namespace; NAMESPACES],
    range_count: usize,
    /// Of the last container with a map of the caller's own, under its id.
    own: Namespace,
    owners: [(u32, u32, u32, i32); OWNERS],
    owner_next: usize,
    layers: [Layer; LAYERS],
    layer_count: usize,
    layer_next: usize,
    skeletons: [Skeleton; SKELETONS],
    skeleton_next: usize,
}

memory::zeroed!(Cache);

impl Cache {
    /// The user namespace with the map of the one range from `base` on.
    pub fn range(&mut self, base: u32, maps: Maps<'_>) -> Result<i32> {
        let key = base as u64;
        if let Some(found) = self.ranges[..self.range_count].iter().find(|entry| entry.key == key) {
            return Ok(found.fd);
        }
        let fd = make_namespace(maps)?.release();
        if self.range_count == NAMESPACES {
            self.range_count -= 1;
            fs::close(self.ranges[self.range_count].fd);
        }
        self.ranges[self.range_count] = Namespace { key, fd };
        self.range_count += 1;
        Ok(fd)
    }

    /// The user namespace with a map of the caller's own, which another container is not likely to have.
    pub fn own(&mut self, container: u64, maps: Maps<'_>) -> Result<i32> {
        if self.own.fd > 0 && self.own.key == container {
            return Ok(self.own.fd);
        }
        let fd = make_namespace(maps)?.release();
        if self.own.fd > 0 {
            fs::close(self.own.fd);
        }
        self.own = Namespace { key: container, fd };
        Ok(fd)
    }

    /// The user namespace that shows one owner of the source as the container's root, and nobody else.
    pub fn owner(&mut self, base: u32, uid: u32, gid: u32) -> Result<i32> {
        for (b, u, g, fd) in &self.owners {
            if *fd > 0 && (*b, *u, *g) == (base, uid, gid) {
                return Ok(*fd);
            }
        }
        let fd = make_namespace_of_one([uid, base], [gid, base])?.release();
        let place = &mut self.owners[self.owner_next % OWNERS];
        if place.3 > 0 {
            fs::close(place.3);
        }
        *place = (base, uid, gid, fd);
        self.owner_next += 1;
        Ok(fd)
    }

    pub fn layer(&self, base: u32, attributes: u64, identity: (u64, u64)) -> Option<i32> {
        let same = |l: &&Layer| l.base == base && l.attributes == attributes && (l.dev, l.ino) == identity;
        self.layers[..self.layer_count].iter().find(same).map(|layer| layer.fd)
    }

    pub fn keep_layer(&mut self, base: u32, attributes: u64, identity: (u64, u64), layer: Fd) -> i32 {
        let index = if self.layer_count < LAYERS { self.layer_count } else { self.layer_next % LAYERS };
        if self.layer_count < LAYERS {
            self.layer_count += 1;
        } else {
            fs::close(self.layers[index].fd);
            self.layer_next += 1;
        }
        let fd = layer.release();
        self.layers[index] = Layer { base, attributes, dev: identity.0, ino: identity.1, fd };
        fd
    }

    /// Our own descriptor of a file system that the host passes with each container: an old kernel's overlay uses a mount up, and
    /// leaves another one under the same number (overlay.rs), which the host's descriptor would never see.
    pub fn skeleton(&mut self, passed: i32) -> Result<i32> {
        let seen = fs::fstat(passed)?;
        let same = |s: &&Skeleton| s.fd > 0 && (s.dev, s.ino) == (seen.dev(), seen.ino);
        if let Some(found) = self.skeletons.iter().find(same) {
            return Ok(found.fd);
        }
        let fd = fs::dup_above(passed, 3)?.release();
        let place = &mut self.skeletons[self.skeleton_next % SKELETONS];
        if place.fd > 0 {
            fs::close(place.fd);
        }
        *place = Skeleton { dev: seen.dev(), ino: seen.ino, fd };
        self.skeleton_next += 1;
        Ok(fd)
    }

    /// Lets go of layers, so that a file system that nobody uses can be unmounted for good.
    pub fn drop_layers(&mut self) {
        for layer in &self.layers[..self.layer_count] {
            fs::close(layer.fd);
        }
        self.layer_count = 0;
        self.layer_next = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.layer_count == 0
    }
}
