//! What an unpacked layer says of those below it, as an overlay reads it (kernel documentation, filesystems/overlayfs.rst, "whiteouts and
//! opaque directories"): a character device 0:0 hides a name, and an attribute makes a directory opaque.
//!
//! On another overlay, as within another container, no such device can be made. There an empty file with an attribute hides the name, in
//! a directory whose attribute says that it has such files ("nesting overlayfs mounts"). The kernel reads those from Linux 6.8 on.

use super::tree::{Marks, refused};
use crate::error::{Error, Result};
use crate::image::steward;
use crate::sys::version;
use rustix::fs::{FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Of a layer that root unpacked; of a plain user's, which is mounted with `userxattr`.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
const WHITEOUT: [&str; 2] = ["trusted.overlay.whiteout", "user.overlay.whiteout"];
const YES: &[u8] = b"y";
/// Not opaque, but with files that hide a name.
const HAS_WHITEOUTS: &[u8] = b"x";
/// Since when an overlay knows files that hide a name by what they are now.
const FILES_HIDE: (u32, u32) = (6, 8);

pub fn set(directory: BorrowedFd<'_>, marks: &Marks, privileged: bool) -> Result<()> {
    let mut by_files = false;
    for name in &marks.hidden {
        match rustix::fs::mknodat(directory, &**name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::PERM) => {
                hide_by_file(directory, name, privileged)?;
                by_files = true;
            }
            other => other.map_err(|errno| refused("make a whiteout", errno))?,
        }
    }
    let value = match () {
        () if marks.is_opaque => YES,
        () if by_files => HAS_WHITEOUTS,
        () => return Ok(()),
    };
    let name = OPAQUE[usize::from(!privileged)];
    match rustix::fs::fsetxattr(directory, name, value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => {
            let cause = format!("the store's file system holds no attribute {name}");
            let fix = "put the store on ext4, xfs or btrfs, or on a tmpfs of Linux 6.6 (PYCONTAINER_ROOT)";
            Err(Error::unsupported("opaque directories", cause, fix))
        }
        other => other.map_err(|errno| refused("mark an opaque directory", errno)),
    }
}

fn hide_by_file(directory: BorrowedFd<'_>, name: &[u8], privileged: bool) -> Result<()> {
    let lacking = || {
        let cause = "character device 0:0 may not be made in the store, which an overlay or a seccomp filter refuses";
        let fix = "Linux 6.8, or a store on ext4, xfs or btrfs (PYCONTAINER_ROOT)";
        Error::unsupported("whiteouts", cause, fix)
    };
    if version::of_kernel() < FILES_HIDE {
        return Err(lacking());
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR);
    let file = made.map_err(|errno| refused("make a whiteout", errno))?;
    match rustix::fs::fsetxattr(&file, WHITEOUT[usize::from(!privileged)], YES, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Err(lacking()),
        other => other.map_err(|errno| refused("make a whiteout", errno)),
    }
}

fn says(file: &OwnedFd, names: [&str; 2], value: &[u8]) -> bool {
    let mut found = [0; 8];
    names.iter().any(
        |name| matches!(rustix::fs::fgetxattr(file, *name, &mut found[..]), Ok(length) if found[..length] == *value),
    )
}

/// Whether it shows nothing of the layers below.
pub fn is_opaque(directory: &OwnedFd) -> bool {
    says(directory, OPAQUE, YES)
}

/// Whether a layer shows nothing of those below, by the path of its root.
pub fn is_opaque_root(root: &Path) -> bool {
    let mut found = [0; 8];
    OPAQUE
        .iter()
        .any(|name| matches!(rustix::fs::lgetxattr(root, *name, &mut found[..]), Ok(length) if found[..length] == *YES))
}

/// Whether what was seen under this name hides those of the layers below.
pub fn hides(directory: &OwnedFd, name: &CStr, seen: &Stat) -> rustix::io::Result<bool> {
    match FileType::from_raw_mode(seen.st_mode) {
        FileType::CharacterDevice => Ok(seen.st_rdev == 0),
        FileType::RegularFile if seen.st_size == 0 && says(directory, OPAQUE, HAS_WHITEOUTS) => {
            let file = steward::open(directory.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            Ok(says(&file, WHITEOUT, YES))
        }
        _ => Ok(false),
    }
}
