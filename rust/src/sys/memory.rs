//! Memory from the kernel in whole pages. No allocator.

use super::{Errno, Result, call, nr};
use core::sync::atomic::AtomicI32;

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;

/// Types for which all bytes zero is a value.
///
/// # Safety
/// Implementors promise exactly that.
pub unsafe trait Zeroed: Sized {}

/// A zeroed object of its own, for the life of the process: pages come into being as they are touched.
pub fn map_zeroed<T: Zeroed>() -> Result<&'static mut T> {
    let at = map(size_of::<T>(), None)?;
    // SAFETY: fresh private pages, aligned to a page, zero, never unmapped; `T: Zeroed`.
    Ok(unsafe { &mut *(at as *mut T) })
}

/// Zeroed pages that live until the process ends.
pub fn map_bytes(length: usize) -> Result<&'static mut [u8]> {
    let at = map(length, None)?;
    // SAFETY: fresh private pages of that length, never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, length) })
}

/// Bytes out of which smaller pieces are cut; none comes back.
pub struct Arena<'a> {
    rest: &'a mut [u8],
}

impl<'a> Arena<'a> {
    pub fn of(rest: &'a mut [u8]) -> Arena<'a> {
        Arena { rest }
    }

    /// Zeros.
    pub fn bytes(&mut self, length: usize) -> Result<&'a mut [u8]> {
        let piece = self.stack(length)?;
        piece.fill(0);
        Ok(piece)
    }

    /// Whatever is there, from an address that suits a stack: pages that nobody touches do not come into being.
    pub fn stack(&mut self, length: usize) -> Result<&'a mut [u8]> {
        let rest = core::mem::take(&mut self.rest);
        let skipped = rest.as_ptr().align_offset(16);
        if rest.len() < skipped.saturating_add(length) {
            return Err(Errno::NOMEM);
        }
        let (piece, rest) = rest[skipped..].split_at_mut(length);
        self.rest = rest;
        Ok(piece)
    }

    pub fn word(&mut self) -> Result<&'a AtomicI32> {
        let piece = self.bytes(size_of::<AtomicI32>())?;
        // SAFETY: as of `words`.
        Ok(unsafe { &*piece.as_ptr().cast() })
    }

    /// Zeros, for argv and envp.
    pub fn words(&mut self, count: usize) -> Result<&'a mut [usize]> {
        let piece = self.bytes(count * size_of::<usize>())?;
        // SAFETY: the bytes are zero, which are words too, borrowed as long as the arena's, and aligned to 16.
        Ok(unsafe { core::slice::from_raw_parts_mut(piece.as_mut_ptr().cast(), count) })
    }
}

/// A private copy of a file's first bytes.
pub struct FileMap {
    at: usize,
    length: usize,
}

impl FileMap {
    pub fn of(fd: i32, length: usize) -> Result<FileMap> {
        Ok(FileMap { at: map(length, Some(fd))?, length })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped in `of`, unmapped in `drop`; the file is sealed by the host, so it does not shrink below us.
        unsafe { core::slice::from_raw_parts(self.at as *const u8, self.length) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: the range is the one mapping of `of`, and nothing borrows it any more.
        let _ = unsafe { call(nr::MUNMAP, [self.at, self.length.max(1)]) };
    }
}

/// Pages that may be there: none when zeroed, and given back when asked.
pub struct Room {
    at: usize,
    length: usize,
}

impl Room {
    pub const NONE: Room = Room { at: 0, length: 0 };

    /// Makes them, where they are not there yet.
    pub fn make(&mut self, length: usize) -> Result<&mut [u8]> {
        if self.length == 0 {
            *self = Room { at: map(length, None)?, length };
        }
        Ok(self.bytes())
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: mapped in `make`, unmapped in `give_back` alone, and borrowed through this object only.
        unsafe { core::slice::from_raw_parts_mut(self.at as *mut u8, self.length) }
    }

    pub fn take(&mut self) -> Room {
        core::mem::replace(self, Room::NONE)
    }

    pub fn give_back(&mut self) {
        if self.length > 0 {
            // SAFETY: the range is the one mapping of `make`, and nothing borrows it.
            let _ = unsafe { call(nr::MUNMAP, [self.at, self.length]) };
        }
        *self = Room::NONE;
    }
}

fn map(length: usize, file: Option<i32>) -> Result<usize> {
    let flags = MAP_PRIVATE | if file.is_none() { MAP_ANONYMOUS } else { 0 };
    let fd = file.unwrap_or(-1) as usize;
    // SAFETY: a new mapping at an address of the kernel's choice touches no object.
    unsafe { call(nr::MMAP, [0, length.max(1), PROT_READ | PROT_WRITE, flags, fd, 0]) }
}

/// Declares that all bytes zero is a value of a type of plain numbers, bools and arrays of them.
#[allow(unused_macros)] // used by the keeper only
macro_rules! zeroed {
    ($kind:ty) => {
        // SAFETY: the type holds numbers, bools and arrays of such only, as the macro's name asks of its users.
        unsafe impl $crate::sys::memory::Zeroed for $kind {}
    };
}
#[allow(unused_imports)]
pub(crate) use zeroed;
