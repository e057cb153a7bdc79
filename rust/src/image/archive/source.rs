//! The archive's bytes: opened once, hashed, decompressed in this process, within a budget. Reads only.

use crate::error::{Error, Result};
pub use crate::image::locks::{Check, interrupted};
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

const BUFFER: usize = 128 << 10;
/// gzip's own limit is 1032; real root file systems stay under 10.
const RATIO_MAX: u64 = 200;
/// Below this nothing is called a bomb.
const FREE_OF_RATIO: u64 = 256 << 20;
/// 128 MiB, what `zstd --long` needs and what zstd itself decodes unasked.
const WINDOW_LOG_MAX: u32 = 27;

#[derive(Debug)]
pub struct Source {
    file: File,
}

impl Source {
    /// A regular file only: a FIFO would hang, a device has no end.
    pub fn open(path: &Path) -> Result<Source> {
        let fail = |errno: i32| Error::setup_at("open the archive", path.display().to_string(), errno);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| fail(errno.raw_os_error()))?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd).map_err(|e| fail(e.raw_os_error()))?.st_mode);
        match kind {
            FileType::RegularFile => Ok(Source { file: File::from(fd) }),
            FileType::Directory => Err(fail(libc::EISDIR)),
            _ => Err(fail(libc::EINVAL)),
        }
    }

    /// What is open already, and known to be a regular file.
    pub fn of_file(file: File) -> Source {
        Source { file }
    }

    /// Its bytes as they are.
    pub fn raw(&self) -> Result<File> {
        self.start_again()
    }

    /// The SHA-256 of all its bytes, in hexadecimal.
    pub fn digest(&self, check: Check<'_>) -> Result<String> {
        let mut file = self.start_again()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hexadecimal(hash)),
                Ok(_) if check() => return Err(interrupted()),
                Ok(n) => hash.update(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&error)),
            }
        }
    }

    /// The tar inside, from its start.
    pub fn tar(&self) -> Result<Tar> {
        let raw = Raw { file: self.start_again()?, hash: Rc::default(), count: Rc::default() };
        let (hash, count) = (raw.hash.clone(), raw.count.clone());
        let (_, inner) = decompress(BufReader::with_capacity(BUFFER, raw))?;
        Ok(Tar { inner, hash, count, out: 0 })
    }

    fn start_again(&self) -> Result<File> {
        let mut file = self.file.try_clone().map_err(|error| unreadable(&error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| unreadable(&error))?;
        Ok(file)
    }
}

/// What is inside, and how it was packed, by its first bytes.
pub fn decompress<'a, R: BufRead + 'a>(mut packed: R) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let start = packed.fill_buf().map_err(|error| unreadable(&error))?;
    let found = compression(start)?;
    let inner: Box<dyn Read + 'a> = match found {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(|error| unreadable(&error))?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(|error| unreadable(&error))?;
            Box::new(decoder)
        }
    };
    Ok((found, inner))
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::setup("read the archive", error.raw_os_error().unwrap_or(libc::EIO))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

fn compression(start: &[u8]) -> Result<Compression> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => Err(Error::Layer("bzip2 is not supported; compress it with gzip or zstd".into())),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Err(Error::Layer("xz is not supported; compress it with gzip or zstd".into()))
        }
        _ => Ok(Compression::None),
    }
}

/// The file as it is read: hashed again, so that a change since the first reading is seen.
#[derive(Debug)]
struct Raw {
    file: File,
    hash: Rc<RefCell<Sha256>>,
    count: Rc<Cell<u64>>,
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hash.borrow_mut().update(&buffer[..n]);
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// The decompressed stream.
pub struct Tar {
    inner: Box<dyn Read>,
    hash: Rc<RefCell<Sha256>>,
    count: Rc<Cell<u64>>,
    out: u64,
}

impl Tar {
    /// The SHA-256 of what was read; whole once the stream is at its end.
    pub fn digest(self) -> String {
        hexadecimal(self.hash.take())
    }
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.out += n as u64;
        check_ratio(self.out, self.count.get())?;
        Ok(n)
    }
}

/// Of bytes that came out of so many.
pub fn check_ratio(out: u64, packed: u64) -> std::io::Result<()> {
    if out > FREE_OF_RATIO && out / RATIO_MAX > packed {
        let text = format!("it expands to more than {RATIO_MAX} times its size, as only a bomb does");
        return Err(std::io::Error::other(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_name_the_compression() {
        assert_eq!(compression(&[0x1f, 0x8b, 8]), Ok(Compression::Gzip));
        assert_eq!(compression(&[0x28, 0xb5, 0x2f, 0xfd]), Ok(Compression::Zstd));
        assert_eq!(compression(&[0x53, 0x2a, 0x4d, 0x18]), Ok(Compression::Zstd));
        assert_eq!(compression(b"etc/passwd"), Ok(Compression::None));
        assert_eq!(compression(b""), Ok(Compression::None));
        assert!(compression(b"BZh91AY").is_err());
        assert!(compression(b"\xfd7zXZ\0").is_err());
    }

    #[test]
    fn the_digest_is_sha_256() {
        let text = hexadecimal(Sha256::new());
        assert_eq!(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
