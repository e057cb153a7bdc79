"""What a build tells while it goes on, and how that looks on a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager

from pycontainer._progress import Progress
from pycontainer._text import TYPE_CHECKING, escape
from pycontainer._types import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO


class BuildEvent(Frozen):
    """One word of a build. Stages are built at the same time: what belongs together has the same `stage` and `number`.

    Attributes:
        kind: "begun", "cached" (its result was there), "done", "stdout", "stderr" (a line of a RUN), or "warning".
        stage: the stage's name, or "stage-2"; "" where it is about the Dockerfile.
        number: of the step in its stage; FROM is 1.
        total: the steps of the stage.
        line: of the instruction in the Dockerfile, from 1.
        text: the instruction; the line, with its newline; the warning.
    """

    __slots__ = ("kind", "line", "number", "stage", "text", "total")
    kind: str
    line: int
    number: int
    stage: str
    text: str
    total: int


def event(kind: str, text: str, *, stage: str = "", number: int = 0, total: int = 0, line: int = 0) -> BuildEvent:
    """Make one."""
    return BuildEvent._of(kind, line, number, stage, text, total)


@contextmanager
def told(progress: object) -> Iterator[Callable[[Any], object] | None]:
    """Yield what is called with each event; None where nobody wants to know.

    Raises:
        TypeError: `progress` is neither a bool nor a callable.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        yield Plain(sys.stderr)
    elif callable(progress):
        yield progress
    else:
        raise TypeError(f"progress must be a bool or a callable, not {type(progress).__name__}")


class Plain:
    """Events as lines, in the form of docker's --progress=plain."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._steps: dict[tuple[str, int], tuple[int, float]] = {}
        self._said: set[str] = set()

    def __call__(self, event: object) -> None:
        """Write what there is to say of an event."""
        if isinstance(event, Progress):
            if event.state in ("done", "there") and event.what not in self._said:
                self._said.add(event.what)
                self._write(f"{escape(event.what)} {event.state}")
        elif isinstance(event, BuildEvent):
            self._write(self._line(event))

    def _line(self, event: BuildEvent) -> str:
        text = escape(event.text.rstrip("\r\n").expandtabs())
        if event.kind == "warning":
            return f"WARN: {text}" + (f" (line {event.line})" if event.line else "")
        key = (event.stage, event.number)
        if key not in self._steps:
            self._steps[key] = (len(self._steps) + 1, time.monotonic())
        number, begun = self._steps[key]
        head = f"#{number}"
        if event.kind == "begun":
            return f"{head} [{escape(event.stage)} {event.number}/{event.total}] {text}"
        passed = time.monotonic() - begun
        if event.kind == "cached":
            return f"{head} CACHED"
        return f"{head} DONE {passed:.1f}s" if event.kind == "done" else f"{head} {passed:.3f} {text}"

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()
