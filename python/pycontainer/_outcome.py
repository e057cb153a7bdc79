"""From the native outcome of a command to what its caller gets: texts, usage, rows of `enforced`, hints."""

from __future__ import annotations

import math
import os

from pycontainer._enforced import Enforced
from pycontainer._errors import CommandNotFound
from pycontainer._result import Pressure, Usage
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._errors import SetupError
    from pycontainer._limits import Limits
    from pycontainer._spec import Spec

OUTPUTS = ("stdout", "stderr")
# Seconds: a Limits holds no shorter time, a timeout may be shorter.
_SHORTEST = 1e-6


def encode(data: Any, text_mode: bool, encoding: str | None, errors: str | None) -> bytes:
    """Encode what goes into a stdin; bytes are taken as they are."""
    if isinstance(data, str):
        if not text_mode:
            raise TypeError("input must be bytes, not str; text=True takes str")
        return data.replace("\n", os.linesep).encode(encoding or "utf-8", errors or "strict")
    if text_mode:
        raise TypeError(f"input must be str with text=True, not {type(data).__name__}")
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"input must be bytes-like, not {type(data).__name__}") from None


def decode(data: bytes, encoding: str | None, errors: str | None) -> str:
    """Decode as text mode does: what a container prints never raises, and line ends are universal."""
    return data.decode(encoding or "utf-8", errors or "replace").replace("\r\n", "\n").replace("\r", "\n")


def rows(outcome: Any, spec: Spec) -> Enforced:
    """Say what was asked, and how it is held; made when somebody looks."""
    own = _own()

    def sources() -> tuple[dict[str, Any], list[tuple[str, ...]], dict[str, Any]]:
        held = outcome.held()
        return outcome.evidence(), held, _asked(spec, held, own)

    return Enforced(sources)


def limits_in_force(spec: Spec) -> Limits:
    """Tell the limits of a run, of which its timeout is one."""
    if spec.timeout is None or spec.said.wall_time is not None:
        return spec.said
    return spec.said.replace(wall_time=max(spec.timeout, _SHORTEST))


def truncated(outcome: Any) -> list[str]:
    """Name the streams of which something was dropped."""
    return [name for name, cut in zip(OUTPUTS, outcome.truncated, strict=True) if cut]


def usage(outcome: Any) -> Usage:
    """Make the Usage of a container."""
    fields = outcome.usage()
    if fields["pressure"] is not None:
        fields["pressure"] = Pressure(*fields["pressure"])
    return Usage(**fields)


_own_namespaces: dict[str, int] = {}


def _own() -> dict[str, int]:
    """Inodes of this process's own namespaces, read once: a process that changes them gets a new engine anyway."""
    if not _own_namespaces:
        for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
            try:
                _own_namespaces[name] = int(os.readlink(f"/proc/self/ns/{name}").partition("[")[2].rstrip("]"))
            except OSError:
                _own_namespaces[name] = 0
    return _own_namespaces


# What holds the limits that no control group does.
_KEPT_BY = {
    "cpu_time": "the keeper's clock",
    "wall_time": "the keeper's clock",
    "output": "the reader of the pipes",
    "disk": "the size of the tmpfs",
    "rlimits": "setrlimit",
    "oom_score_adj": "/proc",
}
LIFTED = "lifted, as asked"


def _asked(spec: Spec, held: list[tuple[str, ...]], own: dict[str, int]) -> dict[str, Any]:
    """What the rows of `enforced` are compared with: `held` are those of control groups, `own` our namespaces."""
    said = spec.said
    kept = {name: _KEPT_BY[name] for name in _KEPT_BY if getattr(said, name) not in (None, {})}
    kept |= {name: LIFTED for name in kept if getattr(said, name) == math.inf}
    if said.io and not spec.io:
        kept["io"] = LIFTED
    return {
        "namespaces": spec.choices,
        "own_namespaces": own,
        "user_namespace": "host" if spec.user_namespace == [] else "auto",
        "capabilities": spec.capabilities,
        "no_new_privileges": spec.no_new_privileges,
        "seccomp": spec.seccomp != b"",
        "landlock": spec.landlock,
        "read_only": spec.read_only,
        "upper": "disk" if spec.upper_on_disk else "memory",
        "pids": said.pids,
        "pids_by_group": any(name == "pids" for name, *_ in held),
        "kept": kept,
        "said": said,
    }


def with_mount_hint(error: CommandNotFound, spec: Any) -> SetupError:
    """Where the command exists on this machine but not in the image, say so, and name the mount."""
    name = os.fsdecode(spec.argv[0])
    found = name if os.path.isabs(name) else None
    if found is None and "/" not in name:
        for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
            candidate = os.path.join(directory, name)
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                found = candidate
                break
    if found is None or not os.path.isfile(found):
        return error
    # The file alone, under the name by which it was looked for: its directory could hide one of the image's.
    bind = f"Mount.bind({os.path.realpath(found)!r}, {found!r}, read_only=True)"
    hint = f"{found} is on this machine, not in the image: mounts=[{bind}]"
    if name != found and os.fsencode(os.path.dirname(found)) not in spec.path:
        hint += f", and {found!r} as the command"
    return CommandNotFound(error.errno or 2, error.strerror, error.filename, step=error.step, hint=hint)
