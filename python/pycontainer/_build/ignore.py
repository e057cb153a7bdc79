"""Lists of patterns with exceptions, as moby's patternmatcher reads them: .dockerignore, --exclude, --parents.

Patterns are rooted, the last one that matches wins, what matches a directory matches all below it. A path is looked at
after its parents, as docker's walk does, and knows what they matched.

Where a backslash or a bracket is concerned this follows the page, which says Go's filepath.Match; in moby they reach
Go's regexp, so that there a \\d is a digit, [*] is no star and ^ an anchor.
"""

from __future__ import annotations

from pycontainer._build.frozen import Value
from pycontainer._build.glob import Kind, Machine, Token, character, go_tokens, read_class, unescaped
from pycontainer._build.source import SPACES, Mistake, Word, clean, failure, quoted
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE_MAX = 1 << 20  # characters of a .dockerignore
COUNT_MAX = 10_000  # patterns
_KEPT = 4096  # directories whose results are remembered


class Pattern(Value):
    """One pattern: its text, cleaned; whether it is an exception (!); how it matches."""

    text: str
    exception: bool
    machine: Machine


def _tokens(pattern: str) -> tuple[Token, ...]:
    """The tokens of a pattern with **. Which of three forms a ** takes depends on what else there is.

    Only characters before a ** at the end: all that begins so. A ** at the head and only characters after it: all that
    ends so; "**/name" at a name's beginning only. Else: nothing, or anything up to a slash.
    """
    go_tokens(pattern)  # the grammar, all of it
    plain = not set(pattern) & set("*?[]\\")
    head, tail = pattern.startswith("**"), pattern.endswith("**")
    if not plain and tail and not set(pattern[:-2]) & set("*?[]\\"):
        return (*map(character, pattern[:-2]), Token(Kind.REST))
    if head and not set(pattern[2:]) & set("*?[]\\"):
        rest = pattern[2:]
        if rest.startswith("/"):
            return (Token(Kind.MAYBE), Token(Kind.DEEP), *map(character, rest[1:]))
        return (Token(Kind.REST), *map(character, rest))
    return _general(pattern)


