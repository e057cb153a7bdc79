//! Groups of version 1 that are made while their container is under way: PID 1 joins them last, and waits for them there.

use super::engine::Engine;
use super::plan::Descriptors;
use super::prepare;
use crate::cgroup::{Groups, Unmade};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::sys;
use crate::sys::constants::MSG_DONTWAIT;
use crate::wire::{Write, late, request, role};
use std::os::fd::AsRawFd;

/// Makes them and tells the keeper and PID 1. With an error the container is still there, and does not go on.
pub fn follow(engine: &Engine, unmade: Unmade<'_>, id: u64, report: &Ours) -> (Option<Groups>, Option<Error>) {
    let (groups, error) = match unmade.make() {
        Ok(groups) => {
            engine.expect_attach(&groups);
            let error = tell(engine, &groups, id, report).err();
            (Some(groups), error)
        }
        Err(error) => (None, Some(error)),
    };
    if error.is_some() {
        let _ = sys::net::send(report.as_raw_fd(), &[late::NONE], &[], MSG_DONTWAIT);
    }
    (groups, error)
}

/// The keeper first: what it watches has to be there before the command is.
fn tell(engine: &Engine, groups: &Groups, id: u64, report: &Ours) -> Result<()> {
    let (mut descriptors, mut kept) = (Descriptors::default(), Vec::new());
    prepare::add_groups(groups, &mut descriptors, &mut kept)?;
    let (joined, watched): (Vec<_>, Vec<_>) = descriptors.roles().partition(|(role, _)| *role == role::JOIN_CGROUP);
    let numbers = |of: &[(u8, i32)]| of.iter().map(|(_, fd)| *fd).collect::<Vec<_>>();
    if !watched.is_empty() {
        let mut message = Vec::with_capacity(16);
        message.put_u8(request::GROUPS);
        message.put_u64(id);
        watched.iter().for_each(|(role, _)| message.put_u8(*role));
        engine.keeper.send(&message, &numbers(&watched))?;
    }
    match sys::errno::retry(|| sys::net::send(report.as_raw_fd(), &[late::HERE], &numbers(&joined), 0)) {
        // It has failed by now, and the keeper's record says how.
        Err(errno) if !errno.is_closed_end() => Err(Error::setup("send the groups to the container", errno.0)),
        _ => Ok(()),
    }
}
