//! Layers of an image, unpacked once into the store, by their diff id: several at a time, each in one pass over its blob.
//!
//! A layer is unpacked by itself, whatever lies below it, so that all images share it: whiteouts are made as an overlay reads them, and a
//! hard link to a file of a lower layer is an error.

mod ahead;
mod coming;
mod files;
mod pipe;
mod stream;
#[cfg(test)]
mod tests;

use super::archive::{Totals, marks};
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::locks::{Check, Lock, interrupted};
use super::store::Store;
use super::unpacked::{self, Unfinished, Unpacked};
use crate::error::{Error, Result};
use coming::Follower;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use stream::Input;

pub use ahead::Ahead;
pub use coming::Coming;
pub use files::unpack_files;

/// Between two questions whether to go on, of whoever waits here.
const PACE: Duration = Duration::from_millis(20);

/// Told which layer (its number in the list) has read so many more bytes of its blob; from threads of the layers.
pub type Progress<'a> = &'a (dyn Fn(usize, u64) + Sync);

/// The directory of one layer, unpacked now or before.
pub fn unpack_layer(store: &Store, blob: &Descriptor, diff_id: &Digest, check: Check<'_>) -> Result<PathBuf> {
    let found = unpack_layers(store, &[(blob.clone(), diff_id.clone())], &|_, _| {}, check)?;
    found.into_iter().next().ok_or_else(|| Error::State("a layer without a directory".into()))
}

/// The directories of these layers, in their order: as many at a time as there are processors. The blobs are in the store. `check` is
/// asked now and then, in the calling thread; true ends the work. What was complete when another one failed stays in the store.
pub fn unpack_layers(
    store: &Store,
    layers: &[(Descriptor, Digest)],
    progress: Progress<'_>,
    check: Check<'_>,
) -> Result<Vec<PathBuf>> {
    let unpacked = store.layers()?;
    let privileged = rustix::process::geteuid().is_root();
    let mut waiting = missing(&unpacked, layers);
    while !waiting.is_empty() {
        let work = Work {
            store,
            unpacked: &unpacked,
            layers,
            waiting: &waiting,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            privileged,
            progress,
        };
        waiting = work.round(check).map_err(|error| name_store(error, store))?;
        if let Some(index) = waiting.first() {
            // Only now, with no lock of ours held: two processes that want the same layers in another order would wait forever.
            drop(unpacked.lock(layers[*index].1.hex(), check)?);
        }
    }
    Ok(layers.iter().map(|(_, diff_id)| unpacked.rootfs(diff_id.hex())).collect())
}

/// Of a stack, the lowest first, the layers that can be seen: one whose root is opaque hides all below it. An overlay reads the attribute
/// of any directory but a layer's root, so a stack is made of these alone.
pub fn visible(stack: &[PathBuf]) -> &[PathBuf] {
    let start = stack.iter().rposition(|root| marks::is_opaque_root(root)).unwrap_or(0);
    &stack[start..]
}

/// The numbers of those that are not there; of equal ones the first.
fn missing(unpacked: &Unpacked, layers: &[(Descriptor, Digest)]) -> Vec<usize> {
    let mut first = HashMap::new();
    for (index, (_, diff_id)) in layers.iter().enumerate() {
        first.entry(diff_id).or_insert(index);
    }
    let mut found: Vec<usize> =
        first.into_values().filter(|index| !unpacked.is_there(layers[*index].1.hex())).collect();
    found.sort_unstable();
    found
}

fn name_store(error: Error, store: &Store) -> Error {
    match error {
        Error::NoSpace { path: None } => Error::NoSpace { path: Some(store.path().display().to_string()) },
        other => other,
    }
}

/// One round over the layers that are wanted.
struct Work<'a> {
    store: &'a Store,
    unpacked: &'a Unpacked,
    layers: &'a [(Descriptor, Digest)],
    waiting: &'a [usize],
    next: AtomicUsize,
    stop: AtomicBool,
    privileged: bool,
    progress: Progress<'a>,
}