def _general(pattern: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**", position):
            position += 2
            position += pattern.startswith("/", position)
            if position == len(pattern):
                tokens.append(Token(Kind.REST, newlines=False))
            else:
                tokens += (Token(Kind.MAYBE), Token(Kind.DEEP, newlines=False))
        elif char == "[":
            token, position = read_class(pattern, position)
            tokens.append(token)
        else:
            if char in "*?":
                tokens.append(Token(Kind.STAR if char == "*" else Kind.ONE))
            else:
                tokens.append(character(unescaped(pattern, position)))
                position += char == "\\"
            position += 1
    return tuple(tokens)


def compile_pattern(text: str) -> Pattern | None:
    """Read one pattern, or None where it is blank.

    Raises:
        Mistake: a lone !, a bad class, a backslash at the end.
    """
    text = text.strip(SPACES)
    if not text:
        return None
    text = clean(text)
    exception = text.startswith("!")
    if text == "!":
        raise Mistake("a ! without a pattern")
    text = text[exception:]
    return Pattern(text, exception, Machine(_tokens(text)))


class PathPatterns:
    """Patterns in order. Paths are relative, with slashes, as a walk gives them: "a/b"."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """Compile `patterns`.

        Raises:
            Mistake: a bad pattern; at its Word if it is one.
        """
        made = []
        for text in patterns:
            try:
                made.append(compile_pattern(text))
            except Mistake as mistake:
                raise Mistake(mistake.what, text if isinstance(text, Word) else 0, mistake.fix) from None
        self._patterns = tuple(pattern for pattern in made if pattern is not None)
        self._exceptions = tuple(pattern for pattern in self._patterns if pattern.exception)
        self._known: dict[str, tuple[int, bool]] = {"": (0, False)}

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, cleaned, with their !."""
        return tuple("!" * pattern.exception + pattern.text for pattern in self._patterns)

    def matches(self, path: str) -> bool:
        """Whether the last pattern that matches the path, or a parent of it, is no exception. The root never matches.

        Raises:
            ValueError: the path is absolute, or has empty, "." or ".." parts.
        """
        if path in ("", "."):
            return False
        if clean(path) != path or path.startswith(("/", "../")) or path == "..":
            raise ValueError(f"path must be relative and clean, not {quoted(path)}")
        return self._result(path)[1]

    def _result(self, path: str) -> tuple[int, bool]:
        """(bits of the patterns that matched it or a parent, does it match)."""
        known = self._known.get(path)
        if known is not None:
            return known
        end = path.find("/")
        state = self._known[""]
        while end >= 0:
            parent = path[:end]
            found = self._known.get(parent)
            if found is None:
                found = self._looked(parent, state[0])
                if len(self._known) >= _KEPT:
                    self._known = {"": self._known[""]}
                self._known[parent] = found
            state = found
            end = path.find("/", end + 1)
        return self._looked(path, state[0])

    def _looked(self, path: str, above: int) -> tuple[int, bool]:
        matched = False
        bits = 0
        for number, pattern in enumerate(self._patterns):
            bit = 1 << number
            # What could not change the answer is not looked at, and so not remembered for what lies below.
            if above & bit or (pattern.exception is matched and pattern.machine.matches(path)):
                bits |= bit
                matched = not pattern.exception
        return bits, matched

    def matches_below(self, directory: str) -> bool:
        """Whether something below a directory can match: False is certain."""
        if self.matches(directory):
            return True
        root = directory in ("", ".")
        return any(
            root or pattern.machine.matches_below(directory) for pattern in self._patterns if not pattern.exception
        )

    def spares_below(self, directory: str) -> bool:
        """Whether something below a directory can be without a match: False is certain."""
        if not self.matches(directory):
            return True
        return any(pattern.machine.matches_below(directory) for pattern in self._exceptions)


class IgnoreFile(PathPatterns):
    """A .dockerignore, read as docker does.

    The Dockerfile and the .dockerignore are used by the build whatever it says; COPY and ADD do not find them if it
    excludes them. A directory that is excluded and holds something that is not is there, for its sake.
    """

    def __init__(self, text: str | bytes = "", *, file: str = ".dockerignore") -> None:
        """Read `text`; `file` is its name, for messages.

        Raises:
            BuildError: a bad pattern, at its line; a file beyond SIZE_MAX or COUNT_MAX.
        """
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        if len(text) > SIZE_MAX:
            raise failure(file, (1, 1), f"an ignore file of more than {SIZE_MAX} characters")
        words = _lines(text)
        if len(words) > COUNT_MAX:
            raise failure(file, (words[COUNT_MAX].line, 1), f"more than {COUNT_MAX} patterns")
        try:
            super().__init__(words)
        except Mistake as mistake:
            at = mistake.at if isinstance(mistake.at, Word) else Word("")
            raise failure(file, (at.line, at.column), mistake.text()) from None

    def excludes(self, path: str) -> bool:
        """Whether a path, relative to the context, is left out.

        Raises:
            ValueError: it is absolute or not clean.
        """
        return self.matches(path)

    def prunes(self, directory: str) -> bool:
        """Whether a directory is left out with all that it can hold, so that nobody needs to look into it."""
        return not self.spares_below(directory)


def _lines(text: str) -> list[Word]:
    """The patterns of a file: comments gone, slashes at the beginning too."""
    found: list[Word] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.removesuffix("\r")
        pattern = line.strip(SPACES)
        if line.startswith("#") or not pattern:
            continue
        place = len(line) - len(line.lstrip(SPACES)) + 1
        invert = pattern.startswith("!")
        pattern = pattern[invert:].strip(SPACES)
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        found.append(Word("!" * invert + pattern, number, place))
    return found


def ignore_names(dockerfile: str) -> tuple[str, str]:
    """The names to look for, first one first: beside the Dockerfile, and in the context's root."""
    return f"{dockerfile}.dockerignore", ".dockerignore"
