//! The numbers that a plan begins with, and those that a container ends with.

use super::{Reader, Write};

/// The numbers at the head of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    pub id: u64,
    pub flags: u32,
    /// The container's root in the keeper's user namespace: its uid and its gid.
    pub base: u32,
    pub group_base: u32,
    /// Ids 1 to `creators` of the keeper's user namespace may make a container's; 0: the keeper does as what it is.
    pub creators: u32,
    pub clone_flags: u64,
    /// The default bound on tasks, as RLIMIT_NPROC of the creator; u64::MAX leaves the host's.
    pub nproc: u64,
    /// Nanoseconds after the command's start; u64::MAX is never.
    pub timeout: u64,
    pub wall_time: u64,
    /// Nanoseconds of CPU time of the whole tree, and how many CPUs can spend it at once.
    pub cpu_time: u64,
    pub cpus: u32,
    pub oom_score_adj: i32,
}

impl Head {
    pub fn write(&self, out: &mut impl Write) {
        out.put_u64(self.id);
        out.put_u32(self.flags);
        out.put_u32(self.base);
        out.put_u32(self.group_base);
        out.put_u32(self.creators);
        out.put_u64(self.clone_flags);
        out.put_u64(self.nproc);
        out.put_u64(self.timeout);
        out.put_u64(self.wall_time);
        out.put_u64(self.cpu_time);
        out.put_u32(self.cpus);
        out.put_i32(self.oom_score_adj);
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Head> {
        Some(Head {
            id: from.u64()?,
            flags: from.u32()?,
            base: from.u32()?,
            group_base: from.u32()?,
            creators: from.u32()?,
            clone_flags: from.u64()?,
            nproc: from.u64()?,
            timeout: from.u64()?,
            wall_time: from.u64()?,
            cpu_time: from.u64()?,
            cpus: from.u32()?,
            oom_score_adj: from.i32()?,
        })
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether a test asked to leave a step out; never true in a keeper built without `test_seams`.
    pub fn skips(&self, flag: u32) -> bool {
        cfg!(test_seams) && self.has(flag)
    }
}

/// The last record of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    pub outcome: u8,
    pub cause: u8,
    pub phase: u8,
    pub step: u16,
    pub errno: i32,
    /// Wait status of the command; of PID 1 where the command's was never seen.
    pub status: i32,
    pub started: u64,
    pub ended: u64,
    /// Microseconds of the whole tree.
    pub user: u64,
    pub system: u64,
    pub max_rss_kib: u64,
    pub blocks_in: u64,
    pub blocks_out: u64,
    /// Of the writable layer: bytes and inodes, in all and free.
    pub upper_bytes: u64,
    pub upper_free: u64,
    pub upper_files: u64,
    pub upper_files_free: u64,
}

impl Ended {
    pub fn write(&self, out: &mut impl Write) {
        for byte in [self.outcome, self.cause, self.phase] {
            out.put_u8(byte);
        }
        out.put_u16(self.step);
        out.put_i32(self.errno);
        out.put_i32(self.status);
        let times =
            [self.started, self.ended, self.user, self.system, self.max_rss_kib, self.blocks_in, self.blocks_out];
        let upper = [self.upper_bytes, self.upper_free, self.upper_files, self.upper_files_free];
        for number in times.iter().chain(&upper) {
            out.put_u64(*number);
        }
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Ended> {
        Some(Ended {
            outcome: from.u8()?,
            cause: from.u8()?,
            phase: from.u8()?,
            step: from.u16()?,
            errno: from.i32()?,
            status: from.i32()?,
            started: from.u64()?,
            ended: from.u64()?,
            user: from.u64()?,
            system: from.u64()?,
            max_rss_kib: from.u64()?,
            blocks_in: from.u64()?,
            blocks_out: from.u64()?,
            upper_bytes: from.u64()?,
            upper_free: from.u64()?,
            upper_files: from.u64()?,
            upper_files_free: from.u64()?,
        })
    }
}
