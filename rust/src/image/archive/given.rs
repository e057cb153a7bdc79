//! What an inode has beside its content: owner, extended attributes, mode, times. Given to one, and read of one.

use super::stream::Meta;
use super::tree::refused;
use crate::error::{Error, Result};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// The most that a file has of attributes, and of one (limits.h: XATTR_LIST_MAX, XATTR_SIZE_MAX).
const ATTRIBUTE_MAX: usize = 64 << 10;

pub const CAPABILITY: &[u8] = b"security.capability";

/// Owner first: a change of owner clears set-id bits and capabilities (chown(2)). Attributes while it can still be written to. Time last.
pub fn give(fd: BorrowedFd<'_>, meta: &Meta, is_file: bool, privileged: bool) -> Result<()> {
    if privileged {
        let (uid, gid) = owner(meta)?;
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|errno| refused("set an owner", errno))?;
    }
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| is_taken(name, is_file && privileged)) {
        match rustix::fs::fsetxattr(fd, &**name, value, XattrFlags::empty()) {
            // A file system without them, or a user namespace that may not set them: the file is worth more.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE | Errno::INVAL) => {
                return Err(Error::Layer("an extended attribute that no file can have".into()));
            }
            Err(errno) => return Err(refused("set an extended attribute", errno)),
        }
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode)).map_err(|errno| refused("set a mode", errno))?;
    rustix::fs::futimens(fd, &times(meta)).map_err(|errno| refused("set a time", errno))
}

/// Attributes of users, but for those with which an overlay marks its own files; file capabilities where we may.
/// What else there is (labels, ACLs, trusted.*) belongs to the machine that made the archive.
pub fn is_taken(name: &[u8], with_capability: bool) -> bool {
    let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0);
    of_user || with_capability && name == CAPABILITY
}

/// The attributes of an open file whose names are wanted, sorted.
pub fn attributes(fd: BorrowedFd<'_>, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; ATTRIBUTE_MAX];
    let length = rustix::fs::flistxattr(fd, &mut names[..]).unwrap_or(0);
    let mut found: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && is_wanted(name))
        .filter_map(|name| {
            let mut value = vec![0; ATTRIBUTE_MAX];
            let length = rustix::fs::fgetxattr(fd, name, &mut value[..]).ok()?;
            value.truncate(length);
            Some((name.to_vec(), value))
        })
        .collect();
    found.sort();
    found
}

pub fn owner(meta: &Meta) -> Result<(Uid, Gid)> {
    owner_ids(meta).map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid)))
}

pub fn capability(meta: &Meta) -> Option<&[u8]> {
    meta.xattrs.iter().find(|(name, _)| name == CAPABILITY).map(|(_, value)| &value[..])
}

/// -1 means "unchanged" to chown(2), and is nobody's id.
pub fn owner_ids(meta: &Meta) -> Result<(u32, u32)> {
    let id = |id: u64| {
        u32::try_from(id)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| Error::Layer(format!("owner {id} is out of range")))
    };
    Ok((id(meta.uid)?, id(meta.gid)?))
}

pub fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.0, tv_nsec: i64::from(meta.mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}
