//! How many bytes a writable layer on the disk may hold, and what holds it to them: a project quota of the store's file system, or a
//! file system of its own in a file of the store. Decides; quota.rs and loop_file.rs do it.

pub mod ext4;
pub mod loop_file;
pub mod quota;

use super::engine::{self, Engine};
use super::spec::{Spec, UserSpace};
use super::{seams, upper};
use crate::error::{Error, Result};
use crate::sys;
use crate::sys::constants::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID};
use std::os::fd::AsRawFd;
use std::path::Path;

/// A limit that the caller wrote, and what will hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub bytes: u64,
    pub means: Means,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    ProjectQuota,
    LoopFile,
}

/// Why there is no bound to be had: the cause, and the cure.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    pub why: String,
    pub fix: &'static str,
}

impl Means {
    pub fn words(self) -> &'static str {
        match self {
            Means::ProjectQuota => "project quota",
            Means::LoopFile => "loop file",
        }
    }
}

const ONLY_ROOT: &str = "only root can bound a layer on the disk: by a project quota, or by a loop device";
const BE_ROOT: &str = "run as root, or upper=\"memory\", which is bounded by its tmpfs";

fn only_root() -> Missing {
    Missing { why: ONLY_ROOT.to_owned(), fix: BE_ROOT }
}

/// For `doctor()`: what would hold a bound here, a loop file by having one for a moment. Makes no store.
pub fn tried() -> std::result::Result<Means, Missing> {
    if !engine::running().is_some_and(|engine| engine.is_root()) {
        return Err(only_root());
    }
    let place = upper::place();
    let there = place.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    if upper::open(there).is_ok_and(|store| sys::disk::has_project_quota(store.as_raw_fd())) {
        return Ok(Means::ProjectQuota);
    }
    loop_file::possible()?;
    let fail = |error: Error| Missing { why: error.to_string(), fix: "upper=\"memory\"" };
    let room = loop_file::Room { bytes: 1 << 20, files: 0 };
    loop_file::make(there, room, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV).map_err(fail)?.discard();
    Ok(Means::LoopFile)
}

/// A container whose root is root outside could move its files to another project, so a quota does not bind it
/// (fileattr_set_prepare of the kernel asks for the first user namespace).
pub fn means(engine: &Engine, spec: &Spec) -> Result<std::result::Result<Means, Missing>> {
    if !engine.is_root() {
        return Ok(Err(only_root()));
    }
    let store = upper::open(&upper::store()?)?;
    let binds = spec.user_space != UserSpace::Host && !seams::skips("project_quota");
    if binds && sys::disk::has_project_quota(store.as_raw_fd()) {
        return Ok(Ok(Means::ProjectQuota));
    }
    Ok(loop_file::possible().map(|()| Means::LoopFile))
}
