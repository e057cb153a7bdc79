//! An image from a registry into the store: documents, then blobs, four at a time and unpacked as they come, then its name.
//!
//! What gets the name is always the manifest of one platform, all of whose blobs are here: so whoever reads the store as an OCI layout finds
//! nothing missing. Where the registry has an index under the name, the index lies in the store beside it, and an annotation of the entry
//! says its digest; by that the name is known to be up to date, and the index can be sent on.

use super::auth::Given;
use super::blob::Blob;
use super::cancel::{Cancel, supervised};
use super::client::Fetched;
use super::conf::registries::Registries;
use super::patience::Patience;
use super::session::Session;
use crate::error::{Error, Result};
use crate::image::descriptor::{self, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX, Manifest, Platform};
use crate::image::digest::Digest;
use crate::image::found::{self, CHOSEN_FROM};
use crate::image::layers::{Ahead, Coming};
use crate::image::locks::Check;
use crate::image::progress::Queue;
use crate::image::reference::Reference;
use crate::image::store::Store;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blobs at once.
pub const AT_ONCE: usize = 4;
const BUFFER: usize = 64 << 10;

pub struct Pull<'a> {
    pub store: &'a Store,
    pub reference: &'a Reference,
    /// None: this machine's.
    pub platform: Option<Platform>,
    pub given: &'a Given,
    pub patience: Patience,
    pub progress: &'a Queue,
    /// Unpacks each layer while it comes, or where nobody has time for that while others do.
    pub ahead: &'a Ahead<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The manifest's, as it is in the store's index.
    pub descriptor: Descriptor,
    /// What the registry calls the name: the index where there is one, else the manifest.
    pub digest: Digest,
    /// False: all of it was there.
    pub is_new: bool,
}

/// Asks what the name is now, and fetches what is not here. A digest that is here is the same for ever: nobody is asked.
pub fn pull(pull: &Pull<'_>, check: Check<'_>) -> Result<Pulled> {
    let wanted = pull.platform.clone().unwrap_or_else(found::native);
    let here = pull.here(&wanted)?;
    match here {
        Some(here) if pull.reference.digest.is_some() => Ok(here),
        here => supervised(check, |cancel| pull.anywhere(&wanted, here.as_ref(), cancel)),
    }
}

