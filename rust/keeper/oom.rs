//! Version 1's out-of-memory event: whether it was about this container. Kills nothing.
//!
//! The kernel tells every group below the one that ran out, and before it has picked a victim (`mem_cgroup_oom_notify`,
//! mm/memcontrol-v1.c). So the event only makes us look: a container is ended if the killer took one of its own processes.

use crate::container::{Container, NEVER};
use crate::sys::fs;

/// Nanoseconds between looks after an event, doubled each time; the killer may write a report to a slow console first.
const FIRST: u64 = 250_000;
/// After this the victim was somebody else's; the next event starts anew.
const LAST: u64 = 1_000_000_000;

/// An event came.
pub fn alarm(container: &mut Container, now: u64) {
    let _ = fs::read(container.oom_event, &mut [0u8; 8]);
    container.oom_pause = FIRST;
    container.next_oom_check = now;
}

/// The time for a look has come: true where a process of this container was taken.
pub fn look(container: &mut Container, now: u64) -> bool {
    container.oom_pause = container.oom_pause.saturating_mul(2);
    container.next_oom_check = if container.oom_pause > LAST { NEVER } else { now + container.oom_pause };
    lost_one(container)
}

/// "oom_kill 1" in memory.oom_control: Linux 4.13.
pub fn lost_one(container: &Container) -> bool {
    if container.oom_control < 0 {
        return false;
    }
    let mut text = [0u8; 128];
    let length = fs::pread(container.oom_control, &mut text, 0).unwrap_or(0);
    let mut lines = text[..length].split(|byte| *byte == b'\n');
    lines.any(|line| line.strip_prefix(b"oom_kill ").is_some_and(|count| count != b"0"))
}
