//! A container of another process as Python holds it: the same methods as `container::Container`, of which it owns nothing.

use super::child::Outcome;
use super::container::{ContainerLog, Exec, cause_of, whole};
use super::errors::raise;
use super::functions::interruptible;
use crate::spawn::basis::Basis;
use crate::spawn::exec::Exec as NativeExec;
use crate::spawn::foreign::Foreign as Handle;
use crate::spawn::{lend, registry};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The directory of all keepers of this user, whether or not it is there.
#[pyfunction]
pub fn registry_place() -> OsString {
    registry::place().into_os_string()
}

/// Whether the keeper lives that has a directory of this name; what a dead one left there is removed.
#[pyfunction]
pub fn keeper_lives(py: Python<'_>, name: &str) -> bool {
    py.detach(|| registry::lives(name))
}

/// The directory of this process's keeper, which is started where there is none; None where it cannot have one.
#[pyfunction]
pub fn registry_home(py: Python<'_>) -> PyResult<Option<OsString>> {
    let home = py.detach(|| crate::spawn::engine::current().map(|engine| engine.home().map(OsString::from)));
    home.map_err(|error| raise(py, error))
}

#[pyclass(frozen, module = "pycontainer._core")]
pub struct Foreign {
    pub handle: Arc<Handle>,
    /// On this machine, of the ports that it publishes.
    ports: Vec<u16>,
    outcome: OnceLock<Py<Outcome>>,
}

/// Asks nobody; `attach`, or the first question, does.
#[pyfunction]
pub fn find(keeper: PathBuf, number: u64, spec: &Bound<'_, PyAny>, basis: &[u8], ports: Vec<u16>) -> PyResult<Foreign> {
    let basis = Basis::decode(basis).ok_or_else(|| PyValueError::new_err("basis: not as another process wrote it"))?;
    let handle = Handle::new(keeper, number, super::spec::read(spec)?, basis);
    Ok(Foreign { handle: Arc::new(handle), ports, outcome: OnceLock::new() })
}

#[pymethods]
impl Foreign {
    fn attach(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.attach()).map_err(|error| raise(py, error))
    }

    fn command(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
        let (pidfd, pid) = py.detach(|| self.handle.command()).map_err(|error| raise(py, error))?;
        Ok((pid, pidfd.map_or(-1, |pidfd| pidfd.as_raw_fd())))
    }

    /// Its pipes are its own process's.
    fn take_pipes(&self) -> (i32, i32, i32) {
        (-1, -1, -1)
    }

    fn terminal(&self) -> i32 {
        -1
    }

    fn ports(&self) -> Vec<u16> {
        self.ports.clone()
    }

    fn socket(&self, py: Python<'_>, family: u8, milliseconds: u64) -> PyResult<i32> {
        let socket =
            py.detach(|| lend::socket(&*self.handle, family, milliseconds)).map_err(|error| raise(py, error))?;
        Ok(socket.map_or(-1, IntoRawFd::into_raw_fd))
    }

    fn poll(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.handle.poll()).map_err(|error| raise(py, error))
    }

    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        interruptible(py, |check| self.handle.wait(timeout, check))
    }

    fn outcome(&self, py: Python<'_>) -> PyResult<Option<Py<Outcome>>> {
        let Some(finished) = py.detach(|| self.handle.finished()).map_err(|error| raise(py, error))? else {
            return Ok(None);
        };
        if let Some(made) = self.outcome.get() {
            return Ok(Some(made.clone_ref(py)));
        }
        let made = Py::new(py, Outcome::of(finished))?;
        Ok(Some(self.outcome.get_or_init(|| made).clone_ref(py)))
    }

    fn so_far(&self, py: Python<'_>) -> PyResult<Option<Outcome>> {
        let seen = py.detach(|| self.handle.so_far()).map_err(|error| raise(py, error))?;
        Ok(seen.map(|seen| Outcome::of(Arc::new(seen))))
    }

    fn signal(&self, py: Python<'_>, number: i32) -> PyResult<bool> {
        py.detach(|| self.handle.signal(number)).map_err(|error| raise(py, error))
    }

    fn kill(&self, py: Python<'_>, cause: &str) -> PyResult<()> {
        let cause = cause_of(cause)?;
        py.detach(|| self.handle.kill(cause)).map_err(|error| raise(py, error))
    }

    /// Ends nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.close()).map_err(|error| raise(py, error))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let line = py.detach(|| self.handle.line()).map_err(|error| raise(py, error))?;
        Ok(line.map_or(-1, |line| line.as_raw_fd()))
    }

    fn log(&self, py: Python<'_>) -> PyResult<Option<ContainerLog>> {
        let log = py.detach(|| self.handle.log()).map_err(|error| raise(py, error))?;
        Ok(log.map(ContainerLog::of))
    }

    fn forget_log(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.forget_log()).map_err(|error| raise(py, error))
    }

    fn listen(&self, py: Python<'_>) -> PyResult<i32> {
        py.detach(|| self.handle.listen()).map(IntoRawFd::into_raw_fd).map_err(|error| raise(py, error))
    }

    fn popen(&self, py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Exec> {
        let spec = super::spec::read_beside(spec, self.handle.spec())?;
        interruptible(py, |check| NativeExec::start(&self.handle, spec, check)).map(Exec::of)
    }

    fn launch(&self, py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Exec> {
        let spec = super::spec::read_beside(spec, self.handle.spec())?;
        interruptible(py, |check| NativeExec::launch(&self.handle, spec, check)).map(Exec::of)
    }

    fn exec<'py>(&self, py: Python<'py>, spec: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let spec = super::spec::read_beside(spec, self.handle.spec())?;
        let run = |check: &mut dyn FnMut() -> bool| {
            NativeExec::start(&self.handle, spec, &mut *check).and_then(|exec| exec.to_the_end(check))
        };
        whole(py, interruptible(py, run)?)
    }
}
