//! An image as a file: a tar that is an OCI archive and, where it is asked for, what every `docker load` takes as well.

use super::descriptor::media;
use super::digest::Digest;
use super::found::Found;
use super::locks::{Check, interrupted};
use super::partial::{self, Partial};
use super::reference::Reference;
use super::store::Store;
use crate::error::{Error, Result};
use rustix::io::Errno;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

const BLOCK: u64 = 512;
const CHUNK: usize = 256 << 10;

/// Written beside and renamed: `path` is whole, or what it was.
pub fn save(
    store: &Store,
    image: &Found,
    name: Option<&Reference>,
    path: &Path,
    docker: bool,
    check: Check<'_>,
) -> Result<()> {
    let mut beside = Partial::beside(path)?;
    write(store, image, name, docker, beside.file(), path, check)?;
    beside.publish(check)
}

fn write(
    store: &Store,
    image: &Found,
    name: Option<&Reference>,
    docker: bool,
    file: &mut File,
    path: &Path,
    check: Check<'_>,
) -> Result<()> {
    let said = path.display().to_string();
    let fail = |error| partial::failed(&said, Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let mut out = BufWriter::with_capacity(CHUNK, file);
    let mut put = |name: &str, bytes: &[u8]| put(&mut out, name, bytes.len() as u64, &mut &*bytes).map_err(fail);
    put("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    put("index.json", index(image, name).to_string().as_bytes())?;
    if docker {
        put("manifest.json", manifest(image, name).to_string().as_bytes())?;
    }
    let parts = image.manifest.layers.iter().chain([&image.manifest.config, &image.descriptor]);
    let digests: BTreeSet<&Digest> = parts.map(|part| &part.digest).collect();
    for digest in digests {
        let missing = || Error::Image(format!("the store lacks {digest}: pull or load the image again"));
        let mut blob = store.blob(digest, None)?.ok_or_else(missing)?;
        let mut reader = Checked { file: &mut blob.file, check: &mut *check, stopped: false };
        let done = self::put(&mut out, &place(digest), blob.size, &mut reader);
        if reader.stopped {
            return Err(interrupted());
        }
        done.map_err(fail)?;
    }
    out.write_all(&[0; 2 * BLOCK as usize]).and_then(|()| out.flush()).map_err(fail)
}

struct Checked<'a> {
    file: &'a mut File,
    check: Check<'a>,
    stopped: bool,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if (self.check)() {
            self.stopped = true;
            return Err(std::io::Error::other("interrupted"));
        }
        self.file.read(buffer)
    }
}

fn place(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn index(image: &Found, name: Option<&Reference>) -> serde_json::Value {
    let mut entry = json!({
        "mediaType": image.manifest.media_type,
        "digest": image.descriptor.digest.to_string(),
        "size": image.bytes.len(),
    });
    if let Some(name) = name {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name.to_string(), "io.containerd.image.name": name.to_string()});
    }
    json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]})
}

fn manifest(image: &Found, name: Option<&Reference>) -> serde_json::Value {
    let tags: Vec<String> =
        name.filter(|name| name.tag.is_some() && name.digest.is_none()).map(Reference::familiar).into_iter().collect();
    let layers: Vec<String> = image.manifest.layers.iter().map(|layer| place(&layer.digest)).collect();
    json!([{"Config": place(&image.manifest.config.digest), "RepoTags": tags, "Layers": layers}])
}

/// One regular file, of nobody and of the year 1970: the same image makes the same tar.
fn put(out: &mut impl Write, name: &str, size: u64, content: &mut impl Read) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    let mut buffer = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let wanted = (left as usize).min(CHUNK);
        let n = content.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(std::io::Error::other("a blob is shorter than it was"));
        }
        out.write_all(&buffer[..n])?;
        left -= n as u64;
    }
    out.write_all(&vec![0; (size.wrapping_neg() % BLOCK) as usize])
}
