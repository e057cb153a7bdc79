//! Those whom the keeper has sent to PID 1 with errands of their own, beside the host: processes of its user that have found the container.

use crate::evidence;
use crate::exec;
use crate::pid1;
use crate::sys::constants::{MSG_DONTWAIT, POLLIN};
use crate::sys::fs::{self, Fd};
use crate::sys::process::PollFd;
use crate::sys::{Errno, net};
use crate::wire::{self, Fixed, Write, phase, record, step};

const GUESTS_MAX: usize = 16;
/// What PID 1 watches beside them: its children, the keeper, the host.
const OTHERS: usize = 3;

/// Sockets; -1 is free.
pub struct Guests([i32; GUESTS_MAX]);

impl Guests {
    pub fn none() -> Guests {
        Guests([-1; GUESTS_MAX])
    }

    /// Tells a new one what it has found, or that there is no room.
    pub fn admit(&mut self, first: &exec::First<'_>, guest: Fd, command: i32, started: u64) {
        let Some(place) = self.0.iter_mut().find(|fd| **fd < 0) else {
            return pid1::tell_error(guest.raw(), (phase::COMMAND, step::TOO_MANY, Errno::MFILE));
        };
        exec::tell_running(guest.raw(), Some(command), started);
        let mut seen = Fixed::<{ wire::EVIDENCE_MAX }>::new();
        seen.put_u8(record::EVIDENCE);
        evidence::of_command(command, first.inside.plan, first.state, &mut seen);
        let _ = net::send(guest.raw(), seen.bytes(), &[], MSG_DONTWAIT);
        *place = guest.release();
    }

    /// All that PID 1 watches.
    pub fn after(&self, others: [PollFd; OTHERS]) -> [PollFd; OTHERS + GUESTS_MAX] {
        let mut all = [PollFd { fd: -1, events: POLLIN, revents: 0 }; OTHERS + GUESTS_MAX];
        all[..OTHERS].copy_from_slice(&others);
        all[OTHERS..].iter_mut().zip(&self.0).for_each(|(watched, fd)| watched.fd = *fd);
        all
    }

    /// One errand of each that has some.
    pub fn serve(
        &mut self,
        first: &exec::First<'_>,
        supervisors: &mut exec::Supervisors,
        watched: &[PollFd],
        buffer: &mut [u8],
    ) {
        for (guest, seen) in self.0.iter_mut().zip(&watched[OTHERS..]) {
            if *guest >= 0 && seen.revents != 0 && !exec::serve(first, supervisors, *guest, buffer) {
                fs::close(*guest);
                *guest = -1;
            }
        }
    }
}
