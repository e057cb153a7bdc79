"""Variables, quotes and escapes in words, as BuildKit's shell lexer reads them. Not a shell: it runs nothing.

Where this goes another way, on purpose: words keep what stands before a ${name:-word} (there it is lost), `$` in the
replacement of ${name//pattern/text} is a plain character (there it is a group of Go's regexp), a result has a bound.
"""

from __future__ import annotations

from pycontainer._build import patterns
from pycontainer._build.frozen import Value
from pycontainer._build.source import SPACES, Mistake, quoted
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULT_MAX = 1 << 20  # characters: ENV A=$A$A, forty times, is a terabyte
DEPTH_MAX = 50
_SPECIAL = "@*#?-$!0"  # parameters of a shell that are never set here


class Rules(Value):
    """How a text is read.

    Attributes:
        escape: the character that escapes: of the file, or a backslash.
        quotes: quotes group, and go; without it they are plain characters.
        keep_quotes: they group and stay.
        keep_escapes: escapes stay.
        keep_unset: a variable that is not set stays as it was written.
    """

    escape: str = "\\"
    quotes: bool = True
    keep_quotes: bool = False
    keep_escapes: bool = False
    keep_unset: bool = False


class Expansion(Value):
    """What became of a text: whole; as words, split where unquoted space was; the variables that it asked for."""

    text: str
    words: tuple[str, ...]
    found: frozenset[str]
    missing: frozenset[str]


def expand(text: str, variables: Mapping[str, str], rules: Rules | None = None) -> Expansion:
    """Replace the variables of a text.

    Raises:
        Mistake: an open quote or brace, a modifier that is unknown, ${name?message}, a result beyond RESULT_MAX.
    """
    lexer = _Lexer(text, variables, rules or Rules())
    whole, words = lexer.run("", lexer.rules.keep_escapes)
    return Expansion(whole, tuple(words), frozenset(lexer.found), frozenset(lexer.missing))


