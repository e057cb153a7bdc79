//! The mounts that need the keeper's privileges, made detached, one operation of the plan after another.

use crate::cache::Cache;
use crate::kept::Layers;
use crate::overlay;
use crate::plan::{Fds, Plan};
use crate::served::{self, Daemon};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{Errno, Result};
use crate::wire::{self, Decimal, Reader, SLOTS, Slot, flag, idmap, mapped, outside as op};
use core::ffi::CStr;

const FREE: i32 = -1;
const LENT: i32 = -2;

/// Detached mounts under way: owned ones are closed with this, lent ones (cached layers) are not.
pub struct Slots {
    /// A descriptor, or one that was lent as LENT - it, or FREE.
    places: [i32; SLOTS],
    /// The slot of the writable layer's file system, for `Usage.disk`.
    pub upper: Option<usize>,
    /// What became of the mounts that are mapped where that is possible: a word of `mapped`.
    pub mapped: u8,
    /// Of the root's overlay, which is the first of a plan.
    pub layers: Option<Layers>,
    /// Where it has several layers below and somebody may ask for what was changed: those as one read-only tree.
    pub union: Fd,
    /// The program that shows the root, if one does.
    pub daemon: Daemon,
    /// An attempt before this one had no descriptor left (requests.rs): a layer on the disk is as that one left it.
    pub again: bool,
}

impl Slots {
    pub fn new(again: bool) -> Slots {
        Slots {
            places: [FREE; SLOTS],
            upper: None,
            mapped: mapped::NO_MOUNT,
            layers: None,
            union: Fd::NONE,
            daemon: Daemon::NONE,
            again,
        }
    }

    pub fn get(&self, slot: Slot) -> Result<i32> {
        match self.places.get(slot as usize) {
            Some(&FREE) => Err(Errno::BADF),
            Some(&fd) => Ok(if fd >= 0 { fd } else { LENT - fd }),
            None => Err(Errno::PROTO),
        }
    }

    fn put(&mut self, slot: Slot, fd: Fd) -> Result<()> {
        let place = self.places.get_mut(slot as usize).ok_or(Errno::PROTO)?;
        *place = fd.release();
        Ok(())
    }

    fn lend(&mut self, slot: Slot, fd: i32) -> Result<()> {
        *self.places.get_mut(slot as usize).ok_or(Errno::PROTO)? = LENT - fd;
        Ok(())
    }

    /// A descriptor of the writable layer that outlives the slots.
    pub fn keep_upper(&self) -> i32 {
        let upper = self.upper.and_then(|slot| self.get(slot as Slot).ok());
        upper.and_then(|fd| fs::dup_above(fd, 3).ok()).map_or(-1, Fd::release)
    }

    /// What PID 1 mounts. What is lent is below an overlay, which has mounts of its own of it.
    pub fn own(&self) -> impl Iterator<Item = i32> + Clone + '_ {
        self.places.iter().copied().filter(|fd| *fd >= 0)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.places.iter().filter(|fd| **fd >= 0).for_each(|fd| fs::close(*fd));
    }
}

/// Runs the list; an error carries the index of the operation.
pub fn run(plan: &Plan<'_>, cache: &mut Cache, slots: &mut Slots) -> core::result::Result<(), (u16, Errno)> {
    let mut from = plan.outside;
    for index in 0.. {
        let kind = from.u8().ok_or((index, Errno::PROTO))?;
        if kind == op::END {
            return Ok(());
        }
        one(kind, &mut from, plan, cache, slots).map_err(|errno| (index, errno))?;
    }
    Ok(())
}

