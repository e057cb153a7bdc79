//! What the tests of archives and of layers share: archives byte by byte, and a directory to unpack them in.

use crate::image::archive::header::BLOCK;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// One entry: header (GNU format), data, padding.
pub fn entry(kind: u8, name: &[u8], link: &[u8], data: &[u8]) -> Vec<u8> {
    sized_entry(kind, name, link, data, data.len() as u64)
}

pub fn sized_entry(kind: u8, name: &[u8], link: &[u8], data: &[u8], size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name);
    gnu.linkname[..link.len()].copy_from_slice(link);
    gnu.typeflag = [kind];
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 2 * BLOCK]].concat()
}

pub fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = 3 + key.len() + value.len();
    let length = (rest..).find(|total| total.to_string().len() + rest == *total).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

/// A directory of this test's own, gone with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let path = std::env::temp_dir().join(format!("pycontainer-archive-{:x}", u64::from_ne_bytes(random)));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn directory(&self, name: &str) -> (PathBuf, OwnedFd) {
        let path = self.0.join(name);
        std::fs::create_dir(&path).unwrap();
        let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (path, fd)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
