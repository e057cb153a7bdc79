//! Plan, requests and records as bytes: the one format between the host and its keeper. No system calls, no policy.
//!
//! Both sides are built from this file at the same time, so there are no versions. Numbers are little-endian; text carries its
//! length and a closing zero, so that the reader uses it in place as a C string.

#[path = "wire/copied.rs"]
pub mod copied;
#[path = "wire/files.rs"]
pub mod files;
#[path = "wire/format.rs"]
mod format;
#[path = "wire/log.rs"]
pub mod log;
#[path = "wire/numbers.rs"]
mod numbers;
#[path = "wire/store.rs"]
pub mod store;

pub use format::{Decimal, Fixed, Reader, Sink, Write};
pub use numbers::{Ended, EntryHead, Head, Update};

/// A message is at most this long; a longer plan travels in a memfd (kind `SPAWN_FILE`).
pub const MESSAGE_MAX: usize = 64 * 1024;

/// Mounts that the keeper makes for one container.
pub const SLOTS: usize = 1024;
pub type Slot = u16;

/// Requests of the host.
pub mod request {
    pub const HELLO: u8 = 1;
    pub const SPAWN: u8 = 2;
    pub const SPAWN_FILE: u8 = 3;
    pub const KILL: u8 = 4;
    pub const SKELETON: u8 = 5;
    /// One descriptor: a directory in which the host makes writable layers.
    pub const UPPERS: u8 = 6;
    /// The name of groups and a writable layer that the host could not remove: no descriptor was free, or the files are of ids that
    /// it is not.
    pub const REMOVE: u8 = 7;
    /// One descriptor: cgroup.procs of a v1 group that a container is about to join a child of; see rust/keeper/prelude.rs.
    pub const ATTACH_SOON: u8 = 8;
    /// With `flag::LATE_GROUPS`: the container, and a role for each descriptor.
    pub const GROUPS: u8 = 9;
    /// A container, and a signal for its command.
    pub const SIGNAL: u8 = 10;
    /// A container, and one descriptor: the socket that gets a byte when something was written to its log.
    pub const SUBSCRIBE: u8 = 11;
    /// A container, and one descriptor: the outer end of its terminal, whose output goes to its log.
    pub const TERMINAL: u8 = 12;
    /// Two descriptors: a listening socket for this user's other processes, and the directory that it lies in, which stays locked as
    /// long as the keeper lives.
    pub const LISTEN: u8 = 22;
    // Of those who come through it. They may also ask for KILL, SIGNAL and SUBSCRIBE, of the container that they have attached to.
    /// A container: all else that is said and heard on this connection is about it.
    pub const ATTACH: u8 = 23;
    /// A socket to its PID 1.
    pub const ERRANDS: u8 = 24;
    /// Its groups, to be read.
    pub const MEASURE: u8 = 25;
    /// An `Update`, a role for each descriptor but the first, which is the socket for the answer.
    pub const UPDATE: u8 = 30;
    /// A container, a word of `files::ask`, and one descriptor: the socket over which an agent does that among its files.
    pub const FILES: u8 = 20;
    /// A container whose files nobody will ask for again; what was asked for is ended.
    pub const FORGET: u8 = 21;
    /// A container, and whether its tasks stand still from now on: then its PID 1 cannot be asked to end them.
    pub const FROZEN: u8 = 31;
    /// The log of one more command: its number, its container, which streams (bits); the file, and the reading ends of their pipes. Its
    /// number stands for it in SUBSCRIBE.
    pub const KEEP_LOG: u8 = 32;
    /// Such a log, whose command has ended: what is in its pipes is to be in the file when the socket that comes along ends.
    pub const SETTLE_LOG: u8 = 33;
    /// One descriptor: the socket over which a steward does what `store` has words for. Of a plain user with a range of ids.
    pub const STEWARD: u8 = 34;
}

/// What PID 1 hears from the host with `flag::LATE_GROUPS`.
pub mod late {
    /// There are none, and the host knows why.
    pub const NONE: u8 = 0;
    /// The descriptors are cgroup.procs of each, as with `role::JOIN_CGROUP`.
    pub const HERE: u8 = 1;
}

/// What PID 1 hears from the host afterwards, with `flag::HANDLE`.
pub mod errand {
    /// A plan, as in SPAWN, of which the command's part counts: run it beside the first one.
    pub const EXEC: u8 = 2;
    /// The same, where the plan is in the last descriptor: its length.
    pub const EXEC_FILE: u8 = 3;
    /// With `flag::HOLD`: start the command.
    pub const GO: u8 = 4;
    /// An address family, and one descriptor: the socket that gets the answer, an errno and a socket of that family.
    pub const SOCKET: u8 = 5;
}

