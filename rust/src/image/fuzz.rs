//! What a fuzzer calls: bytes that somebody else wrote, through the code that reads them. No store; panics are findings.

use super::archive::Totals;
use super::archive::extract::{Manner, extract};
use super::archive::source::{check_ratio, decompress};
use super::archive::stream::Reader;
use super::descriptor::{self, Document};
use super::digest::Digest;
use super::found;
use super::reference::Reference;
use crate::error::Result;
use std::io::Read;
use std::os::fd::OwnedFd;

/// A layer as it comes from a registry, packed or not, into `root`, an empty directory, with nobody's privileges.
pub fn layer(bytes: &[u8], root: OwnedFd) -> Result<Totals> {
    let (_, plain) = decompress(bytes)?;
    let plain = Bounded { plain, out: 0, packed: bytes.len() as u64 };
    extract(&mut Reader::of_layer(plain), root, Manner { privileged: false, is_layer: true }, &mut || false)
}

/// As much as a layer of this size may expand to.
struct Bounded<R> {
    plain: R,
    out: u64,
    packed: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.plain.read(buffer)?;
        self.out += n as u64;
        check_ratio(self.out, self.packed)?;
        Ok(n)
    }
}

/// The same bytes as a manifest or index, under each name that it may come by, and as a config.
pub fn documents(bytes: &[u8]) {
    for said in ["", descriptor::media::OCI_INDEX, descriptor::media::OCI_MANIFEST] {
        if let Ok(Document::Index(manifests)) = descriptor::document(bytes, said) {
            let _ = found::choose(&manifests, &found::native());
        }
    }
    let _ = descriptor::config(bytes);
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = descriptor::descriptor(&value);
    }
}

/// References, digests, platforms. What is read is written in full, and that reads as the same.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(read) = Reference::parse(text) {
        for written in [read.to_string(), read.familiar()] {
            assert_eq!(Reference::parse(&written).as_ref(), Ok(&read), "{text:?} was written as {written:?}");
        }
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = found::parse_platform(text) {
        assert_eq!(found::parse_platform(&found::shown(&platform)).as_ref(), Ok(&platform));
    }
}
