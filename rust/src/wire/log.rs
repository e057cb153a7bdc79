//! How a log lies in its file: a page of numbers, then a ring for each of the two streams. Written by the keeper alone.

/// Bytes of each stream that can be read.
pub const KEPT: u64 = 16 << 20;
/// As much as is written at once: what can be read is never what is being written.
pub const PIECE: usize = 64 * 1024;
/// Bytes of a ring.
pub const RING: u64 = KEPT + PIECE as u64;
const FIRST_RING: u64 = 4096;
/// Bytes of the file, of which only what was written takes memory.
pub const SIZE: u64 = FIRST_RING + 2 * RING;

/// Where the numbers of a stream are: how many bytes it had in all, how many of them were dropped beyond a cap, and whether it has ended.
pub const NUMBERS: usize = 24;
pub fn numbers_of(stream: usize) -> u64 {
    (stream * NUMBERS) as u64
}

/// Where the byte at this position of a stream lies, and how many of those behind it lie there in one piece.
pub fn place_of(stream: usize, position: u64) -> (u64, u64) {
    let at = position % RING;
    (FIRST_RING + stream as u64 * RING + at, RING - at)
}
