//! Directories that a layer has only in the names of what is in them. No entry says what they are, so where a lower layer has them, they
//! are what they are there. But layers are unpacked apart from each other, and an overlay shows the attributes of the highest: where
//! those would be others, one more layer lies on top of the stack, in which these directories are alone, as they should be.

use super::archive::given::{attributes, give, is_taken};
use super::archive::noted::Noted;
use super::archive::tree::{Tree, components};
use super::archive::{Meta, Totals};
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::layers::visible;
use super::locks::{Check, interrupted};
use super::owned::Owners;
use super::steward;
use super::store::Store;
use super::union::{Found, Merged};
use super::unpacked::{ATTRIBUTES, DIRECTORY, Unpacked};
use crate::error::{Error, Result};
use rustix::fs::{Mode, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// The root among the names of a layer's implied directories.
pub const ROOT: &[u8] = b".";
/// Deeper ones are left as their layers have them.
const DEPTH_MAX: usize = 100;

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
    if is_root_alone && corrections(stack, &names, check)?.is_empty() {
        return Ok(None); // nearly every image: not worth a record
    }
    let corrected = Unpacked::open(store.path(), ATTRIBUTES)?;
    if !corrected.is_there(key) {
        let lock = corrected.lock(key, check)?;
        if !corrected.is_there(key) {
            corrected.sweep(Some(&lock));
            make(&corrected, key, corrections(stack, &names, check)?)?;
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
        Ok(owners) => unfinished.publish(key, Totals { entries, owners, ..Totals::default() }),
        Err(error) => {
            unfinished.discard();
            Err(error)
        }
    }
}

fn fill(mut tree: Tree<Meta>, directories: BTreeMap<Vec<u8>, Meta>) -> Result<Owners> {
    let privileged = rustix::process::geteuid().is_root();
    let (mut noted, root) = ((!privileged).then(Noted::default), tree.root_again()?);
    for (name, meta) in directories {
        let place = tree.directory(&components(&name)?, true)?;
        tree.set_meta(&place, meta);
    }
    tree.finish(|fd, path, meta, _| {
        let Some(meta) = meta else { return Ok(()) };
        if let Some(noted) = &mut noted {
            noted.directory(root.as_fd(), path, Some(&meta), false)?;
        }
        give(fd, &meta, false, privileged)
    })?;
    noted.map_or(Ok(Owners::Own), |noted| noted.give(root.as_fd()))
}

/// The directories that an overlay would show with an implied one's attributes and a lower layer describes, and all above them: each
/// with the attributes that it should have. Empty where nothing would be shown otherwise.
fn corrections(stack: &[PathBuf], names: &[Vec<Vec<u8>>], check: Check<'_>) -> Result<BTreeMap<Vec<u8>, Meta>> {
    let implied = inodes(stack, names)?;
    let mut walk = Walk { root: Merged::open(stack)?, parent: None, alone: None };
    let mut wanted = names[1..].iter().flatten().map(|name| components(name)).collect::<Result<Vec<_>>>()?;
    wanted.sort_unstable(); // what lies in one directory together
    wanted.dedup();
    let mut found = BTreeMap::new();
    for parts in wanted.into_iter().filter(|parts| parts.len() <= DEPTH_MAX) {
        if check() {
            return Err(interrupted());
        }
        let otherwise = match walk.at(&parts)? {
            Some(directory) => shown_otherwise(&directory, parts.is_empty(), &implied)?,
            None => None,
        };
        let Some(meta) = otherwise else { continue };
        found.insert(if parts.is_empty() { ROOT.to_vec() } else { parts.join(&b'/') }, meta);
        for depth in 0..parts.len() {
            let path = if depth == 0 { ROOT.to_vec() } else { parts[..depth].join(&b'/') };
            if !found.contains_key(&path)
                && let Some(above) = walk.at(&parts[..depth])?
            {
                found.insert(path, described(&above, &implied)?.0);
            }
        }
    }
    Ok(found)
}

/// The walk over a union in the order of names: one directory is kept open, since others mostly lie in it, too.
struct Walk<'n> {
    root: Merged,
    parent: Option<(Vec<&'n [u8]>, Merged)>,
    /// What one layer alone has: all beneath it is as it is there.
    alone: Option<Vec<&'n [u8]>>,
}

impl<'n> Walk<'n> {
    /// None: no directory is to be seen there, or one layer's alone.
    fn at(&mut self, parts: &[&'n [u8]]) -> Result<Option<Merged>> {
        if self.alone.as_ref().is_some_and(|alone| parts.starts_with(alone)) {
            return Ok(None);
        }
        let Some((name, above)) = parts.split_last() else { return self.root.again().map(Some).map_err(failed) };
        if self.parent.as_ref().is_none_or(|(known, _)| known != above) {
            let mut at = self.root.again().map_err(failed)?;
            for (depth, part) in above.iter().enumerate() {
                match Self::step(&at, part)? {
                    Some(found) => at = found,
                    None => {
                        self.alone = Some(above[..=depth].to_vec());
                        return Ok(None);
                    }
                }
            }
            self.parent = Some((above.to_vec(), at));
        }
        let found = match &self.parent {
            Some((_, parent)) => Self::step(parent, name)?,
            None => None,
        };
        if found.is_none() {
            self.alone = Some(parts.to_vec());
        }
        Ok(found)
    }

    fn step(at: &Merged, name: &[u8]) -> Result<Option<Merged>> {
        match at.look(name) {
            Ok(Found::Directory(found)) => Ok((found.all().count() > 1).then_some(found)),
            // A plain user's own files can be closed to him, as the overlay will be.
            Ok(_) | Err(Errno::ACCESS) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// What a directory should be; None where it is shown so. Of the root's time nothing is said: a container's root has another one, and few
/// layers describe theirs.
fn shown_otherwise(directory: &Merged, is_root: bool, implied: &HashSet<(u64, u64)>) -> Result<Option<Meta>> {
    let (wanted, Some(mut shown)) = described(directory, implied)? else { return Ok(None) };
    if is_root {
        shown.mtime = wanted.mtime;
    }
    Ok((shown != wanted).then_some(wanted))
}

/// What the highest entry for a directory of the union says of it, and how an overlay would show it where that is another one.
fn described(directory: &Merged, implied: &HashSet<(u64, u64)>) -> Result<(Meta, Option<Meta>)> {
    let mut shown = None;
    for fd in directory.all() {
        let seen = rustix::fs::fstat(fd).map_err(failed)?;
        if !implied.contains(&(seen.st_dev, seen.st_ino)) {
            return Ok((meta(fd, &seen), shown));
        }
        shown = shown.or_else(|| Some(meta(fd, &seen)));
    }
    // Nobody describes it: it is as the highest has it.
    shown.map(|shown| (shown, None)).ok_or_else(|| failed(Errno::NOENT))
}

fn meta(fd: BorrowedFd<'_>, seen: &Stat) -> Meta {
    let (uid, gid) = steward::owner_of(seen);
    Meta {
        mode: seen.st_mode & 0o7777,
        uid: uid.into(),
        gid: gid.into(),
        mtime: (seen.st_mtime, u32::try_from(seen.st_mtime_nsec).unwrap_or(0)),
        xattrs: attributes(fd, |name| is_taken(name, false)),
    }
}

/// By what implied directories are known.
fn inodes(stack: &[PathBuf], names: &[Vec<Vec<u8>>]) -> Result<HashSet<(u64, u64)>> {
    let mut found = HashSet::new();
    for (root, names) in stack.iter().zip(names) {
        let dir = rustix::fs::open(root, DIRECTORY, Mode::empty()).map_err(failed)?;
        for name in names {
            match steward::look_beneath(&dir, name) {
                Ok(seen) => drop(found.insert((seen.st_dev, seen.st_ino))),
                Err(Errno::ACCESS) => {} // as above
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
    Ok(found)
}

fn failed(errno: Errno) -> Error {
    Error::from(("look at a directory of a layer", errno))
}
