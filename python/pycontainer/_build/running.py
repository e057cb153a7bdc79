"""One RUN: a container on the layers of its stage, and what it has changed as a layer of the store."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import ExitStack, suppress

from pycontainer import _stored as stored
from pycontainer._build.draft import Layer
from pycontainer._container import Container
from pycontainer._errors import Error
from pycontainer._image import Image
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pycontainer._mounts import Mount
    from pycontainer._result import Result

_TAIL_LINES, _TAIL_BYTES = 100, 16 << 10


class StageImage(Image):
    """The layers of a stage as they are now; no manifest of the store says so."""

    __slots__ = ("_stack",)
    _stack: tuple[Layer, ...]

    @classmethod
    def of(cls, layers: Sequence[Layer], env: Sequence[str] = ()) -> StageImage:
        """Make one of layers, the lowest first, and of what its ENV says."""
        made = cls._make("layers")
        config = json.dumps({"config": {"Env": list(env)}}).encode()
        made._fill({"_stack": tuple(layers), "_config": config})
        return made

    def _roots(self) -> list[str]:
        return [str(path) for path in core().layer_directories(stored.store(), [tuple(one) for one in self._stack])]


class Failed(Exception):
    """A RUN ended with another status than 0."""

    def __init__(self, result: Result[Any], log: str) -> None:
        super().__init__()
        self.result, self.log = result, log


class Runs:
    """The containers of one build that run now: they can be killed from outside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[Container] = set()
        self._over = False

    def kill(self) -> None:
        """Kill them all, and those that would come."""
        with self._lock:
            self._over = True
            live = list(self._live)
        for container in live:
            _kill(container)

    def enter(self, container: Container) -> None:
        """One has been started."""
        with self._lock:
            self._live.add(container)
            over = self._over
        if over:
            _kill(container)

    def leave(self, container: Container) -> None:
        """One has ended."""
        with self._lock:
            self._live.discard(container)


def _kill(container: Container) -> None:
    with suppress(Error):  # it has ended by itself
        container.kill()


def carry_out(
    argv: Sequence[str],
    *,
    image: StageImage,
    mounts: Sequence[Mount],
    runs: Runs,
    say: Callable[[str, str], None],
    stack: ExitStack,
    latest: int | None,
    **options: Any,
) -> Layer | None:
    """Run a command, and return what it has changed; None where that is nothing.

    Args:
        argv: the command.
        image: what it runs on.
        mounts: what it sees.
        runs: where it is known while it runs.
        say: called with ("stdout" or "stderr", a line).
        stack: what has to stay until it has ended.
        latest: no time in the layer is after this one.
        options: of Container.

    Raises:
        Failed: it ended with another status than 0.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with Container(argv, image=image, mounts=mounts, upper="disk", **options) as container:
        runs.enter(container)
        try:
            for stream, line in container.lines():
                text = line.decode("utf-8", "replace")
                tail.append(text)
                say(stream, text)
            container.wait()
        finally:
            runs.leave(container)
        result = container.result
        assert result is not None
        if result.returncode != 0:
            raise Failed(result, "".join(tail)[-_TAIL_BYTES:])
        layer = core().container_layer(container._native, stored.store(), latest)
        return None if layer is None else Layer(*layer)


def ended(result: Result[Any]) -> str:
    """What a RUN came to, in words."""
    if result.reason not in ("exited", "signaled"):
        return f"RUN was ended: {result.reason}"
    if result.returncode < 0:
        return f"RUN was killed by signal {-result.returncode}"
    return f"RUN ended with status {result.returncode}"