fn one(kind: u8, from: &mut Reader<'_>, plan: &Plan<'_>, cache: &mut Cache, slots: &mut Slots) -> Result<()> {
    let slot = from.u16().ok_or(Errno::PROTO)?;
    match kind {
        op::TMPFS => {
            let made = tmpfs(from)?;
            slots.put(slot, made)
        }
        op::TREE => tree(slot, from, plan, cache, slots),
        op::LAYER_FD => slots.lend(slot, cache.skeleton(passed_layer(&plan.fds, from)?)?),
        op::UPPER_FD => {
            slots.upper = Some(slot as usize);
            slots.lend(slot, passed_layer(&plan.fds, from)?)
        }
        op::MKDIR => {
            let (name, mode) = from.text().zip(from.u32()).ok_or(Errno::PROTO)?;
            match fs::mkdirat(slots.get(slot)?, name, mode) {
                Err(Errno::EXIST) if slots.again && slots.upper == Some(slot as usize) => Ok(()),
                other => other,
            }
        }
        op::OVERLAY => {
            if slots.layers.is_none() {
                slots.layers = Layers::read(*from);
                slots.union = union(*from, plan, slots);
            }
            let made = overlay::make(from, slots)?;
            slots.put(slot, made)
        }
        op::DEV => {
            let made = dev(from)?;
            slots.put(slot, made)
        }
        op::COPIED => {
            let made = copied(from, slots)?;
            slots.put(slot, made)
        }
        op::SERVED => {
            slots.layers = Layers::served(*from);
            let made = served::make(from, plan, slots)?;
            slots.put(slot, made)
        }
        op::FILL => fill(slots.get(slot)?, from, slots),
        op::DIRECTORY => {
            let path = from.text().ok_or(Errno::PROTO)?;
            slots.upper = Some(slot as usize);
            let directory = fs::openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?;
            // A mount of its own: the overlay of an old kernel is made in another namespace, where ours cannot be named.
            slots.put(slot, mount::open_tree_clone(directory.raw(), c"", false)?)
        }
        _ => Err(Errno::PROTO),
    }
    .map(|()| {
        if kind == op::TMPFS && slots.upper.is_none() {
            slots.upper = Some(slot as usize);
        }
    })
}

