//! Registries: images from them and to them. The GIL is released; signals are served.

use super::errors::raise;
use super::functions::interruptible;
use super::progress::watched;
use crate::error::Error;
use crate::image::digest::Digest;
use crate::image::found;
use crate::image::layers::Ahead;
use crate::image::progress::Queue;
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::registry::{self, Given, Patience, Pull, Push};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// A user and a password, or a token, or nothing: the user's own files.
#[derive(FromPyObject)]
pub enum Auth {
    Password(String, String),
    Token(String),
}

/// (seconds without a byte, attempts, seconds before the second one)
type PatienceTuple = (f64, u32, f64);

fn given(auth: Option<Auth>) -> Given {
    match auth {
        None => Given::Nothing,
        Some(Auth::Password(user, password)) => Given::Password { user, password },
        Some(Auth::Token(token)) => Given::Token(token),
    }
}

fn patience(given: Option<PatienceTuple>) -> Result<Patience, Error> {
    let Some((idle, attempts, pause)) = given else { return Ok(Patience::default()) };
    let time =
        |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(|error| Error::Value(format!("patience: {error}")));
    Ok(Patience { idle: time(idle)?, attempts, pause: time(pause)? })
}

/// The digest of the manifest that the store has under the name afterwards. `events`: as of image_load.
#[pyfunction]
#[pyo3(signature = (store, reference, platform=None, auth=None, events=None, patience=None))]
pub fn image_pull(
    py: Python<'_>,
    store: PathBuf,
    reference: &str,
    platform: Option<&str>,
    auth: Option<Auth>,
    events: Option<Py<PyAny>>,
    patience: Option<PatienceTuple>,
) -> PyResult<String> {
    let fail = |error| raise(py, error);
    let reference = Reference::parse(reference).map_err(fail)?;
    let platform = platform.map(found::parse_platform).transpose().map_err(fail)?;
    let (given, patience, queue) = (given(auth), self::patience(patience).map_err(fail)?, Queue::default());
    watched(py, events, &queue, |check| {
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        let unpacked = store.layers()?;
        let ahead = Ahead::new(&store, &unpacked, &queue, registry::AT_ONCE);
        let (store, reference, given, progress) = (&store, &reference, &given, &queue);
        let pull = Pull { store, reference, platform, given, patience, progress, ahead: &ahead };
        ahead.beside(|| registry::pull(&pull, check)).map(|pulled| pulled.descriptor.digest.to_string())
    })
}

/// (digest that the registry has under the name now, blobs that were sent, mounted, there already)
#[pyfunction]
#[pyo3(signature = (store, digest, reference, auth=None, events=None, chunk=None, patience=None))]
#[allow(clippy::too_many_arguments)] // one for each keyword
pub fn image_push(
    py: Python<'_>,
    store: PathBuf,
    digest: &str,
    reference: &str,
    auth: Option<Auth>,
    events: Option<Py<PyAny>>,
    chunk: Option<u64>,
    patience: Option<PatienceTuple>,
) -> PyResult<(String, usize, usize, usize)> {
    let fail = |error| raise(py, error);
    let (image, to) = (Digest::parse(digest).map_err(fail)?, Reference::parse(reference).map_err(fail)?);
    let (given, patience, queue) = (given(auth), self::patience(patience).map_err(fail)?, Queue::default());
    watched(py, events, &queue, |check| {
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        let (store, image, to, given, progress) = (&store, &image, &to, &given, &queue);
        let push = Push { store, image, to, given, patience, progress, chunk: chunk.filter(|chunk| *chunk > 0) };
        let pushed = registry::push(&push, check)?;
        Ok((pushed.digest.to_string(), pushed.transferred, pushed.mounted, pushed.present))
    })
}

/// The tags of a repository, in the registry's order.
#[pyfunction]
#[pyo3(signature = (name, auth=None, patience=None))]
pub fn registry_tags(
    py: Python<'_>,
    name: &str,
    auth: Option<Auth>,
    patience: Option<PatienceTuple>,
) -> PyResult<Vec<String>> {
    let name = Reference::parse(name).map_err(|error| raise(py, error))?;
    let (given, patience) = (given(auth), self::patience(patience).map_err(|error| raise(py, error))?);
    interruptible(py, |check| registry::tags(&name, &given, patience, check))
}

/// The repositories of a registry ("host" or "host:port"), where it tells them.
#[pyfunction]
#[pyo3(signature = (host, auth=None, patience=None))]
pub fn registry_catalog(
    py: Python<'_>,
    host: &str,
    auth: Option<Auth>,
    patience: Option<PatienceTuple>,
) -> PyResult<Vec<String>> {
    let (given, patience) = (given(auth), self::patience(patience).map_err(|error| raise(py, error))?);
    interruptible(py, |check| registry::catalog(host, &given, patience, check))
}
