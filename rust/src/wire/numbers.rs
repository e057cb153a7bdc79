//! The numbers that a plan begins with, and those that a container ends with.

use super::format::Number;
use super::{Reader, Write};

/// A struct of numbers, which travel in the order in which they stand here.
macro_rules! numbers {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$of:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name {
            $($(#[$of])* pub $field: $kind,)*
        }

        impl $name {
            pub fn write(&self, out: &mut impl Write) {
                $(Number::write(self.$field, out);)*
            }

            pub fn read(from: &mut Reader<'_>) -> Option<$name> {
                Some($name { $($field: Number::read(from)?,)* })
            }
        }
    };
}

numbers! {
    /// The numbers at the head of a plan.
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
        /// Bytes of each logged stream after which the rest is dropped; u64::MAX is never.
        pub output: u64,
        /// More than that ends the container.
        pub output_kills: u8,
    }
}

impl Head {
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether a test asked to leave a step out; never true in a keeper built without `test_seams`.
    pub fn skips(&self, flag: u32) -> bool {
        cfg!(test_seams) && self.has(flag)
    }
}

numbers! {
    /// The last record of a container.
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
        /// Signals that were sent to the command from outside, a bit each.
        pub asked: u64,
    }
}
