//! An agent: a fork of the keeper with the container's power over its files and no other, for one errand over one socket. In none of the
//! container's namespaces or groups, so that it works where those are frozen or gone; runs nothing, opens no absolute path.

use crate::beneath::resolve;
use crate::kept::Files;
use crate::pid1::{stay_undumpable, swap};
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::{Errno, Result, freestanding, memory, net, process, security};
use crate::transfer::input::Input;
use crate::transfer::output::Output;
use crate::transfer::tree::Marks;
use crate::transfer::{
    self, BUFFER, EXTRA_MAX, LEVELS, LIST_MAX, NAMES, SPECIAL, Stream, pack, refuse_kernels, unpack,
};
use crate::wire::files::ask;
use core::ffi::CStr;

mod diff;
mod layer;

const SOCKET: i32 = 3;
const ROOT: i32 = 4;
const UPPER: i32 = 5;
const LOWER: i32 = 6;
/// Beside a word of `ask`, in the one number that is taken along: the keeper is a plain user's.
const ROOTLESS: i32 = 1 << 8;
/// Likewise: a program shows the container's root.
const SERVED: i32 = 1 << 9;
const PATH_MAX: usize = 4096;
/// What root needs to reach its files, to change them whoever they belong to, and to leave set-id bits as they are.
const CAPABILITIES: u64 = CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_FSETID;
/// To look into the layers: trusted.overlay.opaque is for who may administer the machine.
const TO_COMPARE: u64 = CAP_DAC_READ_SEARCH | CAP_SYS_ADMIN;

/// The session's end.
pub struct Socket(pub i32);

impl Stream for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        fs::read(self.0, buffer)
    }

    fn write(&mut self, data: &[u8]) -> Result<usize> {
        net::send(self.0, data, &[], 0)
    }
}

/// In the copy of the keeper: without what that knows of others.
pub fn enter(files: &Files, space: Option<i32>, what: u8, rootless: bool, socket: i32) -> ! {
    if let Err(errno) = become_agent(files, space, what, socket) {
        let _ = Output::new(Socket(socket), &mut [0; 128]).verdict(errno, (0, Errno(0)), b"");
        process::exit_group(1);
    }
    let flag = |on: bool, bit: i32| if on { bit } else { 0 };
    freestanding::forget_and(serve, i32::from(what) | flag(rootless, ROOTLESS) | flag(files.served, SERVED))
}

fn become_agent(files: &Files, space: Option<i32>, what: u8, socket: i32) -> Result<()> {
    let compares = matches!(what, ask::DIFF | ask::LAYER);
    if files.upper < 0 && compares {
        return Err(Errno::OPNOTSUPP);
    }
    let _ = process::set_name(c"pycontainer-fs");
    let _ = process::setgroups(&[]); // a plain user with one id may not, and has none that matter
    fs::fchdir(files.root)?;
    fs::chroot_here()?; // no path is absolute; one that was would lead nowhere else
    if let Some(space) = space.filter(|_| !compares) {
        process::setns(space, CLONE_NEWUSER)?;
        process::setresgid(0)?;
        process::setresuid(0)?;
    }
    // Copies above all that they become.
    let wanted = [socket, files.root, files.upper, files.lower];
    let mut copies = [Fd::NONE, Fd::NONE, Fd::NONE, Fd::NONE];
    for (copy, fd) in copies.iter_mut().zip(wanted).filter(|(_, fd)| *fd >= 0) {
        *copy = fs::dup_above(fd, LOWER + 1)?;
    }
    for (copy, place) in copies.iter().zip(SOCKET..) {
        match copy.is_open() {
            true => fs::dup_onto(copy.raw(), place, true)?,
            false => fs::close(place),
        }
    }
    drop(copies);
    fs::close_range(0, SOCKET as u32 - 1, false)?;
    fs::close_range(LOWER as u32 + 1, u32::MAX, false)?;
    process::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    security::cut_bounding_set(0)?;
    security::capset(if compares { TO_COMPARE } else { CAPABILITIES })?;
    stay_undumpable();
    process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0).map(drop) // after the last change of ids, which clears it
}

/// One errand, whose failure is said; the end of this process is the end of the session.
fn serve(what: i32) -> ! {
    let marks = if what & SERVED != 0 { Marks::SERVED } else { Marks::of(what & ROOTLESS != 0) };
    let errno = match errand(what as u8, marks) {
        Ok(()) => process::exit_group(0),
        Err(errno) => errno,
    };
    let _ = Output::new(Socket(SOCKET), &mut [0; 128]).verdict(errno, (0, Errno(0)), b"");
    process::exit_group(1)
}

fn errand(what: u8, marks: Marks) -> Result<()> {
    let seam = cfg!(test_seams) && what & ask::SWAP_RESOLVED != 0;
    let mut input = Input::new(Socket(SOCKET), memory::map_bytes(BUFFER)?);
    let (mut path, mut temporary) = ([0; PATH_MAX], [0; PATH_MAX]);
    let path = text(&mut input, &mut path)?;
    match what & !ask::SWAP_RESOLVED {
        ask::READ => read(path, seam),
        ask::PACK => pack(path, seam),
        ask::UNPACK => {
            let temporary = text(&mut input, &mut temporary)?;
            unpack(input, path, temporary, seam)
        }
        ask::DIFF => diff::differences(Output::new(Socket(SOCKET), memory::map_bytes(BUFFER)?), marks),
        ask::LAYER => layer::layer(marks),
        ask::WHOLE => layer::whole(),
        _ => Err(Errno::PROTO),
    }
}

