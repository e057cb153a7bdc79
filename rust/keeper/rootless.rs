//! A keeper without privileges enters a user namespace of its own, once, and has its privileges there.

use crate::maps::{Line, Maps, StandIn};
use crate::procfs;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::memory::{self, Arena};
use crate::sys::process::{self, Cloned, WordArray};
use crate::sys::{Errno, Result};
use crate::wire::{Decimal, Reader, step};
use core::ffi::CStr;

type Refused = (u16, Errno);

/// The plan of HELLO: our ids, and (where there is a subuid range) newuidmap and newgidmap with their arguments.
pub fn enter(from: &mut Reader<'_>) -> core::result::Result<(), Refused> {
    let (uid, gid) = (process::geteuid(), process::getegid());
    let helpers = from.u8().ok_or((step::DECODE, Errno::PROTO))?;
    let (stand_in, namespace) = StandIn::in_new().map_err(|errno| (step::CLONE, errno))?;
    if helpers == 0 {
        map_one(stand_in.pid, uid, gid).map_err(|errno| (step::UID_MAP, errno))?;
    }
    for _ in 0..helpers {
        run_helper(from, stand_in.pid).map_err(|errno| (step::GID_MAP, errno))?;
    }
    drop(stand_in);
    let entered = process::setns(namespace.raw(), CLONE_NEWUSER).and_then(|()| process::unshare(CLONE_NEWNS));
    entered.map_err(|errno| (step::CLONE, errno))?;
    if helpers > 0 {
        become_root().map_err(|errno| (step::GID_MAP, errno))?;
    }
    crate::keeper::become_privileged()
}

/// One id, our own, as root inside. setgroups must be given up first (user_namespaces(7)).
fn map_one(pid: i32, uid: u32, gid: u32) -> Result<()> {
    procfs::with_path(pid, b"/setgroups", |path| fs::write_file(AT_FDCWD, path, b"deny"))?;
    let (uid, gid) = (Line::new([0, uid, 1]), Line::new([0, gid, 1]));
    crate::maps::write(pid, Maps { uid: uid.text(), gid: gid.text() })
}

/// A host whose real and effective ids differ: only one of them is root inside.
fn become_root() -> Result<()> {
    process::setresgid(0)?;
    process::setresuid(0)
}

/// One set-user-ID helper: its path, then its arguments after the pid.
fn run_helper(from: &mut Reader<'_>, pid: i32) -> Result<()> {
    let path = from.bytes().ok_or(Errno::PROTO)?;
    let count = from.u8().ok_or(Errno::PROTO)? as usize;
    let store = memory::map_bytes(4096)?;
    let mut room = Strings { rest: store };
    let program = room.keep(path)?;
    let mut words = Arena::of(memory::map_bytes((count + 8) * size_of::<usize>())?);
    let mut argv = WordArray::with_room(count + 2, &mut words)?;
    argv.push(program)?;
    argv.push(room.keep(Decimal::new(pid as u64).bytes())?)?;
    for _ in 0..count {
        argv.push(room.keep(from.bytes().ok_or(Errno::PROTO)?)?)?;
    }
    let envp = WordArray::with_room(0, &mut words)?;
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
