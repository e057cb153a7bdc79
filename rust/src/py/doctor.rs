//! What `pycontainer.doctor()` asks of the native side: plain values, no policy.

use crate::spawn::{causes, disk, driver, engine, probe};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;

/// The answers of the kernel that need no container: see `spawn::probe::Answers`.
#[pyfunction]
pub fn probe_host(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let answers = py.detach(probe::everything);
    let facts = PyDict::new(py);
    facts.set_item("calls", answers.calls)?;
    facts.set_item("user_namespace", answers.user_namespace)?;
    facts.set_item("sys_resource", answers.sys_resource)?;
    facts.set_item("landlock", answers.landlock)?;
    facts.set_item("memfd", answers.memfd)?;
    facts.set_item("subuid", answers.subuid)?;
    let running = engine::running();
    facts.set_item("root", running.as_ref().map(|engine| engine.is_root()))?;
    facts.set_item("ids", running.map(|engine| engine.ids()))?;
    Ok(facts)
}

/// (what would hold a writable layer on the disk to its size, why nothing would, the cure); tried for real.
#[pyfunction]
pub fn disk_bound(py: Python<'_>) -> (Option<&'static str>, String, &'static str) {
    match py.detach(disk::tried) {
        Ok(means) => (Some(means.words()), String::new(), ""),
        Err(missing) => (None, missing.why, missing.fix),
    }
}

/// (path of the store, kind of its file system, bytes of its images and of caches of builds, driver or None, why) for the engine that runs; None without one.
type Storage = (PathBuf, String, (u64, u64), Option<&'static str>, bool, String);

#[pyfunction]
pub fn storage(py: Python<'_>) -> Option<Storage> {
    let driver::Report { path, kind, choice, used, cached } =
        py.detach(|| Some(driver::report(&*engine::running()?)))?;
    let (driver, shifted, why) = match choice {
        Ok(choice) => (Some(choice.driver.name()), choice.shifted, choice.why),
        Err(error) => (None, false, error.to_string()),
    };
    Some((path, kind, (used, cached), driver, shifted, why))
}

/// (name, why, fix) of every cause that an error of the native side can name.
#[pyfunction(name = "causes")]
pub fn causes_() -> Vec<(&'static str, &'static str, &'static str)> {
    causes::ALL.iter().map(|cause| (cause.name, cause.why, cause.fix)).collect()
}
