"""Limits: what a container may use, as frozen values. Checks and merges; asks the machine nothing, enforces nothing."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping

from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import (
    Frozen,
    FrozenMap,
    exact_size,
    host_path,
    is_max,
    is_sequence,
    parse_bool,
    parse_duration,
    parse_int,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Self, TypeAlias

    from pycontainer._types import Duration, Size

    Rlimit: TypeAlias = int | float | str
    Parser: TypeAlias = Callable[[Any, str], Any]

# Below it a container cannot be set up: on Linux 6.18 `sh -c :` alone needs 384 KiB with its pages in the cache,
# and PID 1, the page tables and the upper layer's tmpfs come on top. Docker asks for 6 MiB.
MEMORY_MIN = 2**20
DISK_MIN = 4096  # one page: to tmpfs `size=0` means no bound at all
CPUS_MAX = 8192  # the largest NR_CPUS of any architecture
CPUS_MIN = 0.01  # the kernel's least quota, 1 ms, in its default period of 100 ms
TASKS_MAX = 2**22  # PID_MAX_LIMIT
RLIM_MAX = 2**63 - 1

# https://man7.org/linux/man-pages/man2/getrlimit.2.html
BYTE_RLIMITS = ("as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack")  # these take sizes
RLIMITS = (*BYTE_RLIMITS, "cpu", "locks", "nice", "nofile", "nproc", "rtprio", "rttime", "sigpending")


def _sayable(value: Any) -> Any:
    """A value as a caller would write it: "max" for math.inf, whose repr cannot be evaluated."""
    if isinstance(value, Mapping):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_sayable(item) for item in value)
    return "max" if value == math.inf else value


class _Said(Frozen):
    """A value of which a field that is None was not said. The repr shows what was said and can be evaluated."""

    __slots__ = ()
    _sizes: frozenset[str] = frozenset()

    def _said(self) -> dict[str, Any]:
        return {name: value for name, value in self._values().items() if value is not None}

    def __repr__(self) -> str:
        said = self._said().items()
        parts = (f"{k}={(exact_size(v) if k in self._sizes else _sayable(v))!r}" for k, v in said)
        return f"{type(self).__name__}({', '.join(parts)})"

    def _parse(self, given: Mapping[str, Any], parsers: Mapping[str, Parser]) -> None:
        self._fill({k: None if given[k] is None else parse(given[k], k) for k, parse in parsers.items()})


def _at_least(minimum: int) -> Parser:
    return lambda value, argument: parse_size(value, argument, minimum)


def _count(value: Any, argument: str, maximum: int = RLIM_MAX) -> int | float:
    return math.inf if is_max(value) else parse_int(value, argument, 1, maximum)


def _weight(value: Any, argument: str) -> int:
    return parse_int(value, argument, 1, 10000)


def _tasks(value: Any, argument: str) -> int | float:
    return _count(value, argument, TASKS_MAX)


def _number(value: Any, argument: str, minimum: float, maximum: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number, not {type(value).__name__}")
    if not minimum <= value <= maximum:  # NaN is refused too: every comparison with it is false
        raise ValueError(f"{argument} must be from {minimum} to {maximum}, not {shown(value)}")
    return float(value)


def _cpus(value: Any, argument: str) -> float:
    return math.inf if is_max(value) else _number(value, argument, CPUS_MIN, CPUS_MAX)


def _cpuset(value: Any, argument: str) -> str:
    """Read "0-3,5" or [0, 1] and write the kernel's own form: sorted, without overlaps, ranges joined."""
    if isinstance(value, str):
        cpus = _cpus_of_text(value, argument)
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, Mapping)):
        cpus = {parse_int(cpu, argument, 0, CPUS_MAX - 1) for cpu in value}
    else:
        raise TypeError(f"{argument} must be a str such as '0-3,5' or a list of ints, not {type(value).__name__}")
    if not cpus:
        raise ValueError(f"{argument} names no CPU")
    return _ranges(sorted(cpus))


def _cpus_of_text(text: str, argument: str) -> set[int]:
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < CPUS_MAX:
            raise ValueError(f"{argument} must be CPUs below {CPUS_MAX} such as '0-3,5', not {shown(text)}")
        cpus.update(range(first, last + 1))
    return cpus


def _ranges(cpus: list[int]) -> str:
    spans: list[list[int]] = []
    for cpu in cpus:
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _output_mode(value: Any, argument: str) -> str:
    if value not in ("kill", "truncate"):
        raise ValueError(f"{argument} must be 'kill' or 'truncate', not {shown(value)}")
    return str(value)


def _score(value: Any, argument: str) -> int:
    return parse_int(value, argument, -1000, 1000)


