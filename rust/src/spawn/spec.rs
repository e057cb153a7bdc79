//! What the caller asked for, checked by the Python side and taken over as plain values. No system calls.

use crate::mount::wanted::Wanted;
pub use crate::mount::wanted::{Content, File, ImageRoot, Mount, MountKind, Space, Spaces};
use crate::security::capabilities;
use crate::security::maps::Lines;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Unsaid,
    Number(u32),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A root file system in a directory.
    Directory(PathBuf),
    /// Unpacked layers of an image, the lowest first.
    Layers(Vec<PathBuf>),
    /// None of its own: `spaces.mnt` says whose.
    View,
    /// This machine's programs: read-only directories, and a skeleton for everything else.
    Host { directories: Vec<PathBuf>, writable: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Null,
    Capture,
    /// The caller's own to read or write, by a pipe.
    Pipe,
    /// Kept by the keeper.
    Log,
    /// stderr only: where stdout goes.
    Stdout,
    /// A descriptor of the caller's, lent for the run.
    Fd(i32),
    /// A terminal of the caller's: never handed on; we copy.
    Terminal(i32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    Default,
    Unconfined,
    Custom(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSpace {
    Auto,
    Host,
    /// Exactly these ids, as this machine has them, both uids and gids.
    Map(Lines),
}

/// A port inside and the one of this machine that leads there; 0 is any that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// As the caller wrote it: "ports[5432]".
    pub name: String,
    pub inside: u16,
    /// Of `wire::protocol`.
    pub protocol: u8,
    pub outside: u16,
}

#[derive(Debug, Clone)]
pub struct Spec {
    pub argv: Vec<Vec<u8>>,
    /// The whole environment but HOME, which the container's passwd may decide.
    pub env: Vec<Vec<u8>>,
    pub set_home: bool,
    /// Directories in which a command without a slash is looked for.
    pub path: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    pub user: Who,
    pub group: Who,
    pub groups: Vec<Who>,
    pub umask: u32,
    pub hostname: Vec<u8>,
    pub root: Root,
    pub mounts: Vec<Mount>,
    /// Shared with the specifications of its other commands.
    pub files: Arc<[File]>,
    /// As `Wanted` has them.
    pub provided: Vec<(String, Vec<u8>)>,
    pub directory: Option<String>,
    pub spaces: Spaces,
    pub ports: Vec<Port>,
    pub capabilities: u64,
    pub filter: Filter,
    pub no_new_privileges: bool,
    pub user_space: UserSpace,
    /// None: where the kernel has it.
    pub landlock: Option<bool>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub devices: Vec<PathBuf>,
    pub limits: Limits,
    pub read_only: bool,
    pub upper_on_disk: bool,
    pub pid1: bool,
    pub tty: bool,
    /// (rows, columns) of the terminal; zeros: unsaid.
    pub window: (u16, u16),
    pub stdin: Stream,
    pub stdout: Stream,
    pub stderr: Stream,
    pub input: Option<Vec<u8>>,
    pub pass_fds: Vec<i32>,
    pub timeout: Option<f64>,
    pub degrade: Vec<String>,
    /// Somebody has a handle on it while it runs.
    pub handle: bool,
    /// Its command waits to be let go.
    pub hold: bool,
    /// The caller's socket, on which who listens to events hears that the command runs; -1: nobody does.
    pub news: i32,
}

impl Spec {
    /// The part that the root file system is described from.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            mounts: &self.mounts,
            files: &self.files,
            spaces: &self.spaces,
            hostname: &self.hostname,
            masked_paths: &self.masked_paths,
            readonly_paths: &self.readonly_paths,
            no_new_privileges: self.no_new_privileges,
            admin: capabilities::has_admin(self.capabilities),
            read_only: self.read_only,
            provided: &self.provided,
            directory: self.directory.as_deref(),
            tty: self.tty,
            window: self.window,
        }
    }

    /// The caller's terminal whose size the container's follows.
    pub fn terminal(&self) -> Option<i32> {
        let of = |stream| if let Stream::Terminal(fd) = stream { Some(fd) } else { None };
        of(self.stdout).or(of(self.stdin)).filter(|_| self.tty)
    }

    /// The caller allows that this limit is held badly or not at all.
    pub fn may_degrade(&self, limit: &str) -> bool {
        self.degrade.iter().any(|name| name == limit)
    }
}

/// Limits that the keeper or the command's set-up holds; those of control groups are `cgroup::Limits`.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    pub group: crate::cgroup::Limits,
    pub cpu_time: Option<f64>,
    pub wall_time: Option<f64>,
    pub disk: Option<u64>,
    /// Bytes captured per stream, and whether more ends the run.
    pub output: Option<u64>,
    pub output_kills: bool,
    pub rlimits: Vec<(u32, u64, u64)>,
    pub oom_score_adj: Option<i32>,
    /// The default bound on tasks was lifted by `pids="max"`.
    pub pids_unbounded: bool,
}
