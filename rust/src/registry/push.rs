//! An image of the store to a registry: its blobs, where they are not there yet, then its manifest under the name.

use super::auth::Given;
use super::cancel::{Cancel, supervised};
use super::conf::registries::Registries;
use super::patience::Patience;
use super::session::Session;
use super::upload::{Sent, Source};
use crate::error::{Error, Result};
use crate::image::descriptor::{self, Descriptor, Document, MANIFEST_MAX, Manifest};
use crate::image::digest::Digest;
use crate::image::found::{self, CHOSEN_FROM};
use crate::image::locks::Check;
use crate::image::progress::Queue;
use crate::image::reference::Reference;
use crate::image::store::Store;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const AT_ONCE: usize = 4;
/// Names of the store that are looked through for a repository to mount from.
const NAMES_MAX: usize = 100;

pub struct Push<'a> {
    pub store: &'a Store,
    /// Of a manifest in the store.
    pub image: &'a Digest,
    /// Where to.
    pub to: &'a Reference,
    pub given: &'a Given,
    pub patience: Patience,
    pub progress: &'a Queue,
    /// Bytes of one piece; None: a blob is sent in one.
    pub chunk: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What the registry has under the name now.
    pub digest: Digest,
    /// Blobs that were sent, mounted, and there already.
    pub transferred: usize,
    pub mounted: usize,
    pub present: usize,
}

/// A document and its blobs; those that it names come before it.
struct Part {
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
    manifest: Manifest,
}

pub fn push(push: &Push<'_>, check: Check<'_>) -> Result<Pushed> {
    let (parts, index) = push.documents()?;
    let endpoint = Registries::load()?.destination(push.to)?;
    let blobs = push.blobs(&parts)?;
    let from = push.elsewhere(&blobs)?;
    supervised(check, |cancel| {
        let session = Session::new(endpoint, push.given, push.patience, cancel);
        let mut pushed = push.send_blobs(&session, &blobs, &from, cancel)?;
        let version = push.to.version();
        for part in &parts {
            let name = if index.is_none() { version.clone() } else { part.digest.to_string() };
            session.send_manifest(&name, &part.media_type, &part.bytes, &part.digest)?;
            pushed.digest = part.digest.clone();
        }
        if let Some((digest, media_type, bytes)) = &index {
            session.send_manifest(&version, media_type, bytes, digest)?;
            pushed.digest = digest.clone();
        }
        Ok(pushed)
    })
}

type Index = (Digest, String, Vec<u8>);

