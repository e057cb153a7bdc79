//! How an image's layers become a root file system here: by the kernel's overlay, or by a private copy where that is not to be had. The
//! one place that reads PYCONTAINER_STORAGE_DRIVER. Asks the kernel; makes nothing.

use super::engine::Engine;
use super::spec::{MountKind, Root, Spec, UserSpace};
use super::{causes, seams, served};
use crate::error::{Error, Result};
use crate::runtime;
use crate::sys;
use std::path::{Path, PathBuf};

pub const VARIABLE: &str = "PYCONTAINER_STORAGE_DRIVER";
/// In the order in which the ladder takes them.
const NAMES: [(&str, Driver); 4] =
    [("overlay", Driver::Overlay), (served::PROGRAM, Driver::Fuse), ("btrfs", Driver::Btrfs), ("vfs", Driver::Vfs)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Layers below a writable one, by the kernel.
    Overlay,
    /// The same, by a program.
    Fuse,
    /// A snapshot of them for each container, where the store lies on btrfs.
    Btrfs,
    /// A copy of them for each container.
    Vfs,
}

/// What was picked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub driver: Driver,
    pub why: String,
    /// Of an overlay: what the layers lie on cannot be idmapped, so that below a container there is a copy of them with its owners, one
    /// for each range of ids.
    pub shifted: bool,
}

impl Choice {
    fn new(driver: Driver, why: impl Into<String>) -> Choice {
        Choice { driver, why: why.into(), shifted: false }
    }

    fn overlay(shifted: bool) -> Choice {
        let why = if shifted { causes::NO_IDMAP.why } else { "the kernel's own, shared by all containers" };
        Choice { shifted, ..Choice::new(Driver::Overlay, why) }
    }

    fn takes_time(&self) -> bool {
        self.shifted || self.driver != Driver::Overlay
    }
}

impl Driver {
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, driver)| *driver == self).map_or("", |(name, _)| name)
    }

    /// Each container has all of its image to itself.
    pub fn copies(self) -> bool {
        matches!(self, Driver::Btrfs | Driver::Vfs)
    }
}

/// What the caller's environment says; None leaves it to the ladder.
fn asked() -> Result<Option<Choice>> {
    let Some(said) = std::env::var_os(VARIABLE).filter(|said| !said.is_empty()) else { return Ok(None) };
    let said = said.to_string_lossy();
    if let Some((_, driver)) = NAMES.iter().find(|(name, _)| *name == said) {
        return Ok(Some(Choice::new(*driver, format!("{VARIABLE} says so"))));
    }
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    Err(Error::Value(format!("{VARIABLE}: {said:?} is none of {}", names.join(", "))))
}

/// For the root of a container of this specification.
pub fn of(engine: &Engine, spec: &Spec) -> Result<Choice> {
    let place = match &spec.root {
        Root::Directory(path) => path,
        Root::Layers(layers) => layers.first().map_or(Path::new("/"), |layer| layer),
        // A copy of this machine's own programs is nothing that a container should get.
        Root::Host { .. } | Root::View => {
            asked()?;
            return Ok(Choice::new(Driver::Overlay, "there is no image"));
        }
    };
    of_image(engine, spec, place, spec.upper_on_disk)
}

/// For an image, by where its lowest layer lies; `on_disk`: as in `ladder`.
pub fn of_image(engine: &Engine, spec: &Spec, place: &Path, on_disk: bool) -> Result<Choice> {
    let unmapped = || is_unmapped(engine, spec, place);
    // A directory of the caller's own may be large: that it cannot be idmapped is told to him, not cured by a copy.
    let is_ours = || place.starts_with(runtime::store(rustix::process::geteuid().as_raw()));
    match asked()?.map(checked).transpose()? {
        Some(Choice { driver: Driver::Overlay, .. }) if !on_disk && is_ours() && unmapped() => {
            Ok(Choice::overlay(true))
        }
        Some(asked) => Ok(asked),
        None => Ok(ladder(engine, unmapped, is_ours, on_disk)),
    }
}

/// What lies there has to be seen with the container's owners, and cannot be.
pub fn is_unmapped(engine: &Engine, spec: &Spec, place: &Path) -> bool {
    spec.user_space != UserSpace::Host && engine.is_root() && !can_be_idmapped(engine, place)
}

/// An image of it is copied before it can start, if only for the first container of many. What is wrong with the choice is told in its turn.
pub fn takes_time(engine: &Engine, spec: &Spec) -> bool {
    let slow = |choice: Result<Choice>| choice.is_ok_and(|choice| choice.takes_time());
    let mounted = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Image(image) => Some(image.lowest()),
        _ => None,
    });
    slow(of(engine, spec)) || mounted.map(|place| of_image(engine, spec, place, false)).any(slow)
}

