"""`ps`, and how a command line finds a container of another process. On the public package only."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time

import pycontainer as pc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COLUMNS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
SHORT_ID, SHORT_COMMAND = 12, 20


class NotThere(ValueError):
    """docker's exit code for it is 1."""


def find(word: str) -> pc.Container:
    """Find the container that a command line names."""
    try:
        return pc.Container.get(word)
    except pc.StateError as error:
        raise NotThere(str(error)) from None


def ps_parser(parser: argparse.ArgumentParser) -> None:
    """docker's flags."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those that have ended, and that their process still holds")
    add("-q", "--quiet", action="store_true", help="ids alone")
    add("--no-trunc", action="store_true", help="whole ids and commands")


def ps(arguments: argparse.Namespace) -> int:
    """docker's table, the newest first."""
    found = [row for container in reversed(pc.Container.all()) if (row := _row(container, arguments)) is not None]
    if arguments.format == "json":
        print(json.dumps([{name: value for name, value in row.items() if name != "shown"} for row in found]))
    elif arguments.quiet:
        for row in found:
            print(row["shown"][0])
    else:
        table([COLUMNS, *(row["shown"] for row in found)])
    return 0


def _row(container: pc.Container, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What is to be told of one; None of one that has ended, unless all are asked for."""
    with container:
        state = container.state
        if state == "EXITED" and not arguments.all:
            return None
        command = shlex.join(os.fsdecode(word) for word in container.args)
        begun = _begun(container.pid) if state != "EXITED" else None
        status = "Exited" if state == "EXITED" else "Up" if begun is None else f"Up {ago(time.time() - begun)}"
        ports = [f"{host}:{port}->{inside}" for inside, (host, port) in container.ports.items()]
        return {
            "id": container.id,
            "name": container.name,
            "image": str(container.image),
            "args": [os.fsdecode(word) for word in container.args],
            "labels": container.labels,
            "state": state,
            "pid": container.pid,
            "created": begun,
            "ports": ports,
            "shown": (
                container.id if arguments.no_trunc else container.id[:SHORT_ID],
                str(container.image),
                f'"{command if arguments.no_trunc else _shortened(command)}"',
                "" if begun is None else f"{ago(time.time() - begun)} ago",
                status,
                ", ".join(ports),
                container.name,
            ),
        }


def _shortened(text: str) -> str:
    return text if len(text) <= SHORT_COMMAND else f"{text[: SHORT_COMMAND - 1]}…"


def _begun(pid: int) -> float | None:
    """When a process began, in seconds since 1970: proc(5) counts from the boot."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rsplit(b")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def ago(seconds: float) -> str:
    """docker's words: go-units, HumanDuration."""
    whole = int(max(0.0, seconds))
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes, hours = whole // 60, round(whole / 3600)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    return f"{days} days" if days < 14 else f"{days // 7} weeks" if days < 60 else f"{days // 30} months"


def table(rows: list[tuple[str, ...]]) -> None:
    """Print columns."""
    print("\n".join(columns(rows)))


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines with columns as docker's: three blanks between them, none at the end."""
    safe = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in safe]


def _printable(text: str) -> str:
    """What a container is called, or runs, draws nothing on a terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