impl Push<'_> {
    /// The manifest that has the name; with the index that it was chosen from, where all that the index names is here.
    fn documents(&self) -> Result<(Vec<Part>, Option<Index>)> {
        let names = self.store.names()?;
        let indexes = names.iter().filter(|named| named.descriptor.digest == *self.image);
        let index = indexes.filter_map(|named| named.descriptor.annotations.get(CHOSEN_FROM)).next();
        if let Some(digest) = index.and_then(|text| Digest::parse(text).ok())
            && let Some(whole) = self.whole_index(&digest)?
        {
            return Ok(whole);
        }
        let blob = self.store.blob(self.image, None)?;
        let size = blob.ok_or_else(|| Error::ImageNotFound(format!("the store has no image {}", self.image)))?.size;
        let found = found::bare(self.image.clone(), size);
        let part = self.part(&found)?;
        let part =
            part.ok_or_else(|| Error::ImageNotFound(format!("the store does not have all of {}", self.image)))?;
        if self.to.digest.as_ref().is_some_and(|wanted| *wanted != part.digest) {
            return Err(Error::Value(format!("reference: {} is not what its digest says", self.image)));
        }
        Ok((vec![part], None))
    }

    fn whole_index(&self, digest: &Digest) -> Result<Option<(Vec<Part>, Option<Index>)>> {
        let Some(bytes) = self.store.read(digest, MANIFEST_MAX)? else { return Ok(None) };
        let Document::Index(manifests) = descriptor::document(&bytes, "")? else { return Ok(None) };
        let parts: Option<Vec<Part>> = manifests.iter().map(|one| self.part(one).ok().flatten()).collect();
        let said: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        let said = said.as_ref().and_then(|whole| whole.get("mediaType")).and_then(|kind| kind.as_str());
        let media_type = said.unwrap_or(descriptor::media::OCI_INDEX).to_string();
        Ok(parts.map(|parts| (parts, Some((digest.clone(), media_type, bytes)))))
    }

    /// None where something of it is missing.
    fn part(&self, wanted: &Descriptor) -> Result<Option<Part>> {
        let Some(bytes) = self.store.read(&wanted.digest, MANIFEST_MAX)? else { return Ok(None) };
        let Document::Manifest(manifest) = descriptor::document(&bytes, &wanted.media_type)? else { return Ok(None) };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if self.store.blob(&blob.digest, Some(blob.size))?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Part { digest: wanted.digest.clone(), media_type: manifest.media_type.clone(), bytes, manifest }))
    }

    fn blobs(&self, parts: &[Part]) -> Result<Vec<Descriptor>> {
        let mut seen = HashSet::new();
        let all = parts.iter().flat_map(|part| part.manifest.layers.iter().chain([&part.manifest.config]));
        Ok(all.filter(|blob| seen.insert(blob.digest.clone())).cloned().collect())
    }

    /// Repositories of the same registry that have a blob, as far as the names in the store tell.
    fn elsewhere(&self, blobs: &[Descriptor]) -> Result<BTreeMap<Digest, String>> {
        let wanted: HashSet<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
        let mut found = BTreeMap::new();
        let others = self.store.names()?.into_iter().filter(|named| named.reference.domain == self.to.domain);
        for named in others.filter(|named| named.reference.path != self.to.path).take(NAMES_MAX) {
            let Some(part) = self.part(&named.descriptor).ok().flatten() else { continue };
            for blob in part.manifest.layers.iter().filter(|blob| wanted.contains(&blob.digest)) {
                found.entry(blob.digest.clone()).or_insert_with(|| named.reference.path.clone());
            }
        }
        Ok(found)
    }

    fn send_blobs(
        &self,
        session: &Session<'_>,
        blobs: &[Descriptor],
        from: &BTreeMap<Digest, String>,
        cancel: &Cancel,
    ) -> Result<Pushed> {
        for blob in blobs {
            self.progress.put("waiting", &blob.digest.to_string(), 0, blob.size);
        }
        let (next, sent, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None::<Error>));
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                match cancel.check().and_then(|()| self.send(session, blob, from.get(&blob.digest).map(String::as_str)))
                {
                    Ok(how) => sent.lock().unwrap_or_else(PoisonError::into_inner).push(how),
                    Err(error) => {
                        next.store(blobs.len(), Ordering::Relaxed);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(blobs.len()) {
                let _ = std::thread::Builder::new().name("pycontainer-layer".into()).spawn_scoped(scope, work);
            }
            work();
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let sent = sent.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = |wanted: Sent| sent.iter().filter(|how| **how == wanted).count();
        let (transferred, mounted, present) = (count(Sent::Transferred), count(Sent::Mounted), count(Sent::Present));
        Ok(Pushed { digest: Digest::of(b""), transferred, mounted, present })
    }

    fn send(&self, session: &Session<'_>, blob: &Descriptor, from: Option<&str>) -> Result<Sent> {
        let gone = || Error::Image(format!("{} is gone from the store", blob.digest));
        let open = || Ok(self.store.blob(&blob.digest, Some(blob.size))?.ok_or_else(gone)?.file);
        let what = blob.digest.to_string();
        let read = |done: u64| self.progress.put("uploading", &what, done, blob.size);
        let how = session.send_blob(blob, &Source { open: &open, read: &read }, from, self.chunk)?;
        let state = if how == Sent::Transferred { "done" } else { "there" };
        self.progress.put(state, &what, blob.size, blob.size);
        Ok(how)
    }
}