enum Outcome<'a> {
    /// Unpacked, and not yet durable.
    Ready(Unfinished<'a>, Totals, Lock),
    /// Another process, or another thread, was faster.
    There,
    /// Somebody is at it.
    Busy,
}

impl<'a> Work<'a> {
    /// Unpacks all whose locks are free and publishes them together. Those that somebody else is at come back.
    fn round(&'a self, check: Check<'_>) -> Result<Vec<usize>> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (tell, told) = channel();
        let (found, failed) = std::thread::scope(|scope| {
            for _ in 0..processors.min(self.waiting.len()) {
                let tell = tell.clone();
                scope.spawn(move || {
                    while let Some(index) = self.take() {
                        let _ = tell.send((index, self.unpack(index)));
                    }
                });
            }
            drop(tell);
            self.collect(&told, check)
        });
        let (mut ready, mut locks, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        for (index, outcome) in found {
            match outcome {
                Outcome::Ready(unfinished, totals, lock) => {
                    ready.push((unfinished, self.layers[index].1.hex(), totals));
                    locks.push(lock);
                }
                Outcome::There => {}
                Outcome::Busy => busy.push(index),
            }
        }
        let published = if ready.is_empty() { Ok(()) } else { unpacked::publish(self.unpacked, ready) };
        drop(locks);
        failed.map_or(Ok(()), Err)?;
        published?;
        busy.sort_unstable();
        Ok(busy)
    }

    fn take(&self) -> Option<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.waiting.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// What became of each, and the first error: it ends the others.
    fn collect(
        &self,
        told: &Receiver<(usize, Result<Outcome<'a>>)>,
        check: Check<'_>,
    ) -> (Vec<(usize, Outcome<'a>)>, Option<Error>) {
        let (mut found, mut failed) = (Vec::new(), None);
        loop {
            match told.recv_timeout(PACE) {
                Ok((index, Ok(outcome))) => found.push((index, outcome)),
                Ok((_, Err(error))) => {
                    self.stop.store(true, Ordering::Relaxed);
                    failed = failed.or(Some(error));
                }
                Err(RecvTimeoutError::Timeout) if failed.is_none() && check() => {
                    self.stop.store(true, Ordering::Relaxed);
                    failed = Some(interrupted());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return (found, failed),
            }
        }
    }

    fn unpack(&self, index: usize) -> Result<Outcome<'a>> {
        let told = |bytes| (self.progress)(index, bytes);
        let (blob, diff_id) = &self.layers[index];
        unpack_one(self.store, self.unpacked, (blob, diff_id, None), self.privileged, &self.stop, &told)
    }
}

/// One layer, whose blob is in the store or comes, into a directory that nobody else sees.
fn unpack_one<'a>(
    store: &Store,
    unpacked: &'a Unpacked,
    (blob, diff_id, coming): (&Descriptor, &Digest, Option<Follower>),
    privileged: bool,
    stop: &AtomicBool,
    told: stream::Told<'_>,
) -> Result<Outcome<'a>> {
    let digest = diff_id.hex();
    let Some(lock) = unpacked.try_lock(digest)? else { return Ok(Outcome::Busy) };
    if unpacked.is_there(digest) {
        return Ok(Outcome::There);
    }
    unpacked.sweep(Some(&lock));
    let input = match coming {
        Some(follower) => Input::Coming(follower),
        None => Input::Stored(stored(store, blob)?),
    };
    let unfinished = unpacked.unfinished(digest)?;
    let root = unfinished.root().map_err(|errno| Error::from(("open a directory of the store", errno)));
    match root.and_then(|root| stream::unpack(blob, diff_id, input, root, privileged, stop, told)) {
        Ok(totals) => Ok(Outcome::Ready(unfinished, totals, lock)),
        Err(error) => {
            unfinished.discard();
            Err(error)
        }
    }
}

fn stored(store: &Store, blob: &Descriptor) -> Result<File> {
    let found = store.blob(&blob.digest, Some(blob.size))?;
    let missing = || Error::Image(format!("layer {} is not in the store: pull or load the image again", blob.digest));
    Ok(found.ok_or_else(missing)?.file)
}
