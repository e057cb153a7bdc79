//! A plan as the keeper and PID 1 read it: descriptors by role, and the sections in place. No system calls.

use crate::maps::Maps;
use crate::sys::net::MAX_FDS;
use crate::wire::{Head, Reader, role};
use core::ffi::CStr;

/// The descriptors of one plan, as numbers; -1 where there is none.
#[derive(Clone, Copy)]
pub struct Fds {
    pub report: i32,
    pub streams: [i32; 3],
    pub into_cgroup: i32,
    pub files: i32,
    pub oom_event: i32,
    pub oom_control: i32,
    pub cpu_usage: i32,
    pub cgroup_kill: i32,
    pub log: i32,
    pub log_pipes: [i32; 2],
    pub all: [i32; MAX_FDS],
    pub roles: [u8; MAX_FDS],
    pub arguments: [i32; MAX_FDS],
    pub count: usize,
}

impl Fds {
    /// (descriptor, argument) of every descriptor with that role.
    pub fn with_role(&self, wanted: u8) -> impl Iterator<Item = (i32, i32)> + Clone + '_ {
        (0..self.count).filter(move |i| self.roles[*i] == wanted).map(|i| (self.all[i], self.arguments[i]))
    }
}

pub struct Plan<'a> {
    pub head: Head,
    pub fds: Fds,
    /// The container's directory name under each place.
    pub name: &'a CStr,
    /// Of the container's user namespace.
    pub maps: Maps<'a>,
    /// Of the one below it, for a command with CAP_SYS_ADMIN.
    pub nested: Maps<'a>,
    pub outside: Reader<'a>,
    pub inside: Reader<'a>,
    pub command: Reader<'a>,
}

pub fn read<'a>(bytes: &'a [u8], all: [i32; MAX_FDS], fd_count: usize) -> Option<Plan<'a>> {
    let mut from = Reader::new(bytes);
    let head = Head::read(&mut from)?;
    let fds = read_roles(&mut from, all, fd_count)?;
    let name = from.text()?;
    let maps = Maps { uid: from.bytes()?, gid: from.bytes()? };
    let nested = Maps { uid: from.bytes()?, gid: from.bytes()? };
    let outside = Reader::new(from.bytes()?);
    let inside = Reader::new(from.bytes()?);
    let command = Reader::new(from.bytes()?);
    Some(Plan { head, fds, name, maps, nested, outside, inside, command })
}

fn read_roles(from: &mut Reader<'_>, all: [i32; MAX_FDS], fd_count: usize) -> Option<Fds> {
    let count = from.u8()? as usize;
    if count != fd_count {
        return None;
    }
    let mut fds = Fds {
        report: -1,
        streams: [-1; 3],
        into_cgroup: -1,
        files: -1,
        oom_event: -1,
        oom_control: -1,
        cpu_usage: -1,
        cgroup_kill: -1,
        log: -1,
        log_pipes: [-1; 2],
        all,
        roles: [0; MAX_FDS],
        arguments: [0; MAX_FDS],
        count,
    };
    for i in 0..count {
        fds.roles[i] = from.u8()?;
        fds.arguments[i] = from.i32()?;
        let fd = fds.all[i];
        match fds.roles[i] {
            role::REPORT => fds.report = fd,
            role::STDIN => fds.streams[0] = fd,
            role::STDOUT => fds.streams[1] = fd,
            role::STDERR => fds.streams[2] = fd,
            role::INTO_CGROUP => fds.into_cgroup = fd,
            role::FILES => fds.files = fd,
            role::OOM_EVENT => fds.oom_event = fd,
            role::OOM_CONTROL => fds.oom_control = fd,
            role::CPU_USAGE => fds.cpu_usage = fd,
            role::CGROUP_KILL => fds.cgroup_kill = fd,
            role::LOG => fds.log = fd,
            role::LOG_STDOUT => fds.log_pipes[0] = fd,
            role::LOG_STDERR => fds.log_pipes[1] = fd,
            _ => {}
        }
    }
    Some(fds)
}
