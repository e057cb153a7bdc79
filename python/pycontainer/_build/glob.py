"""Patterns over paths, compiled: Go's filepath.Match, and moby's form of it with `**`. Asks no file system.

A pattern becomes tokens; tokens become a regular expression where that is safe, and always a machine whose bits are the
places in the pattern, so that no pattern takes longer than its length times the path's. The machine also tells
whether anything below a directory can match.
"""

from __future__ import annotations

import enum
import functools
import re

from pycontainer._build.frozen import Value
from pycontainer._build.source import Mistake, Word, clean, quoted

_MASKS_MAX = 4096  # characters that a machine remembers


class Kind(enum.Enum):
    """What a token matches."""

    CHAR = enum.auto()  # itself
    CLASS = enum.auto()  # one of [a-z], the slash too if it is in there
    ONE = enum.auto()  # ?, no slash
    STAR = enum.auto()  # *, no slash
    MAYBE = enum.auto()  # what **/ begins with: nothing, or DEEP
    DEEP = enum.auto()  # anything that ends with a slash
    REST = enum.auto()  # ** at the end: anything


class Token(Value):
    """One place of a pattern. `chars` is the character, or the ranges of a class; `negated` of a class."""

    kind: Kind
    chars: tuple[tuple[str, str], ...] = ()
    negated: bool = False
    newlines: bool = True  # of DEEP and REST: they pass over newlines

    def takes(self, char: str) -> bool:
        """Whether a character moves on to the next place."""
        if self.kind in (Kind.CHAR, Kind.CLASS):
            return any(low <= char <= high for low, high in self.chars) is not self.negated
        return (self.kind is Kind.ONE and char != "/") or (self.kind is Kind.DEEP and char == "/")

    def keeps(self, char: str) -> bool:
        """Whether a character stays in this place."""
        if self.kind is Kind.STAR:
            return char != "/"
        return self.kind in (Kind.DEEP, Kind.REST) and (self.newlines or char != "\n")


def character(char: str) -> Token:
    """The token of a plain character."""
    return Token(Kind.CHAR, ((char, char),))


def read_class(pattern: str, position: int) -> tuple[Token, int]:
    """The class that begins at `position`, and where it ends. Go's grammar: no ] first, no - first, both by a \\.

    Raises:
        Mistake: it has no end, or a range none.
    """
    begin = position
    position += 1
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _in_class(pattern, position, begin)
        high = low
        if pattern.startswith("-", position):
            high, position = _in_class(pattern, position + 1, begin)
        ranges.append((low, high))
    return Token(Kind.CLASS, tuple(ranges), negated), position + 1


