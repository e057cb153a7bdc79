//! What the kernel says of a container after exec: read, never remembered. Sections of the wire format, for the host to interpret.

use crate::inside::State;
use crate::plan::Plan;
use crate::procfs;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::process;
use crate::sys::{Errno, Result};
use crate::users::GROUPS_MAX;
use crate::wire::{Reader, Write, evidence as section, inside as op};
use crate::witness;
use core::ffi::CStr;

/// Of one file, as it is sent.
const TEXT_MAX: usize = 2048;
/// Of /proc/PID/status, where each group is up to eleven bytes more (proc(5)).
const STATUS_MAX: usize = TEXT_MAX + 11 * GROUPS_MAX;
const NAMES: [&CStr; 8] = [
    c"self/ns/cgroup",
    c"self/ns/ipc",
    c"self/ns/mnt",
    c"self/ns/net",
    c"self/ns/pid",
    c"self/ns/time",
    c"self/ns/user",
    c"self/ns/uts",
];

/// Of the command that PID 1 has started, from inside.
pub fn of_command(pid: i32, plan: &Plan<'_>, state: &State<'_>, out: &mut impl Write) {
    let own =
        if state.proc >= 0 { Ok(Fd::own(state.proc)) } else { fs::openat(AT_FDCWD, c"/proc", O_PATH | O_DIRECTORY, 0) };
    let Ok(proc) = own else { return };
    let open = |file: &[u8]| procfs::with_path_below(pid, file, |path| fs::openat(proc.raw(), path, O_RDONLY, 0));
    put_status(open(b"/status"), out);
    witness::of_limits(plan.head.flags, open, out);
    put_file(section::UID_MAP, fs::openat(proc.raw(), c"self/uid_map", O_RDONLY, 0), out);
    put_namespaces(proc.raw(), out);
    of_mounts(plan, state, pid, out);
    let _ = proc.release();
}

/// Of a command that is PID 1, by the keeper, from outside.
pub fn of_process(pid: i32, flags: u32, out: &mut impl Write) {
    let open = |file: &[u8]| procfs::with_path(pid, file, |path| fs::openat(AT_FDCWD, path, O_RDONLY, 0));
    put_status(open(b"/status"), out);
    witness::of_limits(flags, open, out);
    put_file(section::UID_MAP, open(b"/uid_map"), out);
    out.put_u8(section::NAMESPACES);
    for name in NAMES {
        let rest = &name.to_bytes()[4..];
        out.put_u64(procfs::with_path(pid, rest, |path| Ok(namespace_inode(AT_FDCWD, path))).unwrap_or(0));
    }
    put_limits(&[pid], out);
}

/// The bound on tasks: the lowest of these processes' own. The namespace's is what PID 1 was made with; with one id it is the
/// command's.
fn put_limits(pids: &[i32], out: &mut impl Write) {
    let soft = |pid: &i32| process::getrlimit_of(*pid, RLIMIT_NPROC).map_or(u64::MAX, |(soft, _)| soft);
    out.put_u8(section::LIMITS);
    out.put_u64(pids.iter().map(soft).min().unwrap_or(u64::MAX));
}

fn put_namespaces(proc: i32, out: &mut impl Write) {
    out.put_u8(section::NAMESPACES);
    for name in NAMES {
        out.put_u64(namespace_inode(proc, name));
    }
}

/// The file systems: flags of the root, how each mask and each read-only path looks, the groups, the second wall.
pub fn of_mounts(plan: &Plan<'_>, state: &State<'_>, command: i32, out: &mut impl Write) {
    if command == 0 && state.proc >= 0 {
        // This process becomes the command: it may have ended, and its namespaces with it, before the keeper can look.
        put_namespaces(state.proc, out);
    }
    out.put_u8(section::MOUNT_FLAGS);
    let flags = fs::fstatfs(state.root).map_or(0, |seen| seen.flags as u64);
    out.put_u64(flags);
    put_limits(&[0, command], out);
    out.put_u8(section::LANDLOCK);
    out.put_u8(state.landlocked as u8);
    out.put_u8(section::IDMAP);
    out.put_u8(state.mapped());
    out.put_u8(section::CGROUP);
    out.put_bytes(&state.cgroup[..state.cgroup_length]);
    put_hidden(plan, state, out);
    witness::of_root(state, out);
}

/// For each mask and read-only path of the plan: whether it is there, and whether it holds.
fn put_hidden(plan: &Plan<'_>, state: &State<'_>, out: &mut impl Write) {
    let mut from = plan.inside;
    out.put_u8(section::MASKED);
    while let Some((kind, path)) = next_hidden(&mut from) {
        if !holds(kind, path, state) {
            out.put_u8(kind);
            out.put_bytes(path.to_bytes());
        }
    }
    out.put_u8(0);
}

