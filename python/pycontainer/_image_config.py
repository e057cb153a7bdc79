"""What an image says of the containers that are started from it: its config, read with the types that it must have.

The OCI image specification (config.md) is the source; docker's configs have the same fields. Nothing of it is control
input: labels, annotations and whatever is not read here mean nothing to the engine.
"""

from __future__ import annotations

import functools

from pycontainer import _arguments
from pycontainer._errors import ImageError
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import Frozen, container_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SEARCH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Says(Frozen):
    """What containers of an image start with, where their caller says nothing else."""

    __slots__ = ("command", "cwd", "entrypoint", "env", "stop_signal", "user")
    # Two tuples of bytes, or None where the image says none.
    entrypoint: tuple[bytes, ...] | None
    command: tuple[bytes, ...] | None
    env: tuple[tuple[bytes, bytes], ...]
    cwd: str | None
    user: str | None
    stop_signal: int | None


def nothing(search: tuple[bytes, ...]) -> Says:
    """Return what an image says that has no config: where its programs are."""
    return _made({"env": ((b"PATH", b":".join(search)),)})


def document(text: bytes) -> dict[str, Any]:
    """Return a config or manifest, which the native side has read before: it is JSON, and not deep."""
    import json  # noqa: PLC0415 - only who has an image of layers pays for it

    whole = json.loads(text)
    if not isinstance(whole, dict):
        raise ImageError("a config that is no JSON object")
    return whole


@functools.lru_cache(maxsize=64)
def says(text: bytes) -> Says:
    """Read the part of a config that is about execution; each start asks, and few configs are in use.

    Raises:
        ImageError: a field has another type, or a value that no container can have; it is named.
    """
    config = _field(document(text), "config", dict) or {}
    env = dict(_variables(config))
    env.setdefault(b"PATH", ":".join(SEARCH).encode())
    signal = _text(config, "StopSignal")
    user = _text(config, "User")
    values = {
        "entrypoint": _words(config, "Entrypoint"),
        "command": _words(config, "Cmd"),
        "env": tuple(env.items()),
        "cwd": _directory(config),
        "user": _checked("User", user, lambda: _arguments.user(user)) if user else None,
        "stop_signal": _checked("StopSignal", signal, lambda: _arguments.image_signal(signal)) if signal else None,
    }
    return _made(values)


def _made(values: Mapping[str, Any]) -> Says:
    return Says._of(*(values.get(name) for name in Says._fields))


def labels(whole: Mapping[str, Any]) -> dict[str, str]:
    """Return its labels."""
    config = _field(whole, "config", dict) or {}
    found = _field(config, "Labels", dict) or {}
    for name, value in found.items():
        if not isinstance(value, str):
            raise ImageError(f"the image's config: the label {shown(name)} is no text")
    return dict(found)


def _field(config: Mapping[str, Any], name: str, kind: type) -> Any:
    value = config.get(name)
    if value is not None and not isinstance(value, kind):
        raise ImageError(f"the image's config: {name} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _text(config: Mapping[str, Any], name: str) -> str:
    value = _field(config, name, str) or ""
    if "\0" in value:
        raise ImageError(f"the image's config: {name} has a NUL byte")
    return str(value)


def _words(config: Mapping[str, Any], name: str) -> tuple[bytes, ...] | None:
    value = _field(config, name, list)
    if not value:
        return None
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise ImageError(f"the image's config: {name} has a word that is no text, or has a NUL byte")
    return tuple(_bytes(word) for word in value)


def _variables(config: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """K=V, and nothing else: a name alone stands for nothing of this machine's (CVE-2026-57231)."""
    found = []
    for item in _field(config, "Env", list) or []:
        if not isinstance(item, str) or "\0" in item:
            raise ImageError("the image's config: Env has an entry that is no text, or has a NUL byte")
        name, equals, value = item.partition("=")
        if name and equals:
            found.append((_bytes(name), _bytes(value)))
    return found


def _directory(config: Mapping[str, Any]) -> Any:
    value = _text(config, "WorkingDir")
    return _checked("WorkingDir", value, lambda: container_path(f"/{value}", "WorkingDir")) if value else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _checked(name: str, value: str, read: Any) -> Any:
    try:
        return read()
    except (ValueError, TypeError) as error:
        raise ImageError(f"the image's config: {name} {shown(value)}: {error}") from None
