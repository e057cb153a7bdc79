//! One overlay mount, detached: layers by descriptor where the kernel can (6.15), else attached for a moment in a namespace of their own.

use crate::outside::Slots;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::mount;
use crate::sys::process::{self, Cloned};
use crate::sys::{Errno, Result};
use crate::wire::{Reader, overlay as options};
use core::ffi::CStr;

/// As many as the kernel takes (OVL_MAX_STACK).
const LAYERS_MAX: usize = 500;
/// Their names of two letters, with what stands between them.
const NAMES: usize = 3 * LAYERS_MAX;
/// What one option may have for a text (fsconfig(2)); longer ones go by mount(2), which takes a page.
const OPTION_MAX: usize = 255;

struct Overlay<'a> {
    lowers: [i32; LAYERS_MAX],
    count: usize,
    /// The mount that holds upper and work, and their names in it; none for a read-only union.
    upper: i32,
    upper_name: &'a CStr,
    work_name: &'a CStr,
    attributes: u64,
    options: u8,
}

impl Overlay<'_> {
    fn has_upper(&self) -> bool {
        self.upper >= 0
    }
}

fn read<'a>(from: &mut Reader<'a>, slots: &Slots) -> Result<Overlay<'a>> {
    let count = from.u16().ok_or(Errno::PROTO)? as usize;
    let mut lowers = [-1; LAYERS_MAX];
    for lower in lowers.get_mut(..count).ok_or(Errno::PROTO)? {
        *lower = slots.get(from.u16().ok_or(Errno::PROTO)?)?;
    }
    let upper = match from.u16().ok_or(Errno::PROTO)? {
        options::NO_UPPER => -1,
        slot => slots.get(slot)?,
    };
    let (upper_name, work_name) = from.text().zip(from.text()).ok_or(Errno::PROTO)?;
    let (attributes, options) = from.u64().zip(from.u8()).ok_or(Errno::PROTO)?;
    Ok(Overlay { lowers, count, upper, upper_name, work_name, attributes, options })
}

pub fn make(from: &mut Reader<'_>, slots: &Slots) -> Result<Fd> {
    let overlay = read(from, slots)?;
    if slots.again && overlay.options & options::VOLATILE != 0 {
        forget_earlier(&overlay);
    }
    made(&overlay)
}

/// The layers below of such an overlay as one tree that nobody writes to; at least two.
pub fn union(mut from: Reader<'_>, slots: &Slots) -> Result<Fd> {
    let overlay = read(&mut from, slots)?;
    let attributes = overlay.attributes | MOUNT_ATTR_RDONLY;
    made(&Overlay { upper: -1, attributes, options: overlay.options & options::USERXATTR, ..overlay })
}

fn made(overlay: &Overlay<'_>) -> Result<Fd> {
    match by_descriptor(overlay) {
        // Before 6.13 the options take no descriptors, before 6.15 detached layers are EINVAL.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => attached_for_a_moment(overlay),
        other => other,
    }
}

/// An overlay that was volatile and has ended is not mounted again: for all that the kernel knows, a power failure came in between. It
/// says so in a directory of the work directory.
fn forget_earlier(overlay: &Overlay<'_>) {
    if let Ok(work) = fs::openat(overlay.upper, overlay.work_name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0) {
        let _ = crate::removal::remove(work.raw(), c"work");
    }
}