/// Before anything of the container's runs: the first mask or read-only path that does not hold, as the index of its step. A path
/// that was swapped while it was covered, by another container that shares a directory, ends the start (GHSA-3q8j-pf29-vwv8).
pub fn uncovered(plan: &Plan<'_>, state: &State<'_>) -> Option<u16> {
    let mut from = plan.inside;
    for index in 0.. {
        match from.u8()? {
            kind @ (op::MASK | op::READ_ONLY) if holds(kind, from.text()?, state) => {}
            op::MASK | op::READ_ONLY => return Some(index),
            op::END => return None,
            other => skip(other, &mut from)?,
        }
    }
    None
}

fn holds(kind: u8, path: &CStr, state: &State<'_>) -> bool {
    match fs::openat2(state.root, path, O_PATH | O_NOFOLLOW, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) {
        Ok(fd) if kind == op::MASK => is_masked(fd.raw()),
        Ok(fd) => fs::fstatfs(fd.raw()).is_ok_and(|seen| seen.flags as u64 & ST_RDONLY != 0),
        Err(errno) => matches!(errno, Errno::NOENT | Errno::NOTDIR), // not there, as when it was to be covered
    }
}

/// The masks and read-only paths stand together at the list's end, after `PIVOT`'s predecessors; others are skipped by shape.
fn next_hidden<'a>(from: &mut Reader<'a>) -> Option<(u8, &'a CStr)> {
    loop {
        let kind = from.u8()?;
        match kind {
            op::MASK | op::READ_ONLY => return Some((kind, from.text()?)),
            op::END => return None,
            other => skip(other, from)?,
        }
    }
}

fn skip(kind: u8, from: &mut Reader<'_>) -> Option<()> {
    match kind {
        op::ROOT => from.u16().map(drop),
        op::DEVPTS => from.u8().map(drop),
        op::ATTACH => from.u16().and(from.text()).and(from.u8()).map(drop),
        op::SYSCTL => from.text().and(from.bytes()).map(drop),
        op::WRITE => from.text().and(from.u32()).and(from.take(16)).map(drop),
        op::CONSOLE => from.u32().map(drop),
        op::MKDIR => from.text().and(from.u32()).map(drop),
        op::PROVIDE => from.text().and(from.bytes()).map(drop),
        op::SYMLINK => from.text().and(from.text()).map(drop),
        op::HOSTNAME => from.bytes().map(drop),
        _ => Some(()),
    }
}

fn is_masked(fd: i32) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let Ok(seen) = fs::fstat(fd) else { return false };
    match seen.kind() {
        S_IFCHR => (seen.rdev_major, seen.rdev_minor) == (1, 3),
        S_IFDIR => fs::fstatfs(fd).is_ok_and(|fs| fs.kind == TMPFS_MAGIC && fs.flags as u64 & ST_RDONLY != 0),
        _ => false,
    }
}

/// Without the line of groups: it stands before what is told, and can be longer than all that there is room for.
fn put_status(file: Result<Fd>, out: &mut impl Write) {
    const GROUPS: &[u8] = b"\nGroups:";
    let mut text = [0u8; STATUS_MAX];
    let mut length = file.and_then(|file| fs::read_full(file.raw(), &mut text)).unwrap_or(0);
    if let Some(start) = text[..length].windows(GROUPS.len()).position(|window| window == GROUPS) {
        let rest = &text[start + 1..length];
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(length, |end| start + 1 + end);
        text.copy_within(end..length, start);
        length -= end - start;
    }
    out.put_u8(section::STATUS);
    out.put_bytes(&text[..length.min(TEXT_MAX)]);
}

pub fn put_file(kind: u8, file: Result<Fd>, out: &mut impl Write) {
    let mut text = [0u8; TEXT_MAX];
    let length = file.and_then(|file| fs::read_full(file.raw(), &mut text)).unwrap_or(0);
    out.put_u8(kind);
    out.put_bytes(&text[..length]);
}

/// The number in "pid:[4026532201]"; 0 where it cannot be read.
fn namespace_inode(dir: i32, path: &CStr) -> u64 {
    let mut text = [0u8; 64];
    let length = fs::readlinkat(dir, path, &mut text).unwrap_or(0);
    let digits =
        text[..length].iter().skip_while(|byte| **byte != b'[').skip(1).take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + (digit - b'0') as u64)
}
