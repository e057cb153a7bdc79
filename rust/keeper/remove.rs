//! Removal of what lies under the places when the host is gone: cgroup directories and upper directories, by descriptor.

use crate::container::Container;
use crate::keeper::PLACES_MAX;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process;
use crate::sys::{Errno, Result};
use core::ffi::CStr;

const DEPTH_MAX: usize = 64;

/// Removes the container's directory under each place that has one.
pub fn places(places: &[i32; PLACES_MAX], container: &Container) {
    for (index, place) in places.iter().enumerate() {
        if *place >= 0 && container.places >> index & 1 == 1 {
            let _ = directory(*place, container.name());
        }
    }
    if container.upper_parent >= 0 {
        let _ = tree(container.upper_parent, container.name(), 0);
    }
}

/// rmdir, with patience for a group whose last task is just leaving; then as rm -r.
fn directory(parent: i32, name: &CStr) -> Result<()> {
    for _ in 0..50 {
        match fs::unlinkat(parent, name, AT_REMOVEDIR) {
            Err(Errno(16)) => {
                let _ = process::poll(&mut [], 10);
            }
            Err(Errno(39)) => return tree(parent, name, 0),
            other => return other,
        }
    }
    tree(parent, name, 0)
}

/// Empties and removes a directory without following a link or crossing into another object under the same name.
fn tree(parent: i32, name: &CStr, depth: usize) -> Result<()> {
    if depth == DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    let dir = fs::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)?;
    let mut buffer = [0u8; 2048];
    loop {
        let length = fs::getdents64(dir.raw(), &mut buffer)?;
        if length == 0 {
            break;
        }
        each_entry(&buffer[..length], |entry| match fs::unlinkat(dir.raw(), entry, 0) {
            Err(Errno::ISDIR | Errno::PERM) => {
                let _ = tree(dir.raw(), entry, depth + 1);
            }
            _ => {}
        });
    }
    fs::unlinkat(parent, name, AT_REMOVEDIR)
}

/// Walks struct linux_dirent64 records: 8 bytes inode, 8 offset, 2 length, 1 type, then the name.
fn each_entry(records: &[u8], mut body: impl FnMut(&CStr)) {
    let mut at = 0;
    while at + 19 < records.len() {
        let length = u16::from_le_bytes([records[at + 16], records[at + 17]]) as usize;
        let name = CStr::from_bytes_until_nul(&records[at + 19..]).unwrap_or(c".");
        if name != c"." && name != c".." {
            body(name);
        }
        at += length.max(20);
    }
}
