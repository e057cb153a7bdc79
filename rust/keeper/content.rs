//! What is written beneath the new root: sysctls, files of the caller's and of the engine's own, directories, links. Mounts nothing.

use crate::beneath::{directories, is_of_the_root, parent_of, resolve};
use crate::inside::State;
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::{Errno, Result};
use crate::wire::Reader;
use core::ffi::CStr;

const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Written through our own procfs, so that no mount of the image's can stand in the way (CVE-2025-52881).
pub fn sysctl(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, value) = from.text().zip(from.bytes()).ok_or(Errno::PROTO)?;
    match fs::write_file(state.proc, path, value) {
        Err(Errno::NOENT) => Ok(()), // a kernel built without it
        other => other,
    }
}

/// A file of the caller's, there before the command starts, owned by its user.
pub fn write(from: &mut Reader<'_>, plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    let (path, mode) = from.text().zip(from.u32()).ok_or(Errno::PROTO)?;
    let (mut offset, length) = from.u64().zip(from.u64()).ok_or(Errno::PROTO)?;
    let (uid, gid) = match path.to_bytes() {
        // The user is looked up in these: they are written first, and are root's.
        b"etc/passwd" | b"etc/group" => (0, 0),
        _ => state.identity(plan).map(|who| (who.uid, who.gid)).map_err(|(_, errno)| errno)?,
    };
    let (parent, name) = parent_of(state.root, path, &mut [0; 4096])?;
    if !is_of_the_root(parent.raw(), state.root)? && fs::fstatfs(parent.raw())?.kind != TMPFS_MAGIC {
        return Err(Errno::LOOP); // where a link of the image's leads out of what is the container's own (CVE-2025-52881)
    }
    let flags = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY;
    let file = fs::openat2(parent.raw(), name, flags, 0o600, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)?;
    if fs::fstat(file.raw())?.kind() != S_IFREG {
        return Err(Errno::EXIST);
    }
    let end = offset + length;
    while offset < end {
        let left = (end - offset) as usize;
        if fs::sendfile(file.raw(), plan.fds.files, &mut offset, left)? == 0 {
            return Err(Errno::NODATA);
        }
    }
    fs::fchown(file.raw(), uid, gid)?;
    fs::fchmod(file.raw(), mode)
}

/// What every container has whatever its image says, such as /etc/hosts. Where an image makes that impossible it goes without.
pub fn provide(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, content) = from.text().zip(from.bytes()).ok_or(Errno::PROTO)?;
    let _ = provided(path, content, state.root);
    Ok(())
}

fn provided(path: &CStr, content: &[u8], root: i32) -> Result<()> {
    let (parent, name) = parent_of(root, path, &mut [0; 4096])?;
    if !is_of_the_root(parent.raw(), root)? {
        return Err(Errno::LOOP); // as above
    }
    // A link there leads to where another system keeps such a file; it is replaced, not followed.
    match fs::unlinkat(parent.raw(), name, 0) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    let file = fs::openat(parent.raw(), name, flags, 0o644)?;
    fs::write(file.raw(), content)?;
    fs::fchmod(file.raw(), 0o644)
}

pub fn make_directory(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, mode) = from.text().zip(from.u32()).ok_or(Errno::PROTO)?;
    match resolve(state.root, path, O_DIRECTORY) {
        Err(Errno::NOENT) => directories(state.root, path, mode).map(drop),
        other => other.map(drop),
    }
}

pub fn symlink(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, target) = from.text().zip(from.text()).ok_or(Errno::PROTO)?;
    let (parent, name) = parent_of(state.root, path, &mut [0; 4096])?;
    fs::symlinkat(target, parent.raw(), name)
}
