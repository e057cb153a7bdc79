//! What a plan names on the host, looked at: sources of mounts and devices. Opens nothing of theirs, changes nothing.

use super::engine::Engine;
use super::spec::{Mount, MountKind};
use crate::error::{Error, Result};
use crate::image::used::Standing;
use crate::mount::list::Source;
use crate::sys::constants::*;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

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

/// A root file system of the caller's.
pub fn directory(path: &Path) -> Result<Source> {
    let source = look(path, "image")?;
    if !source.is_directory {
        let note = "Image.from_directory takes a root file system; for a tar of one there is Image.from_archive";
        return Err(Error::Setup {
            step: "open the image".into(),
            path: Some(path.display().to_string()),
            errno: 20,
            note: Some(note.to_string()),
        });
    }
    std::fs::read_dir(path).map_err(|error| os("open the image", path, &error))?;
    Ok(source)
}

/// A directory that was looked at already, under the name by which the keeper finds it.
pub fn seen_as(path: &Path, seen: &rustix::fs::Stat) -> Source {
    Source {
        path: path.as_os_str().as_bytes().to_vec(),
        dev: device_number(seen.st_dev),
        ino: seen.st_ino,
        uid: seen.st_uid,
        gid: seen.st_gid,
        mode: seen.st_mode,
        is_directory: true,
    }
}

/// Layers that are held, the lowest first.
pub fn layers_seen(layers: &[PathBuf], held: &Standing) -> Vec<Source> {
    layers.iter().zip(&*held.seen).map(|(path, seen)| seen_as(path, seen)).collect()
}

/// statx's (major, minor) in one number, as the keeper compares it.
fn device_number(dev: u64) -> u64 {
    (rustix::fs::major(dev) as u64) << 32 | rustix::fs::minor(dev) as u64
}

/// None of a tmpfs, and of an image, which mounted.rs finds.
pub fn mount_source(mount: &Mount, engine: &Engine) -> Result<Option<Source>> {
    let step = format!("mount source for {}", mount.target);
    match &mount.kind {
        MountKind::Tmpfs { .. } | MountKind::Image(_) => Ok(None),
        MountKind::Cache { source } => look(source, &step).map(Some),
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
