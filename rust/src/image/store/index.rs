//! index.json: which names there are, and which manifest each is. Changed under one lock, by rename; others' entries stay as they are.

use super::{Store, failed};
use crate::error::{Error, Result};
use crate::image::descriptor::{self, Descriptor, MANIFEST_MAX};
use crate::image::locks::{self, Check};
use crate::image::reference::Reference;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

/// OCI image specification, annotations.md. Others write the name without its host where that is docker.io.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// 64 MiB: about 200,000 names.
const INDEX_MAX: u64 = 64 << 20;
const FILE: &str = "index.json";

/// A name, and the manifest or index that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub reference: Reference,
    pub descriptor: Descriptor,
}

impl Store {
    /// All names; entries without one, or with one that is none, are not ours to show.
    pub fn names(&self) -> Result<Vec<Named>> {
        self.entries()?.iter().filter_map(|entry| named(entry).transpose()).collect()
    }

    /// What is named or only listed, by whoever: nothing of it is garbage.
    pub fn roots(&self) -> Result<Vec<Descriptor>> {
        Ok(self.entries()?.iter().filter_map(|entry| descriptor::descriptor(entry).ok()).collect())
    }

    pub fn find(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        Ok(self.names()?.into_iter().find(|named| named.reference == *reference).map(|named| named.descriptor))
    }

    /// Gives a manifest or index that is in the store a name, or the name another one.
    pub fn tag(&self, reference: &Reference, descriptor: &Descriptor, check: Check<'_>) -> Result<()> {
        self.change(check, |entries| {
            let mut entry = json!({
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest.to_string(),
                "size": descriptor.size,
            });
            let mut annotations: Map<String, Value> =
                descriptor.annotations.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
            annotations.insert(REF_NAME.into(), Value::from(reference.to_string()));
            entry["annotations"] = Value::Object(annotations);
            let named = |entry: &Value| reference_of(entry).as_ref() == Some(reference);
            if entries.iter().filter(|other| named(other)).eq([&entry]) {
                return false; // it has this name, and no other has: nothing waits for the disk
            }
            entries.retain(|entry| !named(entry));
            entries.push(entry);
            true
        })
        .map(drop)
    }

    /// Takes a name away. False where there is none.
    pub fn untag(&self, reference: &Reference, check: Check<'_>) -> Result<bool> {
        self.change(check, |entries| {
            let before = entries.len();
            entries.retain(|entry| reference_of(entry).as_ref() != Some(reference));
            entries.len() < before
        })
    }

    fn change(&self, check: Check<'_>, body: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<bool> {
        let _lock = locks::lock(self.partial.as_fd(), "index", check)?;
        let mut entries = self.entries()?;
        let changed = body(&mut entries);
        if changed {
            let whole = json!({
                "schemaVersion": 2,
                "mediaType": descriptor::media::OCI_INDEX,
                "manifests": entries,
            });
            self.replace(&self.images, FILE, whole.to_string().as_bytes())?;
        }
        Ok(changed)
    }

    fn entries(&self) -> Result<Vec<Value>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.images, FILE, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed("open the store's index", errno)),
        };
        let mut bytes = Vec::new();
        let read = file.take(INDEX_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::setup("read the store's index", error.raw_os_error().unwrap_or(libc::EIO)))?;
        let bad = |why: String| Error::Image(format!("the index of the store {}: {why}", self.path.display()));
        if bytes.len() as u64 > INDEX_MAX {
            return Err(bad("it is too long".into()));
        }
        let whole: Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        match whole.get("manifests") {
            Some(Value::Array(entries)) => Ok(entries.clone()),
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(_) => Err(bad("its manifests are no list".into())),
        }
    }
}

fn reference_of(entry: &Value) -> Option<Reference> {
    Reference::parse(entry.get("annotations")?.get(REF_NAME)?.as_str()?).ok()
}

fn named(entry: &Value) -> Result<Option<Named>> {
    let Some(reference) = reference_of(entry) else { return Ok(None) };
    let mut descriptor = descriptor::descriptor(entry)?;
    if descriptor.size > MANIFEST_MAX {
        return Err(Error::Image(format!("{reference}: a manifest of {} bytes", descriptor.size)));
    }
    descriptor.annotations.remove(REF_NAME);
    Ok(Some(Named { reference, descriptor }))
}
