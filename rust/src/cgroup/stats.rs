//! What the groups of a container counted. Reads only; None wherever the kernel does not tell.

use super::files::Directory;
use super::{Controller, Groups, Version, parse};

/// Read after the last process has been reaped and before the groups are removed.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Counters {
    pub cpu_usec: Option<u64>,
    pub cpu_user_usec: Option<u64>,
    pub cpu_system_usec: Option<u64>,
    /// Bytes, page cache and tmpfs included.
    pub memory_peak: Option<u64>,
    pub pids_peak: Option<u64>,
    /// Forks that the pids limit refused.
    pub pids_denied: Option<u64>,
    /// Processes that an OOM killer took, whichever limit it worked for. With memory.oom.group the kernel counts the first one twice.
    pub oom_kills: Option<u64>,
    /// This group's own memory limit was reached: tells its OOM from one of a group above or of the machine.
    pub own_limit_hit: Option<bool>,
    /// Bytes.
    pub io_read: Option<u64>,
    pub io_write: Option<u64>,
    /// Stalled seconds: cpu some, memory some, memory full, io some, io full.
    pub pressure: Option<[f64; 5]>,
}

impl Groups {
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        [counters.cpu_usec, counters.cpu_user_usec, counters.cpu_system_usec] = self.cpu_counters(Directory::read);
        if let Some((version, directory)) = self.counted(Controller::Memory) {
            memory(version, directory, &mut counters);
            counters.memory_peak = counters.memory_peak.map(|peak| peak + self.uncharged);
        }
        if let Some((_, directory)) = self.counted(Controller::Pids) {
            // pids.peak: Linux 6.1. pids.events: 4.3.
            counters.pids_peak = directory.number("pids.peak");
            counters.pids_denied = directory.read("pids.events").and_then(|text| parse::keyed(&text, "max"));
        }
        if let Some((Version::V2, directory)) = self.counted(Controller::Io)
            && let Some(text) = directory.read("io.stat")
        {
            let (read, write) = parse::io_bytes(&text);
            (counters.io_read, counters.io_write) = (Some(read), Some(write));
        }
        counters.pressure = self.pressure();
        counters
    }

    /// Microseconds: all, of the user, of the kernel.
    pub(super) fn cpu_counters(&self, read: fn(&Directory, &'static str) -> Option<String>) -> [Option<u64>; 3] {
        if let Some((_, directory)) = self.counted(Controller::Unified) {
            let text = read(directory, "cpu.stat").unwrap_or_default();
            return ["usage_usec", "user_usec", "system_usec"].map(|key| parse::keyed(&text, key));
        }
        let usec = |file| self.counted(Controller::Cpuacct)?.1.number(file).map(|nsec| nsec / 1000);
        ["cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"].map(usec)
    }
}

fn memory(version: Version, directory: &Directory, counters: &mut Counters) {
    let keyed = |file, key| parse::keyed(&directory.read(file)?, key);
    match version {
        Version::V1 => {
            counters.memory_peak = directory.number("memory.max_usage_in_bytes");
            // Linux 4.13.
            counters.oom_kills = keyed("memory.oom_control", "oom_kill");
            let failures = directory.number("memory.failcnt").map(|count| count > 0);
            counters.own_limit_hit = failures.map(|hit| hit || full_with_swap(directory));
        }
        Version::V2 => {
            // Linux 5.19.
            counters.memory_peak = directory.number("memory.peak");
            counters.oom_kills = keyed("memory.events", "oom_kill");
            // "oom" is counted at the group whose limit it was; "oom_kill" at the victim's; "max" also where reclaim helped.
            counters.own_limit_hit = keyed("memory.events", "oom").map(|count| count > 0);
        }
    }
}

/// memory.memsw.failcnt is not counted any more (found on Linux 6.18: 0 after an OOM kill for that very limit), so the high-water mark
/// tells: a charge that failed left it less than one batch of pages (MEMCG_CHARGE_BATCH, mm/memcontrol.c) below the limit.
fn full_with_swap(directory: &Directory) -> bool {
    const BATCH: u64 = 64 * 4096;
    let bytes = |file| directory.number(file);
    let pair = bytes("memory.memsw.max_usage_in_bytes").zip(bytes("memory.memsw.limit_in_bytes"));
    pair.is_some_and(|(peak, limit)| peak.saturating_add(BATCH) >= limit)
}
