//! The functions of `pycontainer._core`.

use super::child::Outcome;
use super::errors::raise;
use crate::image::used;
use crate::image::{archive, layers};
use crate::security::seccomp::{self, Action, Arch, ArgCmp, Op, Rule, Rules};
use crate::spawn::{engine, run};
use crate::{gate, runtime};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Runs one container to its end. The GIL is released; signals of the main thread are served.
#[pyfunction(name = "run")]
pub fn run_(py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let spec = super::spec::read(spec)?;
    interruptible(py, |check| run::run(spec, check)).map(|finished| Outcome::new(py, finished))
}

/// The root directory of an archive, unpacked into the store now or before. The GIL is released; signals are served.
#[pyfunction]
pub fn unpack_archive(py: Python<'_>, path: Vec<u8>) -> PyResult<OsString> {
    let store = runtime::store(rustix::process::geteuid().as_raw());
    let path = PathBuf::from(OsString::from_vec(path));
    interruptible(py, |check| archive::unpack(&path, &store, check)).map(PathBuf::into_os_string)
}

/// The root directories of layers that come as files, unpacked into the store at this path. Without the GIL; signals are served.
#[pyfunction]
pub fn unpack_layer_files(py: Python<'_>, paths: Vec<Vec<u8>>, store: Vec<u8>) -> PyResult<Vec<OsString>> {
    let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
    let (paths, store) = (paths.into_iter().map(path).collect::<Vec<_>>(), path(store));
    let found = interruptible(py, |check| layers::unpack_files(&store, &paths, check))?;
    Ok(found.into_iter().map(PathBuf::into_os_string).collect())
}

/// Native work without the GIL. It asks `check` now and then; what a signal's handler raised ends it.
///
/// Handlers run in the main thread alone. Another one asks nobody: a daemon thread that came back for it after the interpreter had
/// ended took the whole process down (PyGILState_Ensure has no interpreter then).
pub fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> crate::error::Result<T> + Send,
) -> PyResult<T> {
    interruptible_by(py, None, work)
}

/// What is called now and then in the calling thread.
pub type Each<'a> = dyn Fn(Python<'_>) -> PyResult<()> + Sync + 'a;

/// As above, and `each` is called now and then, in this thread; what it raises ends the work too.
pub fn interruptible_by<T: Send>(
    py: Python<'_>,
    each: Option<&Each<'_>>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> crate::error::Result<T> + Send,
) -> PyResult<T> {
    let mut interruption = None;
    let serves_signals = is_main_thread(py)?;
    let done = py.detach(|| {
        let mut look = |py: Python<'_>| {
            let signals = if serves_signals { py.check_signals() } else { Ok(()) };
            match signals.and_then(|()| each.map_or(Ok(()), |each| each(py))) {
                Ok(()) => false,
                Err(error) => {
                    interruption = Some(error);
                    true
                }
            }
        };
        // None while the interpreter ends: there is nobody to ask, and nothing to raise in.
        let mut check = || (serves_signals || each.is_some()) && Python::try_attach(&mut look).unwrap_or(false);
        work(&mut check)
    });
    match interruption {
        Some(error) => Err(error),
        None => done.map_err(|error| raise(py, error)),
    }
}

/// Python's main thread, which need not be the process's first one where an interpreter is embedded.
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import(pyo3::intern!(py, "threading"))?;
    let main = threading.call_method0(pyo3::intern!(py, "main_thread"))?.getattr(pyo3::intern!(py, "ident"))?;
    main.eq(threading.call_method0(pyo3::intern!(py, "get_ident"))?)
}

/// (pid, start time) of this interpreter's keeper; None where none runs.
#[pyfunction]
pub fn keeper_pid() -> Option<(i32, u64)> {
    let engine = engine::running()?;
    engine.keeper.is_alive().then_some((engine.keeper.pid, engine.keeper.start_time))
}

/// (pid of the keeper, pid of one that died before it, groups and layers that were swept): once, and None where there is nothing.
#[pyfunction]
pub fn take_notices(py: Python<'_>) -> Option<(i32, Option<i32>, usize, usize)> {
    // Another thread may be starting an engine; it does not need the GIL for that.
    let engine = py.detach(engine::running)?;
    let told = engine.take_notices();
    let (groups, layers) = (told.swept_groups, told.swept_layers);
    (told != engine::Notices::default()).then_some((engine.keeper.pid, told.replaced, groups, layers))
}

#[pyfunction]
pub fn fork_before(py: Python<'_>) {
    py.detach(gate::before_fork);
}

#[pyfunction]
pub fn fork_after_parent() {
    gate::after_fork_in_parent();
}

#[pyfunction]
pub fn fork_after_child() {
    engine::forget_in_forked_copy();
    used::forget_in_forked_copy();
    gate::after_fork_in_child();
}

/// (name, state, by, why, fix)
type Row = (String, String, String, String, String);

/// Rows of what control groups can hold here; tried for real.
#[pyfunction]
pub fn group_support(py: Python<'_>) -> PyResult<Vec<Row>> {
    let rows = py.detach(|| crate::cgroup::Place::discover(rustix::process::geteuid().is_root()).describe());
    Ok(rows
        .into_iter()
        .map(|row| (row.name.to_string(), row.state.as_str().to_string(), row.by, row.why, row.fix))
        .collect())
}

/// Where the wheel's copy of the keeper lies; said once at import.
#[pyfunction]
pub fn set_packaged_keeper(path: std::path::PathBuf) {
    let _ = engine::PACKAGED.set(path);
}

/// The default filter as classic BPF instructions of 8 bytes.
#[pyfunction]
pub fn seccomp_program<'py>(py: Python<'py>, capabilities: u64, deny_setid_bits: bool) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &seccomp::to_bytes(&seccomp::default_program(Arch::native(), capabilities, deny_setid_bits)))
}

/// (names, action, errno, [(index, op, value, value_two)])
type RuleTuple = (Vec<String>, String, Option<u16>, Vec<(u8, String, u64, u64)>);

/// A profile's rules as a filter, and the names that this architecture does not have.
#[pyfunction]
pub fn seccomp_compile<'py>(
    py: Python<'py>,
    default: (String, Option<u16>),
    rules: Vec<RuleTuple>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<String>)> {
    let rules =
        Rules { default: action(&default.0, default.1)?, rules: rules.into_iter().map(rule).collect::<PyResult<_>>()? };
    let (program, ignored) = seccomp::compile(Arch::native(), &rules).map_err(|error| raise(py, error))?;
    Ok((PyBytes::new(py, &seccomp::to_bytes(&program)), ignored))
}

fn action(word: &str, errno: Option<u16>) -> PyResult<Action> {
    Action::parse(word, errno).ok_or_else(|| PyValueError::new_err(format!("seccomp: unknown action {word:?}")))
}

fn rule((names, word, errno, args): RuleTuple) -> PyResult<Rule> {
    let args = args.into_iter().map(|(index, op, value, value_two)| {
        let op = Op::parse(&op).ok_or_else(|| PyValueError::new_err(format!("seccomp: unknown comparison {op:?}")))?;
        Ok(ArgCmp { index, op, value, value_two })
    });
    Ok(Rule { names, action: action(&word, errno)?, args: args.collect::<PyResult<_>>()? })
}
