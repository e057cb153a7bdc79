//! Progress of long work on images: a queue that threads without the interpreter fill, and that the calling thread hands to Python.

use super::functions::interruptible_by;
use crate::error::Result;
use crate::image::progress::{Event, Queue};
use pyo3::prelude::*;

/// `events`: called as `events(state, what, done, total)`, in the calling thread, while the work goes on and once after it; with the
/// state "tick" where there is nothing to tell, so that who only wants to end it is asked too.
pub fn watched<T: Send>(
    py: Python<'_>,
    events: Option<Py<PyAny>>,
    queue: &Queue,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T> + Send,
) -> PyResult<T> {
    let Some(events) = events else { return interruptible_by(py, None, work) };
    let tell = |py: Python<'_>| {
        let found = queue.take();
        if found.is_empty() {
            events.call1(py, ("tick", "", 0, 0))?;
        }
        for Event { state, what, done, total } in found {
            events.call1(py, (state, what, done, total))?;
        }
        Ok(())
    };
    let done = interruptible_by(py, Some(&tell), work)?;
    tell(py)?;
    Ok(done)
}
