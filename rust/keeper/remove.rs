//! Removal of what lies under the places when the host is gone: cgroup directories and upper directories, by descriptor.

use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process;
use crate::sys::{Errno, Result};
use crate::wire::Decimal;
use core::ffi::CStr;

const DEPTH_MAX: usize = 64;
const ROUNDS: usize = 8;
const HEAD: &[u8] = b"pycontainer-";

/// Every group and every writable layer that carries this keeper's pid: those of live containers, and what the host had made for
/// one whose plan never came.
pub fn ours(places: &[i32], uppers: &[i32]) {
    for place in places.iter().filter(|fd| **fd >= 0) {
        each_of_ours(*place, |name| directory(*place, name));
    }
    for upper in uppers.iter().filter(|fd| **fd >= 0) {
        each_of_ours(*upper, |name| tree(*upper, name, 0));
    }
}

/// What one container had, of this keeper or of one that is dead. Without waiting: the host has waited.
pub fn named(name: &CStr, places: &[i32], uppers: &[i32]) {
    if name.to_bytes().starts_with(HEAD) && !name.to_bytes().contains(&b'/') {
        for place in places.iter().filter(|fd| **fd >= 0) {
            let _ = fs::unlinkat(*place, name, AT_REMOVEDIR);
        }
        for upper in uppers.iter().filter(|fd| **fd >= 0) {
            let _ = tree(*upper, name, 0);
        }
    }
}

/// Looks again after each removal that went well: a directory that changes under getdents may hide an entry.
fn each_of_ours(parent: i32, remove: impl Fn(&CStr) -> Result<()>) {
    let prefix = Prefix::own();
    for _ in 0..ROUNDS {
        let Ok(listing) = fs::openat(parent, c".", O_RDONLY | O_DIRECTORY, 0) else { return };
        let mut removed = false;
        let mut buffer = [0u8; 2048];
        while let Ok(length @ 1..) = fs::getdents64(listing.raw(), &mut buffer) {
            each_entry(&buffer[..length], |name| {
                removed |= name.to_bytes().starts_with(prefix.bytes()) && remove(name).is_ok();
            });
        }
        if !removed {
            return;
        }
    }
}

/// "pycontainer-PID-": the beginning of the names that the host gives to what belongs to this keeper's containers.
struct Prefix {
    text: [u8; 40],
    length: usize,
}

impl Prefix {
    fn own() -> Prefix {
        let digits = Decimal::new(process::getpid() as u64);
        let mut prefix = Prefix { text: [b'-'; 40], length: HEAD.len() + digits.bytes().len() + 1 };
        prefix.text[..HEAD.len()].copy_from_slice(HEAD);
        prefix.text[HEAD.len()..prefix.length - 1].copy_from_slice(digits.bytes());
        prefix
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
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
        each_entry(&buffer[..length], |entry| {
            if let Err(Errno::ISDIR | Errno::PERM) = fs::unlinkat(dir.raw(), entry, 0) {
                let _ = tree(dir.raw(), entry, depth + 1);
            }
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
