"""A Dockerfile's physical lines to instructions as text: directives, comments, continuations, heredocs.

What an instruction says is not looked at, but for whether heredocs may follow it.
"""

from __future__ import annotations

import re

from pycontainer._build import shell
from pycontainer._build.frozen import Value
from pycontainer._build.instructions import Directive, Heredoc, Notice
from pycontainer._build.source import SPACES, Joined, Mistake, Span, Word, failure, physical_lines, quoted
from pycontainer._build.words import Command, json_array, split_command

SIZE_MAX = 16 << 20  # characters of a Dockerfile
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


class Line(Value):
    """One instruction as text.

    Attributes:
        joined: continuation lines joined, comments between them gone.
        command: its three parts.
        inner: of ONBUILD, the three parts of the instruction that it keeps.
        heredocs: the texts that follow it.
        span: all of it.
    """

    joined: Joined
    command: Command
    inner: Command | None
    heredocs: tuple[Heredoc, ...]
    span: Span


class Reader:
    """Reads a file once, from the top."""

    def __init__(self, text: str, file: str, escape: str = "\\", origin: Span | None = None) -> None:
        """Read `text`; `origin` of a trigger is where what brought it stands: messages and words name that place."""
        self.text = text
        self.file = file
        self.escape = escape
        self.origin = origin
        self.directives: list[Directive] = []
        self.notices: list[Notice] = []
        self._lines: list[str] = []
        self._number = 0  # lines that were taken

    def read(self) -> list[Line]:
        """All instructions.

        Raises:
            BuildError: too long, bytes that are no text, a bad directive, a heredoc without end, an unclosed quote.
        """
        if len(self.text) > SIZE_MAX:
            raise failure(self.file, (1, 1), f"a Dockerfile of more than {SIZE_MAX} characters")
        self._lines = physical_lines(self.text.removeprefix("\ufeff"))
        self._read_directives()
        found: list[Line] = []
        while self._number < len(self._lines):
            if line := self._instruction():
                found.append(line)
        return found

    def _read_directives(self) -> None:
        seen: dict[str, int] = {}
        while self._number < len(self._lines):
            line = self._lines[self._number].rstrip("\r\n")
            begin = len(line) - len(line.lstrip(SPACES))
            match = _DIRECTIVE.fullmatch(line, begin)
            name = match[1].lower() if match else ""
            if match is None or name not in _DIRECTIVES:
                return
            self._number += 1
            place = (self._number, match.start(1) + 1)
            if name in seen:
                raise failure(self.file, place, f"the directive {name} was given in line {seen[name]} already")
            seen[name] = self._number
            value = Word(match[2], self._number, match.start(2) + 1)
            if name == "escape":
                if value not in ("\\", "`"):
                    what = f"escape is \\ or `, not {quoted(value)}"
                    raise failure(self.file, (value.line, value.column), what)
                self.escape = value
            self.directives.append(Directive(name=name, value=value))

    def _instruction(self) -> Line | None:
        pieces: list[tuple[str, int, int]] = []
        first = self._number
        empty = 0
        while self._number < len(self._lines):
            raw = self._lines[self._number]
            self._number += 1
            text = raw.rstrip("\r\n")
            bare = text.lstrip(SPACES)
            if pieces and not bare:
                empty = self._number
                continue
            if bare.startswith("#"):
                if pieces:
                    continue
                return None
            begin = 0 if pieces else len(text) - len(bare)
            text, goes_on = self._continues(text[begin:])
            if not pieces:
                if not goes_on and not text:
                    return None
                first = self._number
            pieces.append((text, self._number, begin + 1))
            if not goes_on:
                break
        if empty:
            self.notices.append(Notice(line=empty, text="an empty line inside an instruction; docker will refuse it"))
        return self._line(Joined(pieces, self._place()), first)

    def _place(self) -> tuple[int, int] | None:
        return (self.origin.line, self.origin.column) if self.origin else None

    def _continues(self, text: str) -> tuple[str, bool]:
        """A line without the escape that ends it, and whether there was one. Escaped itself, it is none."""
        end = text.rstrip("\t ")
        if end.endswith(self.escape) and not end.endswith(self.escape * 2):
            return end[:-1], True
        return text, False

    def _line(self, joined: Joined, first: int) -> Line:
        try:
            self._check_text(joined.text)
            command = split_command(joined.text, self.escape)
            inner = None
            if command.name.text.upper() == "ONBUILD" and command.rest.text:
                inner = split_command(joined.text, self.escape, command.rest.offset)
            heredocs: list[Heredoc] = []
            if "<<" in joined.text and _can_have_heredocs(inner or command):
                heredocs = heredocs_of(joined)
        except Mistake as mistake:
            raise self.failure(mistake, joined) from None
        bodies = tuple(self._body(heredoc, joined) for heredoc in heredocs)
        last = self._lines[self._number - 1].rstrip("\r\n")
        span = self.origin or Span(first, joined.place(0)[1], self._number, len(last) + 1)
        return Line(joined, command, inner, bodies, span)

    def _check_text(self, text: str, line: int = 0) -> None:
        for offset, char in enumerate(text) if not text.isascii() or "\0" in text else ():
            if char == "\0" or "\ud800" <= char <= "\udfff":
                what = "a NUL byte" if char == "\0" else "bytes that are not UTF-8"
                raise Mistake(what, Word("", line, offset + 1) if line else offset, "a Dockerfile is text")

    def _body(self, heredoc: Heredoc, joined: Joined) -> Heredoc:
        begin = self._number
        content: list[str] = []
        while self._number < len(self._lines):
            raw = self._lines[self._number]
            self._number += 1
            try:
                self._check_text(raw, self._number)
            except Mistake as mistake:
                raise self.failure(mistake, joined) from None
            text = raw.rstrip("\r\n")
            if (text.lstrip("\t") if heredoc.strip_tabs else text) == heredoc.name:
                return Heredoc(
                    name=heredoc.name,
                    content=Word("".join(content), *(self._place() or (begin + 1, 1))),
                    expand=heredoc.expand,
                    strip_tabs=heredoc.strip_tabs,
                    descriptor=heredoc.descriptor,
                )
            content.append(raw)
        fix = f"a line with {quoted(heredoc.name)} alone ends it"
        raise self.failure(Mistake(f"the heredoc {quoted(heredoc.name)} has no end", heredoc.name, fix), joined)

    def failure(self, mistake: Mistake, joined: Joined) -> Exception:
        """The BuildError of a mistake in an instruction."""
        at = mistake.at
        place = self._place() or ((at.line, at.column) if isinstance(at, Word) else joined.place(at))
        text = joined.text.strip(SPACES)
        what = f"in the ONBUILD trigger {quoted(text)}: {mistake.text()}" if self.origin else mistake.text()
        return failure(self.file, place, what, text)


