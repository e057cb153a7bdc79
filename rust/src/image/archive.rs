//! `Image.from_archive`: a tar of a root file system, unpacked once into the store. Beneath the root only; runs no program.
//!
//! As `docker import`, the tar is a root file system and no layer: names such as `.wh.x` are plain names. Owners, devices and
//! file capabilities are the archive's when root unpacks it; otherwise everything belongs to the user, and devices are left out.

pub(super) mod extract;
pub(super) mod given;
mod header;
pub(super) mod marks;
pub(super) mod noted;
mod pax;
#[cfg(test)]
pub(super) mod samples;
pub(super) mod source;
mod sparse;
pub(super) mod stream;
#[cfg(test)]
mod tests;
pub(super) mod tree;
mod whiteout;

use super::locks::paced;
use super::unpacked::{ARCHIVES, Unfinished, Unpacked};
use crate::error::{Error, Result};
use extract::Manner;
pub use extract::Totals;
pub use source::Source;
use std::path::{Path, PathBuf};
pub use stream::{Entry, Kind as EntryKind, Meta, Reader};

/// Whether a tar begins with this block: with the magic of one, or as a header whose checksum is right.
pub fn is_header(block: &[u8; header::BLOCK]) -> bool {
    block[257..262] == *b"ustar" || header::parse(block).is_ok()
}

/// The root directory of this archive, unpacked now or before. `check` is asked now and then; true ends the work.
pub fn unpack(archive: &Path, store: &Path, check: &mut dyn FnMut() -> bool) -> Result<PathBuf> {
    let privileged = rustix::process::geteuid().is_root();
    unpack_as(archive, store, privileged, check).map_err(|error| name_paths(error, archive, store))
}

fn unpack_as(archive: &Path, store: &Path, privileged: bool, check: &mut dyn FnMut() -> bool) -> Result<PathBuf> {
    let mut check = paced(check);
    let source = source::Source::open(archive)?;
    let digest = source.digest(&mut check)?;
    let store = Unpacked::open(store, ARCHIVES)?;
    if store.is_there(&digest) {
        return Ok(store.rootfs(&digest));
    }
    let lock = store.lock(&digest, &mut check)?;
    if !store.is_there(&digest) {
        store.sweep(Some(&lock));
        let unfinished = store.unfinished(&digest)?;
        match fill(&unfinished, &source, &digest, privileged, &mut check) {
            Ok(totals) => unfinished.publish(&digest, totals)?,
            Err(error) => {
                unfinished.discard();
                return Err(error);
            }
        }
    }
    Ok(store.rootfs(&digest))
}

fn fill(
    unfinished: &Unfinished<'_>,
    source: &source::Source,
    digest: &str,
    privileged: bool,
    check: source::Check<'_>,
) -> Result<extract::Totals> {
    let root = unfinished.root().map_err(|errno| Error::from(("open a directory of the store", errno)))?;
    let mut reader = stream::Reader::new(source.tar()?);
    let totals = extract::extract(&mut reader, root, Manner { privileged, is_layer: false }, check)?;
    if reader.into_input().digest() != digest {
        return Err(Error::Layer("the archive changed while it was read".into()));
    }
    Ok(totals)
}

/// An error of the archive names the archive; a full disk names the store.
fn name_paths(error: Error, archive: &Path, store: &Path) -> Error {
    match error {
        Error::Layer(text) => Error::Layer(format!("{}: {text}", archive.display())),
        Error::NoSpace { path: None } => Error::NoSpace { path: Some(store.display().to_string()) },
        other => other,
    }
}
