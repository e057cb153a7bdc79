//! What a run came to, in numbers, and the one decision about what ended it. Pure.

use crate::cgroup::Counters;
use crate::wire::{Ended, Reader, cause, evidence, outcome};

/// What ended a run; the words are those of Python's `Reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Exited,
    Signaled,
    Timeout,
    CpuTime,
    Memory,
    HostMemory,
    Output,
    Stopped,
    Killed,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Reason::Exited => "exited",
            Reason::Signaled => "signaled",
            Reason::Timeout => "timeout",
            Reason::CpuTime => "cpu_time",
            Reason::Memory => "memory",
            Reason::HostMemory => "host_memory",
            Reason::Output => "output",
            Reason::Stopped => "stopped",
            Reason::Killed => "killed",
        }
    }
}

const SIGKILL: i32 = 9;

/// The first cause in time counts: ours was recorded when we killed; without one the kernel's counters speak.
pub fn reason(ended: &Ended, counters: &Counters) -> Reason {
    let by_us = match ended.cause {
        cause::TIMEOUT | cause::WALL_TIME => Some(Reason::Timeout),
        cause::CPU_TIME => Some(Reason::CpuTime),
        cause::MEMORY => Some(Reason::Memory),
        cause::OUTPUT => Some(Reason::Output),
        cause::STOPPED => Some(Reason::Stopped),
        cause::KILLED => Some(Reason::Killed),
        _ => None,
    };
    let signal = ended.status & 0x7f;
    let finished_first = ended.outcome == outcome::EXITED && signal != SIGKILL;
    match by_us {
        // The command had already ended by itself when our signal came.
        Some(_) if finished_first => {}
        Some(reason) => return reason,
        None => {}
    }
    let oom = counters.oom_kills.unwrap_or(0) > 0;
    match signal {
        SIGKILL if oom && counters.own_limit_hit == Some(false) => Reason::HostMemory,
        SIGKILL if oom => Reason::Memory,
        0 => Reason::Exited,
        _ => Reason::Signaled,
    }
}

/// subprocess's convention: the exit status, or the signal negative.
pub fn returncode(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => -signal,
    }
}

/// What the kernel said of the container after exec, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    pub status: Vec<u8>,
    pub uid_map: Vec<u8>,
    pub cgroup: Vec<u8>,
    /// cgroup, ipc, mnt, net, pid, time, user, uts.
    pub namespaces: [u64; 8],
    pub mount_flags: u64,
    pub nproc: u64,
    pub landlock: u8,
    /// Masks and read-only paths that do not hold.
    pub uncovered: Vec<String>,
}

impl Evidence {
    /// Sections of the wire format, in any order; an unknown one ends the reading.
    pub fn absorb(&mut self, bytes: &[u8]) {
        let mut from = Reader::new(bytes);
        while self.section(&mut from).is_some() {}
    }

    fn section(&mut self, from: &mut Reader<'_>) -> Option<()> {
        match from.u8()? {
            evidence::STATUS => self.status = from.bytes()?.to_vec(),
            evidence::UID_MAP => self.uid_map = from.bytes()?.to_vec(),
            evidence::CGROUP => self.cgroup = from.bytes()?.to_vec(),
            evidence::NAMESPACES => {
                for inode in &mut self.namespaces {
                    *inode = from.u64()?;
                }
            }
            evidence::MOUNT_FLAGS => self.mount_flags = from.u64()?,
            evidence::LIMITS => self.nproc = from.u64()?,
            evidence::LANDLOCK => self.landlock = from.u8()?,
            evidence::MASKED => {
                while from.u8()? != 0 {
                    self.uncovered.push(String::from_utf8_lossy(from.bytes()?).into_owned());
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: u8, cause: u8, status: i32) -> Ended {
        Ended { outcome, cause, status, ..Ended::default() }
    }

    #[test]
    fn a_signal_of_ours_counts_only_if_the_command_died_of_it() {
        let counters = Counters::default();
        assert_eq!(reason(&ended(outcome::DIED, cause::TIMEOUT, 9), &counters), Reason::Timeout);
        assert_eq!(reason(&ended(outcome::EXITED, cause::TIMEOUT, 0), &counters), Reason::Exited);
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 6), &counters), Reason::Signaled);
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 3 << 8), &counters), Reason::Exited);
    }

    #[test]
    fn an_oom_kill_is_memory_or_the_host_s_memory_or_just_a_childs() {
        let hit = |own| Counters { oom_kills: Some(1), own_limit_hit: own, ..Counters::default() };
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 9), &hit(Some(true))), Reason::Memory);
        assert_eq!(reason(&ended(outcome::DIED, cause::NONE, 9), &hit(None)), Reason::Memory);
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 9), &hit(Some(false))), Reason::HostMemory);
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 0), &hit(Some(true))), Reason::Exited);
    }

    #[test]
    fn return_codes_are_those_of_subprocess() {
        assert_eq!(returncode(0x0300), 3);
        assert_eq!(returncode(9), -9);
        assert_eq!(returncode(0x8b), -11);
    }
}
