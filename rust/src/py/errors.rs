//! The one conversion of a native error to Python's own exception tree (pycontainer/_errors.py).

use crate::error::Error;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

pub fn raise(py: Python<'_>, error: Error) -> PyErr {
    build(py, &error).unwrap_or_else(|_| PyOSError::new_err(error.to_string()))
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let module = py.import("pycontainer._errors")?;
    let text =
        |errno: i32| -> PyResult<Py<PyAny>> { Ok(py.import("os")?.call_method1("strerror", (errno,))?.unbind()) };
    let keywords = PyDict::new(py);
    let make = |name: &str, arguments: Bound<'_, PyTuple>| -> PyResult<PyErr> {
        Ok(PyErr::from_value(module.getattr(name)?.call(arguments, Some(&keywords))?))
    };
    match error {
        Error::Setup { step, path, errno, note } => {
            keywords.set_item("step", step)?;
            keywords.set_item("hint", note)?;
            make("SetupError", (errno, text(*errno)?, path).into_pyobject(py)?)
        }
        Error::NotSupported { requirement, cause, fix } => {
            make("NotSupported", (requirement, cause, fix).into_pyobject(py)?)
        }
        Error::CommandNotFound { command } => {
            keywords.set_item("step", "execute")?;
            make("CommandNotFound", (2, text(2)?, command).into_pyobject(py)?)
        }
        Error::CommandNotExecutable { command, errno } => {
            keywords.set_item("step", "execute")?;
            make("CommandNotExecutable", (errno, text(*errno)?, command).into_pyobject(py)?)
        }
        Error::Value(message) => Ok(PyValueError::new_err(message.clone())),
        Error::State(message) => make("StateError", (message,).into_pyobject(py)?),
        Error::Layer(message) => make("LayerError", (message,).into_pyobject(py)?),
        Error::Image(message) => make("ImageError", (message,).into_pyobject(py)?),
        Error::ImageNotFound(message) => make("ImageNotFound", (message,).into_pyobject(py)?),
        Error::InvalidReference(message) => make("InvalidReference", (message,).into_pyobject(py)?),
        Error::DigestMismatch(message) => make("DigestMismatch", (message,).into_pyobject(py)?),
        Error::Auth(message) => make("AuthError", (message,).into_pyobject(py)?),
        Error::Registry { text, status, code } => {
            keywords.set_item("status", status)?;
            keywords.set_item("code", code)?;
            make("RegistryError", (text,).into_pyobject(py)?)
        }
        Error::NoSpace { path } => make("NoSpaceError", (28, text(28)?, path).into_pyobject(py)?),
    }
}
