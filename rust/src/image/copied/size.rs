//! How large a file system has to be that a copy fits into: an upper bound, read from what its files say of themselves. Opens directories alone.

use super::failed;
use crate::error::Result;
use crate::image::locks::{Check, interrupted};
use crate::image::union::{Cursor, Merged, join};
use rustix::fs::{FileType, Stat};
use std::collections::HashSet;
use std::sync::Arc;

const BLOCK: u64 = 4096;
/// Links that are longer have a block of their own (ext4's fast symlinks).
const IN_INODE: i64 = 60;
/// A file from this size on may have holes that are worth a thought.
const SPARSE: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    pub files: u64,
}

/// Of one directory (a union is one by then), up to what is mounted in it.
pub fn size(from: Merged, check: Check<'_>) -> Result<Size> {
    let device = from.highest().and_then(|top| rustix::fs::fstat(top).ok()).map(|seen| seen.st_dev);
    let mut cursor = Cursor::new(Arc::new(from));
    let (mut size, mut several) = (Size { bytes: 0, files: 1 }, HashSet::new());
    let mut waiting = vec![Vec::new()];
    while let Some(place) = waiting.pop() {
        let fail = |errno| failed("list", &place, errno);
        let Some(directory) = cursor.directory(&place).map_err(fail)? else { continue };
        let mut listing = 0;
        for (name, seen) in directory.names().map_err(fail)? {
            if check() {
                return Err(interrupted());
            }
            listing += (8 + name.as_bytes().len() as u64).next_multiple_of(4);
            let is_directory = FileType::from_raw_mode(seen.st_mode) == FileType::Directory;
            if is_directory && Some(seen.st_dev) == device {
                waiting.push(join(&place, name.as_bytes()));
            }
            if is_directory || seen.st_nlink < 2 || several.insert((seen.st_dev, seen.st_ino)) {
                size.files += 1;
                size.bytes += content(&seen);
            }
        }
        // Blocks of a directory with an index are about half full when they were split.
        size.bytes += (2 * listing).next_multiple_of(BLOCK);
    }
    // A group of ext4 has no more inodes than blocks; extents and attributes take a few.
    size.bytes = size.bytes.max(size.files * BLOCK);
    size.bytes += size.bytes / 64 + (1 << 20);
    Ok(size)
}

/// Blocks of a file's data. What a file system counts differs: a hole is believed where it is most of a large file.
fn content(seen: &Stat) -> u64 {
    let (length, blocks) = (seen.st_size.max(0) as u64, seen.st_blocks.max(0) as u64 * 512);
    match FileType::from_raw_mode(seen.st_mode) {
        FileType::RegularFile if length >= SPARSE && blocks > 0 && blocks < length / 2 => {
            (2 * blocks).next_multiple_of(BLOCK)
        }
        FileType::RegularFile => length.next_multiple_of(BLOCK),
        FileType::Symlink if seen.st_size >= IN_INODE => BLOCK,
        _ => 0,
    }
}