class _Words:
    """Words in the making: unquoted space ends one; an empty one is none."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._now: list[str] = []

    def raw(self, text: str) -> None:
        if text:
            self._now.append(text)

    def split(self, text: str) -> None:
        for char in text:
            if char in SPACES:
                self.end()
            else:
                self._now.append(char)

    def end(self) -> None:
        if self._now:
            self.done.append("".join(self._now))
            self._now = []


class _Lexer:
    def __init__(self, text: str, variables: Mapping[str, str], rules: Rules) -> None:
        self.text = text
        self.position = 0
        self.variables = variables
        self.rules = rules
        self.found: set[str] = set()
        self.missing: set[str] = set()
        self._depth = 0
        self._made = 0

    def run(self, stop: str, keep_escapes: bool) -> tuple[str, list[str]]:
        """Read up to `stop`, which is taken, or to the end where it is ""."""
        whole: list[str] = []
        words = _Words()
        begin = self.position
        while self.position < len(self.text):
            char = self.text[self.position]
            if stop and char == stop:
                self.position += 1
                words.end()
                return "".join(whole), words.done
            if char == "$":
                piece = self._bounded(self._dollar(keep_escapes))
                words.split(piece)
            elif char == "<":
                piece = self._heredoc()
                words.raw(piece)
            elif char in "'\"" and self.rules.quotes:
                piece = self._single() if char == "'" else self._double(keep_escapes)
                words.raw(piece)
            else:
                self.position += 1
                piece = self._escaped(keep_escapes) if char == self.rules.escape else char
                (words.raw if char == self.rules.escape else words.split)(piece)
            whole.append(piece)
        if stop:
            raise Mistake(f"no {quoted(stop)} ends this", begin)
        words.end()
        return "".join(whole), words.done

    def _bounded(self, piece: str) -> str:
        self._made += len(piece)
        if self._made > RESULT_MAX:
            raise Mistake(f"variables make this longer than {RESULT_MAX} characters", self.position)
        return piece

    def _take(self) -> str:
        """The next character, or "" at the end."""
        char = self.text[self.position : self.position + 1]
        self.position += 1
        return char

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _escaped(self, keep: bool) -> str:
        char = self._take()
        return self.rules.escape + char if keep else char

    def _heredoc(self) -> str:
        """`<`, or `<<` with the blanks after it: they do not end the word."""
        begin = self.position
        self.position += 1
        if self._peek() == "<":
            self.position += 1
            while self._peek() and self._peek() in "\t\r ":
                self.position += 1
        return self.text[begin : self.position]

    def _single(self) -> str:
        begin = self.position
        end = self.text.find("'", begin + 1)
        if end < 0:
            raise Mistake("no ' ends this quote", begin, "write \\' for a plain one, or quote it with \"")
        self.position = end + 1
        return self.text[begin : end + 1] if self.rules.keep_quotes else self.text[begin + 1 : end]

    def _double(self, keep_escapes: bool) -> str:
        begin = self.position
        made = [self._take()] if self.rules.keep_quotes else [self._take()][:0]
        while self.position < len(self.text):
            char = self._peek()
            if char == "$":
                made.append(self._bounded(self._dollar(keep_escapes)))
                continue
            self.position += 1
            if char == '"':
                return "".join(made) + char * self.rules.keep_quotes
            if char == self.rules.escape:
                following = self._peek()
                if keep_escapes:
                    made.append(char)
                if not following:
                    continue
                if following in ('"', "$", char):
                    char = following
                    self.position += 1
            made.append(char)
        raise Mistake('no " ends this quote', begin, 'write \\" for a plain one')

    def _dollar(self, keep_escapes: bool) -> str:
        begin = self.position
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" if value is None and self.rules.keep_unset else value or ""
        self.position += 1
        if self._depth >= DEPTH_MAX:
            raise Mistake(f"variables in variables, more than {DEPTH_MAX} deep", begin)
        self._depth += 1
        try:
            return self._braces(begin)
        finally:
            self._depth -= 1

    def _braces(self, begin: int) -> str:
        if self._peek() and self._peek() in "{}:":
            raise Mistake("a variable's name is missing", begin, "as in ${name}; \\$ is a plain dollar")
        name = self._name()
        sign = self._take()
        if sign == "}":
            value = self._value(name)
            return f"${{{name}}}" if value is None and self.rules.keep_unset else value or ""
        if not sign:
            raise Mistake("no } ends this variable", begin)
        if sign == "/" and name:
            return self._replaced(name, begin)
        colon = sign == ":"
        if colon:
            sign = self._take()
        if not sign or sign not in "+-?#%" or not name or (colon and sign in "#%"):
            what = ":" * colon + sign
            raise Mistake(f"{quoted(what)} is nothing that can follow a variable's name", begin, _MODIFIERS)
        word = self._word("}", sign in "#%", begin)
        value = self._value(name)
        if value is None and self.rules.keep_unset:
            return f"${{{name}{':' * colon}{sign}{word}}}"
        return self._modified(name, value, sign, colon, word, begin)

    def _word(self, stop: str, keep_escapes: bool, begin: int) -> str:
        try:
            return self.run(stop, keep_escapes)[0]
        except Mistake as mistake:
            if self.position >= len(self.text) and mistake.what.startswith("no "):
                raise Mistake(f"no {stop} ends this variable", begin) from None
            raise

    def _modified(self, name: str, value: str | None, sign: str, colon: bool, word: str, begin: int) -> str:
        lacking = value is None or (colon and not value)
        if sign == "-":
            return word if lacking else value or ""
        if sign == "+":
            return "" if lacking else word
        if sign == "?":
            if lacking:
                reason = word or f"is not allowed to be {'unset' if value is None else 'empty'}"
                raise Mistake(f"{name}: {quoted(reason)[1:-1]}", begin)
            return value or ""
        greedy = word.startswith(sign)
        pattern = patterns.compile_pattern(word[greedy:], begin)
        return (patterns.cut_prefix if sign == "#" else patterns.cut_suffix)(pattern, value or "", greedy)

    def _replaced(self, name: str, begin: int) -> str:
        every = self._peek() == "/"
        self.position += every
        wanted = self._word("/", True, begin)
        replacement = self._word("}", True, begin)
        value = self._value(name)
        if value is None and self.rules.keep_unset:
            return f"${{{name}/{wanted}/{replacement}}}"
        pattern = patterns.compile_pattern(wanted, begin)
        return patterns.replace(pattern, value or "", replacement, every=every, longest=RESULT_MAX)

    def _name(self) -> str:
        """A name, digits, or one special character; "" where there is none."""
        begin = self.position
        first = self._peek()
        if first and first in _SPECIAL and not first.isdecimal():
            self.position += 1
        elif first.isdecimal():
            while self._peek().isdecimal():
                self.position += 1
        else:
            while (char := self._peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.position += 1
        return self.text[begin : self.position]

    def _value(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.missing if value is None else self.found).add(name)
        return value


_MODIFIERS = "there are :- - :+ + :? ? # ## % %% / //"
