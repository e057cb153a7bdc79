//! Forks of the host and spawns keep out of each other's way: no copy of the host may hold a container's pipes open.

use crate::sys::host::ForkCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

/// How many spawns are between making their pipes and closing the container's ends, and how many forks wait or happen.
#[derive(Debug, Default)]
struct Traffic {
    spawning: usize,
    forking: usize,
}

#[derive(Debug, Default)]
struct Gate {
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

static GATE: ForkCell<Gate> = ForkCell::new(Gate::default);

/// Our ends of the pipes and sockets of live runs. Without a lock, so that a forked copy can always read it; plus one, zero is free.
static OURS: [AtomicI32; 16 * 1024] = [const { AtomicI32::new(0) }; 16 * 1024];

fn lock(gate: &'static Gate) -> MutexGuard<'static, Traffic> {
    gate.traffic.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn wait_while(gate: &'static Gate, busy: fn(&Traffic) -> bool) -> MutexGuard<'static, Traffic> {
    let held = gate.changed.wait_while(lock(gate), |traffic| busy(traffic));
    held.unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Held while child ends are open.
#[derive(Debug)]
pub struct Spawning(&'static Gate);

pub fn spawning() -> Spawning {
    let gate = GATE.get();
    wait_while(gate, |traffic| traffic.forking > 0).spawning += 1;
    Spawning(gate)
}

impl Drop for Spawning {
    fn drop(&mut self) {
        let mut traffic = lock(self.0);
        traffic.spawning = traffic.spawning.saturating_sub(1);
        drop(traffic);
        self.0.changed.notify_all();
    }
}

/// An end of ours, closed in every forked copy of the host.
#[derive(Debug)]
pub struct Ours {
    fd: OwnedFd,
    slot: Option<usize>,
}

impl Ours {
    pub fn new(fd: OwnedFd) -> Ours {
        let wanted = fd.as_raw_fd() + 1;
        let start = wanted as usize;
        let slot = (0..OURS.len())
            .map(|i| (start + i) % OURS.len())
            .find(|slot| OURS[*slot].compare_exchange(0, wanted, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        Ours { fd, slot }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let _ = OURS[slot].compare_exchange(self.fd.as_raw_fd() + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

impl AsRawFd for Ours {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Ours {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Before a fork of the host: waits until no spawn has child ends open, and keeps new ones out.
pub fn before_fork() {
    let gate = GATE.get();
    lock(gate).forking += 1;
    drop(wait_while(gate, |traffic| traffic.spawning > 0));
}

pub fn after_fork_in_parent() {
    let gate = GATE.get();
    let mut traffic = lock(gate);
    // The hooks may have been registered by another thread in the middle of this fork.
    traffic.forking = traffic.forking.saturating_sub(1);
    drop(traffic);
    gate.changed.notify_all();
}

/// In the copy: nothing of the parent's containers is ours; their descriptors are closed, their locks forgotten.
pub fn after_fork_in_child() {
    GATE.replace();
    for slot in &OURS {
        let fd = slot.swap(0, Ordering::AcqRel);
        if fd > 0 {
            crate::sys::fs::close(fd - 1);
        }
    }
}
