//! Layers that come as files by themselves, each a tar or a packed one: into the store as blobs, and from there as any others.

use super::{name_store, unpack_layers};
use crate::error::{Error, Result};
use crate::image::archive::source::{check_ratio, decompress, interrupted};
use crate::image::descriptor::Descriptor;
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::implied;
use crate::image::locks::Check;
use crate::image::store::Store;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const CHUNK: usize = 128 << 10;

/// The directories that they become, the lowest first: those that can be seen.
pub fn unpack_files(store: &Path, files: &[PathBuf], check: Check<'_>) -> Result<Vec<PathBuf>> {
    let store = Store::open(store)?;
    through(&store, files, check).map_err(|error| name_store(error, &store))
}

fn through(store: &Store, files: &[PathBuf], check: Check<'_>) -> Result<Vec<PathBuf>> {
    let mut layers = Vec::new();
    for path in files {
        let blob = take(store, path, check)?;
        let diff_id = diff_id(path, check)?;
        layers.push((blob, diff_id));
    }
    let stack = unpack_layers(store, &layers, &|_, _| {}, check)?;
    implied::stacked(store, &layers, &stack, check)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::setup_at("read", path.display().to_string(), error.raw_os_error().unwrap_or(libc::EIO))
}

fn take(store: &Store, path: &Path, check: Check<'_>) -> Result<Descriptor> {
    let mut file = File::open(path).map_err(|error| failed(path, &error))?;
    let mut ingest = store.ingest(Algorithm::Sha256)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(|error| failed(path, &error))? {
            0 => break,
            _ if check() => return Err(interrupted()),
            n => ingest.take(&buffer[..n])?,
        }
    }
    let size = ingest.size();
    let digest = ingest.commit(None)?;
    Ok(Descriptor { media_type: String::new(), digest, size, annotations: Default::default(), platform: None })
}

/// Of the tar in it. Where it cannot be read to its end, that of nothing: who unpacks it will say why.
fn diff_id(path: &Path, check: Check<'_>) -> Result<Digest> {
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    let packed = file.metadata().map_err(|error| failed(path, &error))?.len();
    let Ok((_, mut plain)) = decompress(BufReader::with_capacity(CHUNK, file)) else { return Ok(Digest::of(b"")) };
    let (mut hash, mut buffer, mut out) = (Hasher::new(Algorithm::Sha256), vec![0; CHUNK], 0);
    loop {
        let done = plain.read(&mut buffer).and_then(|n| {
            out += n as u64;
            check_ratio(out, packed).map(|()| n)
        });
        match done {
            Ok(0) => return Ok(hash.finish()),
            Ok(_) if check() => return Err(interrupted()),
            Ok(n) => hash.update(&buffer[..n]),
            Err(_) => return Ok(Digest::of(b"")),
        }
    }
}
