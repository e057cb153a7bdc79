//! What a run came to, as Python reads it: one frozen object of plain values.

use crate::spawn::outcome::{Finished, reason, returncode};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::{Arc, Mutex};

type Output = (Py<PyBytes>, Py<PyBytes>);

/// The raw result of one run; `pycontainer._run` makes a Result of it.
#[pyclass(frozen, module = "pycontainer._core")]
pub struct Outcome {
    #[pyo3(get)]
    returncode: i32,
    #[pyo3(get)]
    reason: &'static str,
    /// Until it is taken: this object lives as long as somebody may look at the rest, which is small.
    output: Mutex<Option<Output>>,
    #[pyo3(get)]
    truncated: (bool, bool),
    finished: Arc<Finished>,
}

impl Outcome {
    pub fn new(py: Python<'_>, mut finished: Finished) -> Outcome {
        let bytes = |data: &mut Vec<u8>| PyBytes::new(py, &std::mem::take(data)).unbind();
        let output = (bytes(&mut finished.stdout), bytes(&mut finished.stderr));
        Outcome { output: Mutex::new(Some(output)), ..Outcome::of(Arc::new(finished)) }
    }

    /// Without output.
    pub fn of(finished: Arc<Finished>) -> Outcome {
        Outcome {
            returncode: returncode(finished.ended.status),
            reason: reason(&finished.ended, &finished.counters, finished.seen).word(),
            output: Mutex::new(None),
            truncated: (finished.truncated[0], finished.truncated[1]),
            finished,
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[pymethods]
impl Outcome {
    /// What was captured of stdout and stderr; None the second time.
    fn take_output(&self) -> Option<Output> {
        self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    /// The fields of `Usage`: seconds and bytes, None for what this kernel did not tell.
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (ended, counters) = (&self.finished.ended, &self.finished.counters);
        let user = counters.cpu_user_usec.unwrap_or(ended.user);
        let system = counters.cpu_system_usec.unwrap_or(ended.system);
        let usage = PyDict::new(py);
        let ran = (ended.started > 0).then(|| ended.ended.saturating_sub(ended.started) as f64 / 1e9);
        usage.set_item("wall", ran)?;
        usage.set_item("cpu", seconds(counters.cpu_usec.unwrap_or(user + system)))?;
        usage.set_item("cpu_user", seconds(user))?;
        usage.set_item("cpu_system", seconds(system))?;
        usage.set_item("memory_peak", counters.memory_peak.unwrap_or(ended.max_rss_kib * 1024))?;
        usage.set_item("pids_peak", counters.pids_peak)?;
        usage.set_item("pids_denied", counters.pids_denied)?;
        usage.set_item("io_read", counters.io_read)?;
        usage.set_item("io_write", counters.io_write)?;
        usage.set_item("oom_kills", counters.oom_kills)?;
        usage.set_item("pressure", counters.pressure.map(|p| (p[0], p[1], p[2], p[3], p[4])))?;
        let ground = self.finished.copied.unwrap_or(0);
        let measured = ended.upper_bytes > 0 && (self.finished.upper_in_memory || self.finished.bound.is_some());
        usage.set_item(
            "disk",
            measured.then(|| ended.upper_bytes.saturating_sub(ended.upper_free).saturating_sub(ground)),
        )?;
        // On a disk the last blocks are lost to metadata, and a write of several blocks is refused as one.
        let rest = if self.finished.bound.is_some() { (64 << 10).min(ended.upper_bytes / 16) } else { 0 };
        let full = ended.upper_free <= rest || ended.upper_files > 0 && ended.upper_files_free == 0;
        usage.set_item("disk_full", measured.then_some(full))?;
        Ok(usage)
    }

    /// What the kernel said after exec, for the rows of `Result.enforced`.
    fn evidence<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let seen = &self.finished.evidence;
        let facts = PyDict::new(py);
        facts.set_item("status", PyBytes::new(py, &seen.status))?;
        facts.set_item("uid_map", PyBytes::new(py, &seen.uid_map))?;
        facts.set_item("cgroup", PyBytes::new(py, &seen.cgroup))?;
        let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
        for (name, inode) in names.iter().zip(seen.namespaces) {
            facts.set_item(format!("ns:{name}"), inode)?;
        }
        facts.set_item("mount_flags", seen.mount_flags)?;
        facts.set_item("nproc", seen.nproc.unwrap_or(u64::MAX))?;
        facts.set_item("landlock", seen.landlock)?;
        facts.set_item("mapped", seen.mapped)?;
        facts.set_item("is_root", seen.is_root)?;
        facts.set_item("size", seen.size.saturating_sub(self.finished.copied.unwrap_or(0)))?;
        facts.set_item("rlimits", PyBytes::new(py, &seen.rlimits))?;
        facts.set_item("oom_score_adj", PyBytes::new(py, &seen.oom_score))?;
        facts.set_item("uncovered", seen.uncovered.clone())?;
        facts.set_item("upper_in_memory", self.finished.upper_in_memory)?;
        facts.set_item("copied", self.finished.copied.is_some())?;
        facts.set_item("served", self.finished.served)?;
        facts.set_item("disk_bound", self.finished.bound.map(|bound| bound.means.words()))?;
        facts.set_item("rootless", self.finished.rootless)?;
        facts.set_item("group_paths", self.finished.group_paths.clone())?;
        Ok(facts)
    }

    /// Rows (name, state, by, why, fix) of the limits that control groups hold.
    fn held(&self) -> Vec<(&str, &str, &str, &str, &str)> {
        let rows = self.finished.held.iter();
        rows.map(|row| (row.name, row.state.as_str(), row.by.as_str(), row.why.as_str(), row.fix.as_str())).collect()
    }

    /// Nanoseconds of this call before the command started and after it ended.
    fn overhead(&self) -> (u64, u64) {
        let (ended, finished) = (&self.finished.ended, &self.finished);
        (ended.started.saturating_sub(finished.called), finished.answered.saturating_sub(ended.ended))
    }
}
