//! Where data is in a file with holes.

use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::{Errno, Result};

/// Holes that are worth a map: less is as quickly written, and every reader understands it.
const HOLES_LEAST: u64 = 1 << 20;
const REGIONS_MAX: usize = 1 << 14;

/// The offset is at the start again.
pub fn are_worth_a_map(file: i32, size: u64) -> bool {
    let (mut data, mut count) = (0, 0);
    let told = each(file, size, |_, length| {
        (data, count) = (data + length, count + 1);
        if count > REGIONS_MAX { Err(Errno::TOOBIG) } else { Ok(()) }
    });
    let rewound = fs::lseek(file, 0, SEEK_SET);
    told.is_ok() && rewound.is_ok() && size.saturating_sub(data) >= HOLES_LEAST
}

/// (offset, length), in order. Moves the offset.
pub fn each(file: i32, size: u64, mut body: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let mut at = 0;
    while at < size {
        let data = match fs::lseek(file, at, SEEK_DATA) {
            Err(Errno::NXIO) => return Ok(()),
            found => found?,
        };
        if data >= size {
            return Ok(());
        }
        at = fs::lseek(file, data, SEEK_HOLE)?.min(size);
        if at <= data {
            return Ok(()); // it was cut off meanwhile
        }
        body(data, at - data)?;
    }
    Ok(())
}