/// A root that lies there as it is, beside what it was copied from.
fn copied(from: &mut Reader<'_>, slots: &mut Slots) -> Result<Fd> {
    let (path, upper) = from.text().zip(from.u16()).ok_or(Errno::PROTO)?;
    let (lower, attributes) = from.u16().zip(from.u64()).ok_or(Errno::PROTO)?;
    let directory = match path.is_empty() {
        false => fs::openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?,
        // In a mount that is in no namespace (6.15).
        true => fs::openat(slots.get(upper)?, crate::wire::copied::ROOT, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?,
    };
    let clone = mount::open_tree_clone(directory.raw(), c"", false)?;
    mount::mount_setattr(clone.raw(), false, &MountAttr { set: attributes, ..MountAttr::default() })?;
    slots.layers = Layers::copied(upper, (lower != wire::copied::NO_LOWER).then_some(lower));
    Ok(clone)
}

/// What a plain user may not read, and is root of here. It was no container's doing: the note of when all was copied is of now.
fn fill(root: i32, from: &mut Reader<'_>, slots: &Slots) -> Result<()> {
    const AT_ONCE: usize = 1 << 30;
    let (lower, path) = from.u16().zip(from.text()).ok_or(Errno::PROTO)?;
    let straight = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    let open = |dir, flags| fs::openat2(dir, path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, straight);
    let (original, copy) = (open(slots.get(lower)?, O_RDONLY)?, open(root, O_WRONLY)?);
    let mut at = 0;
    while fs::sendfile(copy.raw(), original.raw(), &mut at, AT_ONCE)? > 0 {}
    fs::set_mtime(copy.raw(), None, fs::fstat(original.raw())?.mtime())?;
    let directory = slots.layers.as_ref().map(Layers::directory).ok_or(Errno::PROTO)?;
    let note = fs::openat(slots.get(directory)?, wire::copied::NOTE, O_WRONLY | O_NOFOLLOW, 0)?;
    fs::set_mtime(note.raw(), None, (0, 0))
}

/// A convenience: without it what was changed cannot be told, and the rest goes on.
fn union(from: Reader<'_>, plan: &Plan<'_>, slots: &Slots) -> Fd {
    let wanted = plan.head.has(flag::HANDLE) && slots.layers.is_some_and(|layers| layers.lower.is_none());
    if wanted { overlay::union(from, slots).unwrap_or(Fd::NONE) } else { Fd::NONE }
}

fn passed_layer(fds: &Fds, from: &mut Reader<'_>) -> Result<i32> {
    let wanted = from.u8().ok_or(Errno::PROTO)? as i32;
    let found = fds.with_role(crate::wire::role::LAYER).find(|(_, number)| *number == wanted);
    found.map(|(fd, _)| fd).ok_or(Errno::BADF)
}

/// A private tmpfs; what is made in it belongs to the keeper's uid of the moment, the container's root.
pub fn tmpfs(from: &mut Reader<'_>) -> Result<Fd> {
    let (size, inodes) = from.u64().zip(from.u64()).ok_or(Errno::PROTO)?;
    let (mode, attributes) = from.u32().zip(from.u64()).ok_or(Errno::PROTO)?;
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_string(context.raw(), c"mode", octal(mode, &mut [0; 8]))?;
    if size != 0 {
        mount::fsconfig_string(context.raw(), c"size", Decimal::new(size).text())?;
    }
    if inodes != 0 {
        mount::fsconfig_string(context.raw(), c"nr_inodes", Decimal::new(inodes).text())?;
    }
    mount::fsconfig_create(context.raw())?;
    mount::fsmount(context.raw(), attributes)
}

fn octal(mode: u32, buffer: &mut [u8; 8]) -> &CStr {
    for (i, digit) in buffer[..5].iter_mut().enumerate() {
        *digit = b'0' + (mode >> (3 * (4 - i as u32)) & 7) as u8;
    }
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"0755")
}

struct Tree<'a> {
    path: &'a CStr,
    identity: (u64, u64),
    idmap: u8,
    owner: (u32, u32),
    attributes: u64,
    recursive: bool,
    cached: bool,
}

fn read_tree<'a>(from: &mut Reader<'a>) -> Option<Tree<'a>> {
    Some(Tree {
        path: from.text()?,
        identity: (from.u64()?, from.u64()?),
        idmap: from.u8()?,
        owner: (from.u32()?, from.u32()?),
        attributes: from.u64()?,
        recursive: from.u8()? != 0,
        cached: from.u8()? != 0,
    })
}

/// A directory or file of the host, cloned, with its attributes and its view of the owners.
fn tree(slot: Slot, from: &mut Reader<'_>, plan: &Plan<'_>, cache: &mut Cache, slots: &mut Slots) -> Result<()> {
    let tree = read_tree(from).ok_or(Errno::PROTO)?;
    let key = (plan.head.base, tree.attributes | (tree.idmap as u64) << 32);
    if tree.cached
        && let Some(fd) = cache.layer(key.0, key.1, tree.identity)
    {
        return slots.lend(slot, fd);
    }
    let (clone, mapped) = clone_tree(&tree, plan, cache)?;
    slots.mapped = slots.mapped.max(mapped);
    if !tree.cached {
        return slots.put(slot, clone);
    }
    let kept = cache.keep_layer(key.0, key.1, tree.identity, clone);
    slots.lend(slot, kept)
}

