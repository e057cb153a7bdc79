//! What this machine says of registries: registries.conf, certificates, proxies. Read anew by each call, so that an edit counts at once.

pub mod certs;
pub mod proxy;
pub mod registries;

use crate::error::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Of one such file.
const FILE_MAX: u64 = 4 << 20;

/// A whole small file; None where there is none that this user can read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail = |error: std::io::Error| {
        Error::setup_at("read", path.display().to_string(), error.raw_os_error().unwrap_or(libc::EIO))
    };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(fail(errno.into())),
    };
    if !file.metadata().map_err(fail)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::Image(format!("{} has more than {FILE_MAX} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// A variable's directory or file; relative ones are none.
pub fn place(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

pub fn home() -> Option<PathBuf> {
    place("HOME")
}

/// $XDG_CONFIG_HOME/containers, or its default.
pub fn user_directory() -> Option<PathBuf> {
    Some(place("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))?.join("containers"))
}
