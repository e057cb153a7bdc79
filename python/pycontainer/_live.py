"""A live container looked at and controlled: stats, limits, pause, pressure: the half of Container for live ones."""

from __future__ import annotations

import contextlib
import copy
import os
import select
import time
from _thread import allocate_lock

from pycontainer import _events
from pycontainer._errors import StateError
from pycontainer._limits import Limits
from pycontainer._native import core
from pycontainer._stats import stats
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Literal, Self

    from pycontainer._spec import Spec
    from pycontainer._stats import Stats

# What can be changed while a container is there.
CHANGEABLE = (
    "memory", "swap", "memory_high", "cpus", "cpu_weight", "cpuset", "cpu_time", "wall_time", "pids", "disk", "io",
    "network",
)  # fmt: skip
_RESOURCES = ("cpu", "memory", "io")
# Seconds in which an end is told that the kernel has shown already.
OWED = 1.0
# By state: what helps, or what there is instead.
CURES = {
    "CREATED": "start() starts it",
    "RUNNING": "it is not paused",
    "PAUSED": "resume() lets it go on",
    "EXITED": "what it left are its result, with what it used, its logs and its files",
    "REMOVED": "its facts, result and logs remain, and nothing else",
}


class PressureTrigger:
    """Tells when tasks of a container were stalled for a resource for too long. A context manager.

    A selector that waits for POLLPRI (EPOLLPRI) of fileno() sees the same.
    """

    def __init__(self, container: Live, fd: int) -> None:
        self._container, self._fd = container, fd

    def fileno(self) -> int:
        """Return the descriptor: POLLPRI each time, at most once in a window. It stays this object's."""
        if self._fd < 0:
            raise StateError("the trigger is closed")
        return self._fd

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until the tasks were stalled for too long once more.

        Args:
            timeout: seconds; None is for ever.

        Returns:
            False where the time passed, or the container ended, first.
        """
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + max(0.0, parse_duration(timeout, "timeout", signed=True))
        poll, native = select.poll(), self._container._native
        poll.register(self.fileno(), select.POLLPRI)
        poll.register(native.fileno(), select.POLLIN)
        while self._container.poll() is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            # A keeper that dies says nothing: now and then somebody has to look.
            events = dict(poll.poll(1000 if left is None else min(1000, left * 1000)))
            if events.get(self._fd, 0) & select.POLLPRI:
                return True
            if left == 0:
                return False
        return False

    def close(self) -> None:
        """Stop watching."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop watching."""
        self.close()

    def __del__(self) -> None:
        self.close()


