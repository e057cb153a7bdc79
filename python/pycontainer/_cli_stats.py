"""`stats`: what containers use, as docker's table and as JSON, once or for ever. On the public package only."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import deque

import pycontainer as pc
from pycontainer import _cli_containers, _cli_live
from pycontainer._cli_containers import SHORT_ID, NotThere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Seconds between two looks; and between the two of one table, which is how a share of a processor is had.
INTERVAL, PAIR = 1.0, 0.5
# Samples that are remembered of each container.
REMEMBERED = 60
_UNKNOWN = "--"
# Of what stats() tells.
_FIELDS = (
    "cpu", "memory", "memory_peak", "breakdown", "pids", "io_read", "io_write", "oom_kills", "pressure",
)  # fmt: skip
_BINARY, _DECIMAL = ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), ("B", "kB", "MB", "GB", "TB", "PB")


def stats_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """docker's flags."""
    add = parser.add_argument
    add("containers", nargs="*", metavar="CONTAINER", help="none: all that run, also those that come later")
    add("-a", "--all", action="store_true", help="also those that have ended, and that their process still holds")
    add("--no-stream", action="store_true", help="one table")
    add("--no-trunc", action="store_true", help="whole ids")
    add("--format", choices=("table", "json"), default="table", help="json: a line for each, with --no-stream one list")
    return parser


def stats(arguments: argparse.Namespace) -> int:
    """docker's table: once where asked, or where nobody sees it being repainted, otherwise until all have ended."""
    watch = Watch(arguments)
    if arguments.no_stream or (arguments.format == "table" and not sys.stdout.isatty()):
        watch.look()
        time.sleep(PAIR)
        rows = watch.look()
        if arguments.format == "json":
            print(json.dumps([row.as_dict() for row in rows]))
        else:
            _cli_containers.table([_cli_live.COLUMNS, *(row.cells(trunc=not arguments.no_trunc) for row in rows)])
        return 0
    shows = _cli_live.lines() if arguments.format == "json" else _cli_live.painter(trunc=not arguments.no_trunc)
    with shows as show:
        while True:
            rows = watch.look()
            if not rows and watch.wanted:
                return 0  # all that were named have ended
            show(rows)
            time.sleep(INTERVAL)


class Watch:
    """The containers that a command line means, from one look to the next. Nothing of them is held in between."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._ended_too = arguments.all or (arguments.no_stream and bool(arguments.containers))
        self._rows: dict[str, Row] = {}
        self.wanted: list[str] = []
        missing = []
        for word in arguments.containers:
            try:
                with _cli_containers.find(word) as found:
                    self.wanted += [found.id] if found.id not in self.wanted else []
            except NotThere as error:
                missing.append(str(error))
        if missing:
            raise NotThere("\n".join(missing))

    def look(self) -> list[Row]:
        """Read the counters of all that are there: the named ones in their order, otherwise the newest first."""
        there = {container.id: container for container in reversed(pc.Container.all())}
        rows = {}
        for id in self.wanted or there:
            if id in there and (row := self._row(there[id])) is not None:
                rows[id] = row
        self._rows = rows
        return list(rows.values())

    def _row(self, container: pc.Container) -> Row | None:
        row = self._rows.get(container.id) or Row(container.id, container.name)
        with container:
            try:
                row.add(time.monotonic(), container.stats(), container.limits)
            except pc.StateError:
                if not self._ended_too:
                    return None
                row.lose()
            except pc.Error:  # its keeper does not answer: the next time, perhaps
                row.lose()
        return row


class Row:
    """One container: its last sample, and shares that come of the one before."""

    def __init__(self, id: str, name: str) -> None:
        self.id, self.name = id, name
        self.now: Any = None
        self.limit: float | None = None
        self.cpu_percent: float | None = None
        # Of the last samples, the oldest first.
        self.cpus: deque[float | None] = deque(maxlen=REMEMBERED)
        self.memories: deque[float | None] = deque(maxlen=REMEMBERED)
        self._moment = 0.0

    def add(self, moment: float, now: Any, limits: pc.Limits) -> None:
        """One more sample: seconds of a clock that never goes back, and what was read then."""
        before, self.now = self.now, now
        self.cpu_percent = None if before is None else percent(before.cpu, now.cpu, moment - self._moment)
        self._moment = moment
        self.limit = bound(limits.memory, physical_memory())
        self.cpus.append(self.cpu_percent)
        self.memories.append(now.memory)

    def lose(self) -> None:
        """It has ended, or does not tell: what was known is not so any more."""
        self.now = self.limit = self.cpu_percent = None

    @property
    def memory_percent(self) -> float | None:
        used: int | None = getattr(self.now, "memory", None)
        return None if used is None or not self.limit else used / self.limit * 100

    def cells(self, *, trunc: bool) -> tuple[str, ...]:
        now = self.now
        return (
            self.id[:SHORT_ID] if trunc else self.id,
            self.name,
            share(self.cpu_percent),
            f"{binary(now.memory if now else None)} / {binary(self.limit)}",
            share(self.memory_percent),
            f"{decimal(now.io_read if now else None)} / {decimal(now.io_write if now else None)}",
            _UNKNOWN if now is None or now.pids is None else str(now.pids),
        )

    def as_dict(self) -> dict[str, Any]:
        """Stats as JSON can carry them: bytes, seconds and percent; null is what this kernel cannot tell."""
        made: dict[str, Any] = {"id": self.id, "name": self.name, "cpu_percent": _rounded(self.cpu_percent)}
        made |= {"memory_limit": self.limit, "memory_percent": _rounded(self.memory_percent)}
        for name in _FIELDS:
            value = getattr(self.now, name, None)
            plain = {part: getattr(value, part) for part in getattr(value, "__slots__", ())}
            made[name] = plain or value
        return made


def percent(before: float | None, now: float | None, seconds: float) -> float | None:
    """Seconds of CPU at two moments as a share of one processor: 100 is one of them, all the time."""
    if before is None or now is None or seconds <= 0:
        return None
    return max(0.0, now - before) / seconds * 100


def bound(limit: float | None, physical: int) -> float:
    """What a container can have of memory, as docker tells it: its limit, or what the machine has."""
    return physical if limit is None or math.isinf(limit) else min(int(limit), physical)


def physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def binary(size: float | None) -> str:
    """docker's BytesSize: four digits, 1024-based."""
    return _sized(size, 1024, "%.4g", _BINARY)


def decimal(size: float | None) -> str:
    """docker's HumanSizeWithPrecision(3): 1000-based."""
    return _sized(size, 1000, "%.3g", _DECIMAL)


def _sized(size: float | None, base: int, form: str, units: Iterable[str]) -> str:
    if size is None:
        return _UNKNOWN
    *smaller, largest = units
    for unit in smaller:
        if size < base:
            return form % size + unit
        size /= base
    return form % size + largest


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
