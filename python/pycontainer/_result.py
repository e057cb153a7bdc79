"""What a run comes back with: verdict, use, guarantees, output. Plain values; measures nothing and reads no file."""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Mapping

from pycontainer._failures import CalledProcessError, LimitExceeded
from pycontainer._limits import Limits
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import Frozen, FrozenMap, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, AnyStr

_UNSAID = Limits()


class Reason(enum.StrEnum):
    """What ended a run. With several causes, the first in time counts."""

    EXITED = "exited"
    SIGNALED = "signaled"
    TIMEOUT = "timeout"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    HOST_MEMORY = "host_memory"
    OUTPUT = "output"
    STOPPED = "stopped"
    KILLED = "killed"


class Pressure(Frozen):
    """Seconds in which tasks of the container were stalled for a resource: `some` of them, or all (`full`).

    The kernel's pressure stall information; None where this kernel keeps none.
    """

    __slots__ = ("cpu_some", "io_full", "io_some", "memory_full", "memory_some")
    _defaults = dict.fromkeys(__slots__)
    cpu_some: float | None
    memory_some: float | None
    memory_full: float | None
    io_some: float | None
    io_full: float | None

    def __init__(
        self,
        cpu_some: float | None = None,
        memory_some: float | None = None,
        memory_full: float | None = None,
        io_some: float | None = None,
        io_full: float | None = None,
    ) -> None:
        self._take(locals())


class Usage(Frozen):
    """What a run used. What this kernel cannot tell is None, never 0.

    Attributes:
        wall: seconds from the command's start to its end.
        cpu: seconds of CPU of the whole tree; cpu_user and cpu_system are its parts.
        memory_peak: bytes, with the upper layer and tmpfs where they lie in memory.
        disk: bytes in the writable layer at the end.
        disk_full: whether the writable layer was full at the end (ENOSPC inside); the kernel keeps no more of it.
        pids_peak: the most tasks at one time.
        pids_denied: how many forks the pids limit refused (EAGAIN inside).
        io_read, io_write: bytes from and to block devices.
        oom_kills: how many processes the OOM killer took.
        pressure: stalled seconds, or None.
    """

    __slots__ = (
        "cpu",
        "cpu_system",
        "cpu_user",
        "disk",
        "disk_full",
        "io_read",
        "io_write",
        "memory_peak",
        "oom_kills",
        "pids_denied",
        "pids_peak",
        "pressure",
        "wall",
    )
    _defaults = dict.fromkeys(__slots__)
    wall: float | None
    cpu: float | None
    cpu_user: float | None
    cpu_system: float | None
    memory_peak: int | None
    disk: int | None
    disk_full: bool | None
    pids_peak: int | None
    pids_denied: int | None
    io_read: int | None
    io_write: int | None
    oom_kills: int | None
    pressure: Pressure | None

    def __init__(
        self,
        *,
        wall: float | None = None,
        cpu: float | None = None,
        cpu_user: float | None = None,
        cpu_system: float | None = None,
        memory_peak: int | None = None,
        disk: int | None = None,
        disk_full: bool | None = None,
        pids_peak: int | None = None,
        pids_denied: int | None = None,
        io_read: int | None = None,
        io_write: int | None = None,
        oom_kills: int | None = None,
        pressure: Pressure | None = None,
    ) -> None:
        self._take(locals())


class Guarantee(Frozen):
    """One thing that the engine promises, and how it is held here.

    Attributes:
        name: the key in `Result.enforced` and in doctor()'s report.
        state: "held", "degraded" or "missing".
        by: what holds it, such as "cgroup v1".
        why: the cause, where it is not held in full.
        fix: the command that cures it.
    """

    __slots__ = ("by", "fix", "name", "state", "why")
    _defaults = dict.fromkeys(("by", "why", "fix"), "")
    name: str
    state: str
    by: str
    why: str
    fix: str

    def __init__(self, name: str, state: str, by: str = "", why: str = "", fix: str = "") -> None:
        if state not in ("held", "degraded", "missing"):
            raise ValueError(f"state must be 'held', 'degraded' or 'missing', not {state!r}")
        self._take(locals())


