//! A container of another process as Python holds it: the same methods as `container::Container`, of which it owns nothing.

use super::child::Outcome;
use super::container::{ContainerLog, Exec, cause_of, whole};
use super::errors::raise;
use super::functions::interruptible;
use super::shared::handle_methods;
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

handle_methods! { Foreign {
    fn attach(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.attach()).map_err(|error| raise(py, error))
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

    /// Ends nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.close()).map_err(|error| raise(py, error))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let line = py.detach(|| self.handle.line()).map_err(|error| raise(py, error))?;
        Ok(line.map_or(-1, |line| line.as_raw_fd()))
    }
} }
