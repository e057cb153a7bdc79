//! What builds need of the store: what their steps came to, one lock for each, the directories of layers that no image has yet.

use super::errors::raise;
use super::functions::interruptible;
use crate::error::Result;
use crate::gate::Ours;
use crate::image::caches;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::locks::{self, Lock};
use crate::image::progress::Queue;
use crate::image::steps;
use crate::image::steward;
use crate::image::store::Store;
use crate::image::whole;
use crate::spawn::{engine, upper};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

enum Lease {
    Work(#[allow(dead_code)] Ours), // held for its lock
    Step(#[allow(dead_code)] Lock),
}

/// Something of the store that is held, until release() or the drop.
#[pyclass(frozen, module = "pycontainer._core")]
pub struct Held(Mutex<Option<Lease>>);

#[pymethods]
impl Held {
    fn release(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()));
    }
}

fn held(lease: Lease) -> Held {
    Held(Mutex::new(Some(lease)))
}

/// Nothing of the store is garbage until it is released.
#[pyfunction]
pub fn store_hold(py: Python<'_>, store: PathBuf) -> PyResult<Held> {
    let work = py.detach(|| Store::open(&store)?.at_work());
    work.map(|work| held(Lease::Work(work))).map_err(|error| raise(py, error))
}

/// The right to carry a step out; None while somebody else does.
#[pyfunction]
pub fn step_lock(py: Python<'_>, store: PathBuf, key: &str) -> PyResult<Option<Held>> {
    let lock = py.detach(|| steps::try_lock(&Store::open(&store)?, key)).map_err(|error| raise(py, error))?;
    Ok(lock.map(|lock| held(Lease::Step(lock))))
}

/// What a step came to, where somebody has carried it out and its layer is in the store.
#[pyfunction]
pub fn step_read<'py>(py: Python<'py>, store: PathBuf, key: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let read = py.detach(|| steps::read(&Store::open(&store)?, key)).map_err(|error| raise(py, error))?;
    Ok(read.map(|bytes| PyBytes::new(py, &bytes)))
}

#[pyfunction]
pub fn step_write(py: Python<'_>, store: PathBuf, key: &str, value: Vec<u8>) -> PyResult<()> {
    py.detach(|| steps::write(&Store::open(&store)?, key, &value)).map_err(|error| raise(py, error))
}

/// Forgets steps that no build asked for in that many seconds.
#[pyfunction]
pub fn step_forget(py: Python<'_>, store: PathBuf, seconds: f64) -> PyResult<()> {
    let unused_for = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    py.detach(|| steps::forget(&Store::open(&store)?, unused_for)).map_err(|error| raise(py, error))
}

/// Whether this user can give files to the ids that a container knows as these.
#[pyfunction]
pub fn can_own(py: Python<'_>, uid: u32, gid: u32) -> bool {
    py.detach(|| steward::can_own(uid, gid))
}

/// Gives them an entry of a directory that is open.
#[pyfunction]
pub fn give_owner(py: Python<'_>, directory: i32, name: Vec<u8>, uid: u32, gid: u32) -> PyResult<()> {
    let given = py.detach(|| steward::give(directory, &name, (uid, gid)));
    given.map_err(|error| raise(py, error))
}

/// Bytes that a directory takes.
#[pyfunction]
pub fn cache_size(py: Python<'_>, path: PathBuf) -> u64 {
    py.detach(|| caches::size(&path))
}

/// Removes a directory of the store, which is under its name no more when this comes back.
#[pyfunction]
pub fn cache_remove(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    py.detach(|| upper::remove(&*engine::current()?, &path)).map_err(|error| raise(py, error))
}

/// A config or manifest, into the store; its digest.
#[pyfunction]
pub fn document_put(py: Python<'_>, store: PathBuf, document: Vec<u8>) -> PyResult<String> {
    let put = py.detach(|| Store::open(&store)?.put(&document)).map_err(|error| raise(py, error))?;
    Ok(put.to_string())
}

/// The directories of layers, as `image_layers`: each is (digest of the blob, its size, its media type, digest of the tar).
#[pyfunction]
pub fn layer_directories(
    py: Python<'_>,
    store: PathBuf,
    layers: Vec<(String, u64, String, String)>,
) -> PyResult<Vec<PathBuf>> {
    interruptible(py, |check| {
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        let read = |(digest, size, media_type, diff_id): &(String, u64, String, String)| {
            let (media_type, digest) = (media_type.clone(), Digest::parse(digest)?);
            let annotations = BTreeMap::new();
            Ok((Descriptor { media_type, digest, size: *size, annotations, platform: None }, Digest::parse(diff_id)?))
        };
        let layers = layers.iter().map(read).collect::<Result<Vec<_>>>()?;
        whole::unpacked(&store, &layers, &Queue::default(), &mut locks::paced(check))
    })
}
