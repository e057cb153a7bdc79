//! A container and its commands as Python holds them: thin, plain values in and out. What can wait gives the GIL up.

use super::child::Outcome;
use super::errors::raise;
use super::functions::interruptible;
use super::progress::watched;
use super::shared::handle_methods;
use crate::error::Error;
use crate::image::progress::Queue;
use crate::spawn::exec::{Done, End, Exec as NativeExec, Home};
use crate::spawn::handle::Handle;
use crate::spawn::lend;
use crate::spawn::log::Log;
use crate::wire::cause;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyDict};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// A container that runs beside its caller; `pycontainer._container` is its face.
#[pyclass(frozen, module = "pycontainer._core")]
pub struct Container {
    pub handle: Arc<Handle>,
    /// Made once: its output can be taken once.
    outcome: OnceLock<Py<Outcome>>,
}

pub fn cause_of(word: &str) -> PyResult<u8> {
    match word {
        "killed" => Ok(cause::KILLED),
        "stopped" => Ok(cause::STOPPED),
        "timeout" => Ok(cause::TIMEOUT),
        "output" => Ok(cause::OUTPUT),
        other => Err(PyValueError::new_err(format!("unknown cause {other:?}"))),
    }
}

type Pipes = (i32, i32, i32);
type Address<'py> = (OsString, u64, Bound<'py, PyBytes>);

/// The numbers belong to the caller from now on; -1 where there is none.
fn given(pipes: [Option<OwnedFd>; 3]) -> Pipes {
    let [stdin, stdout, stderr] = pipes.map(|pipe| pipe.map_or(-1, IntoRawFd::into_raw_fd));
    (stdin, stdout, stderr)
}

/// Starts a container; comes back when its command runs (or waits, with `hold`). The GIL is released; signals are served.
#[pyfunction]
pub fn start(py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Container> {
    let spec = super::spec::read(spec)?;
    let handle = interruptible(py, |check| Handle::start(spec, check))?;
    Ok(Container { handle: Arc::new(handle), outcome: OnceLock::new() })
}

/// Sends a container on its way and waits for nothing; `Container.runs` tells what became of it. None where its image would have to be
/// copied first.
#[pyfunction]
pub fn launch(py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Option<Container>> {
    let spec = super::spec::read(spec)?;
    let handle = py.detach(|| Handle::launch(spec)).map_err(|error| raise(py, error))?;
    Ok(handle.map(|handle| Container { handle: Arc::new(handle), outcome: OnceLock::new() }))
}

/// Copies its image, and then does the same. `events` is called now and then, and ends it by what it raises.
#[pyfunction]
pub fn launch_copied(py: Python<'_>, spec: &Bound<'_, PyAny>, events: Py<PyAny>) -> PyResult<Container> {
    let spec = super::spec::read(spec)?;
    let handle = watched(py, Some(events), &Queue::default(), |check| Handle::launch_until(spec, check))?;
    Ok(Container { handle: Arc::new(handle), outcome: OnceLock::new() })
}

handle_methods! { Container {
    /// Lets the command go of one that was started with `hold`.
    fn go(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.go()).map_err(|error| raise(py, error))
    }

    /// The same, and comes back when it runs.
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        interruptible(py, |check| self.handle.go().and_then(|()| self.handle.until_it_runs(check)))
    }

    /// Whether its command runs, or has run.
    fn runs(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.handle.runs()).map_err(|error| raise(py, error))
    }

    /// For who waits elsewhere for an end that is owed: wakes a keeper that was stopped, and raises where what was killed does not die.
    fn nudge(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.impatient()).map_err(|error| raise(py, error))
    }

    /// Whether it has a writable layer whose removal may take long.
    fn has_layer_on_disk(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.handle.has_layer_on_disk()).map_err(|error| raise(py, error))
    }

    /// Removes the writable layer of one that has ended; `close` does the rest.
    fn shed(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.shed()).map_err(|error| raise(py, error))
    }

    fn take_pipes(&self, py: Python<'_>) -> PyResult<Pipes> {
        py.detach(|| self.handle.take_pipes()).map(given).map_err(|error| raise(py, error))
    }

    /// A descriptor of the outer end of its terminal, for the caller to close; -1 where there is none.
    fn terminal(&self, py: Python<'_>) -> PyResult<i32> {
        let terminal = py.detach(|| self.handle.terminal()).map_err(|error| raise(py, error))?;
        Ok(terminal.map_or(-1, IntoRawFd::into_raw_fd))
    }

    /// The numbers of its published ports on this machine, until it is closed.
    fn ports(&self, py: Python<'_>) -> PyResult<Vec<u16>> {
        py.detach(|| self.handle.ports()).map_err(|error| raise(py, error))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        interruptible(py, |check| self.handle.close(check))
    }

    /// A descriptor that is readable when there may be news of its end. It stays this object's.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let report = py.detach(|| self.handle.report()).map_err(|error| raise(py, error))?;
        Ok(report.map_or(-1, |report| report.as_raw_fd()))
    }

    /// Where other processes find it: the directory of its keeper, its number there, what they have to know to give it commands. None
    /// where there is no such place.
    fn address<'py>(&self, py: Python<'py>) -> PyResult<Option<Address<'py>>> {
        let found = py.detach(|| {
            let Some(home) = self.handle.engine().home() else { return Ok(None) };
            self.handle.basis().map(|basis| Some((home.as_os_str().to_owned(), basis.encode())))
        });
        let found = found.map_err(|error| raise(py, error))?;
        Ok(found.map(|(home, basis)| (home, self.handle.id(), PyBytes::new(py, &basis))))
    }
} }

