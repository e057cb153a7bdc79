//! The wait of a v1 attach, begun early: by a child of the keeper's that joins the group it is in. Never waits itself.
//!
//! A write to cgroup.procs of version 1 takes the kernel's cgroup_threadgroup_rwsem for writing. After a pause that waits for a
//! grace period of RCU (5 to 15 ms); a writer who comes meanwhile waits only for the rest, and one soon after not at all.

use crate::sys::Result;
use crate::sys::constants::WALL;
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

    /// Its death shows in the descriptor; None where one waits already.
    pub fn begin(&mut self, procs: i32) -> Result<Option<i32>> {
        if self.child.is_some() {
            return Ok(None);
        }
        match process::clone_copy(0, None)? {
            Cloned::Child => join(procs),
            Cloned::Parent { pid, pidfd } => {
                let raw = pidfd.raw();
                self.child = Some((pid, pidfd));
                Ok(Some(raw))
            }
        }
    }

    pub fn reap(&mut self) {
        if let Some((pid, _)) = self.child.take() {
            let _ = process::wait4(pid, WALL);
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
