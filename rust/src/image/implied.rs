//! Directories that a layer has only in the names of what is in them. No entry says what they are, so where a lower layer has them, they
//! are what they are there. But layers are unpacked apart from each other, and an overlay shows the attributes of the highest: where
//! those would be others, one more layer lies on top of the stack, in which these directories are alone, as they should be.

use super::archive::extract::{attributes, give, is_taken};
use super::archive::tree::{Tree, components};
use super::archive::{Meta, Totals};
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::layers::visible;
use super::locks::Check;
use super::store::Store;
use super::union::{Found, Merged};
use super::unpacked::{ATTRIBUTES, Unpacked};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// The root among the names of a layer's implied directories.
pub const ROOT: &[u8] = b".";

/// The directories of a stack, all of them unpacked: those that can be seen, and above them what corrects them.
pub fn stacked(
    store: &Store,
    layers: &[(Descriptor, Digest)],
    stack: &[PathBuf],
    check: Check<'_>,
) -> Result<Vec<PathBuf>> {
    let seen = visible(stack);
    let ids: Vec<&Digest> = layers[layers.len() - seen.len()..].iter().map(|(_, diff_id)| diff_id).collect();
    let mut found = seen.to_vec();
    found.extend(over(store, &ids, seen, &key(layers.iter().map(|(_, diff_id)| diff_id)), check)?);
    Ok(found)
}

/// Under which name the correction of a stack lies: of its diff ids, of which none comes twice.
pub fn key<'a>(ids: impl Iterator<Item = &'a Digest>) -> String {
    let text: Vec<String> = ids.map(Digest::to_string).collect();
    Digest::of(text.join("\n").as_bytes()).hex().to_string()
}

fn over(store: &Store, ids: &[&Digest], stack: &[PathBuf], key: &str, check: Check<'_>) -> Result<Option<PathBuf>> {
    let unpacked = store.layers()?;
    // What the lowest does not describe nobody does.
    let are_implied: Vec<bool> = ids.iter().skip(1).map(|id| unpacked.has_implied(id.hex())).collect();
    if !are_implied.contains(&true) {
        return Ok(None);
    }
    let names = ids.iter().map(|id| unpacked.implied(id.hex())).collect::<Result<Vec<_>>>()?;
    let is_root_alone = names[1..].iter().flatten().all(|name| name == ROOT);
    if is_root_alone && corrections(stack, &names)?.is_empty() {
        return Ok(None); // nearly every image: not worth a record
    }
    let corrected = Unpacked::open(store.path(), ATTRIBUTES)?;
    if !corrected.is_complete(key) {
        let lock = corrected.lock(key, check)?;
        if !corrected.is_complete(key) {
            corrected.sweep(Some(&lock));
            make(&corrected, key, corrections(stack, &names)?)?;
        }
    }
    Ok((corrected.entries(key) != Some(0)).then(|| corrected.rootfs(key)))
}

/// A record without directories says that nothing has to be corrected.
fn make(corrected: &Unpacked, key: &str, directories: BTreeMap<Vec<u8>, Meta>) -> Result<()> {
    let unfinished = corrected.unfinished(key)?;
    let entries = directories.len() as u64;
    let root = unfinished.root().map_err(|errno| Error::from(("open a directory of the store", errno)));
    match root.and_then(|root| fill(Tree::new(root)?, directories)) {
        Ok(()) => unfinished.publish(key, Totals { entries, ..Totals::default() }),
        Err(error) => {
            unfinished.discard();
            Err(error)
        }
    }
}

fn fill(mut tree: Tree<Meta>, directories: BTreeMap<Vec<u8>, Meta>) -> Result<()> {
    let privileged = rustix::process::geteuid().is_root();
    for (name, meta) in directories {
        let place = tree.directory(&components(&name)?, true)?;
        tree.set_meta(&place, meta);
    }
    tree.finish(|fd, meta, _| meta.map_or(Ok(()), |meta| give(fd, &meta, false, privileged)))
}

