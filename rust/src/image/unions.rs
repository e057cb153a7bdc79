//! The layers of an image as one tree, for containers that no overlay shows them: what their roots are copied from, or shown from by a
//! program, and what those are compared with. Its files are the
//! layers' own under one more name, so it takes room for names alone. Made when it is wanted first, gone when nobody stands on it.

use super::archive::Totals;
use super::copied::{self, Manner};
use super::digest::Digest;
use super::locks::Check;
use super::union::Merged;
use super::unpacked::{APART, SUBVOLUMES, Sort, UNIONS, Unpacked};
use super::used::{self, Used};
use crate::error::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the tree is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To be copied; one layer alone is its own union.
    Copies,
    /// A subvolume of the store's btrfs, of copies that share their blocks with the layers, since no file has names in two of them.
    Snapshots,
    /// To be shown by fuse-overlayfs, which (1.10) has one inode for all names of a file, also when one of them is another file by then.
    Shown,
}

impl Kind {
    fn sort(self) -> Sort {
        match self {
            Kind::Copies => UNIONS,
            Kind::Snapshots => SUBVOLUMES,
            Kind::Shown => APART,
        }
    }
}

/// Of layers in this store, the lowest first.
pub fn tree(store: &Path, layers: &[PathBuf], kind: Kind, check: Check<'_>) -> Result<(PathBuf, Used)> {
    if let ([only], Kind::Copies) = (layers, kind) {
        return Ok((only.clone(), used::take(only)?));
    }
    let snapshots = kind == Kind::Snapshots;
    let unions = Unpacked::open(store, kind.sort())?;
    // Layers lie under their digests.
    let names: Vec<&[u8]> = layers.iter().map(|layer| layer.as_os_str().as_bytes()).collect();
    let key = Digest::of(&names.join(&b'\n'));
    let path = unions.rootfs(key.hex());
    let standing = || unions.is_there(key.hex()).then(|| used::take(&path).ok()).flatten();
    if let Some(used) = standing() {
        return Ok((path, used));
    }
    // Who holds the lock is the only one to make it or to remove it.
    let lock = unions.lock(key.hex(), check)?;
    if let Some(used) = standing() {
        return Ok((path, used));
    }
    unions.sweep(Some(&lock));
    let unfinished = unions.unfinished(key.hex())?;
    let unfinished = if snapshots { unfinished.into_subvolume()? } else { unfinished };
    let root = unfinished.root().map_err(|errno| Error::setup("make a directory in the store", errno.raw_os_error()));
    let made = root.and_then(|root| {
        copied::make(Merged::open(layers)?, root, &Manner::Linked { once: kind == Kind::Shown }, check)
    });
    match made {
        Ok(made) if !made.unread.is_empty() => {
            unfinished.discard();
            let path = format!("/{}", String::from_utf8_lossy(&made.unread[0]));
            Err(Error::setup_at("copy the image", path, libc::EACCES))
        }
        Ok(made) => {
            let copied::Made { entries, bytes, owners, .. } = made;
            unfinished.publish(key.hex(), Totals { entries, bytes, owners, ..Totals::default() })?;
            let used = used::take(&path)?;
            Ok((path, used))
        }
        Err(error) => {
            unfinished.discard();
            Err(error)
        }
    }
}
