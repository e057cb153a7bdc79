"""What happens to the containers of this interpreter, as values, and where it is told.

A container that was made is known here, weakly; `hub` is set as long as somebody listens (_listening), and looked at
before anything is told. Nothing here waits, and run() pays one look for it.
"""

from __future__ import annotations

from _weakref import ref

from pycontainer._text import TYPE_CHECKING
from pycontainer._types import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypeAlias

    from pycontainer._hub import Hub
    from pycontainer._result import Result

    Kind: TypeAlias = Literal["created", "started", "paused", "resumed", "oom", "ended", "removed"]


class Event(Frozen):
    """Something that happened to a container.

    Attributes:
        kind: "created", "started", "paused", "resumed", "oom" (the OOM killer took processes of it), "ended" or
            "removed".
        time: when this process learnt of it, in seconds since the epoch.
        id, name, labels: the container's; a run() has an id for its events alone.
        args: its command.
        result: what it came to, without its output; None unless `kind` is "ended", and where nobody could tell because
            the keeper died or a signal's handler raised.
    """

    __slots__ = ("args", "id", "kind", "labels", "name", "result", "time")
    kind: Kind
    time: float
    id: str
    name: str
    labels: Mapping[str, str]
    args: tuple[Any, ...]
    result: Result[Any] | None

    def __init__(
        self,
        kind: Kind,
        time: float,
        id: str,
        name: str,
        labels: Mapping[str, str],
        args: tuple[Any, ...],
        result: Result[Any] | None = None,
    ) -> None:
        self._take(locals())

    def __repr__(self) -> str:
        result = "" if self.result is None else f", result={self.result!r}"
        return f"Event(kind={self.kind!r}, name={self.name!r}{result})"


# Set as long as somebody listens.
hub: Hub | None = None
# Those that were made here and not yet removed, by id.
containers: dict[str, ref[Any]] = {}


def created(container: Any) -> None:
    """It was made, and nothing was started."""
    containers[container.id] = ref(container)
    if hub is not None:
        hub.created(container)


def started(container: Any) -> None:
    """Its command runs."""
    if hub is not None:
        hub.started(container)


def changed(container: Any, kind: Kind) -> None:
    """It was paused, or goes on."""
    if hub is not None:
        hub.changed(container, kind)


def ended(container: Any) -> None:
    """It is known what it came to. One that was found is its own process's to tell of."""
    if hub is not None and container._owns:
        hub.ended(container)


def regrouped(container: Any) -> None:
    """It has other limits."""
    if hub is not None:
        hub.regrouped(container)


def run_ended(record: Any, args: Any, result: Any) -> None:
    """A run() has come back. `record`: of its beginning, where somebody listened then."""
    if record is not None:
        record.over()
    if hub is not None:
        hub.run_ended(record, args, result)


def closing(container: Any) -> None:
    """Its descriptors are about to be somebody else's numbers."""
    if hub is not None:
        hub.forget(container)


def removed(container: Any) -> None:
    """Nothing of it is left."""
    if container._owns:
        containers.pop(container.id, None)
        if hub is not None:
            hub.removed(container)
