//! What bounds a directory or a file on a disk: project quotas, loop devices, and the end of an ext4; when its data goes there. By descriptor; no policy.

use super::fs::ioctl;
use super::{Errno, Result, call, nr};

const PROJECT: usize = 2; // PRJQUOTA

/// struct fsxattr of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// Gives an empty directory to a project; what is made in it belongs there too (FS_XFLAG_PROJINHERIT).
pub fn set_project(directory: i32, project: u32) -> Result<()> {
    const FS_IOC_FSGETXATTR: usize = 0x801c_581f;
    const FS_IOC_FSSETXATTR: usize = 0x401c_5820;
    const FS_XFLAG_PROJINHERIT: u32 = 0x200;
    let mut attributes = FsXattr::default();
    ioctl(directory, FS_IOC_FSGETXATTR, &raw mut attributes as usize)?;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    attributes.project = project;
    ioctl(directory, FS_IOC_FSSETXATTR, &raw const attributes as usize).map(drop)
}

/// struct fs_disk_quota of linux/dqblk_xfs.h, which the kernel takes for every file system that has quotas.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct DiskQuota {
    version: i8,
    kind: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    rest: [u64; 7],
}

const _: () = assert!(size_of::<DiskQuota>() == 112 && size_of::<FsXattr>() == 28);
const _: () = assert!(size_of::<LoopConfig>() == 304);

fn quotactl(fd: i32, command: usize, id: u32, at: usize) -> Result<()> {
    // SAFETY: callers pass the address of a live structure of the command's type.
    unsafe { call(nr::QUOTACTL_FD, [fd as usize, command << 8 | PROJECT, id as usize, at]) }.map(drop)
}

/// Whether limits of projects are enforced on the file system of `fd`. Before 5.14 there is no way to ask by descriptor: no.
pub fn has_project_quota(fd: i32) -> bool {
    const Q_XGETQSTAT: usize = 0x5805;
    const FS_QUOTA_PDQ_ENFD: u64 = 1 << 5;
    let mut state = [0u64; 10]; // struct fs_quota_stat; its flags are the second 16 bits
    quotactl(fd, Q_XGETQSTAT, 0, &raw mut state as usize).is_ok()
        && u64::from_le(state[0]) >> 16 & FS_QUOTA_PDQ_ENFD != 0
}

/// (bytes, inodes) that belong to a project.
pub fn project_usage(fd: i32, project: u32) -> Result<(u64, u64)> {
    const Q_XGETQUOTA: usize = 0x5803;
    let mut quota = DiskQuota::default();
    match quotactl(fd, Q_XGETQUOTA, project, &raw mut quota as usize) {
        Err(Errno(2)) => Ok((0, 0)), // ENOENT: XFS keeps nothing of a project that has nothing
        other => other.map(|()| (quota.blocks * 512, quota.inodes)),
    }
}

/// Hard limits of a project; 0 lifts them.
pub fn limit_project(fd: i32, project: u32, bytes: u64, inodes: u64) -> Result<()> {
    const Q_XSETQLIM: usize = 0x5804;
    const FS_PROJ_QUOTA: i8 = 2;
    const HARD_LIMITS: u16 = 1 << 1 | 1 << 3;
    let quota = DiskQuota {
        version: 1,
        kind: FS_PROJ_QUOTA,
        fields: HARD_LIMITS,
        id: project,
        blocks_hard: bytes.div_ceil(512),
        inodes_hard: inodes,
        ..DiskQuota::default()
    };
    quotactl(fd, Q_XSETQLIM, project, &raw const quota as usize)
}

/// struct loop_config with its struct loop_info64 (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// The number of a loop device that was free a moment ago.
pub fn free_loop(control: i32) -> Result<u32> {
    const LOOP_CTL_GET_FREE: usize = 0x4c82;
    ioctl(control, LOOP_CTL_GET_FREE, 0).map(|number| number as u32)
}

/// Attaches a file (5.8). The device lets go of it when its last user is gone, however that ended.
pub fn attach_loop(device: i32, file: i32, block_size: u32) -> Result<()> {
    const LOOP_CONFIGURE: usize = 0x4c0a;
    const AUTOCLEAR_AND_DIRECT_IO: u32 = 4 | 16;
    let config = LoopConfig {
        fd: file as u32,
        block_size,
        numbers: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: AUTOCLEAR_AND_DIRECT_IO,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    ioctl(device, LOOP_CONFIGURE, &raw const config as usize).map(drop)
}

/// Ends a file system whose content nobody wants any more: nothing is written back (EXT4_IOC_SHUTDOWN, no flush of the log).
pub fn shut_down(directory: i32) -> Result<()> {
    const FS_IOC_SHUTDOWN: usize = 0x8004_587d;
    let no_log_flush = 2u32;
    ioctl(directory, FS_IOC_SHUTDOWN, &raw const no_log_flush as usize).map(drop)
}

/// Starts to write what of a file is only in memory, and waits for nothing: who waits later (fsync, syncfs) waits for less. Nothing is
/// durable by it, so what becomes of it does not matter.
pub fn start_writing(fd: i32, offset: u64, length: u64) {
    const SYNC_FILE_RANGE_WRITE: usize = 2;
    let arguments = [fd as usize, offset as usize, length as usize, SYNC_FILE_RANGE_WRITE];
    // SAFETY: plain numbers, no memory of ours.
    let _ = unsafe { call(nr::SYNC_FILE_RANGE, arguments) };
}
