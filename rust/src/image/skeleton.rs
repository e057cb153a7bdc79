//! The skeleton of `Image.host()`: an in-memory tree with an allow-list of /etc, links, and empty directories for the mounts.

use crate::error::{Error, Result};
use crate::mount::host::{DIRECTORIES, ETC, GROUP, HOSTS, PASSWD, mounted_below, outermost};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Room for a generous /etc; what is not used costs nothing.
pub const SIZE: u64 = 64 << 20;
pub const INODES: u64 = 65_536;
const FILE_MAX: u64 = 16 << 20;

/// What of the host is mounted: real directories, outermost only; the links among them are in the skeleton.
pub fn trees(extra: &[PathBuf]) -> Vec<PathBuf> {
    let standard =
        DIRECTORIES.iter().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok_and(|seen| seen.is_dir()));
    outermost(standard.chain(extra.iter().cloned()).collect())
}

/// The trees, and what is mounted below them, each for itself: an overlay shows one mount only.
pub fn single_trees(extra: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut trees = trees(extra);
    let mounts = std::fs::read("/proc/self/mountinfo");
    let mounts =
        mounts.map_err(|error| Error::setup("read /proc/self/mountinfo", error.raw_os_error().unwrap_or(5)))?;
    trees.extend(mounted_below(&trees, &mounts));
    Ok(trees)
}

/// Fills the file system behind `root`. Only what every user of the host may read is copied.
/// `owner` is who may change it: nobody inside, where it is root outside.
pub fn fill(root: BorrowedFd<'_>, trees: &[PathBuf], owner: u32) -> Result<()> {
    // Names beneath a descriptor of our own: nobody else has this file system.
    let base = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let fail =
        |error: std::io::Error| Error::setup("prepare the skeleton of Image.host()", error.raw_os_error().unwrap_or(5));
    for directory in ["proc", "sys", "dev", "etc"] {
        make_directories(&base.join(directory)).map_err(fail)?;
    }
    links(&base).map_err(fail)?;
    for tree in trees {
        make_directories(&base.join(tree.strip_prefix("/").unwrap_or(tree))).map_err(fail)?;
    }
    etc(&base.join("etc")).map_err(fail)?;
    if owner == 0 { Ok(()) } else { give(&base.join("."), owner).map_err(fail) }
}

fn give(path: &Path, owner: u32) -> std::io::Result<()> {
    lchown(path, Some(owner), Some(owner))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

/// Of mode 0755 whatever the host's umask is, like the files: who reads them inside is nobody to it.
fn make_directories(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_directories)?;
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// /bin -> usr/bin and its like, as this machine has them.
fn links(base: &Path) -> std::io::Result<()> {
    for directory in DIRECTORIES {
        if let Ok(target) = std::fs::read_link(directory) {
            symlink(target, base.join(&directory[1..]))?;
        }
    }
    Ok(())
}

fn etc(etc: &Path) -> std::io::Result<()> {
    for name in ETC {
        let target = etc.join(name);
        if let Some(parent) = target.parent() {
            make_directories(parent)?;
        }
        copy(&Path::new("/etc").join(name), &target, 0)?;
    }
    write(&etc.join("passwd"), PASSWD.as_bytes(), 0o644)?;
    write(&etc.join("group"), GROUP.as_bytes(), 0o644)?;
    write(&etc.join("hosts"), HOSTS.as_bytes(), 0o644)?;
    if !etc.join("resolv.conf").exists() {
        write(&etc.join("resolv.conf"), b"", 0o644)?;
    }
    Ok(())
}

/// Links as links, world-readable files with their modes, directories down to a sane depth; everything else is left out.
fn copy(source: &Path, target: &Path, depth: usize) -> std::io::Result<()> {
    let Ok(seen) = source.symlink_metadata() else { return Ok(()) };
    if seen.is_symlink() {
        return symlink(std::fs::read_link(source)?, target);
    }
    if seen.is_dir() && depth < 8 && seen.mode() & 0o005 == 0o005 {
        make_directories(target)?;
        for entry in std::fs::read_dir(source)? {
            let name = entry?.file_name();
            copy(&source.join(&name), &target.join(&name), depth + 1)?;
        }
        return Ok(());
    }
    if seen.is_file() && seen.mode() & 0o004 != 0 && seen.len() <= FILE_MAX {
        return write(target, &std::fs::read(source)?, 0o644 | seen.mode() & 0o111);
    }
    Ok(())
}

fn write(path: &Path, data: &[u8], mode: u32) -> std::io::Result<()> {
    std::fs::write(path, data)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