class Result(subprocess.CompletedProcess["AnyStr"]):
    """What a command came back with; a `subprocess.CompletedProcess` with a verdict.

    Attributes:
        args: the command, as given.
        returncode: its exit status; a killing signal is negative.
        stdout, stderr: what was captured, bytes or str, or None where it was not.
        reason: what ended it.
        usage: what it used.
        enforced: a Guarantee for everything that was asked and everything that is never skipped.
        truncated: the names of the streams of which something was dropped.
    """

    reason: Reason
    enforced: Mapping[str, Guarantee]
    truncated: tuple[str, ...]

    def __init__(
        self,
        args: Any,
        returncode: int,
        stdout: AnyStr | None = None,
        stderr: AnyStr | None = None,
        *,
        reason: Reason = Reason.EXITED,
        usage: Usage | Callable[[], Usage] | None = None,
        enforced: Mapping[str, Guarantee] | None = None,
        truncated: Iterable[str] = (),
        limits: Limits | None = None,
    ) -> None:
        # mypy checks the body once for str and once for bytes, but leaves the base class generic.
        super().__init__(args, returncode, stdout, stderr)  # type: ignore[arg-type]
        self.reason = Reason(reason)
        # A run's own numbers and rows are made when somebody looks: nothing here may.
        self._usage = usage or Usage
        self.enforced = enforced if isinstance(enforced, FrozenMap) else FrozenMap(enforced or {})
        self.truncated = tuple(truncated)
        self._limits = limits or _UNSAID

    @property
    def usage(self) -> Usage:
        """What the command used."""
        if not isinstance(self._usage, Usage):
            self._usage = self._usage()
        return self._usage

    def _without_output(self) -> Result[Any]:
        return Result(
            self.args,
            self.returncode,
            reason=self.reason,
            usage=self._usage,
            enforced=self.enforced,
            truncated=self.truncated,
            limits=self._limits,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_usage": self.usage}

    def __repr__(self) -> str:
        parts = [f"args={self.args!r}", f"returncode={self.returncode}", f"reason={self.reason.name}"]
        for name in ("stdout", "stderr"):
            if getattr(self, name) is not None:
                parts.append(f"{name}={_brief(getattr(self, name))}")
        if self.truncated:
            parts.append(f"truncated={self.truncated!r}")
        return f"Result({', '.join(parts)})"

    def check_returncode(self) -> None:
        """Raise if a limit ended the run or the status is not 0.

        Raises:
            LimitExceeded: a limit did, whatever the status.
            CalledProcessError: the status is not 0.
        """
        error = self._error()
        if error is not None:
            raise error

    def _error(self) -> CalledProcessError | None:
        about = (self.returncode, self.args, self.stdout, self.stderr)
        if self.reason in _VERDICTS:
            return LimitExceeded(*about, result=self, reason=self.reason, verdict=_VERDICTS[self.reason](self))
        return CalledProcessError(*about, result=self) if self.returncode else None


def _brief(output: str | bytes) -> str:
    """An output for a repr: whole when short, otherwise its beginning and its size."""
    if len(output) <= 200:
        return repr(output)
    unit = "characters" if isinstance(output, str) else "bytes"
    return f"<{output[:60]!r}... {len(output)} {unit}>"


def _size(size: float) -> str:
    return format_size(size).replace(".0 ", " ")


def _of_memory(result: Result[Any]) -> str:
    peak, limit = result.usage.memory_peak, result._limits.memory
    parts = [] if peak is None else [f"peak {format_size(peak)}"]
    if limit is not None:
        parts.append(f"of {_size(limit)}")
    return "ended by its memory limit" + (f": {' '.join(parts)}" if parts else "")


def _of_host_memory(result: Result[Any]) -> str:
    return "ended by the OOM killer, for a memory limit above this container or the machine's own"


def _of_seconds(name: str, used: float | None, limit: float | None) -> str:
    parts = [] if used is None else [f"{used:.1f} s"]
    if limit is not None:
        parts.append(f"of {limit:g} s")
    return f"ended by its {name} limit" + (f": {' '.join(parts)}" if parts else "")


def _of_output(result: Result[Any]) -> str:
    limit = result._limits.output
    return "ended by its output limit" + (f": more than {_size(limit)}" if limit is not None else "")


_VERDICTS: dict[Reason, Callable[[Result[Any]], str]] = {
    Reason.MEMORY: _of_memory,
    Reason.HOST_MEMORY: _of_host_memory,
    Reason.CPU_TIME: lambda result: _of_seconds("cpu_time", result.usage.cpu, result._limits.cpu_time),
    Reason.TIMEOUT: lambda result: _of_seconds("time", result.usage.wall, result._limits.wall_time),
    Reason.OUTPUT: _of_output,
}
