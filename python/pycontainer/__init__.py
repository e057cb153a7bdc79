"""pycontainer: containers from inside a Python program. No daemon, no socket, no binary on PATH.

Each name is imported when it is first used: a program that only might run a container does not pay for what runs it.
What type checkers see is in __init__.pyi.
"""

_HOMES = {
    "_doctor": ("Report", "doctor"),
    "_errors": (
        "AuthError",
        "BuildError",
        "CalledProcessError",
        "CommandNotExecutable",
        "CommandNotFound",
        "ContainerEnded",
        "DigestMismatch",
        "Error",
        "ImageError",
        "ImageNotFound",
        "InvalidReference",
        "LayerError",
        "LimitExceeded",
        "NoSpaceError",
        "NotSupported",
        "RegistryError",
        "RemoteError",
        "SetupError",
        "StateError",
        "TimeoutExpired",
    ),
    "_image": ("Image",),
    "_limits": ("IoLimit", "Limits", "NetworkLimit"),
    "_mounts": ("File", "Mount"),
    "_result": ("Guarantee", "Pressure", "Reason", "Result", "Usage"),
    "_run": ("run",),
    "_seccomp": ("Seccomp",),
    "_security": ("DEFAULT_CAPABILITIES", "IdMap", "Security"),
    "_types": ("DEVNULL", "INHERIT", "PIPE", "STDOUT"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(__import__(f"{__name__}.{_HOME[name]}", fromlist=(name,)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
