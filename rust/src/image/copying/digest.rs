//! What sources are, as one number: names, kinds, modes, targets of links and contents, and of layers the owners; no time. The key of a
//! build's cache: touching a file changes nothing, one byte or one bit of a mode does.

use super::source::{Met, Thing, Tree, is_same, stat_of, walk};
use super::{failed, go_on, shown};
use crate::error::{Error, Result};
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::locks::Check;
use crate::image::union::last;
use rustix::fs::FileType;
use std::io::Read;
use std::os::fd::AsFd;

const CHUNK: usize = 256 << 10;
/// Of how this is computed; another one, and nothing is taken for the same.
const VERSION: &[u8] = b"pycontainer-sources 1\n";

/// A path, and what of it is taken, as `Input::Path` has them.
pub type Taken = (Vec<u8>, Option<Vec<Vec<u8>>>);

pub fn digest(tree: &Tree, sources: &[Taken], check: Check<'_>) -> Result<Digest> {
    let mut hash = Hasher::new(Algorithm::Sha256);
    hash.update(VERSION);
    let mut buffer = vec![0; CHUNK];
    for (path, taken) in sources {
        text(&mut hash, last(path));
        walk(tree, path, taken.as_deref(), check, &mut |name, met, check| {
            text(&mut hash, name);
            one(&mut hash, tree, met, &mut buffer, check)
        })?;
        hash.update(b"end");
    }
    Ok(hash.finish())
}

/// With its length before it: no two lists of texts are one.
fn text(hash: &mut Hasher, text: &[u8]) {
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn one(hash: &mut Hasher, tree: &Tree, met: &Met, buffer: &mut [u8], check: Check<'_>) -> Result<()> {
    let meta = tree.meta(&met.seen);
    let device =
        if matches!(met.kind(), FileType::CharacterDevice | FileType::BlockDevice) { met.seen.st_rdev } else { 0 };
    let kind = met.seen.st_mode & 0o170_000;
    for number in [kind.into(), meta.mode.into(), meta.uid, meta.gid, device] {
        hash.update(&u64::to_le_bytes(number));
    }
    match &met.found {
        Thing::Link(target) => text(hash, target),
        Thing::Directory(_) => {
            met.directory()
                .map(|fd| tree.attributes(fd))
                .unwrap_or_default()
                .iter()
                .for_each(|one| attribute(hash, one));
        }
        Thing::Other(..) if met.kind() == FileType::RegularFile => content(hash, tree, met, buffer, check)?,
        Thing::Other(..) => {}
    }
    Ok(())
}

fn attribute(hash: &mut Hasher, (name, value): &(Vec<u8>, Vec<u8>)) {
    text(hash, name);
    text(hash, value);
}

fn content(hash: &mut Hasher, tree: &Tree, met: &Met, buffer: &mut [u8], check: Check<'_>) -> Result<()> {
    let fail = |errno| failed("read", &met.path, errno);
    let mut file = met.file().map_err(fail)?;
    if !is_same(&met.seen, &stat_of(&file).map_err(fail)?) {
        return Err(changed(met));
    }
    let attributes = tree.attributes(file.as_fd());
    hash.update(&(attributes.len() as u64).to_le_bytes());
    attributes.iter().for_each(|one| attribute(hash, one));
    let mut left = met.seen.st_size as u64;
    hash.update(&left.to_le_bytes());
    while left > 0 {
        go_on(check)?;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(changed(met)),
            Ok(n) => {
                hash.update(&buffer[..n]);
                left -= n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(fail(rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))));
            }
        }
    }
    Ok(())
}

fn changed(met: &Met) -> Error {
    Error::Layer(format!("{} changed while it was read", shown(&met.path)))
}
