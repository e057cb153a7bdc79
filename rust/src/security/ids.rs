//! Ranges of 65,536 ids, one for each live container, claimed by flock so that no two processes on the machine share one.

use super::maps::{Line, Maps};
use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

pub const COUNT: u32 = 65_536;
/// systemd's table of UID ranges leaves 0x70000000 to 0x7FFC0000 unused (https://systemd.io/UIDS-GIDS/).
const FIRST: u32 = 0x7000_0000;
const RANGES: u32 = 4092;

/// A claimed range; it goes back to the pool when the container is gone.
#[derive(Debug)]
pub struct Range {
    pub base: u32,
    _lock: OwnedFd,
}

/// The ranges of this process: claimed once, used again.
#[derive(Debug)]
pub struct Pool {
    directory: OwnedFd,
    taken: Vec<(u32, u32)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Range>,
    next: u32,
}

impl Pool {
    /// `directory` is private and shared by all engines of the machine; `taken` are ids that somebody else has (`reserved`).
    pub fn open(directory: &Path, taken: Vec<(u32, u32)>) -> Result<Pool> {
        let fail = |errno: rustix::io::Errno| {
            Error::setup_at("open the directory of id ranges", directory.display().to_string(), errno.raw_os_error())
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(fail)?;
        Ok(Pool { directory, taken, state: Mutex::new(State::default()) })
    }

    pub fn claim(&self) -> Result<Range> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(range) = state.free.pop() {
            return Ok(range);
        }
        for _ in 0..RANGES {
            let number = state.next % RANGES;
            state.next += 1;
            if let Some(range) = self.try_claim(number)? {
                return Ok(range);
            }
        }
        Err(Error::unsupported(
            "user_namespace",
            "all ranges of ids are in use",
            "end some containers, or set security=Security(user_namespace=\"host\")",
        ))
    }

    pub fn give_back(&self, range: Range) {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).free.push(range);
    }

    fn try_claim(&self, number: u32) -> Result<Option<Range>> {
        let base = FIRST + number * COUNT;
        if self.taken.iter().any(|(first, count)| overlap(base, COUNT, *first, *count)) {
            return Ok(None);
        }
        let name = format!("{base:x}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = openat(&self.directory, &name, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| ("claim an id range", errno))?;
        match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Range { base, _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(("claim an id range", errno).into()),
        }
    }
}

impl Range {
    pub fn maps(&self) -> Maps {
        Maps::both(vec![Line::new(0, self.base, COUNT)])
    }

    /// The lock also belongs to the keeper, which may outlive this process by a moment.
    pub fn lock(&self) -> std::os::fd::BorrowedFd<'_> {
        self._lock.as_fd()
    }
}

fn overlap(a: u32, a_count: u32, b: u32, b_count: u32) -> bool {
    (a as u64) < b as u64 + b_count as u64 && (b as u64) < a as u64 + a_count as u64
}

/// Ids that belong to somebody: the ranges of subuid(5) and subgid(5), and each id of a passwd or group file.
pub fn reserved(subids: &[&str], accounts: &[&str]) -> Vec<(u32, u32)> {
    let number = |text: Option<&str>| text.and_then(|digits| digits.trim().parse::<u32>().ok());
    let ranges = subids.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let mut fields = line.split(':').skip(1);
        Some((number(fields.next())?, number(fields.next())?))
    });
    let single =
        accounts.iter().flat_map(|text| text.lines()).filter_map(|line| Some((number(line.split(':').nth(2))?, 1)));
    ranges.chain(single).collect()
}

/// The caller's own range of subuid(5) or subgid(5): by name or by number.
pub fn subordinate(text: &str, name: &str, id: u32) -> Option<(u32, u32)> {
    let id = id.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        if owner != name && owner != id {
            return None;
        }
        Some((fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_reads_ranges_and_single_ids() {
        let seen = reserved(&["alice:100000:65536\nbroken\n"], &["root:x:0:0::/:/bin/sh\nbob:x:1879048200:5::/:\n"]);
        assert_eq!(seen, vec![(100_000, 65_536), (0, 1), (1_879_048_200, 1)]);
        assert!(overlap(FIRST, COUNT, 1_879_048_200, 1));
        assert!(!overlap(FIRST, COUNT, 100_000, 65_536));
    }

    #[test]
    fn subordinate_matches_name_or_number() {
        let text = "alice:100000:65536\n1001:200000:65536\n";
        assert_eq!(subordinate(text, "alice", 1000), Some((100_000, 65_536)));
        assert_eq!(subordinate(text, "bob", 1001), Some((200_000, 65_536)));
        assert_eq!(subordinate(text, "carol", 1002), None);
    }
}
