//! The store of images for Python: names, documents as bytes, files in and out. Everything here can block, and is done without the interpreter.

use super::errors::raise;
use super::functions::interruptible;
use super::progress::watched;
use crate::error::{Error, Result};
use crate::image::descriptor::Platform;
use crate::image::digest::Digest;
use crate::image::found::{self, Found};
use crate::image::progress::Queue;
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::image::{garbage, load, locks, save, union, unpacked, whole};
use crate::runtime;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::time::Duration;

/// (name or None, digest of the manifest, manifest, config, size of all its blobs)
type Row<'py> = (Option<String>, String, Bound<'py, PyBytes>, Bound<'py, PyBytes>, u64);

fn row<'py>(py: Python<'py>, name: Option<String>, found: &Found) -> Row<'py> {
    let size = found.manifest.layers.iter().map(|layer| layer.size).sum::<u64>() + found.manifest.config.size;
    let size = size + found.bytes.len() as u64;
    let digest = found.descriptor.digest.to_string();
    (name, digest, PyBytes::new(py, &found.bytes), PyBytes::new(py, &found.config_bytes), size)
}

fn platform(text: Option<&str>) -> Result<Platform> {
    text.map_or_else(|| Ok(found::native()), found::parse_platform)
}

fn by_digest(store: &Store, digest: &str) -> Result<Found> {
    let digest = Digest::parse(digest)?;
    let blob = store.blob(&digest, None)?;
    let size = blob.ok_or_else(|| Error::ImageNotFound(format!("the store has no image {digest}")))?.size;
    found::by_descriptor(store, &found::bare(digest, size), &found::native())
}

/// A reference in full, and as one would type it.
#[pyfunction]
pub fn reference_parse(py: Python<'_>, text: &str) -> PyResult<(String, String, Option<String>)> {
    let read = Reference::parse(text).map_err(|error| raise(py, error))?;
    Ok((read.to_string(), read.familiar(), read.digest.as_ref().map(Digest::to_string)))
}

/// `os/architecture[/variant]` as it is compared; None: this machine's.
#[pyfunction]
#[pyo3(signature = (text=None))]
pub fn platform_parse(py: Python<'_>, text: Option<&str>) -> PyResult<String> {
    platform(text).map(|platform| found::shown(&platform)).map_err(|error| raise(py, error))
}

/// The image of a name that is in the store; None where there is none.
#[pyfunction]
#[pyo3(signature = (store, reference, platform=None))]
pub fn image_find<'py>(
    py: Python<'py>,
    store: PathBuf,
    reference: &str,
    platform: Option<&str>,
) -> PyResult<Option<Row<'py>>> {
    let found = py.detach(|| {
        let (reference, platform) = (Reference::parse(reference)?, self::platform(platform)?);
        let found = found::by_name(&Store::open(&store)?, &reference, &platform)?;
        Ok(found.map(|found| (reference.to_string(), found)))
    });
    let found = found.map_err(|error| raise(py, error))?;
    Ok(found.map(|(name, found)| row(py, Some(name), &found)))
}

/// The image of a manifest's digest.
#[pyfunction]
pub fn image_open<'py>(py: Python<'py>, store: PathBuf, digest: &str) -> PyResult<Row<'py>> {
    let found = py.detach(|| by_digest(&Store::open(&store)?, digest)).map_err(|error| raise(py, error))?;
    Ok(row(py, None, &found))
}

/// All names whose image of this machine's platform can be read.
#[pyfunction]
pub fn image_all<'py>(py: Python<'py>, store: PathBuf) -> PyResult<Vec<Row<'py>>> {
    let all = py.detach(|| {
        let store = Store::open(&store)?;
        let names = store.names()?.into_iter();
        Ok(names
            .filter_map(|named| {
                let found = found::by_descriptor(&store, &named.descriptor, &found::native()).ok()?;
                Some((named.reference.to_string(), found))
            })
            .collect::<Vec<_>>())
    });
    let all = all.map_err(|error| raise(py, error))?;
    Ok(all.into_iter().map(|(name, found)| row(py, Some(name), &found)).collect())
}

/// Give the image of this digest a name.
#[pyfunction]
pub fn image_tag(py: Python<'_>, store: PathBuf, digest: &str, reference: &str) -> PyResult<String> {
    interruptible(py, |check| {
        let reference = Reference::parse(reference)?;
        if reference.digest.is_some() {
            return Err(Error::InvalidReference(format!("{reference}: a name with a digest cannot be given")));
        }
        let store = Store::open(&store)?;
        let _at_work = store.at_work()?;
        let found = by_digest(&store, digest)?;
        found::check_layers(&store, &found.manifest.layers)?;
        store.tag(&reference, &found.descriptor, check)?;
        Ok(reference.to_string())
    })
}

/// Take a name away. False where there is none.
#[pyfunction]
pub fn image_untag(py: Python<'_>, store: PathBuf, reference: &str) -> PyResult<bool> {
    interruptible(py, |check| garbage::untag(&Store::open(&store)?, &Reference::parse(reference)?, check))
}

