//! The writable layer of one container outside memory: made before its start, gone with it. Which one is decided in `disk`.

use super::disk::loop_file::{self, LoopFile, Room};
use super::disk::{Bound, Means};
use super::engine::Engine;
use super::seams;
use super::steward;
use super::upper::{self, UpperDirectory};
use crate::error::Result;
use crate::mount::layers::upper_directories;
use crate::mount::layout::{LAYER_UPPER, RootSource, Upper};
use crate::sys::constants::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID};
use crate::wire::role;
use std::path::Path;

#[derive(Debug)]
pub enum Layer {
    Directory(UpperDirectory),
    LoopFile(LoopFile),
}

impl Layer {
    /// `owner` is the container's root in the host's ids.
    pub fn make(engine: &Engine, root: &RootSource, name: &str, owner: u32, bound: Option<Bound>) -> Result<Layer> {
        let store = engine.uppers()?;
        let bound = bound.filter(|_| !seams::skips("disk"));
        if let Some(Bound { bytes, means: Means::LoopFile }) = bound {
            let room = Room { bytes, files: 0 };
            return loop_file::make(&store, room, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV).map(Layer::LoopFile);
        }
        let bytes = bound.map(|bound| bound.bytes);
        let fill = |path: &Path| upper::directories(path, owner, &upper_directories(root));
        upper::make(&store, name, bytes, fill).map(Layer::Directory)
    }

    /// How the layout names it.
    pub fn source(&self) -> Upper {
        match self {
            Layer::Directory(directory) => Upper::Directory(directory.path()),
            Layer::LoopFile(_) => Upper::Passed,
        }
    }

    /// The descriptor that travels: (role, descriptor, number).
    pub fn descriptor(&self) -> Option<(u8, i32, i32)> {
        match self {
            Layer::Directory(_) => None,
            Layer::LoopFile(file) => Some((role::LAYER, file.fd(), LAYER_UPPER as i32)),
        }
    }

    /// Another bound for a live one; None where it cannot have one.
    pub fn rebound(&mut self, bytes: u64) -> Option<Result<()>> {
        match self {
            Layer::Directory(directory) => directory.rebound(bytes),
            Layer::LoopFile(_) => None,
        }
    }

    /// Bytes that were counted in it when it was made.
    pub fn ground(&self) -> u64 {
        match self {
            Layer::Directory(directory) => directory.ground(),
            Layer::LoopFile(file) => file.ground(),
        }
    }

    /// `dying`: its container may still be at it for a moment.
    pub fn remove(self, engine: &Engine, dying: bool) {
        match self {
            Layer::Directory(directory) => {
                if let Some(left) = directory.remove(dying) {
                    steward::remove_left(engine, &left);
                }
            }
            Layer::LoopFile(file) => file.discard(),
        }
    }
}