/// The kept output of a container, also after it was closed.
#[pyclass(frozen, module = "pycontainer._core")]
pub struct ContainerLog {
    log: Arc<Log>,
}

impl ContainerLog {
    pub fn of(log: Arc<Log>) -> ContainerLog {
        ContainerLog { log }
    }
}

#[pymethods]
impl ContainerLog {
    /// (bytes, where the next look begins, bytes that are lost before these, bytes dropped beyond the limit, whether it has ended).
    fn read<'py>(
        &self,
        py: Python<'py>,
        stream: usize,
        start: u64,
        most: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, u64, u64, u64, bool)> {
        if stream > 1 {
            return Err(PyValueError::new_err("stream must be 0 or 1"));
        }
        let piece = py.detach(|| self.log.read(stream, start, most)).map_err(|error| raise(py, error))?;
        Ok((PyBytes::new(py, &piece.bytes), piece.next, piece.lost, piece.dropped, piece.ended))
    }
}

/// A command in a container; `pycontainer._process` is its face.
#[pyclass(frozen, module = "pycontainer._core")]
pub struct Exec {
    exec: NativeExec,
}

impl Exec {
    pub fn of(exec: NativeExec) -> Exec {
        Exec { exec }
    }
}

#[pymethods]
impl Exec {
    /// Whether the command runs, or has run.
    fn runs(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.exec.runs()).map_err(|error| raise(py, error))
    }

    fn command(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
        let (pidfd, pid) = py.detach(|| self.exec.command()).map_err(|error| raise(py, error))?;
        Ok((pid, pidfd.map_or(-1, |pidfd| pidfd.as_raw_fd())))
    }

    fn take_pipes(&self, py: Python<'_>) -> PyResult<Pipes> {
        py.detach(|| self.exec.take_pipes()).map(given).map_err(|error| raise(py, error))
    }

    fn terminal(&self, py: Python<'_>) -> PyResult<i32> {
        let terminal = py.detach(|| self.exec.terminal()).map_err(|error| raise(py, error))?;
        Ok(terminal.map_or(-1, IntoRawFd::into_raw_fd))
    }

    /// How it ended; None while it runs.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let end = py.detach(|| self.exec.poll()).map_err(|error| raise(py, error))?;
        end.map(|end| fields(py, &end)).transpose()
    }

    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyDict>>> {
        interruptible(py, |check| self.exec.wait(timeout, check))?.map(|end| fields(py, &end)).transpose()
    }

    /// What it has printed; None where that is not kept. Waits a moment for what it wrote before its end.
    fn log(&self, py: Python<'_>) -> PyResult<Option<ContainerLog>> {
        let Some(kept) = self.exec.kept() else { return Ok(None) };
        let log =
            py.detach(|| self.exec.poll().map(|end| kept.log(end.is_some()))).map_err(|error| raise(py, error))?;
        Ok(Some(ContainerLog::of(log)))
    }

    /// A socket for the caller, which gets a byte when something was written to the log and ends with its streams.
    fn listen(&self, py: Python<'_>) -> PyResult<i32> {
        let none = || Error::State("nothing of the command is logged".into());
        let listener = self.exec.kept().ok_or_else(none).and_then(|kept| py.detach(|| kept.listen()));
        listener.map(IntoRawFd::into_raw_fd).map_err(|error| raise(py, error))
    }

    /// Whether nothing is left of what came of it, after `kill`.
    fn is_gone(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.exec.is_gone()).map_err(|error| raise(py, error))
    }

    /// Waits for that; False where the seconds passed first.
    fn wait_gone(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        interruptible(py, |check| self.exec.wait_gone(timeout, check))
    }

    fn signal(&self, py: Python<'_>, number: i32) -> PyResult<bool> {
        py.detach(|| self.exec.signal(number)).map_err(|error| raise(py, error))
    }

    fn kill(&self, py: Python<'_>, cause: &str) -> PyResult<()> {
        let cause = cause_of(cause)?;
        py.detach(|| self.exec.kill(cause)).map_err(|error| raise(py, error))
    }

    fn fileno(&self) -> i32 {
        self.exec.report().as_raw_fd()
    }
}

/// Numbers of how a command ended: microseconds as seconds, KiB as bytes.
fn fields<'py>(py: Python<'py>, end: &End) -> PyResult<Bound<'py, PyDict>> {
    let made = PyDict::new(py);
    let seconds = |micros: u64| micros as f64 / 1e6;
    made.set_item("returncode", crate::spawn::outcome::returncode(end.status))?;
    made.set_item("reason", crate::spawn::exec::reason(end).word())?;
    made.set_item("lost", end.lost)?;
    made.set_item("wall", end.ended.saturating_sub(end.started) as f64 / 1e9)?;
    made.set_item("cpu_user", seconds(end.user))?;
    made.set_item("cpu_system", seconds(end.system))?;
    made.set_item("memory_peak", end.max_rss_kib * 1024)?;
    Ok(made)
}

pub fn whole<'py>(py: Python<'py>, done: Done) -> PyResult<Bound<'py, PyDict>> {
    let made = fields(py, &done.end)?;
    made.set_item("stdout", PyBytes::new(py, &done.stdout))?;
    made.set_item("stderr", PyBytes::new(py, &done.stderr))?;
    made.set_item("truncated", (done.truncated[0], done.truncated[1]))?;
    Ok(made)
}
