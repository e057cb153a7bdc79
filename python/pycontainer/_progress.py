"""Progress of pulls, loads, pushes and builds: events for a callable of the caller's, or lines on a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from pycontainer._text import TYPE_CHECKING, escape
from pycontainer._types import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Native = Callable[[str, str, int, int], object]


class Progress(Frozen):
    """One word of long work on an image.

    Attributes:
        state: "waiting", "downloading", "unpacking", "uploading", "loading", "there" (it was there before) or "done".
        what: the digest of a blob, or a file.
        done: bytes until now.
        total: bytes in all; 0 where that is not known.
    """

    __slots__ = ("done", "state", "total", "what")
    state: str
    what: str
    done: int
    total: int


# What native code says where there is nothing to tell.
TICK = "tick"


class Follower:
    """Somebody who hears of each event, and can end the work: by what `stop` raises."""

    def __init__(self, progress: Callable[[Any], object] | None, stop: Callable[[], None] | None = None) -> None:
        self._progress, self._stop = progress, stop

    def event(self, state: str, what: str, done: int, total: int) -> None:
        """Called in the thread that called native code; what it raises ends the work."""
        if self._stop is not None:
            self._stop()
        if self._progress is not None and state != TICK:
            self._progress(Progress._of(done, state, total, what))


@contextmanager
def watching(progress: object, title: str) -> Iterator[Native | None]:
    """Yield what native code calls with (state, what, done, total), in the thread that called it."""
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _drawing(title) as draw:
            yield lambda state, *rest: None if state == TICK else draw(state, *rest)
    elif isinstance(progress, Follower):
        yield progress.event
    elif callable(progress):
        yield Follower(progress).event
    else:
        raise TypeError(f"progress must be a bool or a callable, not {type(progress).__name__}")


@contextmanager
def _drawing(title: str) -> Iterator[Native]:
    """A bar for each blob where rich is installed and stderr is a terminal; else a line for each that is done."""
    import importlib  # noqa: PLC0415 - only who draws

    if sys.stderr.isatty():
        try:
            console, rich = importlib.import_module("rich.console"), importlib.import_module("rich.progress")
        except ImportError:
            pass
        else:
            columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.DownloadColumn())
            with rich.Progress(*columns, console=console.Console(stderr=True)) as bars:
                yield _bars(bars)
            return
    said: set[str] = set()

    def line(state: str, what: str, done: int, total: int) -> None:
        if state in ("done", "there") and what not in said:
            said.add(what)
            sys.stderr.write(f"{escape(title)}: {escape(what)}: {state}\n")

    yield line


def _bars(bars: Any) -> Native:
    tasks: dict[str, Any] = {}

    def draw(state: str, what: str, done: int, total: int) -> None:
        text = f"{escape(what)[:19]} {state}"
        if what not in tasks:
            tasks[what] = bars.add_task(text, total=total or None)
        bars.update(tasks[what], description=text, completed=done, total=total or None)

    return draw
