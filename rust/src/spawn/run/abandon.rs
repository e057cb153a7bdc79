//! What a call does for a container whose end it cannot wait for, or whose keeper is dead. Removes nothing: `finish` does.

use super::{EMFILE, Live, MILLISECOND};
use crate::cgroup::Groups;
use crate::error::Error;
use crate::sys;
use crate::wire::cause;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

/// Milliseconds for the keeper to bury a container that this call gives up.
const GIVE_UP: u64 = 5000;
/// Milliseconds after which a container that was killed is taken for one that cannot die.
const STUCK: u64 = 10_000;

impl Live {
    /// From now on it is being killed.
    pub(super) fn be_patient(&mut self) {
        self.patient_until = self.patient_until.min(sys::process::now() + STUCK * MILLISECOND);
    }

    /// Ends a container whose outcome this call cannot wait for. True where the keeper has buried it.
    pub(super) fn give_up(&mut self) -> bool {
        let deadline = sys::process::now() + GIVE_UP * MILLISECOND;
        if self.engine.keeper.kill(self.id, cause::KILLED).is_err() {
            return false;
        }
        while self.ended.is_none() && self.engine.keeper.is_alive() && sys::process::now() < deadline {
            let mut fds =
                [PollFd::new(&*self.report, PollFlags::IN), PollFd::new(self.engine.keeper.pidfd(), PollFlags::IN)];
            let time = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = poll(&mut fds, Some(&time));
            match self.hear() {
                Ok(_) | Err(Error::Setup { errno: EMFILE, .. }) => {}
                // A mute end: the keeper has refused it, so there is nothing to bury.
                Err(_) => return self.engine.keeper.is_alive(),
            }
        }
        self.ended.is_some()
    }

    /// The keeper is dead. Our PID 1 ends with it a moment later; a command that is PID 1, or that is in no pid namespace of its own,
    /// may go on. True where it is known that nothing does.
    pub(super) fn end_alone(&mut self) -> bool {
        if self.engine.keeper.is_alive() {
            return false;
        }
        while self.hear().unwrap_or(false) {} // the pidfd may be among what the keeper had sent
        if let Some(Ok(Some(kill))) = self.groups.as_ref().map(Groups::kill_file) {
            let _ = rustix::io::write(kill, b"1");
        }
        let Some(first) = &self.first else { return false };
        let _ = pidfd_send_signal(first, Signal::KILL);
        let deadline = sys::process::now() + GIVE_UP * MILLISECOND;
        while sys::process::now() < deadline {
            let time = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if matches!(poll(&mut [PollFd::new(first, PollFlags::IN)], Some(&time)), Ok(1..)) {
                return true;
            }
        }
        false
    }
}
