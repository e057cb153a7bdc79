//! One layer in one pass: read and hashed, decompressed, hashed again, unpacked; three threads, a few buffers between them. What it was
//! is known only at its end, so nobody may use what came of it before.

use super::coming::Follower;
use super::pipe::{Reader as Pipe, Writer, pipe};
use crate::error::{Error, Result};
use crate::image::archive::Totals;
use crate::image::archive::extract::{Manner, extract};
use crate::image::archive::source::{Compression, check_ratio, decompress, interrupted};
use crate::image::archive::stream::Reader;
use crate::image::descriptor::{Descriptor, media};
use crate::image::digest::{Digest, Hasher};
use std::fs::File;
use std::io::{Read, Result as IoResult};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Told of bytes of the blob as they are read; from a thread of the layer.
pub type Told<'a> = &'a (dyn Fn(u64) + Sync);

/// Where the bytes of a blob are from.
pub enum Input {
    /// The store, which may have been damaged since.
    Stored(File),
    /// Whoever brings it, and hashes it on the way.
    Coming(Follower),
}

impl Input {
    fn read(&mut self, buffer: &mut [u8], stop: &AtomicBool) -> IoResult<usize> {
        match self {
            Input::Stored(file) => file.read(buffer),
            Input::Coming(follower) => full(buffer, |rest| follower.read(rest, stop)),
        }
    }
}

/// What comes over a network comes in small pieces, the first of which may not even tell how it is compressed.
fn full(buffer: &mut [u8], mut read: impl FnMut(&mut [u8]) -> IoResult<usize>) -> IoResult<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The blob into `root`, an empty directory. `stop` ends the work early.
pub fn unpack(
    blob: &Descriptor,
    diff_id: &Digest,
    input: Input,
    root: OwnedFd,
    privileged: bool,
    stop: &AtomicBool,
    told: Told<'_>,
) -> Result<Totals> {
    let (count, is_plain) = (AtomicU64::new(0), AtomicBool::new(false));
    let (packed_in, packed_out) = pipe(stop);
    let (plain_in, plain_out) = pipe(stop);
    let (done, found, packed) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(input, blob, packed_in, &count, stop, told));
        scope.spawn(|| {
            let done = expand(packed_out, &blob.media_type, &plain_in, &count, &is_plain);
            plain_in.finish(done);
        });
        let is_same = (blob.digest.algorithm() == diff_id.algorithm()).then_some(&is_plain);
        let mut tar = Reader::of_layer(Hashed { input: plain_out, hash: Hasher::new(diff_id.algorithm()), is_same });
        let manner = Manner { privileged, is_layer: true };
        let done = extract(&mut tar, root, manner, &mut || stop.load(Ordering::Relaxed));
        let hashed = tar.into_input();
        let found = (!hashed.needs_no_hash()).then(|| hashed.hash.finish());
        drop(hashed.input); // who still writes to it ends
        let packed = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (done, found, packed)
    });
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted());
    }
    verdict(blob, diff_id, done, found, packed)
}

/// A blob that is not what it should be explains whatever else went wrong, so it comes first. `found`: None where the tar is the blob.
fn verdict(
    blob: &Descriptor,
    diff_id: &Digest,
    done: Result<Totals>,
    found: Option<Digest>,
    packed: Result<Digest>,
) -> Result<Totals> {
    let packed = packed?;
    if packed != blob.digest {
        let text = format!("the store's blob {} is {packed}: pull or load the image again", blob.digest);
        return Err(Error::DigestMismatch(text));
    }
    let totals = done.map_err(|error| match error {
        Error::Layer(text) => Error::Layer(format!("layer {}: {text}", blob.digest)),
        other => other,
    })?;
    let found = found.unwrap_or(packed);
    if found != *diff_id {
        let text = format!("layer {} unpacks to {found}, and its image says {diff_id}", blob.digest);
        return Err(Error::DigestMismatch(text));
    }
    Ok(totals)
}

/// The digest of all of the blob; it is read to its end even if nobody wants the data any more.
fn read(
    mut input: Input,
    blob: &Descriptor,
    to: Writer,
    count: &AtomicU64,
    stop: &AtomicBool,
    told: Told<'_>,
) -> Result<Digest> {
    let mut hash = matches!(input, Input::Stored(_)).then(|| Hasher::new(blob.digest.algorithm()));
    let mut is_wanted = true;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted());
        }
        let mut buffer = to.buffer();
        match input.read(&mut buffer, stop) {
            Ok(0) => break,
            Ok(n) => {
                if let Some(hash) = &mut hash {
                    hash.update(&buffer[..n]);
                }
                count.fetch_add(n as u64, Ordering::Relaxed);
                told(n as u64);
                is_wanted = is_wanted && to.send(buffer, n);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                to.finish(Err(error));
                return Err(Error::setup(format!("read the blob {}", blob.digest), errno));
            }
        }
    }
    to.finish(Ok(()));
    // What came is whole only when its digest was the right one.
    Ok(hash.map_or_else(|| blob.digest.clone(), Hasher::finish))
}

fn expand(from: Pipe<'_>, media_type: &str, to: &Writer, count: &AtomicU64, is_plain: &AtomicBool) -> IoResult<()> {
    let (found, mut plain) = decompress(from).map_err(as_io)?;
    check_media_type(media_type, found).map_err(as_io)?;
    is_plain.store(found == Compression::None, Ordering::Release); // before anything is sent
    let mut out = 0;
    loop {
        let mut buffer = to.buffer();
        let filled = full(&mut buffer, |rest| plain.read(rest))?;
        out += filled as u64;
        check_ratio(out, count.load(Ordering::Relaxed))?;
        if filled == 0 || !to.send(buffer, filled) {
            return Ok(());
        }
    }
}

/// OCI's media types name the compression; docker's were written on layers that had another one, and it always looked.
fn check_media_type(media_type: &str, found: Compression) -> Result<()> {
    let said = match media_type {
        media::OCI_LAYER => Compression::None,
        media::OCI_LAYER_GZIP => Compression::Gzip,
        media::OCI_LAYER_ZSTD => Compression::Zstd,
        _ => return Ok(()),
    };
    if said == found {
        return Ok(());
    }
    Err(Error::Layer(format!("it is of type {media_type}, and its first bytes are those of another ({found:?})")))
}

/// Through a pipe go errors of the system and texts about the layer.
fn as_io(error: Error) -> std::io::Error {
    match error {
        Error::Setup { errno, .. } => std::io::Error::from_raw_os_error(errno),
        other => std::io::Error::other(other.to_string()),
    }
}

struct Hashed<'a> {
    input: Pipe<'a>,
    hash: Hasher,
    /// Said before the first byte comes: these are the bytes of the blob, which is hashed where it is read.
    is_same: Option<&'a AtomicBool>,
}

impl Hashed<'_> {
    fn needs_no_hash(&self) -> bool {
        self.is_same.is_some_and(|is_same| is_same.load(Ordering::Acquire))
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let n = self.input.read(buffer)?;
        if !self.needs_no_hash() {
            self.hash.update(&buffer[..n]);
        }
        Ok(n)
    }
}
