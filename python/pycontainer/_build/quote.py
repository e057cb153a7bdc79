"""Values as text of a Dockerfile, so that reading it gives the same values: quotes, backslashes, JSON.

A newline in a word cannot be written: an instruction is one line. Where one is wanted there is a heredoc, or JSON.
"""

from __future__ import annotations

import re

from pycontainer._build.source import SPACES
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_BARE = re.compile(r"[A-Za-z0-9_.,:/@%+=-]+")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^{}]*\})")


def word(text: str, *, variables: bool = True) -> str:
    """A word whose quotes the expansion takes away: value of ENV, LABEL, ARG.

    `variables`: $name and ${name} stay variables; without it every $ is a plain one.
    """
    if _BARE.fullmatch(text):
        return text
    return '"' + _escaped(text, variables, '"') + '"'


def path(text: str, *, variables: bool = True) -> str:
    """A word that is split by blanks before the expansion takes quotes away: no blank can be in it."""
    if _BARE.fullmatch(text):
        return text
    return _escaped(text, variables, "\"'<")


def _escaped(text: str, variables: bool, special: str) -> str:
    made: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        match = _VARIABLE.match(text, position) if variables and char == "$" else None
        if match:
            made.append(match[0])
            position = match.end()
            continue
        made.append("\\" + char if char in special or char in "\\$" else char)
        position += 1
    return "".join(made)


def array(words: Iterable[str]) -> str:
    """A JSON array of strings on one line, characters beyond ASCII as they are."""
    import json  # noqa: PLC0415 - not everybody who has the class writes arrays

    return json.dumps(list(words), ensure_ascii=False)


def needs_array(words: Iterable[str]) -> bool:
    """Whether words that are split by blanks have to be an array: a blank in one, an empty one, one like a flag."""
    return any(not text or text.startswith(("[", "--")) or any(char in SPACES for char in text) for text in words)


def heredoc_name(content: str, base: str = "EOF") -> str:
    """A name that no line of the content is."""
    lines = {line.rstrip("\r") for line in content.split("\n")}
    name, number = base, 1
    while name in lines:
        number += 1
        name = f"{base}{number}"
    return name


def flag(name: str, value: str | bool | None) -> str:
    """A flag with a blank before it, or nothing for None and False."""
    if value is None or value is False:
        return ""
    if value is True:
        return f" --{name}"
    return f" --{name}={flag_value(value)}"


def flag_value(text: str) -> str:
    """The value of a flag: its quotes and escapes go when flags are read, before any variable is looked at."""
    if re.fullmatch(r"[^\s\\'\"\x85\xa0]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fields(values: Mapping[str, str | None]) -> str:
    """The fields of a --mount: CSV, without the keys whose value is None."""
    made = []
    for key, value in values.items():
        if value is not None:
            field = f"{key}={value}"
            made.append('"' + field.replace('"', '""') + '"' if set(field) & set(',"\r\n') else field)
    return ",".join(made)
