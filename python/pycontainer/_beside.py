"""What Container.exec() and popen() were asked, checked and put into the plain values that cross once."""

from __future__ import annotations

import os

from pycontainer import _arguments, _outcome
from pycontainer._streams import own_window, streams_of_handle
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import container_path, parse_bool, parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pycontainer._spec import Spec


class BesideSpec:
    """One more command of a container: what is not said is as with its first one."""

    def __init__(self, first: Spec, given: Mapping[str, Any], *, handle: bool, unsaid: str = "null") -> None:
        self.handle, self._unsaid = handle, unsaid
        self.argv = list(_arguments.command(given["args"]))
        self.tty = parse_bool(given["tty"], "tty")
        self.window = (0, 0) if not self.tty else own_window() if handle else (24, 80)
        self.timeout = None if given["timeout"] is None else parse_duration(given["timeout"], "timeout", signed=True)
        self.cwd = first.cwd if given["cwd"] is None else os.fsencode(container_path(given["cwd"], "cwd"))
        self.user, self.group = first.user, first.group
        if given["user"] is not None:
            name, _, group = (_arguments.user(given["user"]) or "").partition(":")
            self.user, self.group = name or None, group or None
        self.output, self.output_kills = first.output, first.output_kills  # type: ignore[attr-defined]
        self.text_mode = _arguments.text_mode(given["text"], given["encoding"], given["errors"])
        self._environment(first, given)
        self._streams(given)

    def _environment(self, first: Spec, given: Mapping[str, Any]) -> None:
        variables: dict[bytes, bytes | None] = {}
        variables.update(tuple(item.split(b"=", 1)) for item in first.env)  # type: ignore[misc]
        if self.tty:
            variables.setdefault(b"TERM", b"xterm")
        variables.update(_arguments.environment(given["env"]))
        self.set_home = b"HOME" not in variables
        self.env = [name + b"=" + value for name, value in variables.items() if value is not None]
        path = variables.get(b"PATH")
        self.path = (path if path is not None else b"/usr/local/bin:/usr/bin:/bin").split(b":")

    def _streams(self, given: Mapping[str, Any]) -> None:
        self.input: bytes | None = None
        if self.handle:
            self.stdin, self.stdout, self.stderr = streams_of_handle(given, self._unsaid, self.tty)
            return
        self.stdin, self.stdout, self.stderr = ("null", -1), ("capture", -1), ("capture", -1)
        if given["input"] is not None:
            self.input = _outcome.encode(given["input"], self.text_mode, given["encoding"], given["errors"])
