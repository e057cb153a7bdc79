//! A layer on its way into the store: a tar, hashed, compressed, hashed again. Knows nothing of what is in it.

use super::descriptor::{Descriptor, media};
use super::digest::{Algorithm, Digest, Hasher};
use super::store::{Ingest, Store};
use super::writer::Writer;
use crate::error::{Error, Result};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

/// Gzip's levels: this one is near the size of the usual 6 in half of its time.
const LEVEL: u32 = 4;
const BUFFER: usize = 128 * 1024;

/// One that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub descriptor: Descriptor,
    /// Of its tar.
    pub diff_id: Digest,
}

pub type Packed<'a> = Writer<BufWriter<Hashed<GzEncoder<Blob<'a>>>>>;

/// `latest`: no time in it is after this one (SOURCE_DATE_EPOCH).
pub fn begin(store: &Store, latest: Option<i64>) -> Result<Packed<'_>> {
    let blob = Blob(store.ingest(Algorithm::Sha256)?);
    // No name and no time in its header: the same tar, the same blob.
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(blob, Compression::new(LEVEL));
    let hashed = Hashed { inner: gzip, hash: Hasher::new(Algorithm::Sha256) };
    Ok(Writer::new(BufWriter::with_capacity(BUFFER, hashed), latest))
}

/// None where no entry was written: then nothing is in the store.
pub fn finish(writer: Packed<'_>) -> Result<Option<Layer>> {
    let is_empty = writer.entries() == 0;
    let tar = writer.finish().map_err(of_io)?.into_inner().map_err(|error| of_io(error.into_error()))?;
    if is_empty {
        return Ok(None);
    }
    let diff_id = tar.hash.finish();
    let blob = tar.inner.finish().map_err(of_io)?.0;
    let size = blob.size();
    let digest = blob.commit(None)?;
    let media_type = media::OCI_LAYER_GZIP.into();
    let descriptor = Descriptor { media_type, digest, size, annotations: BTreeMap::new(), platform: None };
    Ok(Some(Layer { descriptor, diff_id }))
}

pub struct Blob<'a>(Ingest<'a>);

impl Write for Blob<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.take(data).map(|()| data.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Hashed<W> {
    inner: W,
    hash: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(data)?;
        self.hash.update(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An error of ours that went through a writer is itself again.
pub fn of_io(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Error::NoSpace { path: None },
        Some(errno) => Error::setup("write the archive", errno),
        None => error.downcast::<Error>().unwrap_or_else(|error| Error::Layer(error.to_string())),
    }
}
