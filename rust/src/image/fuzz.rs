//! What a fuzzer calls: bytes that somebody else wrote, through the code that reads them. No store; panics are findings.

use super::archive::Totals;
use super::archive::extract::{Manner, extract};
use super::archive::source::{check_ratio, decompress};
use super::archive::stream::Reader;
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
