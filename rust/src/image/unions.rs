//! The layers of an image as one tree, for containers that no overlay shows them: what their roots are copied from, or shown from by a
//! program, and what those are compared with. Its files are the layers' own under one more name, so it takes room for names alone; but
//! where they cannot be shown with a container's owners, they are copies that have those. Made when it is wanted first, gone when nobody
//! stands on it.

use super::archive::Totals;
use super::copied::{self, Manner, Owners};
use super::digest::Digest;
use super::locks::Check;
use super::owned::named;
use super::union::Merged;
use super::unpacked::{APART, SHIFTED, SUBVOLUMES, Sort, UNIONS, Unpacked};
use super::used::{self, Used};
use crate::error::{Error, Result};
use crate::security::maps::Maps;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the tree is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// To be copied; one layer alone is its own union.
    Copies,
    /// A subvolume of the store's btrfs, of copies that share their blocks with the layers, since no file has names in two of them.
    Snapshots,
    /// To be shown by fuse-overlayfs, which (1.10) has one inode for all names of a file, also when one of them is another file by then.
    Shown,
    /// To lie below containers with this map, on a file system that cannot be idmapped.
    Shifted(&'a Maps),
}

impl<'a> Kind<'a> {
    fn sort(self) -> Sort {
        match self {
            Kind::Copies => UNIONS,
            Kind::Snapshots => SUBVOLUMES,
            Kind::Shown => APART,
            Kind::Shifted(_) => SHIFTED,
        }
    }

    /// Layers lie under their digests.
    fn key(self, layers: &[PathBuf]) -> Digest {
        let mut words: Vec<&[u8]> = layers.iter().map(|layer| layer.as_os_str().as_bytes()).collect();
        let ids = if let Kind::Shifted(maps) = self { named(maps) } else { String::new() };
        words.extend((!ids.is_empty()).then_some(ids.as_bytes()));
        Digest::of(&words.join(&b'\n'))
    }

    fn manner(self) -> Manner<'a> {
        match self {
            Kind::Shifted(maps) => Manner::Copied { owners: Owners(maps), privileged: true },
            _ => Manner::Linked { once: self == Kind::Shown },
        }
    }
}

/// Of layers in this store, the lowest first.
pub fn tree(store: &Path, layers: &[PathBuf], kind: Kind<'_>, check: Check<'_>) -> Result<(PathBuf, Used)> {
    if let ([only], Kind::Copies) = (layers, kind) {
        return Ok((only.clone(), used::take(only)?));
    }
    let snapshots = kind == Kind::Snapshots;
    let unions = Unpacked::open(store, kind.sort())?;
    let key = kind.key(layers);
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
    let made = root.and_then(|root| copied::make(Merged::open(layers)?, root, &kind.manner(), check));
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
