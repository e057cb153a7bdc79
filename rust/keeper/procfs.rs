//! Paths of a process in a procfs, made without an allocator. Opens nothing itself.

use crate::sys::{Errno, Result};
use crate::wire::Decimal;
use core::ffi::CStr;

/// Calls `body` with /proc/PID and the rest as a path.
pub fn with_path<T>(pid: i32, rest: &[u8], body: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
    joined(&[b"/proc/", Decimal::new(pid as u64).bytes(), rest], body)
}

/// The same below a descriptor of the procfs: PID and the rest.
pub fn with_path_below<T>(pid: i32, rest: &[u8], body: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
    joined(&[Decimal::new(pid as u64).bytes(), rest], body)
}

fn joined<T>(parts: &[&[u8]], body: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
    let mut path = [0u8; 48];
    let mut used = 0;
    for part in parts {
        path.get_mut(used..used + part.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(part);
        used += part.len();
    }
    body(CStr::from_bytes_until_nul(&path).map_err(|_| Errno::NAMETOOLONG)?)
}
