//! Layers from files, without a container and without a mount: COPY, ADD and WORKDIR of a build. Everything is reached by descriptors
//! beneath a root; no program is run.
//!
//! What a layer will have is a tree in memory (`view`), laid over the layers below it, so that a destination leads where it would lead
//! in a container. Contents stay where they are until the layer is written, in the order of its paths.

mod digest;
mod mode;
mod owner;
mod place;
mod source;
#[cfg(test)]
mod tests;
mod unpack;
mod view;
mod write;

use super::locks::{Check, interrupted};
use super::packed::Layer;
use super::store::Store;
use super::union::Seen;
use crate::error::{Error, Result};
use std::fs::File;

pub use digest::{Taken, digest};
pub use mode::Change;
pub use owner::Owner;
pub use source::{Listed, Tree};

/// One source of COPY or ADD, found already: patterns are the caller's.
pub enum Input<'a> {
    /// A path of a tree; links in it, the last name too, lead where they lead beneath its root. Of a directory the content is taken: what
    /// `taken` lists, relative to it, and the directories on the way; None: all of it. `unpacks`: of a tar its entries are taken.
    Path { tree: &'a Tree, path: Vec<u8>, taken: Option<Vec<Vec<u8>>>, unpacks: bool },
    /// A file of this name. `mtime`: seconds since 1970.
    File { name: Vec<u8>, content: Content, mode: u32, mtime: Option<i64>, unpacks: bool },
}

/// Read when the layer is written.
pub enum Content {
    Bytes(Vec<u8>),
    /// A regular file of the host that the caller has opened.
    File(File),
}

impl Content {
    /// The descriptor stays the caller's.
    pub fn of_descriptor(fd: i32) -> Result<Content> {
        let bad = || Error::Value(format!("{fd} is no descriptor that is open"));
        if fd < 0 {
            return Err(bad());
        }
        let again = rustix::io::fcntl_dupfd_cloexec(crate::sys::host::borrow(fd), 3);
        again.map(|fd| Content::File(File::from(fd))).map_err(|_| bad())
    }
}

/// What is to become of the sources.
pub struct Wanted<'a> {
    /// The layers below.
    pub below: &'a Tree,
    /// An absolute path.
    pub destination: Vec<u8>,
    /// Whether it is one in any case: it was written with a slash at its end.
    pub is_directory: bool,
    pub owner: Option<Owner>,
    pub change: Option<Change>,
    /// COPY --link: the layer knows nothing of those below.
    pub is_independent: bool,
    /// The time of what has none: directories on the way, inline files. Seconds since 1970.
    pub made: i64,
    /// No time is after this one (SOURCE_DATE_EPOCH).
    pub latest: Option<i64>,
}

/// None where there is nothing to change: only directories that are there already.
pub fn layer(store: &Store, inputs: Vec<Input<'_>>, wanted: &Wanted<'_>, check: Check<'_>) -> Result<Option<Layer>> {
    let owner = wanted.owner.as_ref().map(|owner| owner.ids(wanted.below)).transpose()?;
    let below = if wanted.is_independent { Tree::empty() } else { wanted.below.again() };
    let mut view = view::View::new(below, owner.unwrap_or((0, 0)), wanted.made);
    let mut placing = place::Placing { view: &mut view, store, wanted, owner, spool: None };
    for input in inputs {
        placing.input(input, check)?;
    }
    let spool = placing.spool.take();
    write::write(store, view, spool, wanted.latest, check)
}

/// WORKDIR: a layer with this directory, and those on the way that are missing; None where it is there.
pub fn directory(
    store: &Store,
    below: &Tree,
    path: &[u8],
    owner: Option<&Owner>,
    made: i64,
    check: Check<'_>,
) -> Result<Option<Layer>> {
    let owner = owner.map(|owner| owner.ids(below)).transpose()?;
    let mut view = view::View::new(below.again(), owner.unwrap_or((0, 0)), made);
    let (path, seen) = view.resolve(path)?;
    match seen {
        Seen::Directory => return Ok(None),
        Seen::Nothing => view.ensure(&path)?,
        _ => return Err(view::not_a_directory(&path)),
    }
    write::write(store, view, None, None, check)
}

fn go_on(check: Check<'_>) -> Result<()> {
    if check() { Err(interrupted()) } else { Ok(()) }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn failed(step: &str, path: &[u8], errno: rustix::io::Errno) -> Error {
    match errno {
        rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup_at(step, String::from_utf8_lossy(path), errno.raw_os_error()),
    }
}