/// What each descriptor of a SPAWN message is for.
pub mod role {
    pub const REPORT: u8 = 1;
    pub const STDIN: u8 = 2;
    pub const STDOUT: u8 = 3;
    pub const STDERR: u8 = 4;
    pub const INTO_CGROUP: u8 = 5;
    pub const JOIN_CGROUP: u8 = 6;
    pub const FILES: u8 = 7;
    pub const PASS: u8 = 8;
    pub const LAYER: u8 = 9;
    pub const NAMESPACE: u8 = 10;
    pub const OOM_EVENT: u8 = 11;
    pub const CPU_USAGE: u8 = 12;
    pub const CGROUP_KILL: u8 = 13;
    /// Version 1's memory.oom_control, to be read.
    pub const OOM_CONTROL: u8 = 16;
    /// Kept by PID 1: the ids are taken as long as one of their processes can live.
    pub const RANGE_LOCK: u8 = 14;
    /// Kept by the keeper: the log, and the reading ends of the pipes that go there.
    pub const LOG: u8 = 17;
    pub const LOG_STDOUT: u8 = 18;
    pub const LOG_STDERR: u8 = 19;
    /// A socket that listens for a published port: the port inside, and above its 16 bits a number of `protocol`.
    pub const PORT: u8 = 20;
    /// Where the program that shows the root says what is wrong.
    pub const DAEMON_LOG: u8 = 21;
}

/// Of published ports, as IP numbers them.
pub mod protocol {
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
}

/// Flags of a plan.
pub mod flag {
    pub const PID1: u32 = 1;
    pub const TTY: u32 = 2;
    pub const REPORT_START: u32 = 4;
    pub const NO_NEW_PRIVS: u32 = 8;
    pub const LANDLOCK: u32 = 16;
    pub const SET_GROUPS: u32 = 32;
    pub const OWN_STDIN: u32 = 64;
    pub const OWN_STDOUT: u32 = 128;
    pub const OWN_STDERR: u32 = 256;
    pub const SET_HOME: u32 = 512;
    pub const NESTED: u32 = 1024;
    pub const CPU_V1: u32 = 2048;
    pub const LANDLOCK_REQUIRED: u32 = 4096;
    /// The maps are the caller's own: what follows them is of no use to another container.
    pub const OWN_MAP: u32 = 8192;
    /// There are groups: PID 1 tells the host itself when nothing but it is left in them.
    pub const TELL_GONE: u32 = 1 << 14;
    /// Its groups of version 1 come in messages of their own, while PID 1 is under way: to the keeper, and to PID 1.
    pub const LATE_GROUPS: u32 = 1 << 15;
    /// The caller wrote rlimits or an OOM score: the kernel is asked for them after exec.
    pub const TELL_LIMITS: u32 = 1 << 16;
    /// The host has a handle on it: PID 1 tells it when the command runs, and serves its errands.
    pub const HANDLE: u32 = 1 << 17;
    /// Everything is set up, and the command waits for `errand::GO`.
    pub const HOLD: u32 = 1 << 18;
    /// Somebody listens to events: PID 1 tells the host when the command runs.
    pub const TELL_RUNS: u32 = 1 << 19;
    /// Test-only: a step is left out, to show that a test of it can fail. A keeper built without `test_seams` knows none of them.
    pub const SKIP_SECCOMP: u32 = 1 << 24;
    pub const SKIP_NO_NEW_PRIVS: u32 = 1 << 25;
    pub const SKIP_LANDLOCK: u32 = 1 << 26;
    pub const SKIP_CAPABILITIES: u32 = 1 << 27;
    pub const SKIP_MASKS: u32 = 1 << 28;
    pub const SKIP_JOIN: u32 = 1 << 30;
    pub const SKIP_PIVOT: u32 = 1 << 31;
    pub const SKIP_DETACH: u32 = 1 << 23;
    pub const SKIP_READ_ONLY: u32 = 1 << 22;
    pub const SKIP_IDMAP: u32 = 1 << 21;
    /// Test-only too: /seam/one and /seam/two change their names when all is covered.
    pub const SWAP_COVERED: u32 = 1 << 20;
}

/// Mounts that the keeper makes, detached, into numbered slots.
pub mod outside {
    pub const TMPFS: u8 = 1;
    pub const TREE: u8 = 2;
    pub const LAYER_FD: u8 = 3;
    pub const MKDIR: u8 = 4;
    pub const OVERLAY: u8 = 5;
    pub const DEV: u8 = 6;
    pub const DIRECTORY: u8 = 7;
    pub const UPPER_FD: u8 = 8;
    pub const COPIED: u8 = 9;
    pub const FILL: u8 = 10;
    pub const SERVED: u8 = 11;
    pub const END: u8 = 0;
}

