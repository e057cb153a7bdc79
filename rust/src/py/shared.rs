//! The methods that a container of this process and one of another have in common: written once, since pyo3 takes one block for each class.

/// A `#[pymethods]` block of a class with `handle` and `outcome`: its own methods, and those of both.
macro_rules! handle_methods {
    ($class:ident { $($own:tt)* }) => {
        #[pymethods]
        impl $class {
            $($own)*

            /// (pid as this process sees it, pidfd); 0 and -1 where it is not known.
            fn command(&self, py: Python<'_>) -> PyResult<(i32, i32)> {
                let (pidfd, pid) = py.detach(|| self.handle.command()).map_err(|error| raise(py, error))?;
                Ok((pid, pidfd.map_or(-1, |pidfd| pidfd.as_raw_fd())))
            }

            /// A socket of its network namespace, for the caller to connect and close; -1 where its PID 1 does not answer in that time.
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

            /// What it came to; None while it runs.
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

            /// As if it had ended now, with nothing counted; None once it has ended.
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

            fn log(&self, py: Python<'_>) -> PyResult<Option<ContainerLog>> {
                let log = py.detach(|| self.handle.log()).map_err(|error| raise(py, error))?;
                Ok(log.map(ContainerLog::of))
            }

            /// Lets the kept output go.
            fn forget_log(&self, py: Python<'_>) -> PyResult<()> {
                py.detach(|| self.handle.forget_log()).map_err(|error| raise(py, error))
            }

            /// A socket for the caller, which gets a byte when something was written to the log and ends with the container.
            fn listen(&self, py: Python<'_>) -> PyResult<i32> {
                py.detach(|| self.handle.listen()).map(IntoRawFd::into_raw_fd).map_err(|error| raise(py, error))
            }

            /// Starts a command beside the first one.
            fn popen(&self, py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Exec> {
                let spec = $crate::py::spec::read_beside(spec, self.handle.spec())?;
                interruptible(py, |check| NativeExec::start(&self.handle, spec, check)).map(Exec::of)
            }

            /// Sends a command on its way; `Exec.runs` tells what became of it.
            fn launch(&self, py: Python<'_>, spec: &Bound<'_, PyAny>) -> PyResult<Exec> {
                let spec = $crate::py::spec::read_beside(spec, self.handle.spec())?;
                interruptible(py, |check| NativeExec::launch(&self.handle, spec, check)).map(Exec::of)
            }

            /// Runs a command beside the first one to its end.
            fn exec<'py>(&self, py: Python<'py>, spec: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
                let spec = $crate::py::spec::read_beside(spec, self.handle.spec())?;
                let done = interruptible(py, |check| NativeExec::run(&self.handle, spec, check))?;
                whole(py, done)
            }
        }
    };
}

pub(super) use handle_methods;
