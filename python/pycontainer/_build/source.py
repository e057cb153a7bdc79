"""Where in a Dockerfile something stands, and the error that says so. Knows no instruction.

Readers raise Mistake with an offset into the text that they were given; who knows the file makes a BuildError of it.
"""

from __future__ import annotations

import re

from pycontainer._build.frozen import Value
from pycontainer._errors import BuildError
from pycontainer._text import TYPE_CHECKING, escape

if TYPE_CHECKING:
    from collections.abc import Iterable

# Go's unicode.IsSpace, which BuildKit trims and splits by. str.isspace() also takes the separators 0x1c to 0x1f.
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# What BuildKit splits lines of words by: no newline, and nothing beyond ASCII.
BLANKS = "\t\v\f\r "
_SHOWN = 60  # characters of foreign text in a message


class Span(Value):
    """A piece of a file: lines and columns from 1, columns in characters; the end is the first place after it."""

    line: int
    column: int
    end_line: int
    end_column: int


class Word(str):
    """Text of a Dockerfile that knows where it stands. Compares, hashes and shows itself as the str it is."""

    __slots__ = ("column", "line")
    line: int
    column: int

    def __new__(cls, text: str, line: int = 1, column: int = 1) -> Word:
        """Make one of `text`, which stands at `line` and `column`."""
        made = super().__new__(cls, text)
        made.line, made.column = line, column
        return made

    def like(self, text: str) -> Word:
        """Another text that stands in for this one."""
        return Word(text, self.line, self.column)

    def __reduce__(self) -> tuple[object, ...]:
        return Word, (str(self), self.line, self.column)


class Mistake(Exception):
    """What is wrong with a text, at an offset into it or at the place of a Word; with the likely fix."""

    def __init__(self, what: str, at: int | Word = 0, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.fix = fix

    def text(self) -> str:
        """What is wrong, and the fix where one is known."""
        return f"{self.what}; {self.fix}" if self.fix else self.what


class Joined:
    """The text of one instruction, its continuation lines joined; knows where each character came from."""

    __slots__ = ("_columns", "_fixed", "_lines", "_starts", "text")

    def __init__(self, pieces: Iterable[tuple[str, int, int]], fixed: tuple[int, int] | None = None) -> None:
        """Join `pieces`: (text, line, column of its first character). `fixed`: where all of it is said to stand."""
        self._fixed = fixed
        self._starts: list[int] = []
        self._lines: list[int] = []
        self._columns: list[int] = []
        texts: list[str] = []
        length = 0
        for text, line, column in pieces:
            self._starts.append(length)
            self._lines.append(line)
            self._columns.append(column)
            texts.append(text)
            length += len(text)
        self.text = "".join(texts)

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at `offset`."""
        import bisect  # noqa: PLC0415 - not everybody who has the class reads a file

        if self._fixed:
            return self._fixed
        number = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        return self._lines[number], self._columns[number] + offset - self._starts[number]

    def word(self, text: str, offset: int) -> Word:
        """`text`, which was made of what stands at `offset`."""
        return Word(text, *self.place(offset))


def failure(
    file: str, place: tuple[int, int], what: str, step: str | None = None, log: str | None = None
) -> BuildError:
    """The error about a place in a file: "Dockerfile:3:5: what is wrong"."""
    line, column = place
    return BuildError(f"{escape(file)}:{line}:{column}: {what}", step=step, line=line, log=log)


def quoted(text: str) -> str:
    """Foreign text in a message: escaped, short, between quotes."""
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return f'"{escape(cut)}"'


def suggestion(word: str, options: Iterable[str]) -> str:
    """The option that `word` was likely meant to be: "did you mean COPY?", or nothing. Case does not matter."""
    best, least = "", 3
    if len(word) <= 40:
        for option in options:
            distance = _distance(word.lower(), option.lower())
            if distance < least and distance < len(option):
                best, least = option, distance
    return f"did you mean {best}?" if best else ""


def _distance(one: str, other: str) -> int:
    """Characters to insert, drop, change or swap with the next."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for number, left in enumerate(one, 1):
        earlier, before, row = before, row, [number]
        for index, right in enumerate(other, 1):
            least = min(before[index] + 1, row[-1] + 1, before[index - 1] + (left != right))
            if number > 1 and index > 1 and left == other[index - 2] and right == one[number - 2]:
                least = min(least, earlier[index - 2] + 1)
            row.append(least)
    return row[-1]


def clean(path: str) -> str:
    """A path in its shortest form, as Go's path.Clean: no empty, "." or inner ".." parts; "." for nothing."""
    parts: list[str] = []
    rooted = path.startswith("/")
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and rooted):
            parts.append(part)
    return "/" * rooted + "/".join(parts) or "."


def physical_lines(text: str) -> list[str]:
    """The lines of a text with their newlines; only "\\n" ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
