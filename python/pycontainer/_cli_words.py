"""Words of the command line as values: docker's sizes, mounts, ports and ulimits. Reads no file."""

from __future__ import annotations

import argparse
import os
import re

import pycontainer as pc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A ValueError's text is what the usage error says."""

    def reader(text: str) -> Any:
        try:
            return read(text)
        except (ValueError, pc.Error) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    reader.__name__ = read.__name__
    return reader


@_checked
def size(text: str) -> int:
    """Bytes of docker's sizes: b, k, m, g, t, each also with "b" or "ib" behind it, all 1024-based."""
    match = re.fullmatch(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*(?:([kmgtp])(?:i?b)?|b)?", text.strip().lower())
    if match is None:
        raise ValueError(f"not a size such as 64m or 1g: {text!r}")
    return int(float(match[1]) * 1024 ** ("kmgtp".index(match[2]) + 1)) if match[2] else int(float(match[1]))


@_checked
def swap_size(text: str) -> int | str | None:
    """docker's --memory-swap: a size, -1 for no bound, 0 for not said."""
    return {"-1": "max", "0": None}.get(text.strip()) if text.strip() in ("-1", "0") else int(size(text))


@_checked
def pids(text: str) -> int | str:
    """docker's --pids-limit: 0 and -1 lift it."""
    count = int(text)
    return "max" if count in (0, -1) else count


@_checked
def ulimit(text: str) -> tuple[str, tuple[int | str, int | str]]:
    """NAME=SOFT[:HARD]; -1 and "unlimited" are no bound."""
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"not NAME=SOFT[:HARD]: {text!r}")
    soft, _, hard = values.partition(":")
    bounds = ["max" if word in ("-1", "unlimited") else int(word) for word in (soft, hard or soft)]
    return name, (bounds[0], bounds[1])


@_checked
def volume(text: str) -> pc.Mount:
    """SRC:DST[:OPTIONS]; a SRC without a slash is the name of a volume, as in docker."""
    source, _, rest = text.partition(":")
    target, _, words = rest.partition(":")
    if not source or not target:
        raise ValueError(f"not SRC:DST[:ro]: {text!r}")
    if not source.startswith(("/", "./", "../", "~")) and source not in (".", ".."):
        return pc.Mount.volume(source, target)
    options: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        if word in ("ro", "rw"):
            options["read_only"] = word == "ro"
        elif word.startswith("owner="):
            options["owner"] = int(word[6:])
        else:
            raise ValueError(f"unknown option {word!r}; there are ro, rw and owner=UID")
    return pc.Mount.bind(os.path.expanduser(source), target, **options)


@_checked
def tmpfs(text: str) -> pc.Mount:
    """DST[:size=64m,mode=1777]."""
    target, _, words = text.partition(":")
    options: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        name, _, value = word.partition("=")
        if name == "size":
            options["size"] = int(size(value))
        elif name == "mode":
            options["mode"] = int(value, 8)
        elif word not in ("rw", "nosuid", "nodev"):
            raise ValueError(f"unknown option {word!r}; there are size= and mode=")
    return pc.Mount.tmpfs(target, **options)


@_checked
def port(text: str) -> tuple[int | str, int]:
    """[HOST:]PORT[/udp], as (port inside, as run() takes it, port outside; 0 is any free one)."""
    outside, _, inside = text.rpartition(":")
    number, _, protocol = inside.partition("/")
    if protocol not in ("", "tcp", "udp") or ":" in outside:
        raise ValueError(f"not HOST:PORT: {text!r}")
    return f"{int(number)}/udp" if protocol == "udp" else int(number), int(outside or 0)


def ports(pairs: list[tuple[int | str, int]]) -> dict[int | str, int] | None:
    """All that are published. Each port inside has one here."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a port is published twice: here each one has one place")
    return made or None