class Live:
    """What a Container can do while it is there."""

    limits: Limits
    _spec: Spec
    _native: Any
    _paused: bool
    _owns: bool
    _closed: bool
    _closing: Any

    if TYPE_CHECKING:

        @property
        def state(self) -> str:
            """Of Container."""

        def poll(self) -> int | None:
            """Of Container."""

        def _ends_within(self, seconds: float) -> bool: ...

        def _tell(self) -> None: ...

    def _alive(self, *states: str) -> Any:
        """Return the native container, of one that is in one of these states."""
        state = self.state
        if state not in (states or ("RUNNING", "PAUSED")):
            raise StateError(f"the container is {state}: {CURES[state]}")
        return self._native

    def _owned(self, *states: str) -> Any:
        """Likewise, of one of this process."""
        if not self._owns:
            raise StateError("a handle that was found does not own the container: ask the process that started it")
        return self._alive(*states)

    def _control(self) -> Any:
        """One thread at a time pauses it or gives it other limits."""
        return self.__dict__.setdefault("_control_lock", allocate_lock())

    def stats(self) -> Stats:
        """Return what it uses at this moment: read from the kernel at each call, without a delay for sampling.

        Also of a container that get() or all() found.

        Raises:
            StateError: it is not there any more, or not yet.
        """
        return stats(core().container_stats(self._alive()))

    def monitor(self, interval: float | timedelta = 0.05) -> Iterator[Stats]:
        """Return an iterator of Stats, one each `interval` seconds, until the container ends.

        Raises:
            StateError: it is not there any more, or not yet.
        """
        seconds = parse_duration(interval, "interval")
        self._alive()
        return self._monitored(seconds)

    def _monitored(self, interval: float) -> Iterator[Stats]:
        moment = time.monotonic()
        while True:
            try:
                now = self.stats()
            except StateError:
                # Nothing of it is left to be measured: that it has ended is told a moment later.
                with contextlib.suppress(StateError):
                    self._ends_within(OWED)
                return
            yield now
            # Of what a slow reader has missed nothing is made up.
            moment = max(moment + interval, time.monotonic())
            try:
                if self._ends_within(max(0.0, moment - time.monotonic())):
                    return
            except StateError:
                return

    def update(self, limits: Limits) -> Limits:
        """Give it other limits, in one step: all of them, or none.

        They are laid over what holds, as by `|`. What is in use does not have to leave: memory that is lowered is made
        to fit first, and where it does not, nothing is changed and nobody dies.

        Args:
            limits: memory, swap, memory_high, cpus, cpu_weight, cpuset, cpu_time, wall_time, pids, disk, io, network.

        Returns:
            The limits that hold now; the attribute `limits`.

        Raises:
            ValueError: another field is said, or this machine has not so much.
            NotSupported: this machine cannot hold it, or not in a container that was made without.
            SetupError: it would be below what is in use (errno EBUSY; the message has both numbers), or the kernel
                refused it.
            StateError: it is not there any more, or not yet.
        """
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits, not {type(limits).__name__}")
        for name in limits._said():
            if name not in CHANGEABLE:
                raise ValueError(f"limits.{name} cannot be changed; what can is {', '.join(CHANGEABLE)}")
        with self._control():
            native = self._owned()
            spec = copy.copy(self._spec)
            spec.said = self.limits | limits
            spec._limits(spec.said)
            core().container_update(native, spec)
            self._spec, self.limits = spec, spec.said
            _events.regrouped(self)
        with self._closing:
            if not self._closed:
                self._tell()
        return self.limits

    def pause(self) -> None:
        """Stop all its tasks where they are, and come back when they stand still. Its time limits go on.

        Raises:
            NotSupported: there is no freezer of cgroup v2 here.
            SetupError: a task is held up in the kernel; nothing is stopped.
            StateError: it does not run, or is paused.
        """
        with self._control():
            core().container_freeze(self._owned("RUNNING"), True)
            self._paused = True
            _events.changed(self, "paused")

    def resume(self) -> None:
        """Let a paused container go on.

        Raises:
            StateError: it is not paused.
        """
        with self._control():
            core().container_freeze(self._owned("PAUSED"), False)
            self._paused = False
            _events.changed(self, "resumed")

    def _go_on(self) -> None:
        """Resume it if it is paused; it may end meanwhile."""
        if self._paused:
            with contextlib.suppress(StateError):
                self.resume()

    def pressure(
        self,
        resource: Literal["cpu", "memory", "io"],
        *,
        some: float | timedelta | None = None,
        full: float | timedelta | None = None,
        window: float | timedelta = 2,
    ) -> PressureTrigger:
        """Watch for shortages, by the kernel's pressure stall information.

        Args:
            resource: "cpu", "memory" or "io".
            some: seconds in a window in which at least one task was stalled for it.
            full: the same for all tasks at a time. One of the two is given.
            window: seconds, from 0.5 to 10; without CAP_SYS_RESOURCE the kernel takes 2, 4, 6, 8 and 10.

        Returns:
            A trigger with wait(timeout) and fileno().

        Raises:
            ValueError: no such resource, both or none of `some` and `full`, no such window.
            NotSupported: this kernel keeps no pressure, or lets nobody watch it without CAP_SYS_RESOURCE.
            StateError: it is not there any more, or not yet.
        """
        if resource not in _RESOURCES:
            raise ValueError(f"resource must be 'cpu', 'memory' or 'io', not {shown(resource)}")
        if (some is None) == (full is None):
            raise ValueError("some or full must be given, and not both")
        name = "some" if full is None else "full"
        stall = parse_duration(some if full is None else full, name)
        length = parse_duration(window, "window")
        if not 0.5 <= length <= 10:
            raise ValueError(f"window must be from 0.5 to 10 seconds, not {shown(window)}")
        if stall > length:
            raise ValueError(f"{name} must be at most the window, {length:g} seconds, not {shown(stall)}")
        fd = core().container_pressure(self._alive(), resource, full is not None, stall, length)
        return PressureTrigger(self, fd)
