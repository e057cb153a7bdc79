//! What a container has changed as a layer of the store, its whole root as a tar, and images made of either. Reads no file of a
//! container: an agent does.

use super::compose::{self, Base, Step};
use super::descriptor::{Descriptor, media};
use super::digest::Digest;
use super::locks::Check;
pub use super::packed::Layer;
use super::packed::of_io;
use super::reference::Reference;
use super::store::Store;
use super::writer::Writer;
use super::{archive, found, packed, partial};
use crate::error::{Error, Result};
use crate::files::Door;
use crate::files::tree::{self, Item, Taker, Wanted};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

const BUFFER: usize = 128 * 1024;

/// `latest`: no time in it is after this one (SOURCE_DATE_EPOCH). None where there is nothing in it.
pub fn layer(door: Door<'_>, wanted: &Wanted<'_>, store: &Store, latest: Option<i64>) -> Result<Option<Layer>> {
    let mut pack = Pack { writer: packed::begin(store, latest)? };
    tree::tree(door, wanted, &mut pack)?;
    packed::finish(pack.writer)
}

/// The whole root as a tar at this path, which is there when all of it is.
pub fn export(mut door: Door<'_>, path: &Path, latest: Option<i64>) -> Result<()> {
    let mut beside = partial::Partial::beside(path)?;
    write_whole(door.again(), beside.file(), latest).map_err(|error| partial::named(error, path))?;
    beside.publish(door.interrupted)
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
    found::check_layers(store, &found.manifest.layers)?;
    Ok(Base { config: found.config_bytes, layers: found.manifest.layers })
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
