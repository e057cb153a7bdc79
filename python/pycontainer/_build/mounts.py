"""RUN --mount: its fields to enums and numbers, each key checked against the kind. No value becomes a mount option."""

from __future__ import annotations

import posixpath

from pycontainer._build import values
from pycontainer._build.instructions import Mount, MountKind, Sharing
from pycontainer._build.source import Mistake, Word, clean, quoted, suggestion
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum
    from typing import Any, TypeVar

    Choice = TypeVar("Choice", bound=StrEnum)

_SYNONYMS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = (
    "type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required", "size", "mode", "uid",
    "gid", "env",
)  # fmt: skip
_ALL = frozenset(("type", "target"))
# What each kind has. BuildKit drops some silently where they mean nothing; here they are refused.
_OF = {
    MountKind.BIND: _ALL | {"from", "source", "readonly", "readwrite"},
    MountKind.CACHE: _ALL | {"from", "source", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"},
    MountKind.TMPFS: _ALL | {"size", "readonly", "readwrite"},
    MountKind.SECRET: _ALL | {"id", "source", "required", "mode", "uid", "gid", "env", "readonly", "readwrite"},
    MountKind.SSH: _ALL | {"id", "required", "mode", "uid", "gid", "readonly", "readwrite"},
}
_ALONE = ("readonly", "readwrite", "required")


def read_mount(text: Word, expand: Callable[[Word], str] | None = None) -> Mount:
    """Read the value of one --mount.

    Args:
        text: the value.
        expand: gives the text of a value whose variables are known; None: they are not, and a mount that has some
            comes back `pending`, its keys checked.

    Raises:
        Mistake: at the text.
    """
    fields = [_field(field, text) for field in _split(text)]
    pending = expand is None and any("$" in (value or "") for _, value in fields)
    found: dict[str, str | None] = {}
    for key, value in fields:
        if key == "from" and value and "$" in value[:-1]:
            fix = "name a stage of it: FROM $VARIABLE AS name"
            raise Mistake("no variable is looked at in from= of a mount", text, fix)
        found[key] = value if expand is None or value is None else expand(text.like(value))
    if pending:
        source = found.get("from")
        return Mount(text=text, from_=text.like(source) if source else None, pending=True)
    kind = _choice(MountKind, found.get("type"), "type", text) or MountKind.BIND
    for key in found:
        if key not in _OF[kind]:
            raise Mistake(f"a mount of type {kind} has no {key}", text, f"it has {', '.join(sorted(_OF[kind]))}")
    return _mount(text, kind, found)


def _split(text: Word) -> list[str]:
    """Fields between commas; a quoted one may have some."""
    import csv  # noqa: PLC0415 - not everybody who has the class reads mounts

    try:
        rows = list(csv.reader([str(text)], strict=True))
    except csv.Error as error:
        raise Mistake(f"the fields of a mount are written as in CSV: {error}", text) from None
    if len(rows) != 1 or not rows[0]:
        raise Mistake("--mount is empty", text, "as in --mount=type=cache,target=/root/.cache")
    return rows[0]


def _field(field: str, text: Word) -> tuple[str, str | None]:
    key, equals, value = field.partition("=")
    key = key.lower()
    name = _SYNONYMS.get(key, key)
    if name not in _KEYS:
        meant = suggestion(key, (*_KEYS, *_SYNONYMS))
        raise Mistake(f"a mount has no {quoted(key)}", text, meant or f"there are {', '.join(_KEYS)}")
    if not equals:
        if name not in _ALONE:
            raise Mistake(f"{name} of a mount needs a value", text, f"as {name}=...")
        return name, None
    return name, value


def _choice(choices: type[Choice], value: str | None, name: str, text: Word) -> Choice | None:
    if value is None:
        return None
    for choice in choices:
        if value.lower() == choice.value:
            return choice
    meant = suggestion(value, [choice.value for choice in choices])
    raise Mistake(f"{name} of a mount is one of {', '.join(choices)}, not {quoted(value)}", text, meant)


def _mount(text: Word, kind: MountKind, found: dict[str, str | None]) -> Mount:
    made: dict[str, Any] = {"text": text, "kind": kind}
    read_only = kind not in (MountKind.CACHE, MountKind.TMPFS)
    for key, value in found.items():
        word = text.like("true" if value is None else value)
        match key:
            case "from":
                made["from_"] = word or None
            case "source" | "target" | "id":
                made[key] = value or None
            case "env":
                made["env"] = value
            case "readonly":
                read_only = values.boolean(word, key)
            case "readwrite":
                read_only = not values.boolean(word, key)
            case "required":
                made["required"] = values.boolean(word, key)
            case "size":
                made["size"] = values.size(word, key)
            case "sharing":
                made["sharing"] = _choice(Sharing, value, key, text)
            case "mode":
                made["mode"] = values.number(word, key, 8)
                if made["mode"] > 0o7777:
                    raise Mistake(f"mode of a mount is at most 7777, not {quoted(word)}", text)
            case "uid" | "gid":
                made[key] = values.number(word, key)
                if made[key] == 0xFFFFFFFF:
                    raise Mistake(f"{key} of a mount is below {0xFFFFFFFF}, which means none", text)
    _check(made, kind, text)
    if kind is MountKind.SECRET:
        _name_secret(made)
    elif kind is MountKind.CACHE and not made.get("id"):
        made["id"] = clean(made["target"])
    return Mount(read_only=read_only, **made)


def _name_secret(made: dict[str, Any]) -> None:
    """What docker fills in: the id of the target, the target of the id, the variable of the id."""
    made["id"] = made.pop("source", None) or made.get("id") or posixpath.basename(made["target"])
    if made.get("env") == "":
        made["env"] = made["id"]
    if not made.get("target") and "env" not in made:
        made["target"] = "/run/secrets/" + posixpath.basename(made["id"])


def _check(made: dict[str, Any], kind: MountKind, text: Word) -> None:
    source, target, name = (made.get(key) for key in ("source", "target", "id"))
    texts = {"source": source, "target": target, "id": name, "env": made.get("env"), "from": made.get("from_")}
    for key, path in texts.items():
        if path and ("\n" in path or "\0" in path):
            raise Mistake(f"{key} of a mount has a newline in it", text)
    if target and clean(target) == "/":
        raise Mistake("a mount cannot lie on /", text)
    if kind is MountKind.SECRET:
        if source and name:
            raise Mistake("a secret has an id or, in older words, a source: not both", text)
        if not (source or name or target):
            raise Mistake("a secret needs its id", text, "as in --mount=type=secret,id=token")
    elif kind is not MountKind.SSH and not target:
        raise Mistake(f"a mount of type {kind} needs a target", text, "as in target=/src")
