//! The extended attributes of a user's own, from an open file to a block of bytes and back.

use super::{EXTRA_MAX, LIST_MAX};
use crate::sys::{Errno, Result, xattr};
use core::ffi::CStr;

const HEAD: usize = 5; // bytes of the name with its zero, of the value

/// Only `user.`: others name rights (capabilities, labels, lists of ids) that mean something else on the other side; and `user.overlay.`
/// and `user.fuseoverlayfs.` are a layer's, which would lead an overlay astray that lies over the copy.
fn travels(name: &CStr) -> bool {
    let is = |begin: &[u8]| name.to_bytes().starts_with(begin);
    is(b"user.") && !is(b"user.overlay.") && !is(b"user.fuseoverlayfs.")
}

/// In a layer a file's capabilities too.
fn belongs_to_layers(name: &CStr) -> bool {
    travels(name) || name == c"security.capability"
}

/// Into the first part of `room`, which has EXTRA_MAX and LIST_MAX bytes; the length.
pub fn read(fd: i32, room: &mut [u8]) -> Result<usize> {
    read_those(fd, room, travels)
}

pub fn read_for_layer(fd: i32, room: &mut [u8]) -> Result<usize> {
    read_those(fd, room, belongs_to_layers)
}

fn read_those(fd: i32, room: &mut [u8], wanted: fn(&CStr) -> bool) -> Result<usize> {
    let (block, list) = room.split_at_mut(EXTRA_MAX);
    let Ok(length) = xattr::flistxattr(fd, &mut list[..LIST_MAX]) else { return Ok(0) };
    let (mut names, mut used) = (&list[..length], 0);
    while let Ok(name) = CStr::from_bytes_until_nul(names) {
        let said = name.to_bytes_with_nul();
        names = &names[said.len()..];
        if !wanted(name) {
            continue;
        }
        let start = used + HEAD + said.len();
        let value = block.get_mut(start..).filter(|value| !value.is_empty()).ok_or(Errno::TOOBIG)?;
        let size = match xattr::fgetxattr(fd, name, value) {
            Err(Errno::NODATA) => continue, // gone meanwhile
            Err(Errno::RANGE) => return Err(Errno::TOOBIG),
            other => other?,
        };
        block[used] = said.len() as u8; // XATTR_NAME_MAX is 255, with "user."
        block[used + 1..used + HEAD].copy_from_slice(&(size as u32).to_le_bytes());
        block[used + HEAD..start].copy_from_slice(said);
        used = start + size;
    }
    Ok(used)
}

/// A file system that has none is no reason to lose the file, as with shutil.copystat.
pub fn apply(fd: i32, mut block: &[u8]) -> Result<()> {
    while let Some((name, value, rest)) = next(block).filter(|(name, ..)| travels(name)) {
        match xattr::fsetxattr(fd, name, value) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        block = rest;
    }
    if block.is_empty() { Ok(()) } else { Err(Errno::PROTO) }
}

/// (name, value, what follows); None at the end, and where the rest is no attribute.
pub fn next(block: &[u8]) -> Option<(&CStr, &[u8], &[u8])> {
    let (head, rest) = block.split_at_checked(HEAD)?;
    let (name, rest) = rest.split_at_checked(head[0] as usize)?;
    let size = u32::from_le_bytes(head[1..HEAD].try_into().ok()?) as usize;
    let (value, rest) = rest.split_at_checked(size)?;
    Some((CStr::from_bytes_with_nul(name).ok()?, value, rest))
}