/// A snapshot is one of a btrfs, and a program has to be there.
fn checked(asked: Choice) -> Result<Choice> {
    if let Some(lacking) = served::lacking().filter(|_| asked.driver == Driver::Fuse) {
        return Err(Error::unsupported(VARIABLE, lacking.why, lacking.fix));
    }
    let (store, there) = store();
    if asked.driver != Driver::Btrfs || is_btrfs(&there) {
        return Ok(asked);
    }
    let cause = format!("btrfs: the store {} does not lie on one", store.display());
    Err(Error::unsupported(VARIABLE, cause, "leave it unset, or a store on btrfs (PYCONTAINER_ROOT)"))
}

fn is_btrfs(place: &Path) -> bool {
    kind(place).is_ok_and(|(name, _)| name == "btrfs")
}

/// Where the store is or would be, and what of that is there.
fn store() -> (PathBuf, PathBuf) {
    let path = runtime::store(rustix::process::geteuid().as_raw());
    let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).into();
    (path, there)
}

/// The best for an image. `unmapped`: its owners have to be seen as the container's, and cannot be; `on_disk`: what is written goes to
/// the store, and a file system that cannot be idmapped takes no writable layer either (an overlay, NFS).
fn ladder(engine: &Engine, unmapped: impl Fn() -> bool, is_ours: impl Fn() -> bool, on_disk: bool) -> Choice {
    let copies = |why: String| Choice::new(if is_btrfs(&store().1) { Driver::Btrfs } else { Driver::Vfs }, why);
    if let Some(why) = engine.overlay_missing.get_or_init(|| overlay_missing(engine)) {
        return match served::lacking() {
            None if !unmapped() => Choice::new(Driver::Fuse, why.clone()),
            Some(lacking) if !unmapped() => copies(format!("{why}; {}", lacking.why)),
            _ => copies(why.clone()),
        };
    }
    match is_ours() && unmapped() {
        true if on_disk => copies(causes::NO_IDMAP.why.into()),
        shifted => Choice::overlay(shifted),
    }
}

fn of_store(engine: &Engine, there: &Path) -> Result<Choice> {
    let unmapped = || engine.is_root() && !can_be_idmapped(engine, there);
    match asked()?.map(checked).transpose()? {
        Some(asked) if asked.driver == Driver::Overlay && unmapped() => Ok(Choice::overlay(true)),
        Some(asked) => Ok(asked),
        None => Ok(ladder(engine, unmapped, || true, false)),
    }
}

/// Why this user has no overlay; looked up once for each engine.
fn overlay_missing(engine: &Engine) -> Option<String> {
    if seams::skips("overlay") {
        return Some(causes::NO_OVERLAY.why.into());
    }
    if engine.facts.rootless {
        let listed = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let has = listed.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
        return (!has).then(|| causes::NO_OVERLAY.why.into());
    }
    // The kernel loads the module at the question.
    match sys::mount::fsopen(c"overlay") {
        Err(errno) if errno.0 == libc::ENODEV => Some(causes::NO_OVERLAY.why.into()),
        _ => None,
    }
}

/// By its kind, for the kinds that are known to (FS_ALLOW_IDMAP): on another one a copy works at any rate.
pub fn can_be_idmapped(engine: &Engine, place: &Path) -> bool {
    if seams::skips("idmapped_layers") {
        return false;
    }
    let since = kind(place).ok().and_then(|(_, since)| since);
    since.is_some_and(|since| engine.kernel >= since)
}

/// By their magic numbers (statfs(2)); since when they can be idmapped.
type Kind = (&'static str, Option<(u32, u32)>);
/// No kernel before the first one with idmapped mounts has containers of ours.
const FIRST: (u32, u32) = (0, 0);
const KINDS: [(u64, Kind); 10] = [
    (0xef53, ("ext4", Some(FIRST))),
    (0x5846_5342, ("xfs", Some(FIRST))),
    (0x9123_683e, ("btrfs", Some((5, 15)))),
    (0x0102_1994, ("tmpfs", Some((6, 3)))),
    (0xf2f5_2010, ("f2fs", Some((5, 18)))),
    (0x2fc1_2fc1, ("zfs", Some(FIRST))),
    (0x794c_7630, ("overlay", None)),
    (0x6573_5546, ("fuse", None)),
    (0x6969, ("nfs", None)),
    (0x0102_1997, ("9p", None)),
];

/// Of the file system that holds `place`; the bare number where it is none of ours.
fn kind(place: &Path) -> std::result::Result<Kind, u64> {
    let magic = rustix::fs::statfs(place).map_or(0, |seen| seen.f_type as u64);
    KINDS.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind).ok_or(magic)
}

/// The store for `doctor()`: where it is or would be, on what, by which driver, how many bytes images take there, and caches of builds.
pub struct Report {
    pub path: PathBuf,
    pub kind: String,
    pub choice: Result<Choice>,
    pub used: u64,
    pub cached: u64,
}

pub fn report(engine: &Engine) -> Report {
    let (path, there) = store();
    let kind = kind(&there).map_or_else(|magic| format!("{magic:#x}"), |(name, _)| name.into());
    let (used, cached) = (crate::image::store::used(&path), crate::image::caches::used(&path));
    Report { kind, choice: of_store(engine, &there), used, cached, path }
}
