"""pycontainer: containers from inside a Python program. No daemon, no socket, no binary on PATH."""

from pycontainer._errors import (
    AuthError,
    BuildError,
    CalledProcessError,
    CommandNotExecutable,
    CommandNotFound,
    ContainerEnded,
    DigestMismatch,
    Error,
    ImageError,
    ImageNotFound,
    InvalidReference,
    LayerError,
    LimitExceeded,
    NoSpaceError,
    NotSupported,
    RegistryError,
    RemoteError,
    SetupError,
    StateError,
    TimeoutExpired,
)
from pycontainer._image import Image
from pycontainer._limits import IoLimit, Limits, NetworkLimit
from pycontainer._mounts import File, Mount
from pycontainer._result import Guarantee, Pressure, Reason, Result, Usage
from pycontainer._seccomp import Seccomp
from pycontainer._security import DEFAULT_CAPABILITIES, IdMap, Security
from pycontainer._types import DEVNULL, INHERIT, PIPE, STDOUT, TYPE_CHECKING

if TYPE_CHECKING:
    from pycontainer._doctor import Report, doctor
    from pycontainer._run import run
del TYPE_CHECKING

__all__ = [
    "DEFAULT_CAPABILITIES",
    "DEVNULL",
    "INHERIT",
    "PIPE",
    "STDOUT",
    "AuthError",
    "BuildError",
    "CalledProcessError",
    "CommandNotExecutable",
    "CommandNotFound",
    "ContainerEnded",
    "DigestMismatch",
    "Error",
    "File",
    "Guarantee",
    "IdMap",
    "Image",
    "ImageError",
    "ImageNotFound",
    "InvalidReference",
    "IoLimit",
    "LayerError",
    "LimitExceeded",
    "Limits",
    "Mount",
    "NetworkLimit",
    "NoSpaceError",
    "NotSupported",
    "Pressure",
    "Reason",
    "RegistryError",
    "RemoteError",
    "Report",
    "Result",
    "Seccomp",
    "Security",
    "SetupError",
    "StateError",
    "TimeoutExpired",
    "Usage",
    "doctor",
    "run",
]

# What makes containers is imported when it is first named, a sixth of the package's import: values alone describe one.
_LATER = {"Report": "_doctor", "doctor": "_doctor", "run": "_run"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_LATER[name]}", fromlist=(name,))
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
