//! What the groups of a live container count at this moment. Reads the kernel at each call, keeps two files open; None wherever it does
//! not tell.

use super::files::Directory;
use super::processes::{self, Held};
use super::{Controller, Groups, Version, parse};

/// One look at a container that may be running. Bytes and microseconds.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct LiveStats {
    pub cpu_usec: Option<u64>,
    pub cpu_user_usec: Option<u64>,
    pub cpu_system_usec: Option<u64>,
    /// Of the group, page cache and tmpfs included; without one, resident pages of the processes.
    pub memory: Option<u64>,
    pub memory_peak: Option<u64>,
    /// Tasks: threads count.
    pub pids: Option<u64>,
    pub io_read: Option<u64>,
    pub io_write: Option<u64>,
    pub oom_kills: Option<u64>,
    /// Stalled seconds, as in `Counters`.
    pub pressure: Option<[f64; 5]>,
    pub breakdown: Breakdown,
}

/// Of what the memory consists.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Breakdown {
    pub anon: Option<u64>,
    /// Of files, shared memory and tmpfs included.
    pub file: Option<u64>,
    pub shmem: Option<u64>,
    pub kernel: Option<u64>,
}

impl Groups {
    /// `first` is PID 1 of the container, for what no group counts.
    pub fn live_stats(&self, first: Option<i32>) -> LiveStats {
        let mut now = LiveStats::default();
        [now.cpu_usec, now.cpu_user_usec, now.cpu_system_usec] = self.cpu_counters(Directory::read_again);
        if let Some((version, directory)) = self.counted(Controller::Memory) {
            memory(version, directory, &mut now);
            now.memory_peak = now.memory_peak.map(|peak| peak + self.uncharged);
        }
        if let Some((_, directory)) = self.counted(Controller::Pids) {
            now.pids = directory.number("pids.current");
        }
        if let Some((Version::V2, directory)) = self.counted(Controller::Io)
            && let Some(text) = directory.read("io.stat")
        {
            let (read, write) = parse::io_bytes(&text);
            (now.io_read, now.io_write) = (Some(read), Some(write));
        }
        now.pressure = self.pressure();
        self.uncounted(first, &mut now);
        now
    }

    /// By the processes themselves: the list is the unified group's, or the tree of PID 1.
    fn uncounted(&self, first: Option<i32>, now: &mut LiveStats) {
        let uncharged = self.uncharged > 0;
        if now.memory.is_some() && now.pids.is_some() && now.cpu_usec.is_some() && !uncharged {
            return;
        }
        let pids = match self.members_of(Controller::Unified) {
            Some(pids) => {
                now.pids = now.pids.or_else(|| self.tasks());
                pids
            }
            None => {
                let Some(tree) = first.and_then(processes::tree) else { return };
                now.pids = now.pids.or(Some(tree.tasks));
                if now.cpu_usec.is_none() {
                    (now.cpu_user_usec, now.cpu_system_usec) = (Some(tree.user), Some(tree.system));
                    now.cpu_usec = Some(tree.user + tree.system);
                }
                tree.pids
            }
        };
        if let Some(held) = processes::held(&pids).filter(|_| now.memory.is_none() || uncharged) {
            by_processes(held, now);
        }
    }

    /// The processes in the group of this controller.
    pub(super) fn members_of(&self, controller: Controller) -> Option<Vec<i32>> {
        let (_, directory) = self.counted(controller)?;
        Some(directory.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    fn tasks(&self) -> Option<u64> {
        let (_, directory) = self.counted(Controller::Unified)?;
        Some(directory.read("cgroup.threads")?.lines().count() as u64)
    }
}

/// A group that came late counts only what came after it, so the larger number is the nearer one.
fn by_processes(held: Held, now: &mut LiveStats) {
    now.memory = Some(held.resident.max(now.memory.unwrap_or(0)));
    now.breakdown = Breakdown {
        anon: Some((held.resident - held.shared.min(held.resident)).max(now.breakdown.anon.unwrap_or(0))),
        file: Some(held.shared.max(now.breakdown.file.unwrap_or(0))),
        ..now.breakdown
    };
}

fn memory(version: Version, directory: &Directory, now: &mut LiveStats) {
    let text = directory.read_again("memory.stat").unwrap_or_default();
    let stat = |key| parse::keyed(&text, key);
    let oom_kills = |file| parse::keyed(&directory.read(file)?, "oom_kill");
    match version {
        Version::V1 => {
            now.memory = directory.number("memory.usage_in_bytes");
            now.memory_peak = directory.number("memory.max_usage_in_bytes");
            now.oom_kills = oom_kills("memory.oom_control");
            let kernel = directory.number("memory.kmem.usage_in_bytes");
            let (anon, file) = (stat("total_rss"), stat("total_cache"));
            now.breakdown = Breakdown { anon, file, shmem: stat("total_shmem"), kernel };
        }
        Version::V2 => {
            now.memory = directory.number("memory.current");
            now.memory_peak = directory.number("memory.peak");
            now.oom_kills = oom_kills("memory.events");
            // "kernel": Linux 5.18.
            let parts = ["slab", "kernel_stack", "pagetables"];
            let sum = || parts.into_iter().map(stat).try_fold(0, |sum, part| Some(sum + part?));
            let kernel = stat("kernel").or_else(sum);
            now.breakdown = Breakdown { anon: stat("anon"), file: stat("file"), shmem: stat("shmem"), kernel };
        }
    }
}
