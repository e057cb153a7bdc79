//! The files of a container: paths and bytes in, bytes and changes out. The GIL is released, signals are served.

use super::container::Container;
use super::functions::{Each, interruptible_by};
use crate::error::Result;
use crate::files::{self, Door, Own};
use crate::spawn::seams;
use crate::spawn::spec::Root;
use crate::wire::files::ask;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::AsFd;

fn with_door<T: Send>(
    py: Python<'_>,
    container: &Container,
    work: impl FnOnce(Door<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    with_door_by(py, container, None, work)
}

/// `each` is called now and then, in this thread; what it raises ends the work.
pub(super) fn with_door_by<T: Send>(
    py: Python<'_>,
    container: &Container,
    each: Option<&Each<'_>>,
    work: impl FnOnce(Door<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    interruptible_by(py, each, |interrupted| {
        let handle = &container.handle;
        handle.poll()?; // a forked copy owns nothing
        let keeper = &handle.engine().keeper;
        let send = |message: &[u8], fds: &[i32]| keeper.send(message, fds);
        let seams = if seams::skips("swap_resolved") { ask::SWAP_RESOLVED } else { 0 };
        work(Door { send: &send, keeper: keeper.pidfd().as_fd(), id: handle.id(), seams, interrupted })
    })
}

#[pyfunction]
pub fn read_bytes<'py>(
    py: Python<'py>,
    container: &Container,
    path: &[u8],
    max_size: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let content = with_door(py, container, |door| files::read(door, path, max_size))?;
    Ok(PyBytes::new(py, &content))
}

#[pyfunction]
pub fn write_bytes(py: Python<'_>, container: &Container, path: &[u8], data: &[u8], mode: u32) -> PyResult<()> {
    with_door(py, container, |door| files::write(door, path, data, mode))
}

#[pyfunction]
pub fn copy_in(py: Python<'_>, container: &Container, source: &[u8], target: &[u8]) -> PyResult<()> {
    with_door(py, container, |door| files::copy_in(door, source, target))
}

#[pyfunction]
pub fn copy_out(py: Python<'_>, container: &Container, source: &[u8], target: &[u8]) -> PyResult<()> {
    with_door(py, container, |door| files::copy_out(door, source, target))
}

/// What is ours in its root.
pub(super) fn own(container: &Container) -> Own {
    let spec = container.handle.spec();
    let made = spec.wanted().made_by_us(matches!(spec.root, Root::Host { .. }));
    let provided = spec.provided.iter().map(|(path, _)| path.clone()).collect();
    Own { made, provided }
}

/// ("A", "C" or "D", path), sorted by path.
#[pyfunction]
pub fn diff<'py>(py: Python<'py>, container: &Container) -> PyResult<Vec<(char, Bound<'py, PyBytes>)>> {
    let own = own(container);
    let changes = with_door(py, container, |door| files::changes(door, &own))?;
    Ok(changes.into_iter().map(|change| (change.kind, PyBytes::new(py, &change.path))).collect())
}
