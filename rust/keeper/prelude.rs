//! The wait of a v1 attach, begun early: by a child of the keeper's that joins the group it is in. Never waits itself.
//!
//! A write to cgroup.procs of version 1 takes the kernel's cgroup_threadgroup_rwsem for writing. After a pause that waits for a
//! grace period of RCU (5 to 15 ms); a writer who comes meanwhile waits only for the rest, and one soon after not at all.

use crate::sys::constants::{EPOLLIN, WALL, WNOHANG};
use crate::sys::fs::{self, Fd};
use crate::sys::process::{self, Cloned};

/// The child that waits, if there is one.
pub struct Prelude {
    child: Option<(i32, Fd)>,
}

impl Prelude {
    pub const fn none() -> Prelude {
        Prelude { child: None }
    }

    /// Only a convenience: where it fails, the attach itself waits. Its end is an event of `epoll` with this token.
    pub fn begin(&mut self, epoll: i32, token: u64, procs: i32) {
        self.end(epoll); // of one that could not be watched
        if self.child.is_some() {
            return;
        }
        match process::clone_copy(0, None) {
            Ok(Cloned::Child) => join(procs),
            Ok(Cloned::Parent { pid, pidfd }) => {
                let _ = process::epoll_add(epoll, pidfd.raw(), EPOLLIN, token);
                self.child = Some((pid, pidfd));
            }
            Err(_) => {}
        }
    }

    /// Reaps it, if it has ended; never waits for that. Out of epoll before its descriptor is closed: a child just cloned may hold
    /// a copy, which would tell of the same end again while the next one waits.
    pub fn end(&mut self, epoll: i32) {
        if let Some((pid, pidfd)) = &self.child
            && !matches!(process::wait4(*pid, WALL | WNOHANG), Ok((0, ..)))
        {
            process::epoll_remove(epoll, pidfd.raw());
            self.child = None;
        }
    }
}

/// Its copies of the keeper's descriptors would for this long hide the ends of sockets.
fn join(procs: i32) -> ! {
    let _ = fs::close_range(0, procs.unsigned_abs().wrapping_sub(1), false);
    let _ = fs::close_range(procs as u32 + 1, u32::MAX, false);
    let _ = fs::write(procs, b"0");
    process::exit_group(0)
}
