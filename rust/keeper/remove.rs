//! Removal of what lies under the places when the host is gone: cgroup directories and upper directories, by descriptor.

use crate::removal;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process;
use crate::sys::{Errno, Result};
use core::ffi::CStr;

const ROUNDS: usize = 8;
const HEAD: &[u8] = b"pycontainer-";
/// HEAD and three numbers.
pub const PREFIX_MAX: usize = 80;

/// Every group and every writable layer whose name begins so: those of live containers, and what the host had made for one whose plan
/// never came.
pub fn ours(prefix: &[u8], places: &[i32], uppers: &[i32]) {
    if !prefix.starts_with(HEAD) {
        return; // it has not been said
    }
    for place in places.iter().filter(|fd| **fd >= 0) {
        each_of(prefix, *place, |name| directory(*place, name));
    }
    for upper in uppers.iter().filter(|fd| **fd >= 0) {
        each_of(prefix, *upper, |name| removal::remove(*upper, name));
    }
}

/// What one container had, of this keeper or of one that is dead. Without waiting: the host has waited.
pub fn named(name: &CStr, places: &[i32], uppers: &[i32]) {
    if name.to_bytes().starts_with(HEAD) && !name.to_bytes().contains(&b'/') {
        for place in places.iter().filter(|fd| **fd >= 0) {
            let _ = fs::unlinkat(*place, name, AT_REMOVEDIR);
        }
        for upper in uppers.iter().filter(|fd| **fd >= 0) {
            let _ = removal::remove(*upper, name);
        }
    }
}

/// Whether something lies in it whose name begins so. What cannot be looked at has nothing.
pub fn has_ours(prefix: &[u8], parent: i32) -> bool {
    let Ok(listing) = fs::openat(parent, c".", O_RDONLY | O_DIRECTORY, 0) else { return false };
    let mut buffer = [0u8; 2048];
    while let Ok(length @ 1..) = fs::getdents64(listing.raw(), &mut buffer) {
        if fs::entries(&buffer[..length]).any(|entry| entry.name.to_bytes().starts_with(prefix)) {
            return true;
        }
    }
    false
}

/// Looks again after each removal that went well: a directory that changes under getdents may hide an entry.
fn each_of(prefix: &[u8], parent: i32, remove: impl Fn(&CStr) -> Result<()>) {
    for _ in 0..ROUNDS {
        let Ok(listing) = fs::openat(parent, c".", O_RDONLY | O_DIRECTORY, 0) else { return };
        let mut removed = false;
        let mut buffer = [0u8; 2048];
        while let Ok(length @ 1..) = fs::getdents64(listing.raw(), &mut buffer) {
            for entry in fs::entries(&buffer[..length]) {
                removed |= entry.name.to_bytes().starts_with(prefix) && remove(entry.name).is_ok();
            }
        }
        if !removed {
            return;
        }
    }
}

/// rmdir, with patience for a group whose last task is just leaving; then as rm -r.
fn directory(parent: i32, name: &CStr) -> Result<()> {
    for _ in 0..50 {
        match fs::unlinkat(parent, name, AT_REMOVEDIR) {
            Err(Errno::BUSY) => {
                let _ = process::poll(&mut [], 10);
            }
            Err(Errno::NOTEMPTY) => return removal::remove(parent, name),
            other => return other,
        }
    }
    removal::remove(parent, name)
}
