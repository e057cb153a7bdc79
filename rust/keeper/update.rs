//! Other limits for a live container, of those that no group holds: times, and the size of its layer. All of them, or none.

use crate::account::used_cpu_time;
use crate::container::{Container, NEVER};
use crate::keeper::Keeper;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::net::{self, Received};
use crate::sys::process;
use crate::sys::{Errno, Result, mount};
use crate::wire::{Decimal, Fixed, Reader, Update, Write, bound, flag, record, role};

/// What is refused: the limit that would be below its use, and the use; of no limit where it failed.
type Refused = (u8, Errno, u64);

impl Keeper {
    /// The first descriptor is where the answer goes, a role in the message stands for each other one.
    pub fn update(&mut self, mut from: Reader<'_>, received: &mut Received) {
        let Some(update) = Update::read(&mut from) else { return };
        if received.fd_count == 0 {
            return;
        }
        let done = match self.table.index_of(update.id) {
            _ if received.truncated => Err((bound::NONE, Errno::MFILE, 0)),
            None => Err((bound::NONE, Errno::CHILD, 0)),
            Some(index) => self.change(index, &update, from, received),
        };
        let (which, errno, used) = done.err().unwrap_or((bound::NONE, Errno(0), 0));
        let mut answer = Fixed::<16>::new();
        answer.put_u8(record::UPDATED);
        answer.put_u8(which);
        answer.put_i32(errno.0);
        answer.put_u64(used);
        let _ = net::send(received.fds[0], answer.bytes(), &[], MSG_DONTWAIT);
    }

    fn change(
        &mut self,
        index: usize,
        update: &Update,
        mut from: Reader<'_>,
        received: &mut Received,
    ) -> core::result::Result<(), Refused> {
        let failed = |errno| (bound::NONE, errno, 0);
        let now = process::now();
        let container = self.table.get(index).ok_or(failed(Errno::CHILD))?;
        let before = *container;
        for fd in &mut received.fds[1..received.fd_count] {
            let place = match from.u8() {
                Some(role::OOM_EVENT) => &mut container.oom_event,
                Some(role::OOM_CONTROL) => &mut container.oom_control,
                Some(role::CPU_USAGE) => &mut container.cpu_usage,
                _ => continue,
            };
            if *place < 0 {
                *place = core::mem::replace(fd, -1);
            }
        }
        if before.cpu_usage < 0 {
            container.flags = container.flags & !flag::CPU_V1 | if update.cpu_v1 != 0 { flag::CPU_V1 } else { 0 };
        }
        let used = used_cpu_time(container);
        let refused = fits(container, update, used, now).err();
        let refused = refused.or_else(|| resize(container.upper, update).err());
        if refused.is_none() {
            times(container, update, used, now);
            container.uncharged = update.uncharged;
        }
        let refused = refused.or_else(|| self.watch_oom_of(index, before.oom_event).map_err(failed).err());
        match (refused, self.table.get(index)) {
            (Some(refused), Some(container)) => {
                restore(container, &before);
                Err(refused)
            }
            _ => Ok(()),
        }
    }

    /// One that is watched already stays so.
    fn watch_oom_of(&mut self, index: usize, before: i32) -> Result<()> {
        if before >= 0 { Ok(()) } else { self.watch_oom(index) }
    }
}

/// What has passed or been spent already is no limit.
fn fits(container: &Container, update: &Update, used: u64, now: u64) -> core::result::Result<(), Refused> {
    let passed = if container.started == 0 { 0 } else { now.saturating_sub(container.started) };
    if update.wall_time <= passed {
        return Err((bound::WALL_TIME, Errno::BUSY, passed));
    }
    if update.cpu_time != NEVER && container.cpu_usage < 0 {
        return Err((bound::CPU_TIME, Errno::OPNOTSUPP, 0));
    }
    if update.cpu_time <= used {
        return Err((bound::CPU_TIME, Errno::BUSY, used));
    }
    Ok(())
}

/// A layer in memory is a tmpfs of ours; the kernel refuses a size below what is in it.
fn resize(upper: i32, update: &Update) -> core::result::Result<(), Refused> {
    if update.resize == 0 {
        return Ok(());
    }
    let used = fs::fstatfs(upper).map_or(0, |seen| (seen.blocks - seen.free) * seen.block_size as u64);
    if update.size != 0 && used > update.size {
        return Err((bound::DISK, Errno::BUSY, used));
    }
    let resized = || {
        let context = mount::fspick(upper)?;
        mount::fsconfig_string(context.raw(), c"size", Decimal::new(update.size).text())?;
        mount::fsconfig_string(context.raw(), c"nr_inodes", Decimal::new(update.inodes).text())?;
        mount::fsconfig_reconfigure(context.raw())
    };
    resized().map_err(|errno| (bound::DISK, errno, used))
}

fn times(container: &mut Container, update: &Update, used: u64, now: u64) {
    let from = container.started;
    container.wall_time = if from == 0 { update.wall_time } else { from.saturating_add(update.wall_time) };
    container.cpu_time = update.cpu_time;
    container.next_cpu_check = match update.cpu_time {
        NEVER => NEVER,
        _ if from == 0 => NEVER,
        budget => now.saturating_add((budget - used) / container.cpus.max(1) as u64),
    };
}

/// What came with the message goes with it.
fn restore(container: &mut Container, before: &Container) {
    let pairs = [
        (&mut container.oom_event, before.oom_event),
        (&mut container.oom_control, before.oom_control),
        (&mut container.cpu_usage, before.cpu_usage),
    ];
    for (now, then) in pairs {
        if *now != then {
            fs::close(*now);
            *now = then;
        }
    }
    container.flags = before.flags;
    container.uncharged = before.uncharged;
    container.wall_time = before.wall_time;
    container.cpu_time = before.cpu_time;
    container.next_cpu_check = before.next_cpu_check;
}
