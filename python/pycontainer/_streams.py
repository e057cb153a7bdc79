"""Streams and descriptors as subprocess takes them: checked, and told as (kind, number). Opens nothing."""

from __future__ import annotations

import fcntl
import os

from pycontainer._errors import NotSupported
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import DEVNULL, INHERIT, PIPE, STDOUT, is_sequence, parse_int

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def stream(value: Any, argument: str) -> tuple[str, int]:
    """Take a stream as Popen does: PIPE, DEVNULL, INHERIT, a descriptor, anything with fileno()."""
    if value == DEVNULL:
        return ("null", -1)
    if value == PIPE:
        return ("null", -1) if argument == "stdin" else ("capture", -1)
    if value is INHERIT:
        # As it is, also where it is of no use: nohup leaves a stdin that cannot be read.
        return _descriptor(("stdin", "stdout", "stderr").index(argument), argument, inherited=True)
    if value == STDOUT and argument != "stderr":
        raise ValueError(f"{argument}: STDOUT is for stderr only")
    return _descriptor(value, argument)


def streams_of_handle(given: Mapping[str, Any], unsaid: str, tty: bool) -> tuple[tuple[str, int], ...]:
    """Take the streams of a command that its caller does not wait for: stdin, stdout, stderr."""
    made = []
    for name in ("stdin", "stdout", "stderr"):
        value = given[name]
        if value is None:
            made.append(("null", -1) if name == "stdin" else (unsaid, -1))
        elif value == PIPE:
            made.append(("pipe", -1))
        elif name == "stderr" and value == STDOUT:
            made.append(("stdout", -1))
        else:
            made.append(stream(value, name))
        if made[-1][0] == "terminal":
            raise NotSupported(
                f"{name} that is a terminal", "a terminal is never handed on, and nobody copies for this one", "PIPE"
            )
    if tty and (given["stderr"] is not None or made[1][0] not in ("log", "pipe", "null")):
        raise ValueError("tty: one stream that is logged or a PIPE, and its output is stdout")
    return tuple(made) if not tty else (made[0], made[1], ("null", -1))


def _descriptor(value: Any, argument: str, inherited: bool = False) -> tuple[str, int]:
    if isinstance(value, bool) or not (isinstance(value, int) or hasattr(value, "fileno")):
        kind = type(value).__name__
        raise TypeError(f"{argument} must be PIPE, DEVNULL, INHERIT, a descriptor or a file, not {kind}")
    number = value if isinstance(value, int) else value.fileno()
    if number < 0:
        raise ValueError(f"{argument}: {number} is not a descriptor")
    try:
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{argument}: {number} is not an open descriptor") from error
    if not inherited:
        _check_direction(flags, number, argument)
    # A terminal is opened read-write: whoever has it as output can read the keyboard and write escape sequences.
    return ("terminal" if os.isatty(number) else "fd", number)


def _check_direction(flags: int, number: int, argument: str) -> None:
    """Refuse what its command could not use: it would end at once, with EBADF or an output that nobody gets."""
    reads, mode = argument == "stdin", flags & os.O_ACCMODE
    if flags & os.O_PATH or mode == (os.O_WRONLY if reads else os.O_RDONLY):
        raise ValueError(f"{argument}: {number} is not open for {'reading' if reads else 'writing'}")


def window(*streams: tuple[str, int]) -> tuple[int, int]:
    """Tell the rows and columns of the first of them that is a terminal."""
    for kind, number in streams:
        if kind == "terminal":
            columns, rows = os.get_terminal_size(number)
            return rows, columns
    return 0, 0


def own_window() -> tuple[int, int]:
    """Tell the rows and columns of this process's terminal, or where it has none those of an old one."""
    for number in (1, 0):
        try:
            columns, rows = os.get_terminal_size(number)
        except OSError:
            continue
        if rows and columns:
            return rows, columns
    return 24, 80


def output(value: Any, argument: str, capture: bool) -> tuple[str, int]:
    if value is None:
        return ("capture", -1) if capture else stream(INHERIT, argument)
    if argument == "stderr" and value == STDOUT:
        return ("stdout", -1)
    return stream(value, argument)


def pass_fds(value: Any) -> list[int]:
    """Check `pass_fds`: open descriptors above 2, which keep their numbers inside, as in subprocess."""
    if not is_sequence(value) and not isinstance(value, (set, frozenset, range)):
        raise TypeError(f"pass_fds must be a sequence of descriptors, not {type(value).__name__}")
    made = []
    for index, item in enumerate(value):
        number = parse_int(item, f"pass_fds[{index}]", 3, 1 << 20)
        try:
            os.fstat(number)
        except OSError as error:
            raise ValueError(f"pass_fds[{index}]: {number} is not an open descriptor") from error
        made.append(number)
    if len(made) > 64:
        raise ValueError(f"pass_fds: at most 64 descriptors can be passed, not {len(made)}")
    return made