/// (blobs, bytes, layers) that no name needed; None while somebody is at work in the store.
#[pyfunction]
pub fn image_collect(py: Python<'_>, store: PathBuf) -> PyResult<Option<(u64, u64, u64)>> {
    let freed = py.detach(|| garbage::collect(&Store::open(&store)?)).map_err(|error| raise(py, error))?;
    Ok(freed.map(|freed| (freed.blobs, freed.bytes, freed.layers)))
}

/// Archives that were unpacked so many seconds ago, or longer, and on which nobody stands, are removed. How many.
#[pyfunction]
pub fn archives_drop(py: Python<'_>, store: PathBuf, age: f64) -> PyResult<u64> {
    let age = Duration::try_from_secs_f64(age).unwrap_or(Duration::MAX);
    py.detach(|| garbage::drop_archives(&store, age)).map_err(|error| raise(py, error))
}

/// The devices that unpacked layers should have and a plain user may not make: "c 1:3 dev/null".
#[pyfunction]
pub fn layers_left_out(roots: Vec<PathBuf>) -> Vec<String> {
    roots.iter().flat_map(|root| unpacked::left_out(root)).collect()
}

/// The directories of its layers, the lowest first, unpacked now where they were not.
#[pyfunction]
#[pyo3(signature = (store, digest, events=None))]
pub fn image_layers(py: Python<'_>, store: PathBuf, digest: &str, events: Option<Py<PyAny>>) -> PyResult<Vec<PathBuf>> {
    let queue = Queue::default();
    watched(py, events, &queue, |check| {
        let store = Store::open(&store)?;
        let mut work = |store: &Store| {
            let _at_work = store.at_work()?;
            whole::directories(store, &by_digest(store, digest)?, &queue, &mut locks::paced(check))
        };
        let came = work(&store);
        garbage::after(&store, came)
    })
}

/// Images of a file or layout: (names, digest) of each.
#[pyfunction]
#[pyo3(signature = (store, path, events=None))]
pub fn image_load(
    py: Python<'_>,
    store: PathBuf,
    path: PathBuf,
    events: Option<Py<PyAny>>,
) -> PyResult<Vec<(Vec<String>, String)>> {
    let queue = Queue::default();
    watched(py, events, &queue, |check| {
        let store = Store::open(&store)?;
        let total = std::fs::metadata(&path).map(|seen| if seen.is_file() { seen.len() } else { 0 }).unwrap_or(0);
        let progress = |done| queue.put("loading", &path.to_string_lossy(), done, total.max(done));
        let _at_work = store.at_work()?;
        let loaded = load::load(&store, &path, &progress, &mut locks::paced(check))?;
        let shown = loaded.iter().map(|one| {
            let names = one.references.iter().map(Reference::to_string).collect();
            let found = found::by_descriptor(&store, &one.descriptor, &found::native())?;
            Ok((names, found.descriptor.digest.to_string()))
        });
        shown.collect()
    })
}

/// Whether a container stands on a layer that no other image of the store has below it.
#[pyfunction]
pub fn image_in_use(py: Python<'_>, store: PathBuf, digest: &str) -> PyResult<bool> {
    let used = py.detach(|| {
        let store = Store::open(&store)?;
        let found = by_digest(&store, digest)?;
        whole::in_use(&store, &found)
    });
    used.map_err(|error| raise(py, error))
}

/// Where the store lies.
#[pyfunction]
pub fn store_root() -> PathBuf {
    runtime::store(rustix::process::geteuid().as_raw())
}

/// Write an image to a tar; `form`: "oci" or "docker".
#[pyfunction]
pub fn image_save(
    py: Python<'_>,
    store: PathBuf,
    digest: &str,
    reference: Option<&str>,
    path: PathBuf,
    form: &str,
) -> PyResult<()> {
    interruptible(py, |check| {
        let store = Store::open(&store)?;
        let name = reference.map(Reference::parse).transpose()?;
        let found = by_digest(&store, digest)?;
        save::save(&store, &found, name.as_ref(), &path, form == "docker", &mut locks::paced(check))
    })
}

/// Compute the digests of an image's blobs, and of its layers' tars, again.
#[pyfunction]
pub fn image_verify(py: Python<'_>, store: PathBuf, digest: &str) -> PyResult<()> {
    interruptible(py, |check| {
        let store = Store::open(&store)?;
        whole::verify(&store, &by_digest(&store, digest)?, &mut locks::paced(check))
    })
}

/// A regular file of a union of directories, the lowest first, as a descriptor.
#[pyfunction]
pub fn image_file(py: Python<'_>, roots: Vec<PathBuf>, path: Vec<u8>) -> PyResult<i32> {
    let file = py.detach(|| union::open(&roots, &path)).map_err(|error| raise(py, error))?;
    Ok(file.into_raw_fd())
}

/// All paths of a union of directories.
#[pyfunction]
pub fn image_paths<'py>(py: Python<'py>, roots: Vec<PathBuf>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let paths = py.detach(|| union::paths(&roots)).map_err(|error| raise(py, error))?;
    Ok(paths.iter().map(|path| PyBytes::new(py, path)).collect())
}
