//! How a command beside the first one ended, in numbers, and the decision about what ended it. Pure.

use super::SIGKILL;
use crate::spawn::handle::ENDING;
use crate::spawn::outcome::Reason;
use crate::wire;

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub status: i32,
    pub started: u64,
    pub ended: u64,
    /// Microseconds of it and of what it waited for.
    pub user: u64,
    pub system: u64,
    pub max_rss_kib: u64,
    /// Nobody was there to see: it died with its supervisor, and the container as a rule.
    pub lost: bool,
    /// Who ended it, if not itself: a word of `cause`.
    pub cause: u8,
    /// Signals that were sent to it, a bit each.
    pub signals: u64,
}

/// Of one that was waited for.
#[derive(Debug)]
pub struct Done {
    pub end: End,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub truncated: [bool; 2],
}

/// What ended it; the first cause counts.
pub fn reason(end: &End) -> Reason {
    let killed = end.status & 0x7f == SIGKILL;
    match end.cause {
        wire::cause::TIMEOUT if killed => Reason::Timeout,
        wire::cause::OUTPUT => Reason::Output,
        wire::cause::KILLED if killed => Reason::Killed,
        wire::cause::STOPPED if killed => Reason::Stopped,
        _ if end.signals & ENDING != 0 => Reason::Stopped,
        _ if end.lost => Reason::Killed,
        _ if end.status & 0x7f != 0 => Reason::Signaled,
        _ => Reason::Exited,
    }
}
