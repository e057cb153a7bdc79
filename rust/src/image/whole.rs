//! An image as a whole: the directories of its layers, whether anybody stands on them, whether all of it is what its digests say.

use super::archive::Source;
use super::descriptor;
use super::descriptor::{Descriptor, Document, MANIFEST_MAX};
use super::digest::{Digest, Hasher};
use super::found::Found;
use super::implied;
use super::layers;
use super::locks::{Check, interrupted};
use super::progress::Queue;
use super::store::Store;
use crate::error::{Error, Result};
use crate::runtime::make_private_directory;
use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;

const CHUNK: usize = 256 << 10;

/// The lowest first; unpacked now where they were not. Those that a higher one hides wholly are left out. An image without layers stands
/// on an empty directory.
pub fn directories(store: &Store, image: &Found, queue: &Queue, check: Check<'_>) -> Result<Vec<PathBuf>> {
    let layers: Vec<(Descriptor, Digest)> =
        image.manifest.layers.iter().cloned().zip(image.config.diff_ids.iter().cloned()).collect();
    unpacked(store, &layers, queue, check)
}

/// The same, of layers that no image has yet.
pub fn unpacked(
    store: &Store,
    layers: &[(Descriptor, Digest)],
    queue: &Queue,
    check: Check<'_>,
) -> Result<Vec<PathBuf>> {
    if layers.is_empty() {
        let empty = store.path().join("empty");
        make_private_directory(&empty)?;
        return Ok(vec![empty]);
    }
    // A layer that comes twice is all there in its higher place, and an overlay takes no directory twice (ELOOP).
    let layers: Vec<_> = distinct_by(layers, |(_, id)| id).into_iter().cloned().collect();
    let done: Vec<_> = layers.iter().map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
    let progress = |index: usize, more: u64| {
        let total = done[index].fetch_add(more, std::sync::atomic::Ordering::Relaxed) + more;
        queue.put("unpacking", &layers[index].0.digest.to_string(), total, layers[index].0.size);
    };
    let stack = layers::unpack_layers(store, &layers, &progress, check)?;
    implied::stacked(store, &layers, &stack, check)
}

/// The diff ids of a stack, each in its highest place.
pub fn distinct(ids: &[Digest]) -> Vec<&Digest> {
    distinct_by(ids, |id| id)
}

fn distinct_by<'a, T>(layers: &'a [T], id: impl Fn(&'a T) -> &'a Digest) -> Vec<&'a T> {
    let mut higher = HashSet::new();
    let mut found: Vec<_> = layers.iter().rev().filter(|layer| higher.insert(id(layer))).collect();
    found.reverse();
    found
}

/// Whether a container of this user stands on its highest layer.
pub fn in_use(store: &Store, image: &Found) -> Result<bool> {
    let unpacked = store.layers()?;
    let Some(top) = image.config.diff_ids.last() else { return Ok(false) };
    Ok(unpacked.is_used(top.hex()))
}

/// Everything is there and is what its digest says: documents, blobs, and the tars in the blobs.
pub fn verify(store: &Store, image: &Found, check: Check<'_>) -> Result<()> {
    let bytes = store.read(&image.descriptor.digest, MANIFEST_MAX)?.unwrap_or_default();
    match descriptor::document(&bytes, "")? {
        Document::Manifest(manifest) if manifest == image.manifest => {}
        _ => return Err(Error::DigestMismatch(format!("{} is another manifest now", image.descriptor.digest))),
    }
    for (layer, diff_id) in image.manifest.layers.iter().zip(&image.config.diff_ids) {
        let missing = || Error::Image(format!("the store lacks the layer {}", layer.digest));
        let blob = store.blob(&layer.digest, None)?.ok_or_else(missing)?;
        let source = Source::of_file(blob.file);
        compare(hash(source.raw()?, &layer.digest, check)?, &layer.digest, "the blob")?;
        compare(hash(source.tar()?, diff_id, check)?, diff_id, "the tar of a layer")?;
    }
    Ok(())
}

fn compare(found: Digest, wanted: &Digest, what: &str) -> Result<()> {
    if found == *wanted {
        return Ok(());
    }
    Err(Error::DigestMismatch(format!("{what} {wanted} is {found}: pull or load the image again")))
}

fn hash(mut from: impl Read, as_in: &Digest, check: Check<'_>) -> Result<Digest> {
    let mut hash = Hasher::new(as_in.algorithm());
    let mut buffer = vec![0; CHUNK];
    loop {
        if check() {
            return Err(interrupted());
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hash.finish()),
            Ok(n) => hash.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => match error.raw_os_error() {
                Some(errno) => return Err(Error::setup("read a blob of the store", errno)),
                None => return Err(Error::DigestMismatch(format!("{as_in} cannot be unpacked: {error}"))),
            },
        }
    }
}
