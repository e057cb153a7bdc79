"""How the rest of an instruction is taken apart: flags, words, pairs, JSON arrays. No variables are looked at here.

Offsets are into the text of the whole instruction. The rules are those of BuildKit's parser, oddities included: a quote
does not end a word, an escape keeps its character; flags lose their quotes, other words keep them for the expansion.
"""

from __future__ import annotations

import re

from pycontainer._build.frozen import Value
from pycontainer._build.source import BLANKS, SPACES, Mistake, quoted, suggestion
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILLED = re.compile(rf"[^{re.escape(BLANKS)}]+")


class Piece(Value):
    """A part of an instruction's text and where it begins."""

    text: str
    offset: int


class Command(Value):
    """An instruction in its three parts: the name, the flags, the rest without blanks around it."""

    name: Piece
    flags: tuple[Piece, ...]
    rest: Piece


def split_command(text: str, escape: str, start: int = 0) -> Command:
    """Take an instruction apart; `start` is where it begins in `text`."""
    start, end = _stripped(text, start, len(text))
    name = _FILLED.match(text, start, end)
    if name is None:
        return Command(Piece(text[start:end], start), (), Piece("", end))
    flags, rest = _flags(text, name.end(), end, escape)
    rest, end = _stripped(text, rest, end)
    return Command(Piece(name[0], start), tuple(flags), Piece(text[rest:end], rest))


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in SPACES:
        start += 1
    while end > start and text[end - 1] in SPACES:
        end -= 1
    return start, end


def _flags(text: str, position: int, end: int, escape: str) -> tuple[list[Piece], int]:
    """The words that begin with "--", without their quotes, and where the rest begins. A lone "--" ends them."""
    found: list[Piece] = []
    while True:
        while position < end and text[position] in SPACES:
            position += 1
        if not text.startswith("--", position, end):
            return found, position
        begin = position
        made, position, bare = _flag(text, position, end, escape)
        if made == "--" and bare:
            return found, position
        found.append(Piece(made, begin))


def _flag(text: str, position: int, end: int, escape: str) -> tuple[str, int, bool]:
    made: list[str] = []
    quote = ""
    bare = True
    while position < end:
        char = text[position]
        if not quote and char in SPACES:
            break
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
            bare = False
        elif char == escape:
            position += 1
            if position < end:
                made.append(text[position])
        else:
            made.append(char)
        position += 1
    return "".join(made), min(position, end), bare


def blank_separated(rest: Piece) -> list[Piece]:
    """Words between blanks; quotes mean nothing yet."""
    return [Piece(match[0], rest.offset + match.start()) for match in _FILLED.finditer(rest.text)]


def quoted_words(rest: Piece, escape: str) -> list[Piece]:
    """Words between spaces that are not inside quotes or escaped. Quotes and escapes stay, for the expansion."""
    found: list[Piece] = []
    text, end = rest.text, len(rest.text)
    position = 0
    while position < end:
        if text[position] in SPACES:
            position += 1
            continue
        begin = position
        made: list[str] = []
        quote = ""
        while position < end and (quote or text[position] not in SPACES):
            char = text[position]
            if char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            elif char == escape and quote != "'":
                position += 1  # an escape at the very end is dropped
                if position < end:
                    made.append(char)
                    char = text[position]
                else:
                    break
            made.append(char)
            position += 1
        if made:
            found.append(Piece("".join(made), rest.offset + begin))
    return found


def json_array(rest: Piece) -> tuple[str, ...] | None:
    """The strings of a JSON array, or None where the text is none.

    Raises:
        Mistake: an array of something else.
    """
    import json  # noqa: PLC0415 - not everybody who has the class writes arrays

    text = rest.text.lstrip(SPACES)
    if not text.startswith("["):
        return None
    try:
        # Numbers are never wanted: not made, however long.
        made = json.loads(text, parse_int=lambda _: 0, parse_float=lambda _: 0.0, parse_constant=_refuse)
    except RecursionError:
        made = [None]
    except ValueError:
        return None
    if not all(isinstance(item, str) for item in made):
        raise Mistake("an array here holds strings only", rest.offset, 'as in ["make", "-j2"]')
    return tuple(item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in made)


def _refuse(text: str) -> float:
    raise ValueError(text)


def read_flags(flags: tuple[Piece, ...], kinds: Mapping[str, type], name: str) -> dict[str, list[Piece]]:
    """The values of flags by name.

    Args:
        flags: as `split_command` found them.
        kinds: each flag that the instruction has: bool, str, or list for one that may come several times.
        name: the instruction's, for messages.

    Raises:
        Mistake: an unknown flag, one that came twice, has no value or no boolean.
    """
    found: dict[str, list[Piece]] = {}
    for piece in flags:
        flag, equals, value = piece.text.partition("=")
        key = flag[2:]
        if key not in kinds:
            raise Mistake(f"{name} has no flag {quoted(flag)}", piece.offset, _other(key, kinds, name))
        if key in found and kinds[key] is not list:
            raise Mistake(f"{flag} is there twice", piece.offset)
        if kinds[key] is bool:
            value = _boolean(flag, equals, value, piece.offset)
        elif not equals:
            raise Mistake(f"{flag} needs a value", piece.offset, f"as {flag}=...")
        found.setdefault(key, []).append(Piece(value, piece.offset + len(flag) + len(equals)))
    return found


def _other(key: str, kinds: Mapping[str, type], name: str) -> str:
    if meant := suggestion(key, kinds):
        return meant.replace("mean ", "mean --")
    return (
        f"it has {', '.join('--' + kind for kind in kinds)}" if kinds else f'{name} takes none; after "--" it is text'
    )


def _boolean(flag: str, equals: str, value: str, offset: int) -> str:
    if not equals:
        return "true"
    if value.lower() not in ("true", "false"):
        raise Mistake(f"{flag} is true or false, not {quoted(value)}", offset)
    return value.lower()
