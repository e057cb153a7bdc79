//! Subvolumes of a btrfs: made, copied, removed. By descriptor of the directory that they are in; no policy.

use super::fs::ioctl;
use super::{Errno, Result};
use core::ffi::CStr;

/// struct btrfs_ioctl_vol_args_v2 of linux/btrfs.h.
#[cfg(not(keeper))]
#[repr(C)]
struct Volume {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

#[cfg(not(keeper))]
const _: () = assert!(size_of::<Volume>() == 4096);

#[cfg(not(keeper))]
fn volume(parent: i32, request: usize, of: i64, name: &CStr) -> Result<()> {
    let mut volume = Volume { fd: of, transaction: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    let name = name.to_bytes_with_nul();
    volume.name.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
    ioctl(parent, request, &raw const volume as usize).map(drop)
}

/// An empty subvolume of a btrfs, in the directory `parent`.
#[cfg(not(keeper))]
pub fn make_subvolume(parent: i32, name: &CStr) -> Result<()> {
    const BTRFS_IOC_SUBVOL_CREATE_V2: usize = 0x5000_9418;
    volume(parent, BTRFS_IOC_SUBVOL_CREATE_V2, 0, name)
}

/// A snapshot of a subvolume that can be written to, in the directory `parent`. Whoever owns the subvolume may.
#[cfg(not(keeper))]
pub fn snapshot(subvolume: i32, parent: i32, name: &CStr) -> Result<()> {
    const BTRFS_IOC_SNAP_CREATE_V2: usize = 0x5000_9417;
    volume(parent, BTRFS_IOC_SNAP_CREATE_V2, i64::from(subvolume), name)
}

/// struct btrfs_ioctl_vol_args.
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

const _: () = assert!(size_of::<Named>() == 4096);

/// Removes a subvolume of a btrfs with all that is in it, but for other subvolumes (ENOTEMPTY); its blocks are free a little later. Root
/// may, and where the file system is mounted with user_subvol_rm_allowed who may remove it as a directory. ENOTTY, EINVAL: it is none.
pub fn destroy_subvolume(parent: i32, name: &CStr) -> Result<()> {
    const BTRFS_IOC_SNAP_DESTROY: usize = 0x5000_940f;
    let mut named = Named { fd: 0, name: [0; 4088] };
    let name = name.to_bytes_with_nul();
    named.name.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
    ioctl(parent, BTRFS_IOC_SNAP_DESTROY, &raw const named as usize).map(drop)
}