/// The directories that an overlay would show with an implied one's attributes and a lower layer describes, and all above them: each
/// with the attributes that it should have. Empty where nothing would be shown otherwise.
fn corrections(stack: &[PathBuf], names: &[Vec<Vec<u8>>]) -> Result<BTreeMap<Vec<u8>, Meta>> {
    let implied = inodes(stack, names)?;
    let union = Merged::open(stack)?;
    let mut found = BTreeMap::new();
    let wanted: HashSet<&Vec<u8>> = names[1..].iter().flatten().collect();
    for name in wanted {
        let parts = components(name)?;
        if !is_shown_otherwise(&union, &parts, &implied)? {
            continue;
        }
        for depth in 0..=parts.len() {
            let path = if depth == 0 { ROOT.to_vec() } else { parts[..depth].join(&b'/') };
            if let Some((meta, _)) = described(&union, &parts[..depth], &implied)? {
                found.insert(path, meta);
            }
        }
    }
    Ok(found)
}

fn is_shown_otherwise(union: &Merged, parts: &[&[u8]], implied: &HashSet<(u64, u64)>) -> Result<bool> {
    let Some((meta, Some(mut shown))) = described(union, parts, implied)? else { return Ok(false) };
    if parts.is_empty() {
        shown.mtime = meta.mtime; // of a container's root that is another one, and few layers describe theirs
    }
    Ok(shown != meta)
}

/// What the highest entry for a directory of the union says of it, and how an overlay would show it where that is another one. None
/// where no directory is to be seen.
fn described(union: &Merged, parts: &[&[u8]], implied: &HashSet<(u64, u64)>) -> Result<Option<(Meta, Option<Meta>)>> {
    let fail = |errno| Error::from(("look at a directory of a layer", errno));
    let mut inner;
    let mut at = union;
    for part in parts {
        match at.look(part) {
            Ok(Found::Directory(found)) => inner = found,
            // A plain user's own files can be closed to him, as the overlay will be.
            Ok(_) | Err(Errno::ACCESS) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        }
        at = &inner;
    }
    for (index, fd) in at.all().enumerate() {
        let seen = rustix::fs::fstat(fd).map_err(fail)?;
        if !implied.contains(&(seen.st_dev, seen.st_ino)) {
            let shown = match at.highest().filter(|_| index > 0) {
                Some(top) => Some(meta(top, &rustix::fs::fstat(top).map_err(fail)?)),
                None => None,
            };
            return Ok(Some((meta(fd, &seen), shown)));
        }
    }
    let Some(top) = at.highest() else { return Ok(None) };
    Ok(Some((meta(top, &rustix::fs::fstat(top).map_err(fail)?), None)))
}

fn meta(fd: BorrowedFd<'_>, seen: &Stat) -> Meta {
    Meta {
        mode: seen.st_mode & 0o7777,
        uid: seen.st_uid.into(),
        gid: seen.st_gid.into(),
        mtime: (seen.st_mtime, u32::try_from(seen.st_mtime_nsec).unwrap_or(0)),
        xattrs: attributes(fd, |name| is_taken(name, false)),
    }
}

/// By what implied directories are known.
fn inodes(stack: &[PathBuf], names: &[Vec<Vec<u8>>]) -> Result<HashSet<(u64, u64)>> {
    let mut found = HashSet::new();
    for (root, names) in stack.iter().zip(names) {
        let dir = rustix::fs::open(root, super::unpacked::DIRECTORY, rustix::fs::Mode::empty());
        let dir = dir.map_err(|errno| failed(root, errno))?;
        for name in names {
            match rustix::fs::statat(&dir, &**name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(seen) => drop(found.insert((seen.st_dev, seen.st_ino))),
                Err(Errno::ACCESS) => {} // as above
                Err(errno) => return Err(failed(root, errno)),
            }
        }
    }
    Ok(found)
}

fn failed(path: &Path, errno: Errno) -> Error {
    Error::setup_at("look at a layer", path.display().to_string(), errno.raw_os_error())
}
