//! What no name and no step of a build needs any more: blobs and unpacked layers, removed when nobody is at work in the store and nobody stands on them.

use super::descriptor::{self, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX};
use super::digest::Digest;
use super::found;
use super::implied;
use super::locks::Check;
use super::reference::Reference;
use super::steps::{self, Kept};
use super::store::Store;
use super::unpacked::{ARCHIVES, ATTRIBUTES, Unpacked};
use super::whole;
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

/// An index in an index; deeper ones name nothing that is kept.
const DEPTH: usize = 8;

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    pub blobs: u64,
    pub bytes: u64,
    pub layers: u64,
}

/// None where somebody pulls, loads or builds: what he has brought has no name yet.
pub fn collect(store: &Store) -> Result<Option<Freed>> {
    let Some(_alone) = store.alone()? else { return Ok(None) };
    let mut wanted = Wanted::default();
    for root in store.roots()? {
        wanted.add(store, &root, 0);
        // The document alone: what else it names was never fetched.
        let index = root.annotations.get(found::CHOSEN_FROM).and_then(|text| Digest::parse(text).ok());
        wanted.blobs.extend(index);
    }
    for kept in steps::roots(store)? {
        match kept {
            Kept::Layer(layer, diff_id) => {
                wanted.blobs.insert(layer.digest);
                wanted.layers.insert(diff_id.hex().to_string());
            }
            Kept::Image(manifest) => wanted.add(store, &manifest, 0),
        }
    }
    let mut freed = Freed::default();
    for (digest, size) in store.blobs()? {
        if !wanted.blobs.contains(&digest) {
            store.remove_blob(&digest)?;
            freed.blobs += 1;
            freed.bytes += size;
        }
    }
    remove_corrections(store, &wanted.corrections)?; // before what they lie on: whoever looks at the highest may trust the others
    drop_unions(store)?; // they are other names of the layers' files
    let layers = store.layers()?;
    for digest in layers.complete() {
        if !wanted.layers.contains(&digest) && layers.remove_unused(&digest)? {
            freed.layers += 1;
        }
    }
    layers.sweep_stacks();
    Ok(Some(freed))
}

/// Archives that are unpacked, for so long at least, and on which nobody stands; how many. Whoever wants one unpacks it again.
pub fn drop_archives(store: &Path, age: Duration) -> Result<u64> {
    let archives = Unpacked::open(store, ARCHIVES)?;
    archives.sweep(None);
    let mut dropped = 0;
    for digest in archives.complete() {
        if archives.age(&digest).is_some_and(|there| there >= age) && archives.remove_unused(&digest)? {
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// What lies on stacks that no name has any more. It is made again where it is wanted, so it counts for nothing.
fn remove_corrections(store: &Store, wanted: &HashSet<String>) -> Result<()> {
    let corrections = Unpacked::open(store.path(), ATTRIBUTES)?;
    corrections.sweep(None);
    let unwanted = corrections.complete().into_iter().filter(|key| !wanted.contains(key));
    unwanted.into_iter().try_for_each(|key| corrections.remove_unused(&key).map(drop))
}

/// What came of some work, with nobody's lock held any more. Where the disk was full, what the work had brought so far is no name's: it
/// makes room.
pub fn after<T>(store: &Store, came: Result<T>) -> Result<T> {
    if let Err(Error::NoSpace { .. }) = &came {
        let _ = collect(store);
    }
    came.map_err(|error| match error {
        Error::NoSpace { path: None } => Error::NoSpace { path: Some(store.path().display().to_string()) },
        other => other,
    })
}

/// Takes a name away, on a full disk too, where the index cannot be written: first goes what nobody needs, then what can be unpacked
/// again.
pub fn untag(store: &Store, reference: &Reference, check: Check<'_>) -> Result<bool> {
    for make_room in [collect_all, drop_unpacked] {
        match store.untag(reference, check) {
            Err(Error::NoSpace { .. }) => make_room(store)?,
            other => return other,
        }
    }
    after(store, store.untag(reference, check))
}

fn collect_all(store: &Store) -> Result<()> {
    collect(store).map(drop)
}

/// All unpacked layers on which nobody stands.
fn drop_unpacked(store: &Store) -> Result<()> {
    let Some(_alone) = store.alone()? else { return Ok(()) };
    remove_corrections(store, &HashSet::new())?;
    drop_unions(store)?;
    let layers = store.layers()?;
    layers.complete().iter().try_for_each(|digest| layers.remove_unused(digest).map(drop))
}

/// Those on which nobody stands; they are made again when they are wanted.
fn drop_unions(store: &Store) -> Result<()> {
    for unions in store.unions()? {
        unions.complete().iter().try_for_each(|digest| unions.remove_unused(digest).map(drop))?;
    }
    Ok(())
}

#[derive(Default)]
struct Wanted {
    blobs: HashSet<Digest>,
    /// Diff ids, in hexadecimal.
    layers: HashSet<String>,
    /// Of stacks of layers.
    corrections: HashSet<String>,
}

impl Wanted {
    /// What cannot be read is kept, and so is what it may have named: nothing is removed on the word of a damaged document but that.
    fn add(&mut self, store: &Store, descriptor: &Descriptor, depth: usize) {
        if depth > DEPTH || !self.blobs.insert(descriptor.digest.clone()) {
            return;
        }
        let Ok(Some(bytes)) = store.read(&descriptor.digest, MANIFEST_MAX) else { return };
        match descriptor::document(&bytes, &descriptor.media_type) {
            Ok(Document::Index(manifests)) => manifests.iter().for_each(|one| self.add(store, one, depth + 1)),
            Ok(Document::Manifest(manifest)) => {
                self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                self.blobs.insert(manifest.config.digest.clone());
                if let Ok(Some(bytes)) = store.read(&manifest.config.digest, CONFIG_MAX)
                    && let Ok(config) = descriptor::config(&bytes)
                {
                    self.layers.extend(config.diff_ids.iter().map(|id| id.hex().to_string()));
                    self.corrections.insert(implied::key(whole::distinct(&config.diff_ids).into_iter()));
                }
            }
            Err(_) => self.add_all(&bytes),
        }
    }

    /// Of a document that is no image of ours (an artifact that another tool put there): whatever it names by a digest.
    fn add_all(&mut self, bytes: &[u8]) {
        let Ok(whole) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
        let mut waiting = vec![&whole];
        while let Some(value) = waiting.pop() {
            match value {
                serde_json::Value::String(text) => self.blobs.extend(Digest::parse(text).ok()),
                serde_json::Value::Array(values) => waiting.extend(values),
                serde_json::Value::Object(map) => waiting.extend(map.values()),
                _ => {}
            }
        }
    }
}
