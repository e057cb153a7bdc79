//! How a container is killed, and all of them with the programs beside them when their host is gone.

use crate::container::{Container, NEVER};
use crate::keeper::{GRACE, Keeper};
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process::{self, PollFd};
use crate::{porter, remove};

/// Nanoseconds for all containers to die when the host is gone, before their directories are removed; and then again.
const LAST_GRACE: u64 = 2_000_000_000;
const LAST_PATIENCE: u64 = 30_000_000_000;

impl Keeper {
    /// The host is gone: nothing of its containers stays.
    pub fn end_all(&mut self) {
        self.table.live().for_each(|container| kill_now(container));
        self.daemons.end_all();
        for patience in [LAST_GRACE, LAST_PATIENCE] {
            let all = self.reap_until(process::now() + patience);
            remove::ours(self.prefix.bytes(), &self.places, &self.uppers);
            if all {
                return;
            }
        }
    }

    /// True where all are dead. One that waits in the kernel, for a file system that does not answer, ends when that lets it go: it does
    /// not keep what others have left.
    fn reap_until(&mut self, deadline: u64) -> bool {
        let mut all = true;
        for container in self.table.live() {
            let left = deadline.saturating_sub(process::now()).div_ceil(1_000_000);
            let _ = process::poll(&mut [PollFd { fd: container.pidfd, events: POLLIN, revents: 0 }], left as i64);
            all &= !matches!(process::wait4(container.pid, WALL | WNOHANG), Ok((0, ..)));
            porter::end((core::mem::take(&mut container.porter), container.porter_fd));
        }
        self.daemons.await_ends(deadline);
        all
    }
}

/// And once more after a while, where a program shows its root.
pub fn strike(container: &mut Container) {
    kill_now(container);
    container.kill_at = if container.served { process::now() + GRACE } else { NEVER };
    container.struck = true;
}

pub fn kill_now(container: &Container) {
    kill_group(container);
    // Refused, its time limits would not hold. The number is its own until it is reaped here.
    if process::pidfd_send_signal(container.pidfd, SIGKILL).is_err() {
        let _ = process::kill(container.pid, SIGKILL);
    }
    if container.porter > 0 {
        let _ = process::pidfd_send_signal(container.porter_fd, SIGKILL);
    }
}

pub fn kill_group(container: &Container) {
    if container.cgroup_kill >= 0 {
        let _ = fs::write(container.cgroup_kill, b"1");
    }
}