/// Bits of an OVERLAY's options.
pub mod overlay {
    /// In a user namespace: user.* instead of trusted.* extended attributes (5.11).
    pub const USERXATTR: u8 = 1;
    /// Nothing of it has to survive a power failure (5.10).
    pub const VOLATILE: u8 = 2;
    /// In place of the slot of the writable layer: there is none.
    pub const NO_UPPER: super::Slot = super::Slot::MAX;
}

/// How a TREE is seen: as it is, through the container's whole range, or one owner as the container's root.
pub mod idmap {
    pub const NONE: u8 = 0;
    pub const RANGE: u8 = 1;
    pub const OWNER: u8 = 2;
    /// As RANGE, but left out where the file system cannot.
    pub const RANGE_IF_POSSIBLE: u8 = 3;
}

/// Steps inside the new namespaces, by PID 1.
pub mod inside {
    pub const END: u8 = 0;
    pub const ROOT: u8 = 1;
    pub const PROC: u8 = 2;
    pub const SYSFS: u8 = 3;
    pub const CGROUP2: u8 = 4;
    pub const MQUEUE: u8 = 5;
    pub const DEVPTS: u8 = 6;
    pub const ATTACH: u8 = 7;
    pub const MASK: u8 = 8;
    pub const READ_ONLY: u8 = 9;
    pub const SYSCTL: u8 = 10;
    pub const WRITE: u8 = 11;
    pub const MKDIR: u8 = 12;
    pub const HOSTNAME: u8 = 13;
    pub const LOOPBACK: u8 = 14;
    pub const KEYRING: u8 = 15;
    pub const CGROUP_NAMESPACE: u8 = 16;
    pub const PIVOT: u8 = 17;
    pub const ROOT_READ_ONLY: u8 = 18;
    pub const CONSOLE: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const JOIN_CGROUPS: u8 = 21;
    /// In place of ROOT and everything mounted: the root of a mount namespace of somebody else's.
    pub const VIEW: u8 = 22;
    /// A small file of the engine's own making, in place of what an image has there.
    pub const PROVIDE: u8 = 23;
}

/// ATTACH: what to do where the target is missing.
pub mod create {
    pub const NOTHING: u8 = 0;
    pub const DIRECTORY: u8 = 1;
    pub const FILE: u8 = 2;
    /// A mount point of ours: a real directory, made where missing; a link is refused.
    pub const OWN: u8 = 3;
}

/// Where a set-up failed.
pub mod phase {
    pub const KEEPER: u8 = 1;
    pub const OUTSIDE: u8 = 2;
    pub const CLONE: u8 = 3;
    pub const INSIDE: u8 = 4;
    pub const COMMAND: u8 = 5;
}

/// The steps of phases KEEPER, CLONE and COMMAND, which are not in a list of the plan.
pub mod step {
    pub const DECODE: u16 = 1;
    pub const RANGE: u16 = 2;
    pub const IDMAP_NAMESPACE: u16 = 3;
    pub const CLONE: u16 = 4;
    pub const UID_MAP: u16 = 5;
    pub const GID_MAP: u16 = 6;
    pub const OWN_STREAM: u16 = 7;
    pub const OOM_SCORE: u16 = 8;
    pub const RELEASE: u16 = 9;
    pub const BECOME_ROOT: u16 = 11;
    pub const JOIN_NAMESPACE: u16 = 12;
    pub const NPROC: u16 = 13;
    pub const SOCKET: u16 = 14;
    pub const TOO_MANY: u16 = 15;
    /// A namespace of the keeper's own that it could leave and not enter again.
    pub const NO_WAY_BACK: u16 = 16;
    /// The process that carries connections to published ports.
    pub const PORTER: u16 = 17;
    pub const RLIMIT: u16 = 20;
    pub const USER: u16 = 21;
    pub const GROUP: u16 = 22;
    pub const SETGROUPS: u16 = 23;
    pub const SETGID: u16 = 24;
    pub const SETUID: u16 = 25;
    pub const BOUNDING_SET: u16 = 26;
    pub const CAPABILITIES: u16 = 27;
    pub const NO_NEW_PRIVS: u16 = 28;
    pub const LANDLOCK: u16 = 29;
    pub const SECCOMP: u16 = 30;
    pub const CWD: u16 = 31;
    pub const STREAMS: u16 = 32;
    pub const TERMINAL: u16 = 33;
    pub const MEMORY: u16 = 34;
    pub const FORK: u16 = 35;
    pub const EXEC: u16 = 36;
    pub const WAIT: u16 = 37;
    pub const NESTED: u16 = 38;
    /// The first of the caller's supplementary groups; the step of each other one lies as much above.
    pub const GROUPS: u16 = 0x100;
}

