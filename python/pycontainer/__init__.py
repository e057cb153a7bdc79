"""pycontainer: containers from inside a Python program. No daemon, no socket, no binary on PATH.

Names are imported when they are first used: a program that only might run a container does not pay for what runs it.
The errors of a start that fails are there at once, also where nothing more can be imported. What type checkers see is
in __init__.pyi.
"""

import os as _os

from pycontainer import _errors

# A program may go elsewhere before a first use.
__path__ = [_os.path.abspath(place) for place in __path__]

_HOMES = {
    "_container": ("Container",),
    "_dockerfile": ("Dockerfile",),
    "_doctor": ("Report", "doctor"),
    "_errors": (
        "AuthError",
        "BuildError",
        "CommandNotExecutable",
        "CommandNotFound",
        "ContainerEnded",
        "DigestMismatch",
        "Error",
        "ImageError",
        "ImageNotFound",
        "InvalidReference",
        "LayerError",
        "NoSpaceError",
        "NotSupported",
        "RegistryError",
        "RemoteError",
        "SetupError",
        "StateError",
    ),
    "_failures": ("CalledProcessError", "LimitExceeded", "TimeoutExpired"),
    "_files": ("Change",),
    "_image": ("Image",),
    "_limits": ("IoLimit", "Limits", "NetworkLimit"),
    "_listening": ("events",),
    "_mounts": ("File", "Mount"),
    "_process": ("Process",),
    "_result": ("Guarantee", "Pressure", "Reason", "Result", "Usage"),
    "_run": ("run",),
    "_seccomp": ("Seccomp",),
    "_security": ("DEFAULT_CAPABILITIES", "IdMap", "Security"),
    "_types": ("DEVNULL", "INHERIT", "PIPE", "STDOUT"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

_MODULES = ("wait",)

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME.get(name, name)}"
    try:
        module = __import__(home, fromlist=(name,))
        value: object = module if name in _MODULES else getattr(module, name)
    except OSError as error:  # no descriptor is free
        raise _errors.SetupError(error.errno or 0, error.strerror, error.filename, step=f"import {home}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
