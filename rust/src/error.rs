//! The one error type of the native side. No pyo3, no unsafe; text is rendered here and nowhere else.

use std::fmt;

/// What went wrong, in the classes that Python raises (see docs/errors.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A step failed in the kernel: "mount overlay on /: EINVAL". Becomes `SetupError`.
    Setup { step: String, path: Option<String>, errno: i32, note: Option<String> },
    /// This machine cannot hold what was asked. Becomes `NotSupported`.
    NotSupported { requirement: String, cause: String, fix: String },
    /// The command is not in the container. Becomes `CommandNotFound`.
    CommandNotFound { command: String },
    /// The command is there and cannot be executed. Becomes `CommandNotExecutable`.
    CommandNotExecutable { command: String, errno: i32 },
    /// The caller's mistake; the text names the argument. Becomes `ValueError`.
    Value(String),
    /// The object is not in a state in which this can be done. Becomes `StateError`.
    State(String),
    /// An archive or a layer that cannot be read, or asks for what it may not. Becomes `LayerError`.
    Layer(String),
    /// An image, a store or a document of either that is not as it has to be. Becomes `ImageError`.
    Image(String),
    /// No image of this reference, here or where it was looked for. Becomes `ImageNotFound`.
    ImageNotFound(String),
    /// Becomes `InvalidReference`.
    InvalidReference(String),
    /// Content is not what its digest says. Becomes `DigestMismatch`.
    DigestMismatch(String),
    /// A registry's answer, or that there was none. Becomes `RegistryError`.
    Registry { text: String, status: Option<u16>, code: Option<String> },
    /// Becomes `AuthError`.
    Auth(String),
    /// The store's file system is full, or nearly. Becomes `NoSpaceError`.
    NoSpace { path: Option<String> },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn setup(step: impl Into<String>, errno: i32) -> Self {
        Error::Setup { step: step.into(), path: None, errno, note: None }
    }

    pub fn setup_at(step: impl Into<String>, path: impl Into<String>, errno: i32) -> Self {
        Error::Setup { step: step.into(), path: Some(path.into()), errno, note: None }
    }

    pub fn unsupported(requirement: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Error::NotSupported { requirement: requirement.into(), cause: cause.into(), fix: fix.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Setup { step, path, errno, note } => {
                write!(f, "{step}")?;
                if let Some(path) = path {
                    write!(f, " {path}")?;
                }
                write!(f, ": {}", std::io::Error::from_raw_os_error(*errno))?;
                note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
            }
            Error::NotSupported { requirement, cause, fix } => write!(f, "{requirement}: {cause}; {fix}"),
            Error::CommandNotFound { command } => write!(f, "command not found in the container: {command}"),
            Error::CommandNotExecutable { command, errno } => {
                write!(f, "cannot execute {command}: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Error::NoSpace { path } => {
                write!(f, "no space left in the store")?;
                path.as_ref().map_or(Ok(()), |path| write!(f, " {path}"))
            }
            Error::Value(text)
            | Error::State(text)
            | Error::Layer(text)
            | Error::Image(text)
            | Error::ImageNotFound(text)
            | Error::InvalidReference(text)
            | Error::DigestMismatch(text)
            | Error::Auth(text)
            | Error::Registry { text, .. } => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<(&str, rustix::io::Errno)> for Error {
    fn from((step, errno): (&str, rustix::io::Errno)) -> Self {
        Error::setup(step, errno.raw_os_error())
    }
}
