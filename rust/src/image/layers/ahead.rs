//! Layers unpacked while others still come: each as soon as its blob is whole, in threads beside the work that brings them, and made
//! complete together once all are there. What somebody else is at is left out; `unpack_layers` waits for it.

use super::{Outcome, name_store, unpack_one};
use crate::error::{Error, Result};
use crate::image::archive::Totals;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::locks::{Lock, interrupted};
use crate::image::progress::Queue;
use crate::image::store::Store;
use crate::image::unpacked::{self, Unfinished, Unpacked};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Between two questions whether to go on.
const PACE: Duration = Duration::from_millis(20);

pub struct Ahead<'a> {
    store: &'a Store,
    unpacked: &'a Unpacked,
    progress: &'a Queue,
    privileged: bool,
    state: Mutex<State<'a>>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State<'a> {
    threads: usize,
    waiting: VecDeque<(Descriptor, Digest)>,
    at_work: usize,
    /// Nothing more comes.
    is_over: bool,
    /// Unpacked, and not yet durable; nobody else unpacks them meanwhile.
    ready: Vec<(Unfinished<'a>, Digest, Totals, Lock)>,
    failed: Option<Error>,
}

impl<'a> Ahead<'a> {
    pub fn new(store: &'a Store, unpacked: &'a Unpacked, progress: &'a Queue) -> Ahead<'a> {
        let privileged = rustix::process::geteuid().is_root();
        let (state, changed, stop) = Default::default();
        Ahead { store, unpacked, progress, privileged, state, changed, stop }
    }

    /// `work`, and the threads that unpack what it says has come. What is not complete by its end leaves nothing.
    pub fn beside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = std::thread::scope(|scope| {
            let _over = Over(self);
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
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

    /// A layer is whole in the store. An error where an earlier one could not be unpacked.
    pub fn came(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let mut state = self.state();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.threads > 0 {
            state.waiting.push_back((blob.clone(), diff_id.clone()));
            self.changed.notify_all();
        }
        Ok(())
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
        while let Some((blob, diff_id)) = self.take() {
            let _at_work = AtWork(self);
            let read = AtomicU64::new(0);
            let told = |more| {
                let total = read.fetch_add(more, Ordering::Relaxed) + more;
                self.progress.put("unpacking", &blob.digest.to_string(), total, blob.size);
            };
            let layer = (&blob, &diff_id);
            match unpack_one(self.store, self.unpacked, layer, self.privileged, &self.stop, &told) {
                Ok(Outcome::Ready(unfinished, totals, lock)) => {
                    self.state().ready.push((unfinished, diff_id, totals, lock));
                }
                Ok(Outcome::There | Outcome::Busy) => {}
                Err(error) => self.fail(name_store(error, self.store)),
            }
        }
    }

    /// The next one, at which the caller is then.
    fn take(&self) -> Option<(Descriptor, Digest)> {
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
        state.waiting.clear();
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
struct AtWork<'a, 'b>(&'a Ahead<'b>);

impl Drop for AtWork<'_, '_> {
    fn drop(&mut self) {
        self.0.state().at_work -= 1;
        self.0.changed.notify_all();
    }
}
