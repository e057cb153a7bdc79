//! A live container, looked at and controlled: what `pycontainer._live` calls. Plain values in and out; the GIL is released.

use super::container::Container;
use super::errors::raise;
use super::foreign::Foreign;
use crate::cgroup::{LiveStats, Resource};
use crate::spawn::control::Measured;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::os::fd::IntoRawFd;
use std::time::Duration;

/// cpu in seconds, memory, its peak and its four parts, tasks, bytes read and written, OOM kills, stalled seconds.
type Numbers = (
    Option<f64>,
    (Option<u64>, Option<u64>),
    (Option<u64>, Option<u64>, Option<u64>, Option<u64>),
    Option<u64>,
    (Option<u64>, Option<u64>),
    Option<u64>,
    Option<[f64; 5]>,
);

/// What can be looked at: a container of this process, or one that was found.
#[derive(FromPyObject)]
pub enum Either<'py> {
    Own(PyRef<'py, Container>),
    Found(PyRef<'py, Foreign>),
}

impl Either<'_> {
    fn measured(&self) -> &dyn Measured {
        match self {
            Either::Own(own) => &*own.handle,
            Either::Found(found) => &*found.handle,
        }
    }
}

fn numbers(now: &LiveStats) -> Numbers {
    let parts = now.breakdown;
    (
        now.cpu_usec.map(|usec| usec as f64 / 1e6),
        (now.memory, now.memory_peak),
        (parts.anon, parts.file, parts.shmem, parts.kernel),
        now.pids,
        (now.io_read, now.io_write),
        now.oom_kills,
        now.pressure,
    )
}

#[pyfunction]
pub fn container_stats(py: Python<'_>, container: Either<'_>) -> PyResult<Numbers> {
    let container = container.measured();
    let now = py.detach(|| container.stats());
    now.map(|now| numbers(&now)).map_err(|error| raise(py, error))
}

/// Back when all of it stands still, or goes on.
#[pyfunction]
pub fn container_freeze(py: Python<'_>, container: &Container, stop: bool) -> PyResult<()> {
    py.detach(|| container.handle.freeze(stop)).map_err(|error| raise(py, error))
}

/// `limits`: an object with the attributes of a Spec that are limits.
#[pyfunction]
pub fn container_update(py: Python<'_>, container: &Container, limits: &Bound<'_, PyAny>) -> PyResult<()> {
    let limits = super::spec::read_limits(limits)?;
    py.detach(|| container.handle.update(limits)).map_err(|error| raise(py, error))
}

/// (what to poll it for, the descriptor to poll, the one that counts or -1 where that is the same): ready when the OOM killer took a
/// process, or on version 1 was about to. None where no group counts that.
#[pyfunction]
pub fn container_oom(py: Python<'_>, container: &Container) -> PyResult<Option<(u16, i32, i32)>> {
    let watch = py.detach(|| container.handle.oom_watch()).map_err(|error| raise(py, error))?;
    Ok(watch.map(|watch| {
        let events = watch.events().bits();
        let (event, counter) = watch.into_parts();
        (events, event.into_raw_fd(), counter.map_or(-1, IntoRawFd::into_raw_fd))
    }))
}

/// A descriptor for the caller: POLLPRI each time that tasks were stalled for so long within a window; seconds.
#[pyfunction]
pub fn container_pressure(
    py: Python<'_>,
    container: Either<'_>,
    resource: &str,
    full: bool,
    stall: f64,
    window: f64,
) -> PyResult<i32> {
    let of = Resource::parse(resource).ok_or_else(|| PyValueError::new_err("resource"))?;
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let container = container.measured();
    let trigger = py.detach(|| container.pressure_trigger(of, full, time(stall), time(window)));
    trigger.map(IntoRawFd::into_raw_fd).map_err(|error| raise(py, error))
}