def _io(value: Any, argument: str) -> FrozenMap[str, IoLimit]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be a mapping of devices or paths to IoLimit, not {type(value).__name__}")
    made: dict[str, IoLimit] = {}
    for key, limit in value.items():
        if not isinstance(limit, IoLimit):
            raise TypeError(f"{argument}[{shown(key)}] must be an IoLimit, not {type(limit).__name__}")
        made[_device(key, argument)] = limit
    return FrozenMap(made)


def _device(key: Any, argument: str) -> str:
    """A device number "8:0", or a path: the device itself, or anything on the file system that lies on it."""
    name = f"a key of {argument}"
    if isinstance(key, str) and re.fullmatch(r"[0-9]{1,4}:[0-9]{1,7}", key, re.ASCII):
        return key
    if not isinstance(key, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be a device 'major:minor' or a path, not {type(key).__name__}")
    return host_path(key, name)


def _network(value: Any, argument: str) -> NetworkLimit:
    if not isinstance(value, NetworkLimit):
        raise TypeError(f"{argument} must be a NetworkLimit, not {type(value).__name__}")
    return value


def _rlimits(value: Any, argument: str) -> FrozenMap[str, tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be a mapping of names to limits, not {type(value).__name__}")
    for name in value:
        if name not in RLIMITS:
            raise ValueError(f"{argument} has no {shown(name)}; the names are {', '.join(RLIMITS)}")
    return FrozenMap({name: _rlimit(limit, name, f"{argument}[{name!r}]") for name, limit in value.items()})


def _rlimit(limit: Any, name: str, argument: str) -> tuple[Any, Any]:
    pair = tuple(limit) if is_sequence(limit) else (limit, limit)
    if len(pair) != 2:
        raise ValueError(f"{argument} must be one limit or (soft, hard), not {shown(limit)}")
    soft, hard = (_rlimit_value(part, name, argument) for part in pair)
    if soft > hard:
        raise ValueError(f"{argument} has a soft limit above the hard one: {shown(limit)}")
    return soft, hard


def _rlimit_value(value: Any, name: str, argument: str) -> int | float:
    if is_max(value):
        return math.inf
    return parse_size(value, argument) if name in BYTE_RLIMITS else parse_int(value, argument, 0, RLIM_MAX)


class IoLimit(_Said):
    """What one block device may carry: bytes (sizes) and operations per second. "max" lifts a limit.

    Raises:
        ValueError: a limit below 1, or above 2**63-1.
        TypeError: a limit of another type.
    """

    __slots__ = ("read_bps", "read_iops", "write_bps", "write_iops")
    _sizes = frozenset({"read_bps", "write_bps"})
    read_bps: int | float | None
    read_iops: int | float | None
    write_bps: int | float | None
    write_iops: int | float | None

    def __init__(
        self,
        *,
        read_bps: Size | None = None,
        write_bps: Size | None = None,
        read_iops: Size | None = None,
        write_iops: Size | None = None,
    ) -> None:
        self._parse(locals(), _IO_FIELDS)


class NetworkLimit(_Said):
    """What a container's network may carry: `rate` (bytes per second, a size), `delay` (seconds), `loss` (0 to 1).

    Raises:
        ValueError: out of bounds.
        TypeError: of another type.
    """

    __slots__ = ("delay", "loss", "rate")
    _sizes = frozenset({"rate"})
    delay: float | None
    loss: float | None
    rate: int | float | None

    def __init__(self, *, rate: Size | None = None, delay: Duration | None = None, loss: float | None = None) -> None:
        self._parse(locals(), _NETWORK_FIELDS)


class Limits(_Said):
    """What a container may use. Frozen, hashable; a field that is None is not said, and the engine's default holds.

    `a | b` is what both say, b's word last (`io` and `rlimits` merge by key); `replace(memory=None)` unsays.
    "max" or math.inf lifts a limit. Sizes read back in bytes, times in seconds, lifted limits as math.inf.

    Args:
        memory: size; at least 1 MiB.
        swap: size on top of memory (cgroup v2's meaning, not docker's --memory-swap); 0 forbids it.
        memory_high: size above which the kernel slows the container down and reclaims.
        cpus: how many CPUs' worth of time, such as 1.5; at least 0.01.
        cpu_weight: 1 to 10000 (cgroup v2's scale, 100 is everyone's default).
        cpuset: which CPUs, "0-3,5" or [0, 1].
        cpu_time: seconds of CPU over the whole tree, or a timedelta.
        wall_time: seconds since the command started, or a timedelta.
        pids: tasks (processes and threads).
        disk: size of the writable layer; at least 4096.
        output: bytes captured per stream.
        output_mode: what too much output does: "kill" the run, or "truncate" (it runs on, the rest is dropped).
        io: {device "8:0" or path: IoLimit(...)}.
        io_weight: 1 to 10000.
        network: NetworkLimit(...).
        rlimits: {"nofile": (soft, hard), "core": 0}, named as in getrlimit(2) without RLIMIT_; bytes take sizes.
        oom_group: whether the tree dies as one when memory runs out; on unless False.
        oom_score_adj: -1000 to 1000.

    Raises:
        ValueError: a value out of bounds or not readable; the message begins with the field's name.
        TypeError: a value of another type.
    """

    __slots__ = (
        "cpu_time",
        "cpu_weight",
        "cpus",
        "cpuset",
        "disk",
        "io",
        "io_weight",
        "memory",
        "memory_high",
        "network",
        "oom_group",
        "oom_score_adj",
        "output",
        "output_mode",
        "pids",
        "rlimits",
        "swap",
        "wall_time",
    )
    _sizes = frozenset({"memory", "swap", "memory_high", "disk", "output"})
    memory: int | float | None
    swap: int | float | None
    memory_high: int | float | None
    cpus: float | None
    cpu_weight: int | None
    cpuset: str | None
    cpu_time: float | None
    wall_time: float | None
    pids: int | float | None
    disk: int | float | None
    output: int | float | None
    output_mode: str | None
    io: Mapping[str, IoLimit] | None
    io_weight: int | None
    network: NetworkLimit | None
    rlimits: Mapping[str, tuple[int | float, int | float]] | None
    oom_group: bool | None
    oom_score_adj: int | None

    def __init__(
        self,
        *,
        memory: Size | None = None,
        swap: Size | None = None,
        memory_high: Size | None = None,
        cpus: float | Literal["max"] | None = None,
        cpu_weight: int | None = None,
        cpuset: str | Iterable[int] | None = None,
        cpu_time: Duration | None = None,
        wall_time: Duration | None = None,
        pids: float | Literal["max"] | None = None,
        disk: Size | None = None,
        output: Size | None = None,
        output_mode: Literal["kill", "truncate"] | None = None,
        io: Mapping[Any, IoLimit] | None = None,
        io_weight: int | None = None,
        network: NetworkLimit | None = None,
        rlimits: Mapping[str, Rlimit | tuple[Rlimit, Rlimit]] | None = None,
        oom_group: bool | None = None,
        oom_score_adj: int | None = None,
    ) -> None:
        self._parse(locals(), _FIELDS)

    def __or__(self, other: Limits) -> Limits:
        """What both say; where they differ, what `other` says."""
        if not isinstance(other, Limits):
            return NotImplemented
        said = self._said() | other._said()
        for name in ("io", "rlimits"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None:
                said[name] = {**mine, **theirs}
        return Limits(**said)

    def replace(self, **fields: Any) -> Limits:
        """The same with some fields said anew; None unsays one. TypeError for a name that is no field."""
        return type(self)(**{**self._values(), **fields})

    @classmethod
    def strict(cls) -> Self:
        """Limits for code that nobody trusts: 512 MiB, one CPU for 10 s, 30 s in all, 64 tasks, 1 MiB of output, ..."""
        return cls(
            memory="512MiB",
            swap=0,
            cpus=1,
            cpu_time=10,
            wall_time=30,
            pids=64,
            disk="64MiB",
            output="1MiB",
            rlimits={"nofile": 256, "core": 0},
        )


_IO_FIELDS: dict[str, Parser] = {
    "read_bps": _at_least(1),
    "write_bps": _at_least(1),
    "read_iops": _count,
    "write_iops": _count,
}
_NETWORK_FIELDS: dict[str, Parser] = {
    "rate": _at_least(1),
    "delay": lambda value, argument: 0.0 if value == 0 else parse_duration(value, argument),
    "loss": lambda value, argument: _number(value, argument, 0, 1),
}
_FIELDS: dict[str, Parser] = {
    "memory": _at_least(MEMORY_MIN),
    "swap": parse_size,
    "memory_high": _at_least(MEMORY_MIN),
    "cpus": _cpus,
    "cpu_weight": _weight,
    "cpuset": _cpuset,
    "cpu_time": parse_duration,
    "wall_time": parse_duration,
    "pids": _tasks,
    "disk": _at_least(DISK_MIN),
    "output": parse_size,
    "output_mode": _output_mode,
    "io": _io,
    "io_weight": _weight,
    "network": _network,
    "rlimits": _rlimits,
    "oom_group": parse_bool,
    "oom_score_adj": _score,
}
