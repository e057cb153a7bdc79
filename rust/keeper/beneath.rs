//! Names beneath the container's root, each resolved there and nowhere else, and directories made on the way. Mounts nothing.

use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::{Errno, Result};
use core::ffi::CStr;

/// A mount point of ours: a real directory, made where it is missing. A symbolic link there is an attack (CVE-2019-19921, 2023-27561).
pub fn own_directory(root: i32, path: &CStr) -> Result<Fd> {
    let open = || {
        let flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
        fs::openat2(root, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    };
    match open() {
        Err(Errno::NOENT) => {
            fs::mkdirat(root, path, 0o755)?;
            open()
        }
        other => other,
    }
}

/// A path of the user's inside the root: links are followed, but never out of it, and never through /proc's.
pub fn resolve(root: i32, path: &CStr, flags: usize) -> Result<Fd> {
    fs::openat2(root, path, O_PATH | flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// mkdir -p, component by component, each opened beneath the root before the next (CVE-2024-45310, CVE-2026-87766).
pub fn directories(root: i32, path: &CStr, mode: u32) -> Result<Fd> {
    let mut buffer = [0u8; 4096];
    let bytes = path.to_bytes();
    let mut end = 0;
    let mut last = Err(Errno::INVAL);
    while end < bytes.len() {
        end += bytes[end..].iter().take_while(|byte| **byte == b'/').count();
        end += bytes[end..].iter().take_while(|byte| **byte != b'/').count();
        buffer.get_mut(..end).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(&bytes[..end]);
        buffer[end] = 0;
        let prefix = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::NAMETOOLONG)?;
        last = match resolve(root, prefix, O_DIRECTORY) {
            Err(Errno::NOENT) => {
                let (parent, name) = split(root, prefix, &last)?;
                fs::mkdirat(parent, name, mode)?;
                resolve(root, prefix, O_DIRECTORY)
            }
            other => other,
        };
        if let Err(errno) = last {
            return Err(errno);
        }
    }
    last
}

/// The directory reached so far, and the name in it that is missing.
fn split<'a>(root: i32, prefix: &'a CStr, reached: &Result<Fd>) -> Result<(i32, &'a CStr)> {
    let bytes = prefix.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = CStr::from_bytes_with_nul(&bytes[start..]).map_err(|_| Errno::INVAL)?;
    Ok((reached.as_ref().map_or(root, Fd::raw), name))
}

pub fn parent_of<'a>(root: i32, path: &'a CStr, buffer: &mut [u8; 4096]) -> Result<(Fd, &'a CStr)> {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = CStr::from_bytes_with_nul(&bytes[start..]).map_err(|_| Errno::INVAL)?;
    let directory = &bytes[..start.saturating_sub(1)];
    if directory.is_empty() {
        return Ok((resolve(root, c".", O_DIRECTORY)?, name));
    }
    buffer.get_mut(..directory.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(directory);
    buffer[directory.len()] = 0;
    let directory = CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::NAMETOOLONG)?;
    Ok((directories(root, directory, 0o755)?, name))
}

/// The container's own: an overlay, or the mount of a root that is a copy.
pub fn is_of_the_root(directory: i32, root: i32) -> Result<bool> {
    const OVERLAY_MAGIC: i64 = 0x794c_7630;
    Ok(fs::fstatfs(directory)?.kind == OVERLAY_MAGIC || fs::fstat(directory)?.mount_id == fs::fstat(root)?.mount_id)
}
