//! The directories that engines of one user share: private, made on first use.

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// $XDG_RUNTIME_DIR/pycontainer, or one in /run (root) or /tmp (a user without a session), always of mode 0700 and the user's own.
pub fn directory(uid: u32) -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if uid == 0 => PathBuf::from("/run/pycontainer"),
        Some(given) if Path::new(&given).is_absolute() => Path::new(&given).join("pycontainer"),
        _ => PathBuf::from(format!("/tmp/pycontainer-{uid}")),
    }
}

/// Where layers on the disk lie: $PYCONTAINER_ROOT, /var/lib/pycontainer for root, $XDG_DATA_HOME/pycontainer or its default for a user
/// (one without a home: beside what engines share).
pub fn store(uid: u32) -> PathBuf {
    if let Some(given) = std::env::var_os("PYCONTAINER_ROOT") {
        return PathBuf::from(given);
    }
    if uid == 0 {
        return PathBuf::from("/var/lib/pycontainer");
    }
    // Relative ones are invalid (XDG Base Directory Specification): they would be another place in each working directory.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    data.map_or_else(|| directory(uid).join("store"), |data| data.join("pycontainer"))
}

/// Makes a directory (and its parents) of mode 0700, or takes an existing one of ours; somebody else's is refused (H19).
pub fn make_private_directory(path: &Path) -> Result<()> {
    let fail = |error: std::io::Error| match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::ENOSPC | libc::EDQUOT => Error::NoSpace { path: Some(path.display().to_string()) },
        errno => Error::setup_at("make directory", path.display().to_string(), errno),
    };
    create(path).map_err(fail)?;
    let seen = std::fs::symlink_metadata(path).map_err(fail)?;
    if !seen.is_dir() || seen.uid() != rustix::process::geteuid().as_raw() || seen.mode() & 0o022 != 0 {
        let note = Some("it must be a directory of this user that nobody else can write to".to_string());
        return Err(Error::Setup {
            step: "use directory".into(),
            path: Some(path.display().to_string()),
            errno: 1,
            note,
        });
    }
    Ok(())
}

fn create(path: &Path) -> std::io::Result<()> {
    match (std::fs::DirBuilder::new().mode(0o700).create(path), path.parent()) {
        (Ok(()), _) => unmask(path),
        (Err(error), _) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        (Err(error), Some(parent)) if error.kind() == std::io::ErrorKind::NotFound && !parent.exists() => {
            create(parent)?;
            create(path)
        }
        (Err(error), _) => Err(error),
    }
}

/// The host's umask may have kept from us what we have just made. By its descriptor: the name may lie where others can change it.
fn unmask(path: &Path) -> std::io::Result<()> {
    if std::fs::symlink_metadata(path)?.mode() & 0o700 == 0o700 {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty())?;
    std::fs::set_permissions(format!("/proc/self/fd/{}", made.as_raw_fd()), std::fs::Permissions::from_mode(0o700))
}
