//! A steward: a fork of a plain user's keeper with all of its range of ids, for the files of that user's store. A layer's files belong to
//! ids of the range, as their image says; the host, who is none of them, has them given, opened and removed here. Resolves nothing but
//! beneath descriptors that come with a message; runs nothing; is in none of a container's namespaces.

use crate::pid1::stay_undumpable;
use crate::removal;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::net::{self, Received};
use crate::sys::{Errno, Result, freestanding, memory, process, security, xattr};
use crate::transfer::is_component;
use crate::wire::{Reader, store};
use core::ffi::CStr;

const SOCKET: i32 = 3;
const CAPABILITIES: u64 = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_FSETID | CAP_SETFCAP;
const BENEATH: u64 = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
const SET_IDS: u32 = 0o6000;

/// In the copy of the keeper: without what that knows of others.
pub fn enter(socket: i32) -> ! {
    if become_steward(socket).is_err() {
        process::exit_group(1); // the socket's end says so
    }
    freestanding::forget_and(serve, SOCKET)
}

fn become_steward(socket: i32) -> Result<()> {
    let _ = process::set_name(c"pycontainer-own");
    let copy = fs::dup_above(socket, SOCKET + 1)?;
    fs::dup_onto(copy.raw(), SOCKET, true)?;
    drop(copy);
    fs::close_range(0, SOCKET as u32 - 1, false)?;
    fs::close_range(SOCKET as u32 + 1, u32::MAX, false)?;
    process::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    security::cut_bounding_set(0)?;
    security::capset(CAPABILITIES)?;
    stay_undumpable();
    process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0).map(drop)
}

/// One request after another, until the host closes its end.
fn serve(socket: i32) -> ! {
    let Ok(buffer) = memory::map_bytes(store::MESSAGE_MAX) else { process::exit_group(1) };
    loop {
        let received = match net::receive(socket, buffer, 0) {
            Err(Errno::INTR) => continue,
            Ok(received) if received.length > 0 => received,
            _ => process::exit_group(0),
        };
        let done = carry_out(Reader::new(&buffer[..received.length]), &received);
        let errno = done.as_ref().err().map_or(0, |errno| errno.0);
        let opened = done.as_ref().map_or(-1, Fd::raw);
        let fds: &[i32] = if opened < 0 { &[] } else { &[opened] };
        let _ = net::send(socket, &errno.to_le_bytes(), fds, 0);
        received.fds[..received.fd_count].iter().filter(|fd| **fd >= 0).for_each(|fd| fs::close(*fd));
    }
}

fn carry_out(mut from: Reader<'_>, received: &Received) -> Result<Fd> {
    if received.truncated || received.fd_count != 1 {
        return Err(Errno::MFILE);
    }
    let directory = received.fds[0];
    match from.u8() {
        Some(store::OWN) => own(directory, from).map(|()| Fd::NONE),
        Some(store::OPEN) => open(directory, from),
        Some(store::REMOVE) => remove(directory, from).map(|()| Fd::NONE),
        _ => Err(Errno::PROTO),
    }
}

fn remove(directory: i32, mut from: Reader<'_>) -> Result<()> {
    removal::remove(directory, from.text().filter(|name| is_component(name)).ok_or(Errno::INVAL)?)
}

/// "." opens the directory once more.
fn open(directory: i32, mut from: Reader<'_>) -> Result<Fd> {
    let flags = from.u32().ok_or(Errno::PROTO)? as usize;
    let name = from.text().filter(|name| *name == c"." || is_component(name)).ok_or(Errno::INVAL)?;
    fs::openat(directory, name, flags & (O_PATH | O_DIRECTORY | O_NONBLOCK) | O_NOFOLLOW | O_NOCTTY, 0)
}

fn own(root: i32, mut from: Reader<'_>) -> Result<()> {
    while !from.is_empty() {
        let (uid, gid) = from.u32().zip(from.u32()).ok_or(Errno::PROTO)?;
        let (path, capability) = from.text().zip(from.bytes()).ok_or(Errno::PROTO)?;
        match give(root, path, (uid, gid), capability) {
            // A later entry of the archive took its place, and has said its own.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            other => other?,
        }
    }
    Ok(())
}

/// By name, of what is no link: nobody else writes there, and to open it could do anything.
fn set_mode(root: i32, path: &CStr, mode: u32) -> Result<()> {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = CStr::from_bytes_with_nul(&bytes[start..]).map_err(|_| Errno::INVAL)?;
    if start == 0 {
        return fs::fchmodat(root, name, mode);
    }
    let mut above = [0; store::PATH_MAX + 1];
    above.get_mut(..start).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(&bytes[..start]);
    let above = CStr::from_bytes_until_nul(&above).map_err(|_| Errno::NAMETOOLONG)?;
    let parent = fs::openat2(root, above, O_PATH | O_DIRECTORY, 0, BENEATH)?;
    fs::fchmodat(parent.raw(), name, mode)
}

/// Owner first: its change clears set-id bits and capabilities (chown(2)).
fn give(root: i32, path: &CStr, (uid, gid): (u32, u32), capability: &[u8]) -> Result<()> {
    let found = fs::openat2(root, path, O_PATH | O_NOFOLLOW, 0, BENEATH)?;
    let seen = fs::fstat(found.raw())?;
    let mode = seen.mode as u32 & 0o7777;
    fs::fchownat(found.raw(), c"", uid, gid)?;
    match seen.kind() {
        S_IFREG if mode & SET_IDS != 0 || !capability.is_empty() => {}
        S_IFIFO if mode & SET_IDS != 0 => return set_mode(root, path, mode),
        _ => return Ok(()),
    }
    let file = fs::openat2(root, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0, BENEATH)?;
    if mode & SET_IDS != 0 {
        fs::fchmod(file.raw(), mode)?;
    }
    match capability {
        [] => Ok(()),
        // A file system without them: the file is worth more.
        value => match xattr::fsetxattr(file.raw(), c"security.capability", value) {
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => Ok(()),
            other => other,
        },
    }
}
