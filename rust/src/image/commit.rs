//! What a container has changed as a layer of the store, its whole root as a tar, and images made of either. Reads no file of a
//! container: an agent does.

use super::compose::{self, Base, Step};
use super::descriptor::{Descriptor, media};
use super::digest::{Algorithm, Digest, Hasher};
use super::locks::Check;
use super::reference::Reference;
use super::store::{Ingest, Store};
use super::writer::Writer;
use super::{archive, found, partial};
use crate::error::{Error, Result};
use crate::files::Door;
use crate::files::tree::{self, Item, Taker, Wanted};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

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

/// `latest`: no time in it is after this one (SOURCE_DATE_EPOCH). None where there is nothing in it.
pub fn layer(door: Door<'_>, wanted: &Wanted<'_>, store: &Store, latest: Option<i64>) -> Result<Option<Layer>> {
    let blob = Blob(store.ingest(Algorithm::Sha256)?);
    // No name and no time in its header: the same tar, the same blob.
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(blob, Compression::new(LEVEL));
    let tar = BufWriter::with_capacity(BUFFER, Hashed { inner: gzip, hash: Hasher::new(Algorithm::Sha256) });
    let mut pack = Pack { writer: Writer::new(tar, latest) };
    tree::tree(door, wanted, &mut pack)?;
    let is_empty = pack.writer.entries() == 0;
    let tar: Tar<'_> = pack.writer.finish().map_err(of_io)?.into_inner().map_err(|error| of_io(error.into_error()))?;
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

type Tar<'a> = Hashed<GzEncoder<Blob<'a>>>;

/// The whole root as a tar at this path, which is there when all of it is.
pub fn export(door: Door<'_>, path: &Path, latest: Option<i64>) -> Result<()> {
    let mut beside = partial::Partial::beside(path)?;
    write_whole(door, beside.file(), latest).map_err(|error| partial::named(error, path))?;
    beside.publish()
}

fn write_whole(door: Door<'_>, out: impl Write, latest: Option<i64>) -> Result<()> {
    let mut pack = Pack { writer: Writer::new(BufWriter::with_capacity(BUFFER, out), latest) };
    tree::tree(door, &Wanted::Whole { as_layer: false }, &mut pack)?;
    pack.writer.finish().and_then(|mut out| out.flush()).map_err(of_io)
}

/// What an image is made of besides a layer.
pub struct Made<'a> {
    /// The manifest that it comes from; None: from nothing, for this machine.
    pub parent: Option<&'a Digest>,
    pub reference: Option<&'a Reference>,
    pub step: &'a Step,
}

/// The manifest of a new image, in the store, and under the reference where there is one.
pub fn image(store: &Store, layer: Option<&Layer>, made: &Made<'_>, check: Check<'_>) -> Result<Descriptor> {
    let parent = made.parent.map(|digest| base(store, digest)).transpose()?;
    let composed = compose::compose(parent.as_ref(), layer, made.step)?;
    store.put(&composed.config)?;
    let digest = store.put(&composed.manifest)?;
    let descriptor = Descriptor {
        media_type: media::OCI_MANIFEST.into(),
        digest,
        size: composed.manifest.len() as u64,
        annotations: BTreeMap::new(),
        platform: None,
    };
    if let Some(reference) = made.reference {
        store.tag(reference, &descriptor, check)?;
    }
    Ok(descriptor)
}

fn base(store: &Store, digest: &Digest) -> Result<Base> {
    let missing = || Error::ImageNotFound(format!("the store has no image {digest}"));
    let size = store.blob(digest, None)?.ok_or_else(missing)?.size;
    let found = found::by_descriptor(store, &found::bare(digest.clone(), size), &found::native())?;
    Ok(Base { config: found.config_bytes, layers: found.manifest.layers })
}

struct Blob<'a>(Ingest<'a>);

impl Write for Blob<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.take(data).map(|()| data.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashed<W> {
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
fn of_io(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Error::NoSpace { path: None },
        Some(errno) => Error::setup("write the archive", errno),
        None => error.downcast::<Error>().unwrap_or_else(|error| Error::Layer(error.to_string())),
    }
}

struct Pack<W> {
    writer: Writer<W>,
}

impl<W: Write> Taker for Pack<W> {
    fn item(&mut self, item: &Item) -> Result<()> {
        let kind = match item.kind {
            tree::Kind::File => archive::EntryKind::File,
            tree::Kind::Directory => archive::EntryKind::Directory,
            tree::Kind::Link => archive::EntryKind::Symlink,
            tree::Kind::HardLink => archive::EntryKind::Hardlink,
            tree::Kind::Fifo => archive::EntryKind::Fifo,
            tree::Kind::CharDevice(major, minor) => archive::EntryKind::CharDevice(major, minor),
            tree::Kind::BlockDevice(major, minor) => archive::EntryKind::BlockDevice(major, minor),
        };
        let meta = archive::Meta {
            mode: item.mode,
            uid: item.uid.into(),
            gid: item.gid.into(),
            mtime: item.mtime,
            xattrs: item.xattrs.clone(),
        };
        let (name, link, regions) = (item.name.clone(), item.link.clone(), item.regions.clone());
        let entry = archive::Entry { kind, name, link, meta, size: item.size, regions };
        self.writer.entry(&entry).map_err(of_io)
    }

    fn data(&mut self, data: &[u8]) -> Result<()> {
        self.writer.data(data).map_err(of_io)
    }
}