def _can_have_heredocs(command: Command) -> bool:
    name = command.name.text.upper()
    if name not in _WITH_HEREDOCS:
        return False
    return json_array(command.rest) is None


_RAW = shell.Rules(keep_quotes=True, keep_escapes=True, keep_unset=True)
_NAME = shell.Rules(keep_unset=True)
_NAME_QUOTED = shell.Rules(keep_quotes=True, keep_unset=True)


def heredocs_of(joined: Joined) -> list[Heredoc]:
    """The heredocs that an instruction's words begin, without their texts. Words that cannot be read have none."""
    try:
        words = shell.expand(joined.text, {}, _RAW).words
    except Mistake:
        return []
    found = []
    position = 0
    for word in words:
        offset = joined.text.find(word, position)
        if offset >= 0:
            position = offset + len(word)
        made = heredoc_of(joined.word(word, max(offset, 0)))
        if made is not None:
            found.append(made)
    return found


def heredoc_of(word: Word) -> Heredoc | None:
    """The heredoc that a word begins, or None: <<EOF, <<-EOF, 3<<"E O F"."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    place = Word("", word.line, word.column + match.start(3))
    try:
        names = shell.expand(match[3], {}, _NAME).words
        kept = shell.expand(match[3], {}, _NAME_QUOTED).words
    except Mistake as mistake:
        raise Mistake(mistake.what, place, mistake.fix) from None
    if len(names) != 1 or len(kept) != 1:
        return None
    return Heredoc(
        name=place.like(names[0]),
        content=place.like(""),
        expand=_quotes(names[0]) == _quotes(kept[0]),
        strip_tabs=bool(match[2]),
        descriptor=int(match[1][-9:] or 0),
    )


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