def _in_class(pattern: str, position: int, begin: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        char = ""
    if not char or position + 1 >= len(pattern):
        fix = "[[] is a plain [" if begin + 1 >= len(pattern) else "] and - in it are written \\] and \\-"
        raise Mistake(f"the [ in {quoted(pattern)} has no end", begin, fix)
    return char, position + 1


def go_tokens(pattern: str) -> tuple[Token, ...]:
    """The tokens of a pattern of Go's filepath.Match: `*` `?` `[a-z]` `[^a-z]`; a backslash makes what follows plain.

    Raises:
        Mistake: an open class, a backslash at the end.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "[":
            token, position = read_class(pattern, position)
            tokens.append(token)
            continue
        if char == "*":
            tokens.append(Token(Kind.STAR))
        elif char == "?":
            tokens.append(Token(Kind.ONE))
        else:
            tokens.append(character(unescaped(pattern, position)))
            position += char == "\\"
        position += 1
    return tuple(tokens)


def unescaped(pattern: str, position: int) -> str:
    """The plain character at `position`: the next one where a backslash stands.

    Raises:
        Mistake: there is none.
    """
    char = pattern[position]
    if char != "\\":
        return char
    if position + 1 == len(pattern):
        raise Mistake(f"the pattern {quoted(pattern)} ends with a backslash", position)
    return pattern[position + 1]


class Machine:
    """A compiled pattern."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._final = 1 << len(tokens)
        self._skips = self._bits(Kind.STAR) | self._bits(Kind.REST)
        self._maybes = self._bits(Kind.MAYBE)
        self._masks: dict[str, tuple[int, int]] = {}
        self._first = self._closed(1)
        self._regexp = _regexp(tokens)

    def _bits(self, kind: Kind) -> int:
        return sum(1 << number for number, token in enumerate(self._tokens) if token.kind is kind)

    def _closed(self, state: int) -> int:
        """With the places that are reached by matching nothing."""
        while True:
            more = state | (state & self._skips) << 1 | (state & self._maybes) << 1 | (state & self._maybes) << 2
            if more == state:
                return state
            state = more

    def _after(self, text: str) -> int:
        state = self._first
        for char in text:
            masks = self._masks.get(char)
            if masks is None:
                if len(self._masks) >= _MASKS_MAX:
                    self._masks.clear()
                masks = self._masks[char] = self._mask(char)
            state = self._closed((state & masks[0]) << 1 | state & masks[1])
            if not state:
                break
        return state

    def _mask(self, char: str) -> tuple[int, int]:
        moves = sum(1 << number for number, token in enumerate(self._tokens) if token.takes(char))
        stays = sum(1 << number for number, token in enumerate(self._tokens) if token.keeps(char))
        return moves, stays

    def matches(self, path: str) -> bool:
        """Whether all of the path matches."""
        if self._regexp is not None:
            return self._regexp.fullmatch(path) is not None
        return bool(self._after(path) & self._final)

    def matches_below(self, directory: str) -> bool:
        """Whether a path that begins with this directory and a slash could match."""
        return bool(self._after(f"{directory}/"))


def _regexp(tokens: tuple[Token, ...]) -> re.Pattern[str] | None:
    """The tokens as a regular expression that cannot take long, or None.

    Of the stars of one name all but the last are matched as early as can be, once and for all: (?>[^/]*?...).
    """
    kinds = [token.kind for token in tokens]
    if kinds.count(Kind.DEEP) > 1 or any(t.kind is Kind.CLASS and t.takes("/") for t in tokens):
        return None
    parts: list[str] = []
    open_star = False
    for number, token in enumerate(tokens):
        if token.kind is Kind.STAR:
            parts.append(")" * open_star)
            open_star = _another_star(kinds, tokens, number)
            parts.append("(?>[^/]*?" if open_star else "[^/]*")
        elif token.kind is Kind.MAYBE:
            continue
        elif token.kind is Kind.DEEP:
            parts.append("(?:(?s:.*)/)?" if token.newlines else "(?:.*/)?")
        elif token.kind is Kind.REST:
            parts.append("(?s:.*)" if token.newlines else ".*")
        elif token.kind is Kind.ONE:
            parts.append("[^/]")
        else:
            parts.append(_class(token))
    return re.compile("".join(parts))


def _another_star(kinds: list[Kind], tokens: tuple[Token, ...], number: int) -> bool:
    """Whether another star follows within the same name: only single characters between them, none a slash."""
    for kind, token in zip(kinds[number + 1 :], tokens[number + 1 :], strict=True):
        if kind is Kind.STAR:
            return True
        if kind not in (Kind.CHAR, Kind.CLASS, Kind.ONE) or token.takes("/"):
            return False
    return False


def _class(token: Token) -> str:
    if token.kind is Kind.CHAR:
        return re.escape(token.chars[0][0])
    ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in token.chars if low <= high)
    if not ranges:
        return "(?s:.)" if token.negated else "(?!)"
    return f"[{'^' * token.negated}{ranges}]"


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Machine:
    return Machine(go_tokens(pattern))


def go_match(pattern: str, path: str) -> bool:
    """Go's filepath.Match.

    Raises:
        Mistake: a bad pattern.
    """
    return _compiled(pattern).matches(path)


def has_wildcard(text: str) -> bool:
    """Whether a source is a pattern: an unescaped * ? or [."""
    return re.search(r"(?s)^(?:[^\\*?\[]|\\.)*[*?\[]", text) is not None


class SourcePattern(Value):
    """A source of COPY or ADD.

    Attributes:
        base: the directory where the looking begins, or the path itself where there is no pattern; "" is the root.
            Its parts are resolved with links followed, beneath the root.
        pattern: of paths below `base`, or None. Who walks takes what `matches`, without going into it, and goes into a
            directory only if `matches_below`.
    """

    base: str
    pattern: str | None

    def matches(self, path: str) -> bool:
        """Whether a path, relative to `base`, is a source."""
        return self.pattern is not None and _compiled(self.pattern).matches(path)

    def matches_below(self, directory: str) -> bool:
        """Whether something in this directory, relative to `base`, could be a source."""
        return self.pattern is not None and _compiled(self.pattern).matches_below(directory)


def source_pattern(text: Word) -> SourcePattern:
    """Take a source apart. It is relative to the root of where it comes from, also if it begins with a slash.

    Raises:
        Mistake: a bad pattern, at the word.
    """
    parts = [part for part in clean("/" + text).split("/") if part]
    first = next((number for number, part in enumerate(parts) if has_wildcard(part)), len(parts))
    if first == len(parts):
        return SourcePattern("/".join(parts), None)
    pattern = "/".join(parts[first:])
    try:
        _compiled(pattern)
    except Mistake as mistake:
        raise Mistake(mistake.what, text, mistake.fix) from None
    return SourcePattern("/".join(parts[:first]), pattern)
