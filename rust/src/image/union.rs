//! The union of unpacked layers, read without a mount: a file by its path, and all paths. By descriptors beneath the layers only.
//!
//! As an overlay would show it (kernel documentation, filesystems/overlayfs.rst): a higher layer's name hides a lower one's, directories
//! merge unless one says that it is opaque, a character device 0:0 hides a name.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// As many as the kernel follows (MAXSYMLINKS).
const LINKS_MAX: usize = 40;
const DEPTH_MAX: usize = 2048;
const PATHS_MAX: usize = 4_000_000;
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One directory of the union: what it is made of, the highest first.
#[derive(Debug)]
struct Merged(Vec<OwnedFd>);

enum Found {
    Nothing,
    Directory(Merged),
    Link(Vec<u8>),
    /// In which of the directories it is.
    Other(usize, FileType),
}

fn failed(step: &str, path: &[u8], errno: Errno) -> Error {
    Error::setup_at(step, String::from_utf8_lossy(path), errno.raw_os_error())
}

/// `roots`: the lowest first.
fn top(roots: &[PathBuf]) -> Result<Merged> {
    let open = |root: &PathBuf| {
        rustix::fs::open(root, DIRECTORY, Mode::empty())
            .map_err(|errno| Error::setup_at("open a layer", root.display().to_string(), errno.raw_os_error()))
    };
    roots.iter().rev().map(open).collect::<Result<_>>().map(Merged)
}

fn is_opaque(dir: &OwnedFd) -> bool {
    OPAQUE.iter().any(|name| matches!(rustix::fs::fgetxattr(dir, *name, &mut [0u8; 8]), Ok(1..)))
}

impl Merged {
    fn look(&self, name: &[u8]) -> rustix::io::Result<Found> {
        let mut directories = Vec::new();
        for (index, dir) in self.0.iter().enumerate() {
            let seen = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(seen) => seen,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            match FileType::from_raw_mode(seen.st_mode) {
                FileType::Directory => {
                    let found = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())?;
                    let opaque = is_opaque(&found);
                    directories.push(found);
                    if opaque {
                        break;
                    }
                }
                _ if !directories.is_empty() => break,
                FileType::CharacterDevice if seen.st_rdev == 0 => break,
                FileType::Symlink => {
                    return Ok(Found::Link(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()));
                }
                other => return Ok(Found::Other(index, other)),
            }
        }
        Ok(if directories.is_empty() { Found::Nothing } else { Found::Directory(Merged(directories)) })
    }

    /// Its names, sorted, with what each is.
    fn names(&self) -> rustix::io::Result<BTreeMap<CString, FileType>> {
        let mut found: BTreeMap<CString, FileType> = BTreeMap::new();
        for dir in &self.0 {
            for entry in Dir::read_from(dir)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") || found.contains_key(name) {
                    continue;
                }
                let seen = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let kind = FileType::from_raw_mode(seen.st_mode);
                let is_whiteout = kind == FileType::CharacterDevice && seen.st_rdev == 0;
                found.insert(name.into(), if is_whiteout { FileType::Unknown } else { kind });
            }
        }
        found.retain(|_, kind| *kind != FileType::Unknown);
        Ok(found)
    }
}

/// A regular file, open for reading. Links lead where they lead inside.
pub fn open(roots: &[PathBuf], path: &[u8]) -> Result<File> {
    let fail = |errno| failed("open", path, errno);
    let mut trail = vec![top(roots)?];
    let mut waiting: Vec<Vec<u8>> = parts(path);
    let mut links = 0;
    while let Some(name) = waiting.pop() {
        if name == b".." {
            trail.truncate((trail.len() - 1).max(1));
            continue;
        }
        let here = trail.last().expect("the root stays");
        match here.look(&name).map_err(fail)? {
            Found::Nothing => return Err(fail(Errno::NOENT)),
            Found::Directory(_) if trail.len() > DEPTH_MAX => return Err(fail(Errno::NAMETOOLONG)),
            Found::Directory(merged) => trail.push(merged),
            Found::Link(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(fail(Errno::LOOP));
                }
                if target.starts_with(b"/") {
                    trail.truncate(1);
                }
                waiting.extend(parts(&target));
            }
            Found::Other(_, _) if !waiting.is_empty() => return Err(fail(Errno::NOTDIR)),
            Found::Other(index, FileType::RegularFile) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(here.0[index].as_fd(), &*name, flags, Mode::empty()).map_err(fail)?;
                return Ok(File::from(file));
            }
            Found::Other(..) => return Err(fail(Errno::INVAL)),
        }
    }
    Err(fail(Errno::ISDIR))
}

/// The components of a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<Vec<u8>> = named.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// All paths of the union, each directory before what is in it.
pub fn paths(roots: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut waiting = vec![(Vec::new(), top(roots)?)];
    while let Some((prefix, merged)) = waiting.pop() {
        let fail = |errno| failed("list", &prefix, errno);
        let mut below = Vec::new();
        for (name, kind) in merged.names().map_err(fail)? {
            let path = [&prefix, &b"/"[..], name.to_bytes()].concat();
            if kind == FileType::Directory
                && let Found::Directory(merged) = merged.look(name.to_bytes()).map_err(fail)?
            {
                below.push((path, merged));
            } else {
                found.push(path);
            }
            if found.len() + waiting.len() > PATHS_MAX {
                return Err(Error::Image(format!("more than {PATHS_MAX} files")));
            }
        }
        if !prefix.is_empty() {
            found.push(prefix);
        }
        waiting.extend(below);
    }
    found.sort();
    Ok(found)
}
