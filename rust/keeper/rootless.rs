//! A keeper without privileges enters a user namespace of its own, once, and has its privileges there.

use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process::{self, Cloned, WordArray};
use crate::sys::{Errno, Result, net};
use crate::wire::{Decimal, Reader, step};
use core::ffi::CStr;

type Refused = (u16, Errno);

/// The plan of HELLO: our ids, and (where there is a subuid range) newuidmap and newgidmap with their arguments.
pub fn enter(from: &mut Reader<'_>) -> core::result::Result<(), Refused> {
    let (uid, gid) = (process::geteuid(), process::getegid());
    // Started by a host whose real and effective ids differ it is undumpable, and its own /proc files belong to somebody else.
    let _ = process::prctl(PR_SET_DUMPABLE, 1, 0);
    let helpers = from.u8().ok_or((step::DECODE, Errno::PROTO))?;
    if helpers == 0 {
        process::unshare(CLONE_NEWUSER | CLONE_NEWNS).map_err(|errno| (step::CLONE, errno))?;
        return map_one(uid, gid).map_err(|errno| (step::UID_MAP, errno));
    }
    map_by_helpers(from, helpers).map_err(|errno| (step::GID_MAP, errno))
}

/// One id, our own, as root inside. setgroups must be given up first (user_namespaces(7)).
fn map_one(uid: u32, gid: u32) -> Result<()> {
    fs::write_file(AT_FDCWD, c"/proc/self/setgroups", b"deny")?;
    write_line(c"/proc/self/uid_map", uid)?;
    write_line(c"/proc/self/gid_map", gid)
}

fn write_line(path: &CStr, id: u32) -> Result<()> {
    let mut line = [0u8; 24];
    let digits = Decimal::new(id as u64);
    let length = digits.bytes().len();
    line[..2].copy_from_slice(b"0 ");
    line[2..2 + length].copy_from_slice(digits.bytes());
    line[2 + length..4 + length].copy_from_slice(b" 1");
    fs::write_file(AT_FDCWD, path, &line[..4 + length])
}

/// The set-user-ID helpers must run outside the namespace whose maps they write: a child made before waits for our word.
fn map_by_helpers(from: &mut Reader<'_>, helpers: u8) -> Result<()> {
    let (ours, theirs) = net::socketpair()?;
    let keeper = process::getpid();
    let pid = match process::clone_copy(0, None)? {
        Cloned::Child => {
            drop(ours); // or the keeper's death would not show
            process::exit_group(run_helpers(from, helpers, theirs.raw(), keeper).map_or_else(|errno| errno.0, |()| 0))
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(theirs);
    process::unshare(CLONE_NEWUSER | CLONE_NEWNS)?;
    net::send(ours.raw(), &[1], &[], 0)?;
    let (_, status, _) = process::wait4(pid, WALL)?;
    if status != 0 { Err(Errno((status >> 8 & 0xff).max(1))) } else { become_root() }
}

fn become_root() -> Result<()> {
    process::setresgid(0)?;
    process::setresuid(0)
}

fn run_helpers(from: &mut Reader<'_>, helpers: u8, socket: i32, keeper: i32) -> Result<()> {
    if net::receive(socket, &mut [0u8; 1], 0)?.length != 1 {
        return Err(Errno::CHILD);
    }
    for _ in 0..helpers {
        run_helper(from, keeper)?;
    }
    Ok(())
}

/// One helper: its path, then its arguments after the pid.
fn run_helper(from: &mut Reader<'_>, keeper: i32) -> Result<()> {
    let path = from.bytes().ok_or(Errno::PROTO)?;
    let count = from.u8().ok_or(Errno::PROTO)? as usize;
    let store = crate::sys::memory::map_bytes(4096)?;
    let mut room = Strings { rest: store };
    let program = room.keep(path)?;
    let mut argv = WordArray::with_room(count + 2)?;
    argv.push(program)?;
    argv.push(room.keep(Decimal::new(keeper as u64).bytes())?)?;
    for _ in 0..count {
        argv.push(room.keep(from.bytes().ok_or(Errno::PROTO)?)?)?;
    }
    let envp = WordArray::with_room(0)?;
    match process::clone_copy(0, None)? {
        Cloned::Child => {
            let _ = process::set_signal_mask(0);
            process::exit_group(process::exec(program, &argv, &envp).0)
        }
        Cloned::Parent { pid, .. } => match process::wait4(pid, WALL)? {
            (_, 0, _) => Ok(()),
            (_, status, _) => Err(Errno((status >> 8 & 0xff).max(1))),
        },
    }
}

/// Copies of texts that live to the end of the process, as argv wants them.
struct Strings {
    rest: &'static mut [u8],
}

impl Strings {
    fn keep(&mut self, text: &[u8]) -> Result<&'static CStr> {
        let rest = core::mem::take(&mut self.rest);
        if rest.len() <= text.len() {
            return Err(Errno::NOMEM);
        }
        let (head, tail) = rest.split_at_mut(text.len() + 1);
        self.rest = tail;
        head[..text.len()].copy_from_slice(text);
        CStr::from_bytes_with_nul(head).map_err(|_| Errno::INVAL)
    }
}