/// Without its leading slashes; "." is the root.
fn text<'b>(input: &mut Input<'_, Socket>, room: &'b mut [u8; PATH_MAX]) -> Result<&'b CStr> {
    let length = input.u32()? as usize;
    if length >= PATH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let said = input.take(length)?;
    let start = said.iter().position(|byte| *byte != b'/').unwrap_or(length);
    room[..length - start].copy_from_slice(&said[start..]);
    room[length - start] = 0;
    if start == length {
        room[..2].copy_from_slice(b".\0");
    }
    CStr::from_bytes_until_nul(room).map_err(|_| Errno::INVAL)
}

/// The directory that holds what a path names, and the name in it: "." where the path itself says that it is a directory.
fn split<'p>(path: &'p CStr, room: &mut [u8; PATH_MAX], seam: bool) -> Result<(Fd, &'p CStr)> {
    let found = parent_and_name(path, room)?;
    if seam {
        swap(ROOT)?;
    }
    refuse_kernels(found.0.raw())?;
    Ok(found)
}

fn parent_and_name<'p>(path: &'p CStr, room: &mut [u8; PATH_MAX]) -> Result<(Fd, &'p CStr)> {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = CStr::from_bytes_with_nul(&bytes[start..]).map_err(|_| Errno::INVAL)?;
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return Ok((resolve(ROOT, path, O_DIRECTORY)?, c"."));
    }
    let parent = if start == 0 { &b"."[..] } else { &bytes[..start] };
    room.get_mut(..parent.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(parent);
    room[parent.len()] = 0;
    let parent = CStr::from_bytes_until_nul(room).map_err(|_| Errno::INVAL)?;
    Ok((resolve(ROOT, parent, O_DIRECTORY)?, name))
}

fn packer() -> Result<pack::Packer<'static, Socket>> {
    let out = Output::new(Socket(SOCKET), memory::map_bytes(BUFFER)?);
    let extra = memory::map_bytes(EXTRA_MAX + LIST_MAX)?;
    let bounds = pack::Bounds { closed: devices(), no_kernels: true };
    Ok(pack::Packer::new(out, memory::map_bytes(LEVELS * NAMES)?, extra, bounds))
}

/// The engine's own /dev, which is a mount while the container lives.
fn devices() -> Option<(u64, u64)> {
    let flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
    let found = fs::openat2(ROOT, c"dev", flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS).ok()?;
    let (seen, root) = (fs::fstat(found.raw()).ok()?, fs::fstat(ROOT).ok()?);
    (seen.mount_id != root.mount_id).then(|| (seen.dev(), seen.ino))
}

fn told(packed: core::result::Result<(), pack::Fault>) -> Result<()> {
    match packed {
        Err(pack::Fault::Here(errno) | pack::Fault::Stream(errno)) => Err(errno),
        Ok(()) => Ok(()),
    }
}

fn pack(path: &CStr, seam: bool) -> Result<()> {
    let (parent, name) = split(path, &mut [0; PATH_MAX], seam)?;
    told(packer()?.pack(parent.raw(), name))
}

/// Looked at before it is opened: a device may do something at that.
fn read(path: &CStr, seam: bool) -> Result<()> {
    const TRIES: usize = 16;
    for attempt in 0..TRIES {
        let found = resolve(ROOT, path, 0)?;
        refuse_kernels(found.raw())?;
        let seen = fs::fstat(found.raw())?;
        match seen.kind() {
            S_IFREG => {}
            S_IFDIR => return Err(Errno::ISDIR),
            _ => return Err(SPECIAL),
        }
        if seam && attempt == 0 {
            swap(ROOT)?;
        }
        let flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
        let file = fs::openat2(ROOT, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)?;
        let opened = fs::fstat(file.raw())?;
        if (opened.dev(), opened.ino, opened.kind()) == (seen.dev(), seen.ino, S_IFREG) {
            return told(packer()?.pack_file(file.raw()));
        }
    }
    Err(Errno::AGAIN)
}

fn unpack(input: Input<'_, Socket>, path: &CStr, temporary: &CStr, seam: bool) -> Result<()> {
    if !transfer::is_component(temporary) {
        return Err(Errno::PROTO);
    }
    let (parent, name) = split(path, &mut [0; PATH_MAX], seam)?;
    let existing = || {
        let flags = O_RDONLY | O_DIRECTORY;
        fs::openat2(ROOT, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    };
    let rules = unpack::Rules { exact_modes: true, set_ids_on: Some(fs::fstat(ROOT)?.mount_id), no_kernels: true };
    let mut unpacker = unpack::Unpacker::new(input, rules);
    let done = unpacker.unpack(&unpack::Place { parent: parent.raw(), name, temporary, existing: &existing });
    let mut room = [0u8; 256];
    let mut out = Output::new(Socket(SOCKET), &mut room);
    let left = (unpacker.left.count, Errno(unpacker.left.errno));
    match done {
        Ok(()) => out.verdict(Errno(0), left, unpacker.left.first.text()),
        Err(unpack::Fault::Here(errno)) => out.verdict(errno, left, unpacker.trail.text()),
        Err(unpack::Fault::Sender(errno) | unpack::Fault::Stream(errno)) => out.verdict(errno, left, b""),
    }
}
