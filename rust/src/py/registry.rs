//! Registries: images from them and to them. The GIL is released; signals are served.

use super::errors::raise;
use super::functions::interruptible;
use crate::error::Error;
use crate::image::platform;
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::registry::progress::Board;
use crate::registry::{self, Given, Patience, Policy, Pull, Push};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// (digest, "waiting" | "transferring" | "done" | "present", bytes done, bytes in all)
type Row = (String, &'static str, u64, u64);

/// What a transfer has done so far; any thread reads it while another one pulls or pushes.
#[pyclass(frozen, module = "pycontainer._core")]
pub struct TransferProgress(Arc<Board>);

#[pymethods]
impl TransferProgress {
    #[new]
    fn new() -> Self {
        TransferProgress(Arc::default())
    }

    /// The blobs of which something has changed since the last time.
    fn changes(&self) -> Vec<Row> {
        let rows = self.0.changes().into_iter();
        rows.map(|row| (row.digest.to_string(), row.state.as_str(), row.done, row.total)).collect()
    }
}

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

fn board(progress: Option<&Bound<'_, TransferProgress>>) -> Arc<Board> {
    progress.map_or_else(Arc::default, |progress| progress.get().0.clone())
}

/// Calls `tick` in the calling thread, where there is one, about twenty times a second and once at the end; what it raises ends the work.
fn ticking<T: Send>(
    py: Python<'_>,
    tick: Option<Py<PyAny>>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> crate::error::Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let done = interruptible(py, |check| {
        let mut both = || {
            let Some(tick) = &tick else { return check() };
            // None while the interpreter ends: then nobody wants to hear of it.
            let called = Python::try_attach(|py| tick.call0(py).map(drop));
            match called {
                Some(Ok(())) => check(),
                Some(Err(error)) => {
                    raised = Some(error);
                    true
                }
                None => true,
            }
        };
        work(&mut both)
    });
    if let Some(error) = raised {
        return Err(error);
    }
    let done = done?;
    tick.map_or(Ok(()), |tick| tick.call0(py).map(drop))?;
    Ok(done)
}

/// (digest of the manifest in the store, digest that the registry has under the name, whether anything was fetched)
#[pyfunction]
#[pyo3(signature = (store, reference, platform=None, policy="missing", auth=None, progress=None, tick=None, patience=None))]
#[allow(clippy::too_many_arguments)]
pub fn image_pull(
    py: Python<'_>,
    store: PathBuf,
    reference: &str,
    platform: Option<&str>,
    policy: &str,
    auth: Option<Auth>,
    progress: Option<&Bound<'_, TransferProgress>>,
    tick: Option<Py<PyAny>>,
    patience: Option<PatienceTuple>,
) -> PyResult<(String, String, bool)> {
    let fail = |error| raise(py, error);
    let reference = Reference::parse(reference).map_err(fail)?;
    let platform = platform.map(platform::parse).transpose().map_err(fail)?;
    let policy = match policy {
        "missing" => Policy::Missing,
        "always" => Policy::Always,
        "never" => Policy::Never,
        other => return Err(fail(Error::Value(format!("policy: {other:?} is none of missing, always, never")))),
    };
    let (given, patience, board) = (given(auth), self::patience(patience).map_err(fail)?, board(progress));
    let pulled = ticking(py, tick, |check| {
        let store = Store::open(&store)?;
        let pull = Pull {
            store: &store,
            reference: &reference,
            platform,
            policy,
            given: &given,
            patience,
            progress: &board,
            on_layer: &|_, _| Ok(()),
        };
        registry::pull(&pull, check)
    })?;
    Ok((pulled.descriptor.digest.to_string(), pulled.digest.to_string(), pulled.is_new))
}

/// (digest that the registry has now, blobs that were sent, mounted, there already)
#[pyfunction]
#[pyo3(signature = (store, image, to, auth=None, progress=None, tick=None, chunk=None, patience=None))]
#[allow(clippy::too_many_arguments)]
pub fn image_push(
    py: Python<'_>,
    store: PathBuf,
    image: &str,
    to: &str,
    auth: Option<Auth>,
    progress: Option<&Bound<'_, TransferProgress>>,
    tick: Option<Py<PyAny>>,
    chunk: Option<u64>,
    patience: Option<PatienceTuple>,
) -> PyResult<(String, usize, usize, usize)> {
    let fail = |error| raise(py, error);
    let image = Reference::parse(image).map_err(fail)?;
    let to = Reference::parse(to).map_err(fail)?;
    if chunk == Some(0) {
        return Err(fail(Error::Value("chunk: 0 bytes are no piece".into())));
    }
    let (given, patience, board) = (given(auth), self::patience(patience).map_err(fail)?, board(progress));
    let pushed = ticking(py, tick, |check| {
        let store = Store::open(&store)?;
        let push = Push { store: &store, image: &image, to: &to, given: &given, patience, progress: &board, chunk };
        registry::push(&push, check)
    })?;
    Ok((pushed.digest.to_string(), pushed.transferred, pushed.mounted, pushed.present))
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
