//! What the keeper keeps between containers: a user namespace per id range (for idmapped mounts) and idmapped layers.

use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned};
use crate::sys::{Result, memory};
use crate::wire::Decimal;
use core::ffi::CStr;

const NAMESPACES: usize = 4608;
const OWNERS: usize = 32;
const LAYERS: usize = 128;
/// As many as a host keeps (engine.rs).
const SKELETONS: usize = 8;

/// One line of uid_map or gid_map: `inside first count`.
pub type Line = [u32; 3];

/// The lines of both maps; a line of zero ids is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    pub uid: [Line; 2],
    pub gid: [Line; 2],
}

impl Mapping {
    pub fn one(uid: Line, gid: Line) -> Mapping {
        Mapping { uid: [uid, [0; 3]], gid: [gid, [0; 3]] }
    }

    /// Ids 0 to count-1 from base. Where the parent's own map has two lines (a plain user and its subuid range), no line of ours
    /// may span both (user_namespaces(7)), so id 0 stands alone.
    pub fn ids(base: u32, count: u32, split: bool) -> Mapping {
        let lines = if split { [[0, base, 1], [1, base + 1, count - 1]] } else { [[0, base, count], [0; 3]] };
        Mapping { uid: lines, gid: lines }
    }
}

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
    pub fn create() -> Result<&'static mut Cache> {
        memory::map_zeroed::<Cache>()
    }

    /// The user namespace in which 0..count are the container's ids.
    pub fn range(&mut self, base: u32, count: u32) -> Result<i32> {
        let key = (base as u64) << 32 | count as u64;
        if let Some(found) = self.ranges[..self.range_count].iter().find(|entry| entry.key == key) {
            return Ok(found.fd);
        }
        let fd = make_namespace(Mapping::ids(base, count, false))?.release();
        if self.range_count == NAMESPACES {
            self.range_count -= 1;
            fs::close(self.ranges[self.range_count].fd);
        }
        self.ranges[self.range_count] = Namespace { key, fd };
        self.range_count += 1;
        Ok(fd)
    }

    /// The user namespace that shows one owner of the source as the container's root, and nobody else.
    pub fn owner(&mut self, base: u32, uid: u32, gid: u32) -> Result<i32> {
        for (b, u, g, fd) in &self.owners {
            if *fd > 0 && (*b, *u, *g) == (base, uid, gid) {
                return Ok(*fd);
            }
        }
        let fd = make_namespace(Mapping::one([uid, base, 1], [gid, base, 1]))?.release();
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

/// A user namespace made by a process that does nothing else, kept by its descriptor.
pub fn make_namespace(mapping: Mapping) -> Result<Fd> {
    let parent = process::getpid();
    let (pid, pidfd) = match process::clone_copy(CLONE_NEWUSER, None)? {
        Cloned::Child => wait_for_the_end(parent),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let made = write_maps(pid, mapping).and_then(|()| open_namespace(pid));
    crate::launch::abandon(pidfd.raw(), pid);
    made
}

/// This copy holds the keeper's ends of all sockets: it may not outlive it, or no container would notice the keeper's death.
fn wait_for_the_end(parent: i32) -> ! {
    let _ = process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0);
    while process::getppid() == parent {
        let _ = process::poll(&mut [], -1);
    }
    process::exit_group(0)
}

fn open_namespace(pid: i32) -> Result<Fd> {
    with_proc_path(pid, b"/ns/user", |path| fs::openat(AT_FDCWD, path, O_RDONLY, 0))
}

/// Writes both maps of a process that still waits for them.
pub fn write_maps(pid: i32, mapping: Mapping) -> Result<()> {
    write_map(pid, b"/uid_map", mapping.uid)?;
    write_map(pid, b"/gid_map", mapping.gid)
}

/// One write, as the kernel demands; a full map of two lines has at most 66 bytes.
fn write_map(pid: i32, file: &[u8], lines: [Line; 2]) -> Result<()> {
    let mut text = [0u8; 72];
    let mut used = 0;
    for line in lines.iter().filter(|line| line[2] > 0) {
        for (number, end) in line.iter().zip([b' ', b' ', b'\n']) {
            let digits = Decimal::new(*number as u64);
            text[used..used + digits.bytes().len()].copy_from_slice(digits.bytes());
            used += digits.bytes().len();
            text[used] = end;
            used += 1;
        }
    }
    with_proc_path(pid, file, |path| fs::write_file(AT_FDCWD, path, &text[..used]))
}

/// Calls `body` with /proc/PID and the rest as a path.
pub fn with_proc_path<T>(pid: i32, rest: &[u8], body: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
    let mut path = [0u8; 48];
    let digits = Decimal::new(pid as u64);
    let mut used = 0;
    for part in [b"/proc/" as &[u8], digits.bytes(), rest, b"\0"] {
        path[used..used + part.len()].copy_from_slice(part);
        used += part.len();
    }
    body(CStr::from_bytes_until_nul(&path).unwrap_or(c""))
}
