"""A table of `stats` that stays on the screen: by rich, with sparklines, where that is installed; else as docker's."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time

from pycontainer import _cli_containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pycontainer._cli_stats import Row

    Painter = contextlib.AbstractContextManager[Callable[[list[Row]], None]]

# Not docker's NET I/O: no container has a network of its own yet, and this machine's is not one container's.
COLUMNS = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS")
BARS = "▁▂▃▄▅▆▇█"
SPARKS = 20
_HOME, _LINE_END, _BELOW = "\033[H", "\033[K", "\033[J"
_CLEAR = "\033[2J"


def painter(*, trunc: bool) -> Painter:
    """What shows rows on this terminal until its block is left."""
    if _draws_bars():
        with contextlib.suppress(ImportError):
            return _by_rich(trunc, importlib.import_module("rich.live"), importlib.import_module("rich.table"))
    return _repainted(trunc)


@contextlib.contextmanager
def lines() -> Iterator[Callable[[list[Row]], None]]:
    """One JSON object a line for each container and sample."""

    def show(rows: list[Row]) -> None:
        for row in rows:
            print(json.dumps({"time": round(time.time(), 3)} | row.as_dict()))
        sys.stdout.flush()

    yield show


@contextlib.contextmanager
def _repainted(trunc: bool) -> Iterator[Callable[[list[Row]], None]]:
    """From the upper left corner, over what is there: nothing flickers."""
    sys.stdout.write(_CLEAR)

    def show(rows: list[Row]) -> None:
        width, height = os.get_terminal_size(sys.stdout.fileno())
        shown = _cli_containers.columns([COLUMNS, *(row.cells(trunc=trunc) for row in rows)])
        # One line stays free for the cursor; what is wider than the window would be two lines.
        shown = [line[: width or None] for line in shown[: max(1, height - 1) if height else None]]
        sys.stdout.write(_HOME + "".join(line + _LINE_END + "\n" for line in shown) + _BELOW)
        sys.stdout.flush()

    yield show


@contextlib.contextmanager
def _by_rich(trunc: bool, live: Any, table: Any) -> Iterator[Callable[[list[Row]], None]]:
    with live.Live(auto_refresh=False, vertical_overflow="crop") as screen:

        def show(rows: list[Row]) -> None:
            made = table.Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
            for name in ("CONTAINER ID", "NAME", "CPU %", "CPU", "MEM USAGE / LIMIT", "MEM %", "MEM", *COLUMNS[5:]):
                made.add_column(name, no_wrap=True)
            for row in rows:
                id, name, cpu, memory, share, *rest = row.cells(trunc=trunc)
                sparks = sparkline(row.cpus, 100), sparkline(row.memories, 1)
                made.add_row(id, name, cpu, sparks[0], memory, share, sparks[1], *rest)
            screen.update(made, refresh=True)

        yield show


def sparkline(values: Iterable[float | None], least: float, width: int = SPARKS) -> str:
    """The last values as bars, from 0 to the largest of them or `least`; a blank is none."""
    last = list(values)[-width:]
    top = max([least, *(value for value in last if value is not None)])
    return "".join(" " if value is None else bar(value / top) for value in last).rjust(width)


def bar(part: float) -> str:
    """A part of 1 as a bar: nothing at all is the lowest one, all of it the highest."""
    return BARS[min(len(BARS) - 1, int(max(0.0, part) * len(BARS)))]


def _draws_bars() -> bool:
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
