//! Extended attributes of open files. No policy.

use super::{Result, call, nr};
use core::ffi::CStr;

/// The names of a file's extended attributes, each with its closing zero.
pub fn flistxattr(fd: i32, names: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is ours for its length.
    unsafe { call(nr::FLISTXATTR, [fd as usize, names.as_mut_ptr() as usize, names.len()]) }
}

pub fn fgetxattr(fd: i32, name: &CStr, value: &mut [u8]) -> Result<usize> {
    let arguments = [fd as usize, name.as_ptr() as usize, value.as_mut_ptr() as usize, value.len()];
    // SAFETY: the name is a C string, the buffer ours for its length.
    unsafe { call(nr::FGETXATTR, arguments) }
}

pub fn fsetxattr(fd: i32, name: &CStr, value: &[u8]) -> Result<()> {
    let arguments = [fd as usize, name.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0];
    // SAFETY: the name is a C string, the value readable for its length.
    unsafe { call(nr::FSETXATTR, arguments) }.map(drop)
}
