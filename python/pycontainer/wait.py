"""Conditions for Container.wait_for(): values that say what it waits for.

    with pc.Container(["postgres"], image=image) as c:
        c.wait_for(pc.wait.log("ready to accept connections"), pc.wait.port(5432), timeout=30)

None of them runs anything in the container, but for exec(): they work with an image that holds one program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from pycontainer import _arguments
from pycontainer._ports import inside
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import FrozenMap, container_path, parse_int
from pycontainer._waiting import (
    AnyCondition,
    Condition,
    ExecCondition,
    FileCondition,
    HttpCondition,
    LogCondition,
    PortCondition,
    conditions_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from pycontainer._types import Arg

__all__ = ["any_of", "exec", "file", "http", "log", "port"]


def _made(kind: type[Condition], **values: Any) -> Condition:
    condition = object.__new__(kind)
    condition._fill(values)
    return condition


def log(
    pattern: str | bytes | re.Pattern[str] | re.Pattern[bytes], *, stream: Literal["stdout", "stderr"] | None = None
) -> Condition:
    """A line of the log, from the container's start on, has this in it.

    Args:
        pattern: a text that the line contains, or a compiled regular expression that is searched in it. A line without
            an end, such as a prompt, counts too.
        stream: look at this one only.

    Raises:
        ValueError: an empty text, or there is no such stream.
    """
    if isinstance(pattern, str):
        pattern = pattern.encode("utf-8", "surrogateescape")
    if not isinstance(pattern, (bytes, re.Pattern)):
        raise TypeError(f"pattern must be a str, bytes or a compiled expression, not {type(pattern).__name__}")
    if pattern == b"":
        raise ValueError("pattern is empty: every log has that in it")
    if isinstance(pattern, bytes) and b"\n" in pattern.rstrip(b"\n"):
        raise ValueError(f"pattern has more than one line: {shown(pattern)}")
    if stream not in (None, "stdout", "stderr"):
        raise ValueError(f"stream must be 'stdout' or 'stderr', not {shown(stream)}")
    return _made(LogCondition, pattern=pattern, stream=stream)


def port(port: int | str) -> Condition:
    """Somebody listens at this port in the container's network namespace, at whatever address.

    Nobody connects to it: the kernel's own list is looked at.

    Args:
        port: a number, for TCP, or "53/udp".
    """
    number, protocol = inside(port, "port")
    return _made(PortCondition, port=number, protocol=protocol)


def http(port: int, path: str = "/", *, status: int | Iterable[int] | None = None) -> Condition:
    """A GET of this path, made at 127.0.0.1 (or ::1) in the container's network namespace, has such an answer.

    Args:
        port: where the server listens.
        path: with its query.
        status: one, or several of which any will do; 200 to 299 unless given. Redirections are not followed.
    """
    number = parse_int(port, "port", 1, 65535)
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    if not re.fullmatch(r"/[!-~]*", path):
        raise ValueError(f"path must begin with / and be of visible ASCII characters, not {shown(path)}")
    if status is None:
        wanted: frozenset[int] = frozenset()
    else:
        given = status if isinstance(status, Iterable) and not isinstance(status, (str, bytes)) else [status]
        wanted = frozenset(parse_int(one, "status", 100, 599) for one in given)
        if not wanted:
            raise ValueError("status: there is none in it")
    return _made(HttpCondition, port=number, path=path, status=wanted)


def exec(
    args: Sequence[Arg],
    *,
    user: int | str | None = None,
    env: Mapping[str, Arg | None] | None = None,
    cwd: Arg | None = None,
) -> Condition:
    """A command that is run in the container, again and again, ends with status 0.

    Args:
        args, user, env, cwd: as of Container.exec().
    """
    _arguments.command(args)
    _arguments.user(user)
    _arguments.environment(env)
    if cwd is not None:
        container_path(cwd, "cwd")
    kept = None if env is None else FrozenMap(env)
    return _made(ExecCondition, args=tuple(args), user=user, env=kept, cwd=cwd)


def file(path: Arg) -> Condition:
    """There is a file of this name in the container, of whatever kind.

    Args:
        path: absolute; resolved inside the container's root.
    """
    return _made(FileCondition, path=os.fspath(container_path(path, "path")))


def any_of(*conditions: Condition) -> Condition:
    """One of these is so."""
    return _made(AnyCondition, conditions=conditions_of(conditions, "conditions"))
