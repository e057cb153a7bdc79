"""The patterns of ${name#pattern} and its kin: `*`, `?`, escapes; no brackets, no newline under a wildcard.

Matched by the bits of one integer, one for each place in the pattern: time grows with the text, never with its powers.
"""

from __future__ import annotations

from pycontainer._build.frozen import Value
from pycontainer._build.source import Mistake, quoted
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY = "*"
ONE = "?"
LENGTH_MAX = 4096  # tokens: each character of a text costs a look at all of them


class Pattern(Value):
    """Tokens: (character, is it a wildcard)."""

    tokens: tuple[tuple[str, bool], ...]


def compile_pattern(text: str, offset: int = 0) -> Pattern:
    """Read a pattern. A backslash escapes * ? \\ and what ends the pattern in its braces: } and /.

    Raises:
        Mistake: another escape, a pattern beyond LENGTH_MAX; at `offset`.
    """
    tokens: list[tuple[str, bool]] = []
    chars = iter(text)
    for char in chars:
        if char != "\\":
            tokens.append((char, char in (ANY, ONE)))
            continue
        escaped = next(chars, "")
        if not escaped or escaped not in "*?\\}/":
            raise Mistake(f"a pattern has no escape {quoted(char + escaped)}", offset, "there are \\* \\? \\\\ \\} \\/")
        tokens.append((escaped, False))
    if len(tokens) > LENGTH_MAX:
        raise Mistake(f"a pattern is longer than {LENGTH_MAX} characters", offset)
    return Pattern(tuple(tokens))


class _Machine:
    """All places of a pattern at once. Bit n: the first n tokens have been matched."""

    def __init__(self, tokens: tuple[tuple[str, bool], ...]) -> None:
        self.final = 1 << len(tokens)
        self.stars = 0
        self.ones = 0
        self.chars: dict[str, int] = {}
        for number, (char, wild) in enumerate(tokens):
            bit = 1 << number
            if wild and char == ANY:
                self.stars |= bit
            elif wild:
                self.ones |= bit
            else:
                self.chars[char] = self.chars.get(char, 0) | bit
        self.first = self.past_stars(1)

    def past_stars(self, state: int) -> int:
        """A star may match nothing: add the places behind those that stand before one."""
        while more := (state & self.stars) << 1 & ~state:
            state |= more
        return state

    def step(self, state: int, char: str) -> int:
        wild = char != "\n"
        moved = (state & (self.chars.get(char, 0) | self.ones * wild)) << 1
        return self.past_stars(moved | (state & self.stars) * wild)


def _ends(machine: _Machine, text: str, start: int) -> Iterator[int]:
    """Where a match that begins at `start` can end, from near to far."""
    state = machine.first
    if state & machine.final:
        yield start
    for position in range(start, len(text)):
        state = machine.step(state, text[position])
        if not state:
            return
        if state & machine.final:
            yield position + 1


def _last(ends: Iterator[int]) -> int | None:
    found = None
    for found in ends:  # noqa: B007 - the last is wanted
        pass
    return found


def cut_prefix(pattern: Pattern, text: str, greedy: bool) -> str:
    """The text without the shortest (or, greedy, the longest) beginning that matches."""
    ends = _ends(_Machine(pattern.tokens), text, 0)
    end = _last(ends) if greedy else next(ends, None)
    return text if end is None else text[end:]


def cut_suffix(pattern: Pattern, text: str, greedy: bool) -> str:
    """The text without the shortest (or, greedy, the longest) ending that matches."""
    return cut_prefix(Pattern(pattern.tokens[::-1]), text[::-1], greedy)[::-1]


def replace(pattern: Pattern, text: str, replacement: str, *, every: bool, longest: int) -> str:
    """The text with the first match, or every one, replaced; each as early and then as long as can be.

    Raises:
        Mistake: the result is longer than `longest`.
    """
    machine = _Machine(pattern.tokens)
    made: list[str] = []
    size = position = 0
    behind = -1  # where the last match ended: an empty one there is none
    for start in _starts(pattern, text):
        if start < position:
            continue
        end = _last(_ends(machine, text, start))
        if end is None or (end == start == behind):
            continue
        made += text[position:start], replacement
        size += start - position + len(replacement)
        if size > longest:
            raise Mistake(f"variables make this longer than {longest} characters")
        position = behind = end
        if not every:
            break
    return "".join(made) + text[position:]


def _starts(pattern: Pattern, text: str) -> list[int]:
    """Where a match can begin, in order: one pass from the end, with the pattern reversed."""
    machine = _Machine(pattern.tokens[::-1])
    found: list[int] = []
    state = machine.first
    for position in range(len(text), -1, -1):
        if state & machine.final:
            found.append(position)
        if position:
            state = machine.step(state, text[position - 1]) | machine.first
    return found[::-1]
