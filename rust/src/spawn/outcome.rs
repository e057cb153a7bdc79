//! What a run came to, in numbers, and the one decision about what ended it. Pure.

use super::disk::Bound;
use crate::cgroup::{Counters, Guarantee};
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

/// Everything that the Python side makes a Result of.
#[derive(Debug)]
pub struct Finished {
    pub ended: Ended,
    pub counters: Counters,
    pub evidence: Evidence,
    pub held: Vec<Guarantee>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub truncated: [bool; 2],
    pub seen: Seen,
    pub upper_in_memory: bool,
    /// The root is a copy of its image, which had so many bytes of what bounds it.
    pub copied: Option<u64>,
    /// A program shows the root.
    pub served: bool,
    /// What held a layer on the disk to its size.
    pub bound: Option<Bound>,
    pub rootless: bool,
    pub group_paths: Vec<String>,
    /// Nanoseconds of CLOCK_MONOTONIC around the whole call.
    pub called: u64,
    pub answered: u64,
}

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// What the keeper and the kernel cannot know of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// A stream went beyond its cap, and that ends a run.
    pub too_much_output: bool,
    /// `cpu_time` is held, badly, by RLIMIT_CPU.
    pub cpu_rlimit: bool,
    /// Signals by which its end was asked for, a bit each.
    pub asked: u64,
}

/// The first cause in time counts: ours was recorded when we killed; without one the kernel's counters speak.
pub fn reason(ended: &Ended, counters: &Counters, seen: Seen) -> Reason {
    let by_us = match ended.cause {
        cause::TIMEOUT | cause::WALL_TIME => Some(Reason::Timeout),
        cause::CPU_TIME => Some(Reason::CpuTime),
        cause::STOPPED => Some(Reason::Stopped),
        cause::KILLED => Some(Reason::Killed),
        _ => None,
    };
    let signal = ended.status & 0x7f;
    let finished_first = ended.outcome == outcome::EXITED && signal != SIGKILL;
    let of_memory = if counters.own_limit_hit == Some(false) { Reason::HostMemory } else { Reason::Memory };
    match by_us {
        // The command had already ended by itself when our signal came.
        Some(_) if finished_first => {}
        Some(reason) => return reason,
        None => {}
    }
    match signal {
        // The process that the OOM killer took was gone, and what was too much was written, before the command could end.
        _ if ended.cause == cause::MEMORY => of_memory,
        _ if seen.too_much_output => Reason::Output,
        _ if seen.asked != 0 && ended.outcome == outcome::EXITED => Reason::Stopped,
        SIGKILL if counters.oom_kills.unwrap_or(0) > 0 => of_memory,
        SIGXCPU if seen.cpu_rlimit => Reason::CpuTime,
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
    /// The lowest bound on tasks that was seen.
    pub nproc: Option<u64>,
    pub landlock: u8,
    /// What became of the mounts that are mapped where that is possible: a word of `mapped`.
    pub mapped: u8,
    /// The new root is where paths begin; bytes of its file system.
    pub is_root: bool,
    pub size: u64,
    /// /proc/PID/limits and oom_score_adj, where they were asked for.
    pub rlimits: Vec<u8>,
    pub oom_score: Vec<u8>,
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
                for kept in &mut self.namespaces {
                    let inode = from.u64()?;
                    // Of a PID 1 that ended before the keeper looked there is what it said itself, which comes later.
                    *kept = if *kept == 0 { inode } else { *kept };
                }
            }
            evidence::MOUNT_FLAGS => self.mount_flags = from.u64()?,
            evidence::LIMITS => {
                let bound = from.u64()?;
                self.nproc = Some(self.nproc.map_or(bound, |other| other.min(bound)));
            }
            evidence::LANDLOCK => self.landlock = from.u8()?,
            evidence::IDMAP => self.mapped = from.u8()?,
            evidence::ROOT => self.is_root = from.u8()? != 0,
            evidence::SIZE => self.size = from.u64()?,
            evidence::RLIMITS => self.rlimits = from.bytes()?.to_vec(),
            evidence::OOM_SCORE => self.oom_score = from.bytes()?.to_vec(),
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
        assert_eq!(reason(&ended(outcome::DIED, cause::TIMEOUT, 9), &counters, Seen::default()), Reason::Timeout);
        assert_eq!(reason(&ended(outcome::EXITED, cause::TIMEOUT, 0), &counters, Seen::default()), Reason::Exited);
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 6), &counters, Seen::default()), Reason::Signaled);
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 3 << 8), &counters, Seen::default()), Reason::Exited);
    }

    #[test]
    fn an_oom_kill_is_memory_or_the_host_s_memory_or_just_a_childs() {
        let hit = |own| Counters { oom_kills: Some(1), own_limit_hit: own, ..Counters::default() };
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 9), &hit(Some(true)), Seen::default()), Reason::Memory);
        assert_eq!(reason(&ended(outcome::DIED, cause::NONE, 9), &hit(None), Seen::default()), Reason::Memory);
        assert_eq!(
            reason(&ended(outcome::EXITED, cause::NONE, 9), &hit(Some(false)), Seen::default()),
            Reason::HostMemory
        );
        assert_eq!(reason(&ended(outcome::EXITED, cause::NONE, 0), &hit(Some(true)), Seen::default()), Reason::Exited);
    }

    #[test]
    fn what_came_before_the_end_counts_even_if_our_signal_was_late() {
        let counters = Counters { oom_kills: Some(1), own_limit_hit: Some(true), ..Counters::default() };
        let seen = Seen { too_much_output: true, cpu_rlimit: true, asked: 0 };
        let after = |cause, status| ended(outcome::EXITED, cause, status);
        assert_eq!(reason(&after(cause::OUTPUT, 0), &Counters::default(), seen), Reason::Output);
        assert_eq!(reason(&after(cause::NONE, 3 << 8), &Counters::default(), seen), Reason::Output);
        assert_eq!(reason(&after(cause::TIMEOUT, 9), &Counters::default(), seen), Reason::Timeout);
        assert_eq!(reason(&after(cause::MEMORY, 7 << 8), &counters, Seen::default()), Reason::Memory);
        let elsewhere = Counters { own_limit_hit: Some(false), ..counters };
        assert_eq!(reason(&after(cause::MEMORY, 9), &elsewhere, Seen::default()), Reason::HostMemory);
    }

    #[test]
    fn the_signal_of_the_cpu_limit_is_a_verdict_only_where_we_set_that_limit() {
        let died = ended(outcome::EXITED, cause::NONE, SIGXCPU);
        let ours = Seen { cpu_rlimit: true, ..Seen::default() };
        assert_eq!(reason(&died, &Counters::default(), ours), Reason::CpuTime);
        assert_eq!(reason(&died, &Counters::default(), Seen::default()), Reason::Signaled);
    }

    #[test]
    fn one_that_was_asked_to_end_was_stopped_however_it_ended() {
        let asked = Seen { asked: 1 << 15, ..Seen::default() };
        for status in [15, 0, 3 << 8] {
            let seen = reason(&ended(outcome::EXITED, cause::NONE, status), &Counters::default(), asked);
            assert_eq!(seen, Reason::Stopped);
        }
        let killed = reason(&ended(outcome::EXITED, cause::KILLED, 9), &Counters::default(), asked);
        assert_eq!(killed, Reason::Killed);
    }

    #[test]
    fn return_codes_are_those_of_subprocess() {
        assert_eq!(returncode(0x0300), 3);
        assert_eq!(returncode(9), -9);
        assert_eq!(returncode(0x8b), -11);
    }
}
