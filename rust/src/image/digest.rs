//! Digests: the name of content by its content. Pure; hashes what it is given and opens nothing.

use crate::error::{Error, Result};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;

/// `algorithm:hex` as the OCI image specification has it (descriptor.md, "Digests"), of an algorithm that we can compute. It is safe as a
/// part of a path: nothing else becomes one (CVE-2024-3727).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

impl Digest {
    pub fn parse(text: &str) -> Result<Digest> {
        let bad = |why: &str| Error::Image(format!("{:?} is no digest: {why}", cut(text)));
        let (name, hex) = text.split_once(':').ok_or_else(|| bad("it has no colon"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(bad("it is neither sha256 nor sha512")),
        };
        if hex.len() != algorithm.length() || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad(&format!("{name} has {} lower-case hexadecimal digits", algorithm.length())));
        }
        Ok(Digest { algorithm, hex: hex.into() })
    }

    /// The SHA-256 of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hash = Hasher::new(Algorithm::Sha256);
        hash.update(bytes);
        hash.finish()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// At most so much of a text that somebody else wrote, for an error.
pub fn cut(text: &str) -> String {
    let most = 200;
    if text.chars().count() <= most { text.into() } else { text.chars().take(most).chain("...".chars()).collect() }
}

/// Hashes while something is read or written.
#[derive(Debug, Clone)]
pub enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self {
            Hasher::Sha256(hash) => (Algorithm::Sha256, hash.finalize().to_vec()),
            Hasher::Sha512(hash) => (Algorithm::Sha512, hash.finalize().to_vec()),
        };
        Digest { algorithm, hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_one_way_only() {
        let hex = "a".repeat(64);
        assert_eq!(Digest::parse(&format!("sha256:{hex}")).unwrap().to_string(), format!("sha256:{hex}"));
        assert!(Digest::parse(&format!("sha512:{}", "0".repeat(128))).is_ok());
        let short = format!("sha256:{}", "a".repeat(63));
        let long = format!("sha256:{}", "a".repeat(65));
        let upper = format!("sha256:{}", "A".repeat(64));
        let other = format!("md5:{}", "a".repeat(32));
        for bad in
            ["", ":", "sha256", "sha256:", "sha256:../../x", "sha256:%2e%2e", &short, &long, &upper, &other, &hex]
        {
            assert!(Digest::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn content_has_its_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
    }
}
