//! Images from files: what `docker save` writes, OCI archives and OCI layouts, into the store. One pass, nothing unpacked on the way.
//!
//! Each file of an archive becomes a blob under the digest of its bytes, whatever it calls itself; what no image needs is removed again.

mod layout;

use super::archive::{Entry, EntryKind, Reader, Source};
use super::descriptor::{self, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX, media};
use super::digest::{Algorithm, Digest, cut};
use super::found;
use super::locks::{Check, interrupted};
use super::reference::Reference;
use super::store::Store;
use crate::error::{Error, Result};
use layout::Layout;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// As docker and containerd write the whole name, where REF_NAME is the tag alone.
const WHOLE_NAME: &str = "io.containerd.image.name";
const FILES_MAX: usize = 10_000;
const CHUNK: usize = 256 << 10;
const LINKS: usize = 8;

/// What came of one image of the file: its names, and what they name.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub references: Vec<Reference>,
    pub descriptor: Descriptor,
}

/// All images of `path`. `total` hears how many bytes of it were read.
pub fn load(store: &Store, path: &Path, progress: &dyn Fn(u64), check: Check<'_>) -> Result<Vec<Loaded>> {
    let loaded = match std::fs::metadata(path) {
        Ok(seen) if seen.is_dir() => Layout::open(path)?.load(store, progress, check),
        _ => Archive::read(store, path, progress, check).and_then(|archive| archive.load(store)),
    };
    let loaded = loaded.map_err(|error| name_path(error, path))?;
    for one in &loaded {
        one.references.iter().try_for_each(|reference| store.tag(reference, &one.descriptor, check))?;
    }
    Ok(loaded)
}

fn name_path(error: Error, path: &Path) -> Error {
    let named = |text: String| format!("{}: {text}", path.display());
    match error {
        Error::Image(text) => Error::Image(named(text)),
        Error::Layer(text) => Error::Image(named(text)),
        Error::DigestMismatch(text) => Error::DigestMismatch(named(text)),
        other => other,
    }
}

/// The files of an archive, each in the store already.
struct Archive {
    files: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
}

impl Archive {
    fn read(store: &Store, path: &Path, progress: &dyn Fn(u64), check: Check<'_>) -> Result<Archive> {
        let source = Source::open(path)?;
        let mut reader = Reader::new(source.tar()?);
        let mut archive = Archive { files: HashMap::new(), links: HashMap::new() };
        let mut done = 0;
        while let Some(entry) = reader.next()? {
            let Some(name) = member(&entry)? else { continue };
            if archive.files.len() + archive.links.len() >= FILES_MAX {
                return Err(Error::Image(format!("more than {FILES_MAX} files, which is no archive of images")));
            }
            match entry.kind {
                EntryKind::File if entry.regions.is_none() => {
                    let found = ingest(store, &mut reader, &entry, &mut done, progress, check)?;
                    // Two files of one name would be one to one reader and the other to the next (CVE-2026-48749).
                    if archive.links.contains_key(&name) || archive.files.insert(name.clone(), found).is_some() {
                        return Err(Error::Image(format!("two files called {:?}", cut(&name))));
                    }
                }
                EntryKind::Symlink | EntryKind::Hardlink => {
                    let target = String::from_utf8_lossy(&entry.link).into_owned();
                    let target = if entry.kind == EntryKind::Symlink { beside(&name, &target) } else { Some(target) };
                    if archive.files.contains_key(&name) || archive.links.contains_key(&name) {
                        return Err(Error::Image(format!("two files called {:?}", cut(&name))));
                    }
                    archive.links.insert(name, target.unwrap_or_default());
                }
                EntryKind::Directory => {}
                _ => return Err(Error::Image(format!("{:?} is neither a file nor a directory", cut(&name)))),
            }
        }
        Ok(archive)
    }

    fn load(&self, store: &Store) -> Result<Vec<Loaded>> {
        // Where it is both, the OCI half has the manifests themselves, and with them their digests.
        let whole = self
            .file("index.json")
            .map(|index| read_blob(store, index, MANIFEST_MAX).and_then(|bytes| of_index(store, &bytes)));
        if let Some(Ok(loaded)) = &whole
            && loaded.iter().any(|one| !one.references.is_empty())
        {
            return Ok(loaded.clone());
        }
        if self.file("manifest.json").is_some() {
            return self.docker(store);
        }
        whole.unwrap_or_else(|| {
            Err(Error::Image("it has neither a manifest.json (docker save) nor an index.json (OCI): Image.from_archive takes the tar of a root file system".into()))
        })
    }

    /// Also by way of links, which older dockers wrote for layers of the same content.
    fn file(&self, name: &str) -> Option<&(Digest, u64)> {
        let mut name = name.trim_start_matches("./").to_string();
        for _ in 0..LINKS {
            if let Some(found) = self.files.get(&name) {
                return Some(found);
            }
            name = self.links.get(&name)?.trim_start_matches("./").to_string();
        }
        None
    }

    fn docker(&self, store: &Store) -> Result<Vec<Loaded>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Item {
            config: String,
            repo_tags: Option<Vec<String>>,
            layers: Option<Vec<String>>,
        }
        let bytes = read_blob(store, self.file("manifest.json").expect("looked at before"), MANIFEST_MAX)?;
        let items: Vec<Item> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Image(format!("its manifest.json cannot be read: {error}")))?;
        items
            .into_iter()
            .map(|item| {
                let lacks =
                    |name: &str| Error::Image(format!("its manifest.json names {:?}, which it lacks", cut(name)));
                let config = self.file(&item.config).ok_or_else(|| lacks(&item.config))?;
                let layers = item.layers.unwrap_or_default();
                let layers = layers.iter().map(|name| self.file(name).ok_or_else(|| lacks(name)));
                let layers = layers.collect::<Result<Vec<_>>>()?;
                let descriptor = assemble(store, config, &layers)?;
                let references = item.repo_tags.unwrap_or_default();
                let references = references.iter().map(|text| Reference::parse(text)).collect::<Result<_>>()?;
                Ok(Loaded { references, descriptor })
            })
            .collect()
    }
}

