"""What of a container can be reached from outside: its published ports, and what it is waited for."""

from __future__ import annotations

from pycontainer import _waiting
from pycontainer._ports import HERE
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import FrozenMap, parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Any

    from pycontainer._waiting import Condition


class Reach:
    """What Container has of these. Its other parts say what the names here are."""

    _spec: Any
    _native: Any

    if TYPE_CHECKING:

        def _begun(self) -> None: ...

        def _open(self) -> None: ...

    @property
    def ports(self) -> Mapping[int | str, tuple[str, int]]:
        """Where each published port is on this machine: ("127.0.0.1", 41235). It is the same number of ::1, too.

        The keys are those that were given.
        """
        self._begun()
        return FrozenMap(zip(self._spec.port_keys, ((HERE, port) for port in self._native.ports()), strict=True))

    def wait_for(self, *conditions: Condition, timeout: float | timedelta | None = None) -> None:
        """Wait until each of these was so once, and run nothing of the image for it, but for wait.exec().

        Args:
            conditions: of `pycontainer.wait`: log, port, http, exec, file, any_of.
            timeout: seconds for all of it; what is so at once is seen with 0 too.

        Raises:
            TimeoutExpired: it passed, and the container runs on; the message has the last lines of the log.
            ContainerEnded: it ended before; it has the Result, and the message the last lines of the log.
            StateError: it was not started, or is closed.
            NotSupported: wait.http() of a container whose command is its PID 1.
        """
        wanted = _waiting.conditions_of(conditions, "conditions")
        seconds = None if timeout is None else parse_duration(timeout, "timeout", signed=True)
        self._open()
        _waiting.wait_for(self, wanted, seconds)