impl Pull<'_> {
    /// What the store has under the name, if it is whole and for this platform.
    fn here(&self, wanted: &Platform) -> Result<Option<Pulled>> {
        let Some(descriptor) = self.store.find(self.reference)? else { return Ok(None) };
        let Some(bytes) = self.store.read(&descriptor.digest, MANIFEST_MAX)? else { return Ok(None) };
        let Document::Manifest(manifest) = descriptor::document(&bytes, &descriptor.media_type)? else {
            return Ok(None);
        };
        let Some(config) = self.store.read(&manifest.config.digest, CONFIG_MAX)? else { return Ok(None) };
        for layer in &manifest.layers {
            if self.store.blob(&layer.digest, Some(layer.size))?.is_none() {
                return Ok(None);
            }
        }
        let index = descriptor.annotations.get(CHOSEN_FROM).and_then(|text| Digest::parse(text).ok());
        let is_right = match index.as_ref().map(|index| self.store.read(index, MANIFEST_MAX)).transpose()?.flatten() {
            // Its config may not tell which variant it is for.
            Some(bytes) => match descriptor::document(&bytes, "")? {
                Document::Index(all) => found::choose(&all, wanted).is_ok_and(|one| one.digest == descriptor.digest),
                Document::Manifest(_) => false,
            },
            None => is_for(&descriptor::config(&config)?.platform, wanted),
        };
        let digest = index.unwrap_or_else(|| descriptor.digest.clone());
        Ok(is_right.then_some(Pulled { descriptor, digest, is_new: false }))
    }

    /// Mirrors first, the registry itself last: its error is the one that counts.
    fn anywhere(&self, wanted: &Platform, here: Option<&Pulled>, cancel: &Cancel) -> Result<Pulled> {
        let endpoints = Registries::load()?.sources(self.reference)?;
        let mut last = Error::ImageNotFound(self.reference.to_string());
        for endpoint in endpoints {
            self.ahead.start_anew(&|| cancel.is_set())?;
            let session = Session::new(endpoint, self.given, self.patience, cancel);
            match self.at(&session, wanted, here) {
                Ok(pulled) => return Ok(pulled),
                // Nothing of the registry's: the next one does not help.
                Err(error @ (Error::NoSpace { .. } | Error::Setup { .. } | Error::State(_))) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn at(&self, session: &Session<'_>, wanted: &Platform, here: Option<&Pulled>) -> Result<Pulled> {
        let version = self.reference.version();
        let named = match &self.reference.digest {
            Some(digest) => Some(digest.clone()),
            None => session.look(&version)?,
        };
        if let (Some(named), Some(here)) = (&named, here)
            && (*named == here.digest || *named == here.descriptor.digest)
        {
            return Ok(here.clone());
        }
        let top = match &named {
            Some(digest) => self.document(session, &digest.to_string(), Some(digest), None)?,
            None => self.document(session, &version, None, None)?,
        };
        let digest = top.digest.clone();
        let (chosen, manifest) = match descriptor::document(&top.bytes, &top.media_type)? {
            Document::Manifest(manifest) => (top, manifest),
            Document::Index(manifests) => self.choose(session, &manifests, wanted)?,
        };
        let config = self.config(session, &manifest)?;
        if !is_for(&config.platform, wanted) {
            let text = format!(
                "{} is for {}, not for {}",
                self.reference.familiar(),
                found::shown(&config.platform),
                found::shown(wanted)
            );
            return Err(Error::ImageNotFound(format!("{text}: say platform= to have it anyway")));
        }
        if config.diff_ids.len() != manifest.layers.len() {
            let (layers, ids) = (manifest.layers.len(), config.diff_ids.len());
            return Err(Error::Image(format!(
                "{}: {layers} layers, and {ids} in its config",
                self.reference.familiar()
            )));
        }
        self.layers(session, &manifest.layers, &config.diff_ids)?;
        // Before it has a name: one that cannot be unpacked gets none.
        self.ahead.complete(&|| session.cancel().is_set())?;
        let mut annotations = std::collections::BTreeMap::new();
        if digest != chosen.digest {
            annotations.insert(CHOSEN_FROM.to_string(), digest.to_string());
        }
        let size = chosen.bytes.len() as u64;
        let descriptor =
            Descriptor { media_type: manifest.media_type, digest: chosen.digest, size, annotations, platform: None };
        self.store.tag(self.reference, &descriptor, &mut || session.cancel().is_set())?;
        Ok(Pulled { descriptor, digest, is_new: true })
    }

    fn choose(
        &self,
        session: &Session<'_>,
        manifests: &[Descriptor],
        wanted: &Platform,
    ) -> Result<(Fetched, Manifest)> {
        let chosen = found::choose(manifests, wanted).map_err(|error| match error {
            Error::ImageNotFound(text) => Error::ImageNotFound(format!("{}: {text}", self.reference.familiar())),
            other => other,
        })?;
        let fetched = self.document(session, &chosen.digest.to_string(), Some(&chosen.digest), Some(chosen))?;
        match descriptor::document(&fetched.bytes, &chosen.media_type)? {
            Document::Manifest(manifest) => Ok((fetched, manifest)),
            Document::Index(_) => Err(Error::Image(format!("{}: an index in an index", self.reference.familiar()))),
        }
    }

    /// A manifest or index, from the store or into it.
    fn document(
        &self,
        session: &Session<'_>,
        version: &str,
        expected: Option<&Digest>,
        by: Option<&Descriptor>,
    ) -> Result<Fetched> {
        if let Some(digest) = expected
            && let Ok(Some(bytes)) = self.store.read(digest, MANIFEST_MAX)
        {
            let media_type = by.map_or(String::new(), |by| by.media_type.clone());
            return Ok(Fetched { digest: digest.clone(), media_type, bytes });
        }
        let fetched = session.manifest(version, expected)?;
        if let Some(by) = by.filter(|by| by.size != fetched.bytes.len() as u64) {
            let text = format!("{}: {} has another size than its descriptor says", session.name(), by.digest);
            return Err(Error::DigestMismatch(text));
        }
        if let Some(by) = by.filter(|by| !fetched.media_type.is_empty() && fetched.media_type != by.media_type) {
            return Err(Error::Image(format!(
                "{}: {} is of another type than its descriptor says",
                session.name(),
                by.digest
            )));
        }
        // Looked at before it is kept.
        descriptor::document(&fetched.bytes, &fetched.media_type)?;
        let mut ingest = self.store.ingest(fetched.digest.algorithm())?;
        ingest.take(&fetched.bytes)?;
        ingest.commit(Some(&fetched.digest))?;
        Ok(fetched)
    }

    fn config(&self, session: &Session<'_>, manifest: &Manifest) -> Result<descriptor::Config> {
        self.blob(session, &manifest.config, None)?;
        let bytes = self.store.read(&manifest.config.digest, CONFIG_MAX)?;
        descriptor::config(&bytes.ok_or_else(|| session.failure("its config is gone from the store"))?)
    }

    fn layers(&self, session: &Session<'_>, layers: &[Descriptor], diff_ids: &[Digest]) -> Result<()> {
        let mut seen = HashSet::new();
        let wanted: Vec<&Descriptor> = layers.iter().filter(|layer| seen.insert(&layer.digest)).collect();
        for layer in &wanted {
            self.progress.put("waiting", &layer.digest.to_string(), 0, layer.size);
        }
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None::<Error>));
        let fail = |error| {
            next.store(wanted.len(), Ordering::Relaxed);
            failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
        };
        let work = || {
            while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let places = layers.iter().zip(diff_ids).filter(|(other, _)| other.digest == layer.digest);
                let done = self.blob(session, layer, places.clone().next().map(|(_, diff_id)| diff_id));
                let done = done.and_then(|is_unpacked| {
                    let rest = places.skip(usize::from(is_unpacked));
                    rest.for_each(|(layer, diff_id)| self.ahead.came(layer, diff_id));
                    self.ahead.check()
                });
                if let Err(error) = done {
                    fail(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(wanted.len()) {
                // One that cannot be started is done without.
                let _ = std::thread::Builder::new().name("pycontainer-layer".into()).spawn_scoped(scope, work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// By one process of all that want it; the others find it when the lock is theirs. `diff_id`: of a layer. Is that being unpacked?
    fn blob(&self, session: &Session<'_>, wanted: &Descriptor, diff_id: Option<&Digest>) -> Result<bool> {
        let is_here = || Ok::<_, Error>(self.store.blob(&wanted.digest, Some(wanted.size))?.is_some());
        let size = wanted.size;
        let present = || self.progress.put("there", &wanted.digest.to_string(), size, size);
        if is_here()? {
            present();
            return Ok(false);
        }
        let _lock = self.store.lock_blob(&wanted.digest, &mut || session.cancel().is_set())?;
        if is_here()? {
            present();
            return Ok(false);
        }
        match self.fetch(session, wanted, diff_id) {
            // Parts of two answers may be of two minds: once more, in one piece.
            Err((Error::DigestMismatch(_), true)) => self.fetch(session, wanted, None),
            other => other,
        }
        .map_err(|(error, _)| error)
    }

    /// Hashed while it is written, and unpacked meanwhile where its `diff_id` is said and somebody has time. With an error: was it put
    /// together of several answers?
    fn fetch(
        &self,
        session: &Session<'_>,
        wanted: &Descriptor,
        diff_id: Option<&Digest>,
    ) -> std::result::Result<bool, (Error, bool)> {
        let mut blob = Blob::new(session, wanted);
        let mut ingest = self.store.ingest(wanted.digest.algorithm()).map_err(|error| (error, false))?;
        let reader = diff_id.map(|_| ingest.reader()).transpose().map_err(|error| (error, false))?;
        let coming = diff_id.zip(reader).and_then(|(diff_id, reader)| self.ahead.comes(wanted, diff_id, reader));
        let (mut buffer, what) = (vec![0; BUFFER], wanted.digest.to_string());
        loop {
            let length = blob.read(&mut buffer).map_err(|error| (error, blob.is_patched))?;
            if length == 0 {
                break;
            }
            ingest.take(&buffer[..length]).map_err(|error| (error, false))?;
            self.progress.put("downloading", &what, ingest.size(), wanted.size);
            coming.iter().for_each(|coming| coming.grown(ingest.size()));
        }
        let is_patched = blob.is_patched;
        let named = |error| match error {
            Error::DigestMismatch(text) => Error::DigestMismatch(format!("{}: {text}", session.name())),
            other => other,
        };
        ingest.commit(Some(&wanted.digest)).map_err(|error| (named(error), is_patched))?;
        self.progress.put("done", &what, wanted.size, wanted.size);
        let is_unpacked = coming.is_some();
        coming.into_iter().for_each(Coming::whole);
        Ok(is_unpacked)
    }
}

/// A config that does not say is for everybody, or for every variant.
fn is_for(offered: &Platform, wanted: &Platform) -> bool {
    let bare = Platform { variant: None, ..wanted.clone() };
    let says_all = !offered.architecture.is_empty() && !offered.os.is_empty();
    !says_all || found::runs(offered, wanted) || offered.variant.is_none() && found::runs(offered, &bare)
}
