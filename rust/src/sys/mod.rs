//! THE ONLY room with unsafe: system calls under their man-page names, on plain integers and C strings.
//! Shared with the keeper (no std, no allocation); `host` alone uses std.

mod arch;
#[cfg(keeper)]
pub mod beside;
pub mod btrfs;
pub mod constants;
pub mod errno;
pub mod fs;
pub mod inet;
pub mod memory;
pub mod mount;
pub mod net;
pub mod nr;
pub mod process;
pub mod security;
pub mod xattr;

#[cfg(not(keeper))]
pub mod disk;
#[cfg(keeper)]
pub mod freestanding;
#[cfg(not(keeper))]
pub mod host;
#[cfg(not(keeper))]
pub mod probe;
#[cfg(not(keeper))]
pub mod version;

pub use errno::{Errno, Result};

use errno::check;

/// One system call on plain numbers.
///
/// # Safety
/// Pointers among the arguments are valid for what this call does with them.
#[inline(always)]
unsafe fn call<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize> {
    let mut six = [0; 6];
    let mut i = 0;
    while i < N {
        six[i] = arguments[i];
        i += 1;
    }
    // SAFETY: forwarded.
    check(unsafe { arch::syscall(number, six) })
}
