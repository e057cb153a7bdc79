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
    /// Limits of a live container that no group holds: all of them, those that stay as they are among them.
    pub struct Update {
        pub id: u64,
        /// Nanoseconds after the command's start, and of the whole tree's CPU time; u64::MAX is never.
        pub wall_time: u64,
        pub cpu_time: u64,
        /// How the counter of CPU time is read, where it comes with the message.
        pub cpu_v1: u8,
        /// Whether the layer in memory has another size from now on: bytes, 0 for no bound, and inodes.
        pub resize: u8,
        pub size: u64,
        pub inodes: u64,
        /// Bytes that its memory group, made late, does not count: for those who measure it from outside.
        pub uncharged: u64,
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

numbers! {
    /// What an entry of a stream of files begins with; its name follows, then `extra` bytes.
    pub struct EntryHead {
        pub kind: u8,
        /// Bytes of the name, which a zero follows; 0 of the one that the path names.
        pub name: u16,
        /// Bytes of the extended attributes, or of a link's target.
        pub extra: u32,
        pub mode: u32,
        /// As the container numbers them.
        pub uid: u32,
        pub gid: u32,
        /// Of the last change of its content.
        pub seconds: u64,
        pub nanos: u32,
        pub size: u64,
    }
}

impl EntryHead {
    pub const LENGTH: usize = 39;
}
