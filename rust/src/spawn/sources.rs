//! What a plan names on the host, looked at: sources of mounts, devices, views and namespaces of others. Opens nothing of theirs but
//! namespaces, changes nothing.

use super::engine::Engine;
use super::spec::{Mount, MountKind, Space, Spec};
use crate::error::{Error, Result};
use crate::mount::list::Source;
use crate::sys::constants::*;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub fn os(step: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::setup_at(step, path.display().to_string(), error.raw_os_error().unwrap_or(5))
}

/// A source under its real name: links are followed once, here, and the keeper checks that it is still the same object.
pub fn look(path: &Path, what: &str) -> Result<Source> {
    let real = std::fs::canonicalize(path).map_err(|error| os(&format!("find the {what}"), path, &error))?;
    let seen = std::fs::symlink_metadata(&real).map_err(|error| os(&format!("find the {what}"), path, &error))?;
    Ok(Source {
        path: real.as_os_str().as_bytes().to_vec(),
        dev: device_number(seen.dev()),
        ino: seen.ino(),
        uid: seen.uid(),
        gid: seen.gid(),
        mode: seen.mode(),
        is_directory: seen.is_dir(),
    })
}

/// statx's (major, minor) in one number, as the keeper compares it.
fn device_number(dev: u64) -> u64 {
    (rustix::fs::major(dev) as u64) << 32 | rustix::fs::minor(dev) as u64
}

pub fn mount_source(mount: &Mount, engine: &Engine) -> Result<Option<Source>> {
    let step = format!("mount source for {}", mount.target);
    match &mount.kind {
        MountKind::Tmpfs { .. } => Ok(None),
        MountKind::Overlay { source } => {
            let found = look(source, &step)?;
            if found.is_directory {
                Ok(Some(found))
            } else {
                Err(Error::setup_at("mount an overlay of", source.display().to_string(), 20))
            }
        }
        MountKind::Bind { source, read_only, owner } => {
            let found = look(source, &step)?;
            if engine.is_root() && !read_only && owner.is_none() && found.uid == 0 {
                let note = Some("a writable source owned by root: say owner=uid (who owns what the container writes), owner=0 aloud, or read_only=True".to_string());
                return Err(Error::Setup {
                    step: "bind".into(),
                    path: Some(source.display().to_string()),
                    errno: 1,
                    note,
                });
            }
            Ok(Some(found))
        }
    }
}

pub fn device(path: &Path) -> Result<(String, u32, u32, u32, Source)> {
    let seen = std::fs::metadata(path).map_err(|error| os("find the device", path, &error))?;
    let kind = if seen.file_type().is_char_device() {
        S_IFCHR
    } else if seen.file_type().is_block_device() {
        S_IFBLK
    } else {
        return Err(Error::setup_at("find the device", path.display().to_string(), 22));
    };
    let name = path.strip_prefix("/dev").unwrap_or(path).to_string_lossy().trim_start_matches('/').to_string();
    let (major, minor) = (rustix::fs::major(seen.rdev()), rustix::fs::minor(seen.rdev()));
    Ok((name, kind | seen.mode() & 0o777, major, minor, look(path, "device")?))
}

pub fn standard_nodes() -> Result<Vec<Source>> {
    ["null", "zero", "full", "random", "urandom", "tty"]
        .iter()
        .map(|name| look(Path::new(&format!("/dev/{name}")), "device"))
        .collect()
}

/// A namespace of the host's brings the host's view of it, read-only (K26).
pub fn shared(spec: &Spec) -> Result<Vec<(&'static str, Source)>> {
    let spaces = &spec.spaces;
    let views = [("/proc", spaces.pid), ("/sys", spaces.net), ("/dev/mqueue", spaces.ipc)];
    let foreign = views.into_iter().filter(|(path, space)| *space != Space::New && Path::new(path).exists());
    foreign.map(|(path, _)| Ok((path, look(Path::new(path), "view of the host")?))).collect()
}

pub fn namespaces(spec: &Spec) -> Result<Vec<(OwnedFd, u64)>> {
    let spaces = &spec.spaces;
    let kinds = [
        (spaces.uts, "uts", CLONE_NEWUTS),
        (spaces.ipc, "ipc", CLONE_NEWIPC),
        (spaces.pid, "pid", CLONE_NEWPID),
        (spaces.net, "net", CLONE_NEWNET),
        (spaces.time, "time", CLONE_NEWTIME),
        (spaces.cgroup, "cgroup", CLONE_NEWCGROUP),
    ];
    let mut found = Vec::new();
    for (space, name, kind) in kinds {
        if let Space::Of(pid) = space {
            let path = format!("/proc/{pid}/ns/{name}");
            let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            found.push((fd.map_err(|errno| Error::setup_at("open the namespace", path, errno.raw_os_error()))?, kind));
        }
    }
    Ok(found)
}