/// Records, first byte.
pub mod record {
    // PID 1 to keeper
    pub const STARTED: u8 = 1;
    pub const ERROR: u8 = 2;
    pub const EXITED: u8 = 3;
    // keeper to host
    pub const ENDED: u8 = 4;
    pub const TERMINAL: u8 = 5;
    pub const SKELETON: u8 = 6;
    pub const READY: u8 = 7;
    /// What the keeper itself saw of a container whose command is PID 1.
    pub const EVIDENCE: u8 = 8;
    /// Of PID 1 to the host: all other processes have ended and were reaped.
    pub const GONE: u8 = 9;
    /// One descriptor: the pidfd of a command that is PID 1, for a host that outlives its keeper.
    pub const FIRST: u8 = 10;
    /// The keeper has begun to end it.
    pub const ENDING: u8 = 11;
    /// Of PID 1 to the host: the command runs. Since when, with its pidfd.
    pub const RUNS: u8 = 12;
    /// Of PID 1 to the host: it waits for `errand::GO`.
    pub const READY_TO_RUN: u8 = 13;
    // keeper to those who come through its listening socket, who get ENDED too
    /// An errno; then whether there is a log, whose descriptor comes first. The other one is PID 1's pidfd.
    pub const ATTACHED: u8 = 21;
    /// An errno, or a descriptor: to PID 1, which says RUNS and EVIDENCE there, and takes errands.
    pub const ERRANDS: u8 = 22;
    /// Bytes that its memory group does not count; then for each descriptor, the directory of a group that gives nothing but its name
    /// away (O_PATH), which of HELLO's parents it lies in.
    pub const MEASURED: u8 = 23;
    /// To the socket of an UPDATE: a word of `bound`, an error number (0: done), and how much is in use.
    pub const UPDATED: u8 = 30;
}

/// Which limit would be below its use.
pub mod bound {
    pub const NONE: u8 = 0;
    pub const WALL_TIME: u8 = 1;
    pub const CPU_TIME: u8 = 2;
    pub const DISK: u8 = 3;
}

/// How far a container came.
pub mod outcome {
    pub const EXITED: u8 = 1;
    pub const FAILED: u8 = 2;
    pub const DIED: u8 = 3;
}

/// Who ended a container, if not the command itself.
pub mod cause {
    pub const NONE: u8 = 0;
    pub const TIMEOUT: u8 = 1;
    pub const WALL_TIME: u8 = 2;
    pub const CPU_TIME: u8 = 3;
    pub const MEMORY: u8 = 4;
    pub const OUTPUT: u8 = 5;
    pub const STOPPED: u8 = 6;
    pub const KILLED: u8 = 7;
}

/// What PID 1 read from the kernel after exec, in the order of `Evidence` on the host.
pub mod evidence {
    pub const STATUS: u8 = 1;
    pub const NAMESPACES: u8 = 2;
    pub const UID_MAP: u8 = 3;
    pub const MOUNT_FLAGS: u8 = 4;
    pub const CGROUP: u8 = 5;
    pub const MASKED: u8 = 6;
    pub const UPPER: u8 = 7;
    pub const LIMITS: u8 = 8;
    pub const LANDLOCK: u8 = 9;
    /// Whether the new root is where the command's paths begin, and nothing lies beneath it.
    pub const ROOT: u8 = 10;
    /// Bytes of the file system under the root.
    pub const SIZE: u8 = 11;
    /// /proc/PID/limits and /proc/PID/oom_score_adj, where somebody asked for them.
    pub const RLIMITS: u8 = 12;
    pub const OOM_SCORE: u8 = 13;
    /// A word of `mapped`.
    pub const IDMAP: u8 = 14;
}

/// What became of the mounts that are mapped where the file system can (`idmap::RANGE_IF_POSSIBLE`).
pub mod mapped {
    pub const NO_MOUNT: u8 = 0;
    pub const ALL: u8 = 1;
    pub const NOT_ALL: u8 = 2;
}

/// Room for the evidence of one container.
pub const EVIDENCE_MAX: usize = 8 * 1024;

/// Why a plan could not be read; the host built it, so this is a defect, never a user's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;
