//! Layers, images and archives of what a container has made. The GIL is released, signals are served.

use super::container::Container;
use super::errors::raise;
use super::files::{own, with_door_by};
use crate::error::{Error, Result};
use crate::files::tree::{Ids, Wanted};
use crate::files::{Door, Own};
use crate::image::commit::{self, Layer, Made};
use crate::image::compose::Step;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::security::maps::Line;
use crate::spawn::spec::Root;
use pyo3::prelude::*;
use std::path::PathBuf;

/// (digest of the blob, its size, its media type, digest of the tar)
pub type Told = (String, u64, String, String);

pub fn told(layer: &Layer) -> Told {
    let Layer { descriptor, diff_id } = layer;
    (descriptor.digest.to_string(), descriptor.size, descriptor.media_type.clone(), diff_id.to_string())
}

fn step(created: i64, created_by: String, comment: String, changes: &str) -> Result<Step> {
    let changes = serde_json::from_str(changes).map_err(|error| Error::Value(format!("changes: {error}")))?;
    Ok(Step { created, created_by, comment, changes })
}

/// `events` is called as those of images are, with nothing to tell: whoever wants to end the work raises.
fn watched<T: Send>(
    py: Python<'_>,
    container: &Container,
    events: Option<Py<PyAny>>,
    work: impl FnOnce(Door<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    let Some(events) = events else { return with_door_by(py, container, None, work) };
    let each = |py: Python<'_>| events.call1(py, ("tick", "", 0, 0)).map(drop);
    with_door_by(py, container, Some(&each), work)
}

/// What is taken of a container: its layer where there is something below it in the image, else all of it.
struct Taking {
    own: Own,
    uids: Ids,
    gids: Ids,
    whole: bool,
}

impl Taking {
    fn of(container: &Container, whole: bool) -> Result<Taking> {
        let handle = &container.handle;
        let ids = handle.ids()?;
        let lines = |lines: &[Line]| lines.iter().map(|line| (line.inside, line.outside, line.count)).collect();
        let own = own(container);
        Ok(Taking { own, uids: lines(&ids.uid), gids: lines(&ids.gid), whole })
    }

    fn wanted(&self) -> Wanted<'_> {
        if self.whole {
            return Wanted::Whole { as_layer: true };
        }
        Wanted::Layer { own: &self.own, uids: self.uids.clone(), gids: self.gids.clone() }
    }
}

/// A root that an image can be made of.
fn check_root(container: &Container) -> Result<()> {
    let cause = match &container.handle.spec().root {
        Root::Directory(_) | Root::Layers(_) => return Ok(()),
        Root::Host { .. } => "Image.host() is this machine itself, and no layers that an image could have below",
        Root::View => "the container shares another mount namespace, and has no root of its own",
    };
    Err(Error::unsupported("commit", cause, "start it from an image, a directory or an archive"))
}

/// The writable layer as a blob of the store; None where nothing has changed. `latest`: no time in it is after that.
#[pyfunction]
#[pyo3(signature = (container, store, latest=None, events=None))]
pub fn container_layer(
    py: Python<'_>,
    container: &Container,
    store: PathBuf,
    latest: Option<i64>,
    events: Option<Py<PyAny>>,
) -> PyResult<Option<Told>> {
    let taking = check_root(container).and_then(|()| Taking::of(container, false)).map_err(|error| raise(py, error))?;
    let layer = watched(py, container, events, |door| {
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        commit::layer(door, &taking.wanted(), &store, latest)
    })?;
    Ok(layer.as_ref().map(told))
}

/// The digest of the manifest of a new image: the parent's layers and the container's, or its whole root where there is no parent.
#[pyfunction]
#[pyo3(signature = (container, store, parent, reference, changes, created, created_by="", comment="", latest=None, events=None))]
#[allow(clippy::too_many_arguments)] // each has its name in Python
pub fn container_commit(
    py: Python<'_>,
    container: &Container,
    store: PathBuf,
    parent: Option<&str>,
    reference: Option<&str>,
    changes: &str,
    created: i64,
    created_by: &str,
    comment: &str,
    latest: Option<i64>,
    events: Option<Py<PyAny>>,
) -> PyResult<String> {
    let prepared = (|| {
        let reference = reference.map(Reference::parse).transpose()?;
        if let Some(reference) = reference.as_ref().filter(|reference| reference.digest.is_some()) {
            return Err(Error::InvalidReference(format!("{reference}: a name with a digest cannot be given")));
        }
        check_root(container)?;
        let step = step(created, created_by.into(), comment.into(), changes)?;
        let parent = parent.map(Digest::parse).transpose()?;
        Ok((step, reference, Taking::of(container, parent.is_none())?, parent))
    })();
    let (step, reference, taking, parent) = prepared.map_err(|error| raise(py, error))?;
    watched(py, container, events, |mut door| {
        let store = Store::open(&store)?;
        let mut work = |store: &Store| {
            let _at_work = store.at_work()?;
            let layer = commit::layer(door.again(), &taking.wanted(), store, latest)?;
            let made = Made { parent: parent.as_ref(), reference: reference.as_ref(), step: &step };
            commit::image(store, layer.as_ref(), &made, door.interrupted).map(|image| image.digest.to_string())
        };
        let came = work(&store);
        garbage::after(&store, came)
    })
}

/// The whole root as a tar at this path.
#[pyfunction]
#[pyo3(signature = (container, path, latest=None, events=None))]
pub fn container_export(
    py: Python<'_>,
    container: &Container,
    path: PathBuf,
    latest: Option<i64>,
    events: Option<Py<PyAny>>,
) -> PyResult<()> {
    watched(py, container, events, |door| commit::export(door, &path, latest))
}
