//! The root file system of one container as a copy of its image, in the directory of its writable layer (upper.rs), where no overlay
//! shows it, or in a file system of its own. Beside it lies a note of when it was complete: what changes later is the container's doing (rust/keeper/agent).

use super::disk::loop_file::{self, Room};
use super::disk::{Bound, Means};
use super::driver::{self, Driver};
use super::engine::Engine;
use super::layer::Layer;
use super::sources::{os, seen_as};
use super::spec::{Spec, UserSpace};
use super::{causes, explain, upper};
use crate::error::{Error, Result};
use crate::image::copied::{self, Manner, Owners};
use crate::image::locks::Check;
use crate::image::union::Merged;
use crate::image::unions::{self, Kind};
use crate::image::used::Used;
use crate::mount::layout::{Copy, RootSource};
use crate::mount::list::Source;
use crate::runtime;
use crate::security::maps::Maps;
use crate::sys::btrfs;
use crate::sys::constants::MOUNT_ATTR_NODEV;
use crate::wire::copied as note;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Layers as the one tree that is copied, or shown by a program, which nobody removes as long as its lock is held.
pub fn union(driver: Driver, layers: &[PathBuf], check: Check<'_>) -> Result<(Source, Used)> {
    let kind = match driver {
        Driver::Btrfs => Kind::Snapshots,
        Driver::Fuse => Kind::Shown,
        Driver::Overlay | Driver::Vfs => Kind::Copies,
    };
    tree(layers, kind, check)
}

/// Of any kind, in the store.
pub fn tree(layers: &[PathBuf], kind: Kind<'_>, check: Check<'_>) -> Result<(Source, Used)> {
    let store = runtime::store(rustix::process::geteuid().as_raw());
    let (path, union) = unions::tree(&store, layers, kind, check).map_err(|error| no_room(error, &store))?;
    let seen = rustix::fs::fstat(union.as_ref()).map_err(|errno| os("look at the image", &path, &errno.into()))?;
    Ok((seen_as(&path, &seen), union))
}

fn no_room(error: Error, place: &Path) -> Error {
    match error {
        Error::NoSpace { path: None } => Error::NoSpace { path: Some(place.display().to_string()) },
        other => other,
    }
}

fn original(root: &RootSource) -> Option<&Path> {
    root.lowest().map(|source| Path::new(OsStr::from_bytes(&source.path)))
}

/// How the copy of an image is made and compared.
pub fn of(driver: Driver, engine: &Engine, spec: &Spec, root: &RootSource) -> Result<Option<Copy>> {
    let Some(place) = original(root) else { return Ok(None) };
    let seen_as_it_is = !engine.is_root() || spec.user_space == UserSpace::Host;
    let mapped = seen_as_it_is || driver::can_be_idmapped(engine, place);
    if !mapped && matches!(spec.user_space, UserSpace::Map(_)) {
        return Err(explain::unsupported("user_namespace", &causes::NO_IDMAP));
    }
    // A directory of the caller's, or an archive, is no subvolume of ours.
    let snapshot = driver == Driver::Btrfs && matches!(root, RootSource::Layers(_));
    Ok(Some(Copy { mapped, snapshot }))
}

/// The copy, and its files that are still empty (`Sources::unread`).
pub fn make(
    engine: &Engine,
    copy: &Copy,
    root: &RootSource,
    (name, ids): (&str, &Maps),
    bound: Option<Bound>,
    check: Check<'_>,
) -> Result<(Layer, Vec<Vec<u8>>)> {
    let store = engine.uppers()?;
    let from = original(root).unwrap_or(Path::new("/nonexistent"));
    if let Some(Bound { bytes, means: Means::LoopFile }) = bound {
        let copy = Copy { snapshot: false, ..*copy };
        return in_file(engine, &copy, from, (&store, ids), bytes, check).map_err(|error| no_room(error, &store));
    }
    let mut unread = Vec::new();
    let fill = |path: &Path| {
        unread = fill(engine, copy, from, (upper::open(path)?, path), ids, check)?;
        Ok(())
    };
    let bytes = bound.map(|bound| bound.bytes);
    let made = upper::make(&store, name, bytes, fill).map_err(|error| no_room(error, &store))?;
    Ok((Layer::Directory(made), unread))
}

/// In a file system of its own, which is as large as the copy and what may be written beside it.
fn in_file(
    engine: &Engine,
    copy: &Copy,
    from: &Path,
    (store, ids): (&Path, &Maps),
    bytes: u64,
    check: Check<'_>,
) -> Result<(Layer, Vec<Vec<u8>>)> {
    let size = copied::size(Merged::open(&[PathBuf::from(from)])?, check)?;
    let room = Room { bytes: size.bytes.saturating_add(bytes), files: size.files };
    // Whether set-id bits count is said by the mount of the root.
    let mut file = loop_file::make(store, room, MOUNT_ATTR_NODEV)?;
    let filled = file.root().and_then(|root| fill(engine, copy, from, (root, store), ids, check));
    match filled.and_then(|unread| file.leave(bytes).map(|()| unread)) {
        Ok(unread) => Ok((Layer::LoopFile(file), unread)),
        Err(error) => {
            file.discard();
            Err(error)
        }
    }
}

/// `to`: the directory of the layer, and how errors name it.
fn fill(
    engine: &Engine,
    copy: &Copy,
    from: &Path,
    (to, shown): (OwnedFd, &Path),
    ids: &Maps,
    check: Check<'_>,
) -> Result<Vec<Vec<u8>>> {
    let at = |errno: Errno| Error::setup_at("copy the image", shown.display().to_string(), errno.raw_os_error());
    let (owners, privileged) = (Owners(ids), engine.is_root());
    let open = || rustix::fs::openat(&to, note::ROOT, DIRECTORY, Mode::empty()).map_err(at);
    let unread = if copy.snapshot {
        let made = btrfs::snapshot(upper::open(from)?.as_raw_fd(), to.as_raw_fd(), note::ROOT);
        made.map_err(|errno| at(Errno::from_raw_os_error(errno.0)))?;
        if privileged && !(ids.uid.is_empty() && ids.gid.is_empty()) {
            copied::shift(open()?.as_fd(), &owners, check)?;
        }
        Vec::new()
    } else {
        rustix::fs::mkdirat(&to, note::ROOT, Mode::RWXU).map_err(at)?;
        let from = Merged::open(&[PathBuf::from(from)])?;
        copied::make(from, open()?, &Manner::Copied { owners, privileged }, check)?.unread
    };
    // Of whoever compares the two: how far the owners lie apart where the original cannot be seen with the container's.
    let apart = if copy.mapped { 0 } else { ids.root().0 };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let noted = rustix::fs::openat(&to, note::NOTE, flags, Mode::from_raw_mode(0o644)).map_err(at)?;
    rustix::io::write(&noted, &apart.to_le_bytes()).map_err(at)?;
    let noted = rustix::fs::fstat(&noted).map_err(at)?;
    until_later(to.as_fd(), (noted.st_ctime as i64, noted.st_ctime_nsec as i64)).map_err(at)?;
    Ok(unread)
}

/// The clock of a file system stands still for some milliseconds: what the container changes has to bear a later time than the note.
fn until_later(directory: BorrowedFd<'_>, than: (i64, i64)) -> rustix::io::Result<()> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        rustix::fs::fchmod(directory, Mode::RWXU)?; // as it is; its ctime moves
        let now = rustix::fs::fstat(directory)?;
        if (now.st_ctime as i64, now.st_ctime_nsec as i64) > than {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(()) // a clock that was set back: nothing to wait for
}
