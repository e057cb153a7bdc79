//! The plan of a command beside the first one, as a message to PID 1.

use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::mount::layout::Layout;
use crate::spawn::basis::Basis;
use crate::spawn::contents;
use crate::spawn::limits;
use crate::spawn::plan::{self, Descriptors};
use crate::spawn::run::{FIRST_TICK, Interrupted, LAST_TICK, MILLISECOND};
use crate::spawn::spec::Spec;
use crate::spawn::streams::Streams;
use crate::sys;
use crate::sys::constants::{CLONE_NEWUSER, MSG_DONTWAIT};
use crate::wire::{self, Head, Write, errand, flag, role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use std::os::fd::{AsRawFd, OwnedFd};

/// A plan on its way to PID 1.
pub struct Order {
    message: Vec<u8>,
    fds: Vec<i32>,
    /// Where the plan is too long for a message.
    file: Option<OwnedFd>,
}

impl Order {
    pub(in crate::spawn) fn of(basis: &Basis, spec: &Spec, streams: &Streams, report: i32) -> Result<Order> {
        let mut flags = plan::flags(spec, basis.one_id) & !(flag::LANDLOCK | flag::LANDLOCK_REQUIRED);
        let mut descriptors = Descriptors::default();
        descriptors.add(role::REPORT, report, 0);
        for (index, (fd, own)) in streams.ends.iter().enumerate() {
            let (role, flag) = plan::stream_role(index);
            descriptors.add(role, *fd, 0);
            flags |= if *own { flag } else { 0 };
        }
        spec.pass_fds.iter().for_each(|fd| descriptors.add(role::PASS, *fd, *fd));
        let head = Head { flags, ..basis.head };
        if !basis.rootless && head.clone_flags & CLONE_NEWUSER != 0 {
            own(streams, basis.ids.root())?;
        }
        let command = plan::command(spec, limits::hard_limit, basis.one_id_pids);
        let window = u32::from(spec.window.0) << 16 | u32::from(spec.window.1);
        let layout = Layout { inside: window.to_le_bytes().to_vec(), ..Layout::default() };
        let body = plan::encode(&head, &descriptors, "", &basis.ids, &layout, &command);
        let mut order = Order { message: Vec::with_capacity(body.len() + 1), fds: descriptors.fds, file: None };
        if body.len() < wire::MESSAGE_MAX {
            order.message.put_u8(errand::EXEC);
            order.message.extend_from_slice(&body);
            return Ok(order);
        }
        let file = contents::memory_file(&body)?;
        order.message.put_u8(errand::EXEC_FILE);
        order.message.put_u64(body.len() as u64);
        order.fds.push(file.as_raw_fd());
        order.file = Some(file);
        Ok(order)
    }

    /// PID 1 may be busy, or frozen: this thread waits for room, and for nothing else.
    pub fn send(&self, report: &Ours, interrupted: Interrupted<'_>) -> Result<()> {
        let mut tick = FIRST_TICK;
        loop {
            match sys::net::send(report.as_raw_fd(), &self.message, &self.fds, MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(sys::Errno(4)) => {}
                Err(sys::Errno(11)) => {
                    let time = Timespec { tv_sec: 0, tv_nsec: (tick * MILLISECOND) as _ };
                    let _ = poll(&mut [PollFd::new(report, PollFlags::OUT)], Some(&time));
                    tick = (tick * 2).min(LAST_TICK / 2);
                    if interrupted() {
                        return Err(Error::State("the start was interrupted".into()));
                    }
                }
                Err(errno) if errno.is_closed_end() => return Err(Error::State("the container has ended".into())),
                Err(errno) => return Err(Error::setup("send a command to the container", errno.0)),
            }
        }
    }
}

/// Pipes that were made for the command belong to the container's root, so that /dev/stdout opens; PID 1 gives them on.
fn own(streams: &Streams, (uid, gid): (u32, u32)) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    for (fd, _) in streams.ends.iter().filter(|(_, own)| *own) {
        rustix::fs::fchown(sys::host::borrow(*fd), uid, gid)
            .map_err(|errno| ("give a pipe to the container", errno))?;
    }
    Ok(())
}