fn by_descriptor(overlay: &Overlay<'_>) -> Result<Fd> {
    let context = mount::fsopen(c"overlay")?;
    let set = |key, fd| mount::fsconfig_fd(context.raw(), key, fd);
    overlay.lowers[..overlay.count].iter().try_for_each(|lower| set(c"lowerdir+", *lower))?;
    for (key, name) in [(c"upperdir", overlay.upper_name), (c"workdir", overlay.work_name)] {
        if overlay.has_upper() {
            let directory = fs::openat(overlay.upper, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?;
            set(key, directory.raw())?;
        }
    }
    finish(&context, overlay)
}

/// What the host's module parameters would decide otherwise. A renamed directory or a changed mode that is no more than a reference to
/// another layer is nothing that a diff or a layer can carry; and references in a layer are followed by nobody else who reads it. With
/// `userxattr` the kernel takes no other words for them.
const SAID: [(&CStr, &CStr); 2] = [(c"redirect_dir", c"nofollow"), (c"metacopy", c"off")];

fn finish(context: &Fd, overlay: &Overlay<'_>) -> Result<Fd> {
    SAID.iter().try_for_each(|(key, value)| mount::fsconfig_string(context.raw(), key, value))?;
    for (bit, name) in [(options::USERXATTR, c"userxattr"), (options::VOLATILE, c"volatile")] {
        if overlay.options & bit != 0 {
            mount::fsconfig_flag(context.raw(), name)?;
        }
    }
    mount::fsconfig_create(context.raw())?;
    mount::fsmount(context.raw(), overlay.attributes)
}

/// A child that shares our descriptors, but has a mount namespace of its own, attaches the layers there, makes the overlay, and
/// leaves it in our table, under a number that is taken before: its exit status has room for an error and for nothing else. The
/// kernel keeps private copies of the layers, and the namespace ends with the child.
fn attached_for_a_moment(overlay: &Overlay<'_>) -> Result<Fd> {
    let reserved = fs::dup_above(overlay.lowers[0], 3)?;
    let pid = match process::clone_copy(CLONE_FILES | CLONE_NEWNS, None)? {
        Cloned::Child => {
            let made = in_private_namespace(overlay).and_then(|made| fs::dup_onto(made.raw(), reserved.raw(), true));
            process::exit_group(made.err().map_or(0, |errno| errno.0));
        }
        Cloned::Parent { pid, .. } => pid,
    };
    match process::wait4(pid, WALL)?.1 {
        0 => Ok(reserved),
        status if status & 0x7f != 0 => Err(Errno::CHILD),
        status => Err(Errno(status >> 8 & 0xff)),
    }
}

fn in_private_namespace(overlay: &Overlay<'_>) -> Result<Fd> {
    mount::make_root_private()?;
    let scratch = scratch_root()?;
    let mut lowerdir = [0u8; NAMES + 1];
    let mut used = 0;
    for (i, lower) in overlay.lowers[..overlay.count].iter().enumerate() {
        let name = [b'a' + (i / 26) as u8, b'a' + (i % 26) as u8, 0];
        attach(scratch.raw(), *lower, CStr::from_bytes_until_nul(&name).unwrap_or(c""))?;
        lowerdir[used..used + 2].copy_from_slice(&name[..2]);
        lowerdir[used + 2] = b':';
        used += 3;
    }
    lowerdir[used - 1] = 0;
    if overlay.has_upper() {
        attach(scratch.raw(), overlay.upper, c"upper")?;
    }
    if used > OPTION_MAX {
        return by_mount(overlay, scratch.raw(), &lowerdir[..used - 1]);
    }
    let context = mount::fsopen(c"overlay")?;
    let set = |key, value: &CStr| mount::fsconfig_string(context.raw(), key, value);
    set(c"lowerdir", CStr::from_bytes_until_nul(&lowerdir).map_err(|_| Errno::NAMETOOLONG)?)?;
    if overlay.has_upper() {
        set(c"upperdir", beneath_upper(overlay.upper_name, &mut [0; 128])?)?;
        set(c"workdir", beneath_upper(overlay.work_name, &mut [0; 128])?)?;
    }
    finish(&context, overlay)
}

/// mount(2), whose options together may have a page; what it has attached ends with this namespace, the copy stays.
fn by_mount(overlay: &Overlay<'_>, scratch: i32, lowerdir: &[u8]) -> Result<Fd> {
    let mut text = [0u8; NAMES + 512];
    let mut used = 0;
    let mut put = |part: &[u8]| {
        let place = text.get_mut(used..used + part.len()).ok_or(Errno::NAMETOOLONG)?;
        place.copy_from_slice(part);
        used += part.len();
        Ok(())
    };
    put(b"lowerdir=")?;
    put(lowerdir)?;
    for (key, name) in [(&b",upperdir="[..], overlay.upper_name), (b",workdir=", overlay.work_name)] {
        if overlay.has_upper() {
            put(key)?;
            put(beneath_upper(name, &mut [0; 128])?.to_bytes())?;
        }
    }
    for (bit, name) in [(options::USERXATTR, &b",userxattr"[..]), (options::VOLATILE, b",volatile")] {
        put(if overlay.options & bit != 0 { name } else { b"" })?;
    }
    for (key, value) in SAID {
        [&b","[..], key.to_bytes(), b"=", value.to_bytes()].into_iter().try_for_each(&mut put)?;
    }
    put(b"\0")?;
    fs::mkdirat(scratch, c"made", 0o755)?;
    mount::mount_overlay(c"made", CStr::from_bytes_until_nul(&text).map_err(|_| Errno::NAMETOOLONG)?)?;
    let made = mount::open_tree_clone(scratch, c"made", false)?;
    mount::mount_setattr(made.raw(), false, &mount::MountAttr { set: overlay.attributes, ..Default::default() })?;
    Ok(made)
}

/// An empty tmpfs over this namespace's root, as working directory: layers get short relative names in it.
pub fn scratch_root() -> Result<Fd> {
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_create(context.raw())?;
    let scratch = mount::fsmount(context.raw(), 0)?;
    mount::move_mount_at(scratch.raw(), AT_FDCWD, c"/")?;
    fs::fchdir(scratch.raw())?;
    Ok(scratch)
}

/// A copy of a layer, since an attached mount cannot be attached again.
fn attach(scratch: i32, layer: i32, name: &CStr) -> Result<()> {
    fs::mkdirat(scratch, name, 0o755)?;
    match mount::open_tree_clone(layer, c"", false) {
        Ok(copy) => mount::move_mount_at(copy.raw(), scratch, name),
        Err(_) => attach_itself(scratch, layer, name),
    }
}

/// Before 6.15 a detached mount cannot be cloned, so the layer itself is attached, and its namespace's end takes it away for good.
/// While it is attached it can be cloned: the copy takes over its number, for a layer that the next container needs again.
fn attach_itself(scratch: i32, layer: i32, name: &CStr) -> Result<()> {
    mount::move_mount_at(layer, scratch, name)?;
    let copy = mount::open_tree_clone(scratch, name, false)?;
    fs::dup_onto(copy.raw(), layer, true)
}

fn beneath_upper<'a>(name: &CStr, buffer: &'a mut [u8; 128]) -> Result<&'a CStr> {
    let name = name.to_bytes_with_nul();
    let whole = buffer.get_mut(..6 + name.len()).ok_or(Errno::NAMETOOLONG)?;
    whole[..6].copy_from_slice(b"upper/");
    whole[6..].copy_from_slice(name);
    CStr::from_bytes_with_nul(whole).map_err(|_| Errno::NAMETOOLONG)
}