/// Its name, without "./"; None of the root itself. It is never a path for us: only a key.
fn member(entry: &Entry) -> Result<Option<String>> {
    let name = String::from_utf8_lossy(&entry.name);
    let name = name.trim_start_matches("./").trim_end_matches('/');
    if name.split('/').any(|part| part == "..") || name.starts_with('/') {
        return Err(Error::Image(format!("a file called {:?}, which leads out of it", cut(name))));
    }
    Ok((!name.is_empty() && name != ".").then(|| name.to_string()))
}

/// Where a symbolic link leads, as the name of a member.
fn beside(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn ingest<R: Read>(
    store: &Store,
    reader: &mut Reader<R>,
    entry: &Entry,
    done: &mut u64,
    progress: &dyn Fn(u64),
    check: Check<'_>,
) -> Result<(Digest, u64)> {
    let mut blob = store.ingest(Algorithm::Sha256)?;
    let mut buffer = vec![0; CHUNK];
    let mut left = entry.size;
    while left > 0 {
        if check() {
            return Err(interrupted());
        }
        let wanted = (left as usize).min(CHUNK);
        let n = reader.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(Error::Image("it is cut short".into()));
        }
        blob.take(&buffer[..n])?;
        left -= n as u64;
        *done += n as u64;
        progress(*done);
    }
    Ok((blob.commit(None)?, entry.size))
}

fn read_blob(store: &Store, (digest, _): &(Digest, u64), most: u64) -> Result<Vec<u8>> {
    store.read(digest, most)?.ok_or_else(|| Error::Image(format!("the store lacks {digest}, which was just put there")))
}

/// A manifest for a config and layers that have come without one.
fn assemble(store: &Store, config: &(Digest, u64), layers: &[&(Digest, u64)]) -> Result<Descriptor> {
    let bytes = read_blob(store, config, CONFIG_MAX)?;
    let known = descriptor::config(&bytes)?;
    if known.diff_ids.len() != layers.len() {
        let (said, there) = (known.diff_ids.len(), layers.len());
        return Err(Error::Image(format!("a config of {said} layers, and {there} of them")));
    }
    let described: Vec<Value> = layers
        .iter()
        .map(|(digest, size)| {
            Ok(json!({"mediaType": sort_of(store, digest)?, "digest": digest.to_string(), "size": size}))
        })
        .collect::<Result<_>>()?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": config.0.to_string(), "size": config.1},
        "layers": described,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = store.put(&bytes)?;
    Ok(Descriptor { media_type: media::OCI_MANIFEST.into(), ..found::bare(digest, bytes.len() as u64) })
}

fn sort_of(store: &Store, digest: &Digest) -> Result<&'static str> {
    let mut start = [0; 4];
    if let Some(mut blob) = store.blob(digest, None)? {
        let _ = blob.file.read(&mut start);
    }
    Ok(match start {
        [0x1f, 0x8b, ..] => media::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media::OCI_LAYER_ZSTD,
        _ => media::OCI_LAYER,
    })
}

/// The images that an OCI index names, all of whose blobs are in the store by now.
fn of_index(store: &Store, bytes: &[u8]) -> Result<Vec<Loaded>> {
    let Document::Index(manifests) = descriptor::document(bytes, media::OCI_INDEX)? else {
        return Err(Error::Image("its index.json is no index".into()));
    };
    let mut loaded: Vec<Loaded> = Vec::new();
    for mut descriptor in manifests {
        let reference = name_of(&descriptor.annotations);
        descriptor.annotations.remove(REF_NAME);
        descriptor.annotations.remove(WHOLE_NAME);
        // What has not the platform of this machine is kept as it is; that it can be read is seen here.
        check_whole(store, &descriptor)?;
        match loaded.iter_mut().find(|one| one.descriptor.digest == descriptor.digest) {
            Some(one) => one.references.extend(reference),
            None => loaded.push(Loaded { references: reference.into_iter().collect(), descriptor }),
        }
    }
    Ok(loaded)
}

/// The tag alone is the name of no image (docker writes so, beside the whole name).
fn name_of(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    let whole = annotations.get(WHOLE_NAME);
    let text = whole.or_else(|| annotations.get(REF_NAME))?;
    Reference::parse(text).ok()
}

/// A manifest with its config and layers, or an index with at least one such.
fn check_whole(store: &Store, descriptor: &Descriptor) -> Result<()> {
    let bytes = store.read(&descriptor.digest, MANIFEST_MAX)?;
    let bytes = bytes.ok_or_else(|| Error::Image(format!("its index names {}, which it lacks", descriptor.digest)))?;
    match descriptor::document(&bytes, &descriptor.media_type)? {
        Document::Index(manifests) => {
            let there =
                manifests.iter().filter(|one| store.blob(&one.digest, Some(one.size)).is_ok_and(|blob| blob.is_some()));
            let mut any = false;
            for one in there {
                check_whole(store, one)?;
                any = true;
            }
            any.then_some(()).ok_or_else(|| Error::Image(format!("{} names no image that is there", descriptor.digest)))
        }
        Document::Manifest(manifest) => {
            let parts = manifest.layers.iter().chain([&manifest.config]);
            for part in parts {
                if store.blob(&part.digest, Some(part.size))?.is_none() {
                    return Err(Error::Image(format!("{} names {}, which it lacks", descriptor.digest, part.digest)));
                }
            }
            Ok(())
        }
    }
}
