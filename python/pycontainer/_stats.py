"""What a live container uses at one moment, as frozen values. Measures nothing."""

from __future__ import annotations

from pycontainer._result import Pressure
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import Frozen

if TYPE_CHECKING:
    from typing import Any


class Breakdown(Frozen):
    """Of what a container's memory consists, in bytes. What this kernel cannot tell is None.

    Attributes:
        anon: what its processes allocated.
        file: pages of files, those of tmpfs and shared memory among them.
        shmem: the part of `file` that is tmpfs and shared memory.
        kernel: what the kernel holds for it: tasks, page tables, caches of names.
    """

    __slots__ = ("anon", "file", "kernel", "shmem")
    _defaults = dict.fromkeys(__slots__)
    anon: int | None
    file: int | None
    shmem: int | None
    kernel: int | None

    def __init__(
        self, anon: int | None = None, file: int | None = None, shmem: int | None = None, kernel: int | None = None
    ) -> None:
        self._take(locals())


class Stats(Frozen):
    """What a container uses at one moment, in Usage's units. What this kernel cannot tell is None, never 0.

    Attributes:
        cpu: seconds of CPU of the whole tree so far; where no group counts them, in hundredths.
        memory: bytes, with the upper layer and tmpfs where they lie in memory. Where no group counts memory (cgroup v1
            without a memory limit, or no groups at all) it is the sum of its processes' resident pages: a page that two
            of them share counts twice, the upper layer not at all.
        memory_peak: the most that it ever was; only of a group.
        pids: tasks (processes and threads) now.
        io_read, io_write: bytes from and to block devices so far.
        oom_kills: how many processes the OOM killer took so far.
        pressure: stalled seconds so far, or None.
        breakdown: the parts of `memory`.
    """

    __slots__ = (
        "breakdown",
        "cpu",
        "io_read",
        "io_write",
        "memory",
        "memory_peak",
        "oom_kills",
        "pids",
        "pressure",
    )
    _defaults = dict.fromkeys(__slots__)
    cpu: float | None
    memory: int | None
    memory_peak: int | None
    pids: int | None
    io_read: int | None
    io_write: int | None
    oom_kills: int | None
    pressure: Pressure | None
    breakdown: Breakdown

    def __init__(
        self,
        *,
        cpu: float | None = None,
        memory: int | None = None,
        memory_peak: int | None = None,
        pids: int | None = None,
        io_read: int | None = None,
        io_write: int | None = None,
        oom_kills: int | None = None,
        pressure: Pressure | None = None,
        breakdown: Breakdown | None = None,
    ) -> None:
        breakdown = breakdown or Breakdown()
        self._take(locals())


def stats(numbers: Any) -> Stats:
    """Make the Stats of what the native side read."""
    cpu, (memory, peak), (anon, file, shmem, kernel), pids, (read, write), oom_kills, stalled = numbers
    pressure = None
    if stalled is not None:
        cpu_some, memory_some, memory_full, io_some, io_full = stalled
        pressure = Pressure._of(cpu_some, io_full, io_some, memory_full, memory_some)
    breakdown = Breakdown._of(anon, file, kernel, shmem)
    return Stats._of(breakdown, cpu, read, write, memory, peak, oom_kills, pids, pressure)
