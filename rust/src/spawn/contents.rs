//! The caller's files on their way into a container: read here, once, and carried in memory.

use super::sources::os;
use super::spec::{Content, Spec};
use crate::error::{Error, Result};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Offsets, lengths and modes of the caller's files.
type Contents = Vec<(u64, u64, u32)>;

/// The contents of all files of the caller's, one after another in a memfd.
pub fn files(spec: &Spec) -> Result<(Option<OwnedFd>, Contents)> {
    let mut data = Vec::new();
    let mut offsets = Vec::new();
    for file in spec.files.iter() {
        let start = data.len() as u64;
        let mode = match &file.content {
            Content::Bytes(bytes) => {
                data.extend_from_slice(bytes);
                0o644
            }
            Content::Path(path) => read_source(path, &mut data)?,
        };
        offsets.push((start, data.len() as u64 - start, file.mode.unwrap_or(mode)));
    }
    let file = if spec.files.is_empty() { None } else { Some(memory_file(&data)?) };
    Ok((file, offsets))
}

/// A regular file only: a FIFO would hang, a device has no end.
fn read_source(path: &Path, data: &mut Vec<u8>) -> Result<u32> {
    use rustix::fs::{Mode, OFlags};
    use std::io::Read;
    let fail = |error: std::io::Error| os("read the file", path, &error);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?);
    let seen = source.metadata().map_err(fail)?;
    if !seen.is_file() {
        return Err(Error::setup_at("read the file", path.display().to_string(), if seen.is_dir() { 21 } else { 22 }));
    }
    source.read_to_end(data).map_err(fail)?;
    Ok(seen.mode() & 0o777)
}

/// Bytes in a memfd that nobody can change any more.
pub fn memory_file(data: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let fail = |errno: rustix::io::Errno| Error::from(("keep data for the container in memory", errno));
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"pycontainer-data", flags).map_err(fail)?;
    let mut rest = data;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest).map_err(fail)?..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(fail)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)
        .map_err(fail)?;
    Ok(file)
}