/// The clone, and a word of `mapped`.
fn clone_tree(tree: &Tree<'_>, plan: &Plan<'_>, cache: &mut Cache) -> Result<(Fd, u8)> {
    let source = fs::openat2(AT_FDCWD, tree.path, O_PATH, 0, 0)?;
    let seen = fs::fstat(source.raw())?;
    // The host looked at this very object; another one under its name is somebody's race.
    if (seen.dev(), seen.ino) != tree.identity {
        return Err(Errno::STALE);
    }
    let recursive = tree.recursive && seen.kind() == S_IFDIR;
    let clone = mount::open_tree_clone(source.raw(), c"", recursive)?;
    let mut attr = MountAttr { set: tree.attributes, ..MountAttr::default() };
    match tree.idmap {
        idmap::RANGE | idmap::RANGE_IF_POSSIBLE => {
            attr.set |= MOUNT_ATTR_IDMAP;
            attr.userns_fd = match plan.head.has(flag::OWN_MAP) {
                true => cache.own(plan.head.id, plan.maps)?,
                false => cache.range(plan.head.base, plan.maps)?,
            } as u64;
        }
        idmap::OWNER => {
            attr.set |= MOUNT_ATTR_IDMAP;
            attr.userns_fd = cache.owner(plan.head.base, tree.owner.0, tree.owner.1)? as u64;
        }
        _ => {}
    }
    if tree.idmap != idmap::RANGE_IF_POSSIBLE {
        return mount::mount_setattr(clone.raw(), recursive, &attr).map(|()| (clone, mapped::NO_MOUNT));
    }
    let left_out = plan.head.skips(flag::SKIP_IDMAP);
    match if left_out { Err(Errno::INVAL) } else { mount::mount_setattr(clone.raw(), recursive, &attr) } {
        Ok(()) => Ok((clone, mapped::ALL)),
        Err(Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) => {
            let plain = MountAttr { set: tree.attributes, ..MountAttr::default() };
            mount::mount_setattr(clone.raw(), recursive, &plain).map(|()| (clone, mapped::NOT_ALL))
        }
        Err(errno) => Err(errno),
    }
}

/// /dev: a tmpfs with nodes, links and mount points of our own making (H3: never anything of the image's).
fn dev(from: &mut Reader<'_>) -> Result<Fd> {
    const LINKS: [(&CStr, &CStr); 6] = [
        (c"fd", c"/proc/self/fd"),
        (c"stdin", c"/proc/self/fd/0"),
        (c"stdout", c"/proc/self/fd/1"),
        (c"stderr", c"/proc/self/fd/2"),
        (c"core", c"/proc/kcore"),
        (c"ptmx", c"pts/ptmx"),
    ];
    let dev = tmpfs(from)?;
    let nodes = from.u8().ok_or(Errno::PROTO)?;
    for _ in 0..nodes {
        let (name, mode) = from.text().zip(from.u32()).ok_or(Errno::PROTO)?;
        let (major, minor) = from.u32().zip(from.u32()).ok_or(Errno::PROTO)?;
        node(dev.raw(), name, mode, major, minor)?;
    }
    LINKS.iter().try_for_each(|(name, target)| fs::symlinkat(target, dev.raw(), name))?;
    [c"pts", c"shm", c"mqueue"].iter().try_for_each(|name| fs::mkdirat(dev.raw(), name, 0o755))?;
    Ok(dev)
}

/// A device node, or (without a device number) the empty file onto which the host's node is bound.
fn node(dev: i32, name: &CStr, mode: u32, major: u32, minor: u32) -> Result<()> {
    const DEPTH: usize = 64;
    let mut parent = [0u8; DEPTH];
    for (at, _) in name.to_bytes().iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at < DEPTH - 1) {
        parent[..at].copy_from_slice(&name.to_bytes()[..at]);
        parent[at] = 0;
        match fs::mkdirat(dev, CStr::from_bytes_until_nul(&parent).unwrap_or(c""), 0o755) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    if major == 0 {
        return fs::openat(dev, name, O_WRONLY | O_CREAT | O_EXCL, 0o600).map(drop);
    }
    let number = (major as u64) << 8 & 0xfff00 | (minor as u64) & 0xff | (minor as u64 & 0xfff00) << 12;
    fs::mknodat(dev, name, mode, number)
}
