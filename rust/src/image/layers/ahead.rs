//! Layers unpacked while they and others still come, in threads beside the work that brings them, and made complete together once all
//! are there. What somebody else is at is left out; `unpack_layers` waits for it.

use super::coming::{Coming, Fate, Follower, coming};
use super::{Outcome, PACE, name_store, unpack_one};
use crate::error::{Error, Result};
use crate::image::archive::Totals;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::locks::{Lock, interrupted};
use crate::image::progress::Queue;
use crate::image::store::Store;
use crate::image::unpacked::{self, Unfinished, Unpacked};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

pub struct Ahead<'a> {
    store: &'a Store,
    unpacked: &'a Unpacked,
    progress: &'a Queue,
    /// So many are brought at one time, each with a thread that unpacks it meanwhile.
    at_once: usize,
    privileged: bool,
    state: Mutex<State<'a>>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State<'a> {
    threads: usize,
    waiting: VecDeque<Job>,
    at_work: usize,
    /// Of both, those that still came when they were taken on.
    following: usize,
    /// Nothing more comes.
    is_over: bool,
    /// Unpacked, and not yet durable; nobody else unpacks them meanwhile.
    ready: Vec<(Unfinished<'a>, Digest, Totals, Lock)>,
    failed: Option<Error>,
}

/// One layer. `follower`: it may still come.
struct Job {
    blob: Descriptor,
    diff_id: Digest,
    follower: Option<Follower>,
}

impl<'a> Ahead<'a> {
    pub fn new(store: &'a Store, unpacked: &'a Unpacked, progress: &'a Queue, at_once: usize) -> Ahead<'a> {
        let privileged = rustix::process::geteuid().is_root();
        let (state, changed, stop) = Default::default();
        Ahead { store, unpacked, progress, at_once, privileged, state, changed, stop }
    }

    /// `work`, and the threads that unpack what it says has come. What is not complete by its end leaves nothing.
    pub fn beside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = std::thread::scope(|scope| {
            let _over = Over(self);
            // Who follows one that comes slowly holds up none that is there.
            for _ in 0..self.at_once + std::thread::available_parallelism().map_or(1, usize::from) {
                let thread = std::thread::Builder::new().name("pycontainer-unpack".into());
                self.state().threads += 1;
                if thread.spawn_scoped(scope, || self.serve()).is_err() {
                    self.state().threads -= 1; // without any, layers are unpacked later
                }
            }
            work()
        });
        for (unfinished, ..) in std::mem::take(&mut self.state().ready) {
            unfinished.discard();
        }
        done
    }

    /// A layer begins to come, into `file`. None where nobody has time for it: then it is unpacked when it is whole.
    pub fn comes(&self, blob: &Descriptor, diff_id: &Digest, file: File) -> Option<Coming> {
        let mut state = self.state();
        let busy = state.at_work + state.waiting.len();
        if state.failed.is_some() || state.following >= self.at_once || busy >= state.threads {
            return None;
        }
        let (coming, follower) = coming(file);
        state.following += 1;
        state.waiting.push_back(Job { blob: blob.clone(), diff_id: diff_id.clone(), follower: Some(follower) });
        self.changed.notify_all();
        Some(coming)
    }

    /// A layer is whole in the store.
    pub fn came(&self, blob: &Descriptor, diff_id: &Digest) {
        let mut state = self.state();
        if state.failed.is_none() && state.threads > 0 {
            state.waiting.push_back(Job { blob: blob.clone(), diff_id: diff_id.clone(), follower: None });
            self.changed.notify_all();
        }
    }

    /// An error where one could not be unpacked.
    pub fn check(&self) -> Result<()> {
        self.state().failed.clone().map_or(Ok(()), Err)
    }

    /// All have come: waits for those that are being unpacked, and makes them complete.
    pub fn complete(&self, is_cancelled: &dyn Fn() -> bool) -> Result<()> {
        let mut state = self.settled(is_cancelled)?;
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let ready = std::mem::take(&mut state.ready);
        drop(state);
        if ready.is_empty() {
            return Ok(());
        }
        let (mut parts, mut digests, mut locks) = (Vec::new(), Vec::new(), Vec::new());
        for (unfinished, digest, totals, lock) in ready {
            parts.push((unfinished, totals));
            digests.push(digest);
            locks.push(lock);
        }
        let named =
            parts.into_iter().zip(&digests).map(|((unfinished, totals), digest)| (unfinished, digest.hex(), totals));
        let published = unpacked::publish(self.unpacked, named.collect());
        drop(locks);
        published.map_err(|error| name_store(error, self.store))
    }

    /// Whoever brings them tries again, from somewhere else: what failed may come out otherwise.
    pub fn start_anew(&self, is_cancelled: &dyn Fn() -> bool) -> Result<()> {
        let mut state = self.settled(is_cancelled)?;
        state.failed = None;
        self.stop.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Nothing waits and nobody is at work.
    fn settled(&self, is_cancelled: &dyn Fn() -> bool) -> Result<MutexGuard<'_, State<'a>>> {
        let mut state = self.state();
        while !state.waiting.is_empty() || state.at_work > 0 {
            if is_cancelled() {
                self.stop.store(true, Ordering::Relaxed);
                return Err(interrupted());
            }
            let waited = self.changed.wait_timeout(state, PACE);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        Ok(state)
    }

    fn serve(&self) {
        while let Some(Job { blob, diff_id, follower }) = self.take() {
            let fate = follower.as_ref().map(Follower::fate);
            let _at_work = AtWork { ahead: self, follows: follower.is_some() };
            let (read, what) = (AtomicU64::new(0), blob.digest.to_string());
            let put = |total| self.progress.put("unpacking", &what, total, blob.size);
            let told = |more| {
                let total = read.fetch_add(more, Ordering::Relaxed) + more;
                // While it comes, that is what is told of it.
                if fate.as_ref().is_none_or(Fate::is_whole) {
                    put(total);
                }
            };
            let layer = (&blob, &diff_id, follower);
            match unpack_one(self.store, self.unpacked, layer, self.privileged, &self.stop, &told) {
                Ok(Outcome::Ready(unfinished, totals, lock)) => {
                    put(blob.size);
                    self.state().ready.push((unfinished, diff_id, totals, lock));
                }
                Ok(Outcome::There | Outcome::Busy) => {}
                // Why it did not come is told by whom it did not come to.
                Err(_) if fate.as_ref().is_some_and(Fate::has_failed) => {}
                Err(error) => self.fail(name_store(error, self.store)),
            }
        }
    }

    /// The next one, at which the caller is then.
    fn take(&self) -> Option<Job> {
        let waits = |state: &mut State<'_>| state.waiting.is_empty() && !state.is_over;
        let waited = self.changed.wait_while(self.state(), waits);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        let next = state.waiting.pop_front().filter(|_| !state.is_over)?;
        state.at_work += 1;
        Some(next)
    }

    /// The first error counts; it ends the others.
    fn fail(&self, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        let mut state = self.state();
        let left = state.waiting.drain(..).filter(|job| job.follower.is_some()).count();
        state.following -= left;
        state.failed.get_or_insert(error);
    }
}

/// Says so to the threads however the work ends.
struct Over<'a, 'b>(&'a Ahead<'b>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

/// Says so to who waits, also where the unpacking panics.
struct AtWork<'a, 'b> {
    ahead: &'a Ahead<'b>,
    follows: bool,
}

impl Drop for AtWork<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.ahead.state();
        state.at_work -= 1;
        state.following -= usize::from(self.follows);
        drop(state);
        self.ahead.changed.notify_all();
    }
}
