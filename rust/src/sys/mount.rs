//! Mounts as descriptors: open_tree, fsopen, mount_setattr, move_mount, pivot_root. No paths but those given.

use super::constants::*;
use super::fs::Fd;
use super::{Result, call, nr};
use core::ffi::CStr;

fn opened(result: Result<usize>) -> Result<Fd> {
    result.map(|fd| Fd::own(fd as i32))
}

/// open_tree(OPEN_TREE_CLONE): a detached copy of a mount.
pub fn open_tree_clone(dir: i32, path: &CStr, recursive: bool) -> Result<Fd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string for the length of the call.
    opened(unsafe { call(nr::OPEN_TREE, [dir as usize, path.as_ptr() as usize, flags]) })
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

pub fn mount_setattr(fd: i32, recursive: bool, attr: &MountAttr) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let arguments =
        [fd as usize, c"".as_ptr() as usize, flags, attr as *const MountAttr as usize, size_of::<MountAttr>()];
    // SAFETY: the attributes live across the call.
    unsafe { call(nr::MOUNT_SETATTR, arguments) }.map(drop)
}

pub fn fsopen(kind: &CStr) -> Result<Fd> {
    const FSOPEN_CLOEXEC: usize = 1;
    // SAFETY: a C string for the length of the call.
    opened(unsafe { call(nr::FSOPEN, [kind.as_ptr() as usize, FSOPEN_CLOEXEC]) })
}

fn fsconfig(fd: i32, command: usize, key: Option<&CStr>, value: usize, aux: i32) -> Result<()> {
    let key = key.map_or(0, |key| key.as_ptr() as usize);
    // SAFETY: key is a C string; value is zero or a C string that the public functions below hold.
    unsafe { call(nr::FSCONFIG, [fd as usize, command, key, value, aux as usize]) }.map(drop)
}

pub fn fsconfig_string(fd: i32, key: &CStr, value: &CStr) -> Result<()> {
    fsconfig(fd, FSCONFIG_SET_STRING, Some(key), value.as_ptr() as usize, 0)
}

pub fn fsconfig_flag(fd: i32, key: &CStr) -> Result<()> {
    fsconfig(fd, FSCONFIG_SET_FLAG, Some(key), 0, 0)
}

pub fn fsconfig_fd(fd: i32, key: &CStr, value: i32) -> Result<()> {
    fsconfig(fd, FSCONFIG_SET_FD, Some(key), 0, value)
}

pub fn fsconfig_create(fd: i32) -> Result<()> {
    fsconfig(fd, FSCONFIG_CMD_CREATE, None, 0, 0)
}

/// The super block of the mount behind `fd`, to be changed (fspick(2), 5.2).
pub fn fspick(fd: i32) -> Result<Fd> {
    const FSPICK_CLOEXEC: usize = 1;
    const FSPICK_EMPTY_PATH: usize = 8;
    // SAFETY: an empty C string.
    opened(unsafe { call(nr::FSPICK, [fd as usize, c"".as_ptr() as usize, FSPICK_CLOEXEC | FSPICK_EMPTY_PATH]) })
}

pub fn fsconfig_reconfigure(fd: i32) -> Result<()> {
    fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, None, 0, 0)
}

pub fn fsmount(fd: i32, attributes: u64) -> Result<Fd> {
    const FSMOUNT_CLOEXEC: usize = 1;
    // SAFETY: no pointers.
    opened(unsafe { call(nr::FSMOUNT, [fd as usize, FSMOUNT_CLOEXEC, attributes as usize]) })
}

/// Attaches a detached mount onto the directory or file behind `target`.
pub fn move_mount_onto(mount: i32, target: i32) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr() as usize;
    // SAFETY: empty C strings.
    unsafe { call(nr::MOVE_MOUNT, [mount as usize, empty, target as usize, empty, flags]) }.map(drop)
}

/// Attaches a detached mount at a path. For the old overlay fallback and the new root only.
pub fn move_mount_at(mount: i32, dir: i32, path: &CStr) -> Result<()> {
    let arguments =
        [mount as usize, c"".as_ptr() as usize, dir as usize, path.as_ptr() as usize, MOVE_MOUNT_F_EMPTY_PATH];
    // SAFETY: C strings for the length of the call.
    unsafe { call(nr::MOVE_MOUNT, arguments) }.map(drop)
}

/// Makes every mount of this namespace private, so that nothing done here is seen elsewhere.
pub fn make_root_private() -> Result<()> {
    // SAFETY: a constant C string; the other pointers are null.
    unsafe { call(nr::MOUNT, [0, c"/".as_ptr() as usize, 0, MS_REC | MS_PRIVATE, 0]) }.map(drop)
}

/// mount(2) of an overlay, for what is too long for fsconfig(2): a page of options.
pub fn mount_overlay(target: &CStr, options: &CStr) -> Result<()> {
    let kind = c"overlay".as_ptr() as usize;
    let arguments = [kind, target.as_ptr() as usize, kind, 0, options.as_ptr() as usize];
    // SAFETY: C strings for the length of the call.
    unsafe { call(nr::MOUNT, arguments) }.map(drop)
}

/// pivot_root(".", "."), after which the old root lies over the new one and is detached.
pub fn pivot_into_current(keep_old: bool) -> Result<()> {
    let here = c".".as_ptr() as usize;
    // SAFETY: constant C strings.
    unsafe { call(nr::PIVOT_ROOT, [here, here]) }?;
    if keep_old {
        return Ok(());
    }
    // SAFETY: a constant C string.
    unsafe { call(nr::UMOUNT2, [here, MNT_DETACH]) }.map(drop)
}
