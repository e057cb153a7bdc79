"""One reader for each instruction: its parts to its value. What is wrong is a Mistake at its place."""

from __future__ import annotations

import re

from pycontainer._build import instructions as made, values
from pycontainer._build.instructions import Heredoc, Instruction, Network
from pycontainer._build.lines import heredoc_of
from pycontainer._build.mounts import read_mount
from pycontainer._build.source import Joined, Mistake, Span, Word, quoted, suggestion
from pycontainer._build.words import Command, Piece, blank_separated, json_array, quoted_words, read_flags
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_RESERVED = ("scratch",)


class Parts:
    """An instruction as text, for its reader."""

    def __init__(
        self,
        joined: Joined,
        command: Command,
        heredocs: tuple[Heredoc, ...],
        escape: str,
        span: Span,
        original: str,
    ) -> None:
        self.joined = joined
        self.command = command
        self.heredocs = heredocs
        self.escape = escape
        self.span = span
        self.original = original
        self._taken: dict[str, list[Piece]] = {}

    @property
    def common(self) -> dict[str, Any]:
        """The fields that all instructions have."""
        return {"span": self.span, "original": self.original}

    @property
    def name(self) -> str:
        """The instruction, for messages."""
        return self.command.name.text.upper()

    def word(self, piece: Piece) -> Word:
        """A piece with its place."""
        return self.joined.word(piece.text, piece.offset)

    def rest(self, what: str) -> Word:
        """What follows the flags; refused where there is nothing."""
        if not self.command.rest.text:
            raise Mistake(f"{self.name} needs {what}", self.command.name.offset)
        return self.word(self.command.rest)

    def flags(self, kinds: Mapping[str, type]) -> None:
        """Read the flags; `flag`, `flags` and `switch` give them."""
        self._taken.update(read_flags(self.command.flags, kinds, self.name))

    def flag(self, name: str) -> Word | None:
        """The value of a flag; an empty one is as good as none."""
        pieces = self._taken.get(name)
        return self.word(pieces[0]) if pieces and pieces[0].text else None

    def all_flags(self, name: str) -> tuple[Word, ...]:
        """The values of a flag that can come several times."""
        return tuple(self.word(piece) for piece in self._taken.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """A boolean flag, None where it was not given."""
        pieces = self._taken.get(name)
        return pieces[0].text == "true" if pieces else None

    def strings(self) -> tuple[Word, ...] | None:
        """The rest as a JSON array, or None: then it is text."""
        array = json_array(self.command.rest)
        return None if array is None else tuple(self.joined.word(text, self.command.rest.offset) for text in array)


def _from(parts: Parts) -> Instruction:
    parts.flags({"platform": str})
    parts.rest("an image, as in FROM debian:12")
    words = blank_separated(parts.command.rest)
    name = None
    if len(words) == 3 and words[1].text.lower() == "as":
        name = parts.word(words[2])
        _check_stage_name(name)
        name = name.like(name.lower())
    elif len(words) != 1:
        extra = words[1]
        fix = suggestion(extra.text, ["AS"]) if len(words) == 3 else ""
        raise Mistake(
            "FROM takes an image, or an image, AS and a name", extra.offset, fix or "as in FROM debian:12 AS build"
        )
    return made.From(**parts.common, image=parts.word(words[0]), platform=parts.flag("platform"), name=name)


def _check_stage_name(name: Word) -> None:
    if not STAGE_NAME.fullmatch(name.lower()):
        raise Mistake(
            f"a stage cannot be called {quoted(name)}", name, "a letter, then letters, digits and any of - _ ."
        )
    if name.lower() in _RESERVED:
        raise Mistake(f"a stage cannot be called {quoted(name)}", name, "the name means the empty image")


def _arg(parts: Parts) -> Instruction:
    parts.flags({})
    parts.rest("a name, as in ARG VERSION=1")
    items = []
    for piece in quoted_words(parts.command.rest, parts.escape):
        name, equals, default = piece.text.partition("=")
        _check_name(name, piece, "ARG")
        value = parts.word(Piece(default, piece.offset + len(name) + 1)) if equals else None
        items.append(made.ArgItem(name=parts.word(Piece(name, piece.offset)), default=value))
    return made.Arg(**parts.common, items=tuple(items))


def _check_name(name: str, piece: Piece, instruction: str) -> None:
    if not name:
        raise Mistake(f"a name of {instruction} is missing before the =", piece.offset)
    if name[0] in "'\"":
        raise Mistake(f"quotes go around the value, not the name: {quoted(piece.text)}", piece.offset)


def _pairs(kind: type[made.Env] | type[made.Label]) -> Callable[[Parts], Instruction]:
    def read(parts: Parts) -> Instruction:
        parts.flags({})
        rest = parts.rest("a name and a value, as in name=value")
        words = quoted_words(parts.command.rest, parts.escape)
        if not words or "=" not in words[0].text:
            return kind(**parts.common, items=(_legacy_pair(parts, rest),))
        items: list[made.Pair] = []
        for piece in words:
            name, equals, value = piece.text.partition("=")
            if not equals:
                fix = f'quote a value that has spaces: {quoted(items[-1].name if items else "name")[1:-1]}="..."'
                raise Mistake(f"{parts.name} has {quoted(piece.text)} without a =", piece.offset, fix)
            if not name:
                raise Mistake(f"a name of {parts.name} is missing before the =", piece.offset)
            place = Piece(value, piece.offset + len(name) + 1)
            items.append(made.Pair(name=parts.word(Piece(name, piece.offset)), value=parts.word(place)))
        return kind(**parts.common, items=tuple(items))

    return read


def _legacy_pair(parts: Parts, rest: Word) -> made.Pair:
    """ENV name all the rest."""
    match = re.fullmatch(r"([^\t\v\f\r ]+)[\t\v\f\r ]+(.*)", rest, re.DOTALL)
    if match is None:
        raise Mistake(f"{parts.name} {quoted(rest)} has no value", rest, f"{quoted(rest)[1:-1]}= makes it empty")
    offset = parts.command.rest.offset
    name, value = (parts.word(Piece(match[group], offset + match.start(group))) for group in (1, 2))
    return made.Pair(name=name, value=value, legacy=True)


_RUN_FLAGS = {"mount": list, "network": str, "security": str, "device": list}


def _run(parts: Parts) -> Instruction:
    parts.flags(_RUN_FLAGS)
    for name in ("security", "device"):
        if values_ := parts.all_flags(name):
            if name == "security" and values_ == ("sandbox",):
                continue
            raise Mistake(f"--{name} of RUN is not supported: {quoted(values_[0])}", values_[0])
    network = parts.flag("network")
    if network is not None and str(network) not in list(map(str, Network)):
        raise Mistake(
            f"--network is one of {', '.join(Network)}, not {quoted(network)}",
            network,
            suggestion(network, list(Network)),
        )
    command, shell = _command(parts)
    if not command:
        raise Mistake("RUN [] executes nothing", parts.command.rest.offset)
    return made.Run(
        **parts.common,
        command=command,
        shell=shell,
        mounts=tuple(read_mount(text) for text in parts.all_flags("mount")),
        network=Network(network) if network else None,
        heredocs=parts.heredocs,
    )


def _command(parts: Parts) -> tuple[tuple[Word, ...], bool]:
    """A command: words of a JSON array, or one text for a shell."""
    rest = parts.rest('a command, as in ["program", "argument"]')
    words = parts.strings()
    return ((rest,), True) if words is None else (words, False)


def _command_alone(kind: type[made.Cmd] | type[made.Entrypoint]) -> Callable[[Parts], Instruction]:
    def read(parts: Parts) -> Instruction:
        parts.flags({})
        command, shell = _command(parts)
        return kind(**parts.common, command=command, shell=shell)

    return read


_COPY_FLAGS = {"from": str, "chown": str, "chmod": str, "link": bool, "parents": bool, "exclude": list}
_ADD_FLAGS = {
    "chown": str, "chmod": str, "link": bool, "exclude": list, "checksum": str, "keep-git-dir": bool, "unpack": bool,
}  # fmt: skip


def _copy(parts: Parts) -> Instruction:
    parts.flags(_COPY_FLAGS)
    source = parts.flag("from")
    if source is not None and "$" in source:
        raise Mistake("no variable is looked at in --from", source, "name a stage of it: FROM $VARIABLE AS name")
    return made.Copy(
        **parts.common, **_sources(parts), from_=source, parents=parts.switch("parents") or False
    )  # fmt: skip


def _add(parts: Parts) -> Instruction:
    parts.flags(_ADD_FLAGS)
    return made.Add(
        **parts.common,
        **_sources(parts),
        checksum=parts.flag("checksum"),
        keep_git_dir=parts.switch("keep-git-dir"),
        unpack=parts.switch("unpack"),
    )


def _sources(parts: Parts) -> dict[str, Any]:
    """What COPY and ADD have in common."""
    parts.rest("sources and a destination")
    words = parts.strings()
    if words is None:
        words = tuple(parts.word(piece) for piece in blank_separated(parts.command.rest))
        sources, files = _inline(words[:-1], parts.heredocs)
    else:
        sources, files = words[:-1], ()
    if len(words) < 2:
        raise Mistake(f"{parts.name} needs sources and a destination", parts.command.rest.offset, "as in COPY . /app")
    chmod = parts.flag("chmod")
    if chmod is not None and "$" not in chmod:
        values.check_mode(chmod)
    return {
        "sources": sources,
        "files": files,
        "destination": words[-1],
        "chown": parts.flag("chown"),
        "chmod": chmod,
        "link": parts.switch("link") or False,
        "exclude": parts.all_flags("exclude"),
    }


def _inline(
    words: tuple[Word, ...], heredocs: tuple[Heredoc, ...]
) -> tuple[tuple[Word, ...], tuple[made.InlineFile, ...]]:
    """Sources that are paths, and those that are heredocs."""
    bodies = list(heredocs)
    paths: list[Word] = []
    files: list[made.InlineFile] = []
    for word in words:
        if heredoc_of(word) is None:
            if word.startswith("<<"):
                raise Mistake(f"{quoted(word)} is no heredoc", word, "write <<EOF without a space")
            paths.append(word)
        elif bodies:
            body = bodies.pop(0)
            if "/" in body.name or body.name in (".", ".."):
                raise Mistake(f"a heredoc's name is its file's, so it cannot be {quoted(body.name)}", word)
            files.append(made.InlineFile(name=body.name, content=body.text(), expand=body.expand))
    if bodies:
        raise Mistake("a heredoc cannot be a destination", bodies[0].name, "as in COPY <<EOF /etc/app.conf")
    return tuple(paths), tuple(files)


def _expose(parts: Parts) -> Instruction:
    parts.flags({})
    parts.rest("ports, as in 80 or 53/udp")
    ports = tuple(parts.word(piece) for piece in blank_separated(parts.command.rest))
    for port in ports:
        if not set(port) & set("$'\"" + parts.escape):
            values.ports(port)
    return made.Expose(**parts.common, ports=ports)


def _volume(parts: Parts) -> Instruction:
    parts.flags({})
    rest = parts.rest("paths")
    words = parts.strings()
    if words is None:
        words = tuple(parts.word(piece) for piece in blank_separated(parts.command.rest))
    words = tuple(word.like(word.strip()) for word in words)
    if not words or not all(words):
        raise Mistake("a path of VOLUME is empty", rest)
    return made.Volume(**parts.common, paths=words)


def _one(
    kind: type[Instruction], name: str, what: str, check: Callable[[Word], None] | None = None
) -> Callable[[Parts], Instruction]:
    """A reader of an instruction that has one text."""

    def read(parts: Parts) -> Instruction:
        parts.flags({})
        text = parts.rest(what)
        if check is not None and not set(text) & set("$'\"" + parts.escape):
            check(text)
        fields: dict[str, Any] = {**parts.common, name: text}
        return kind(**fields)

    return read


_TIMES = ("interval", "timeout", "start-period", "start-interval")


def _healthcheck(parts: Parts) -> Instruction:
    rest = parts.rest("NONE, or CMD and a command")
    parts.flags(dict.fromkeys((*_TIMES, "retries"), str))
    kind, _, command = _partition(parts.command.rest)
    if kind.upper() == "NONE":
        if command.text or parts.command.flags:
            raise Mistake("HEALTHCHECK NONE stands alone", parts.command.name.offset)
        return made.Healthcheck(**parts.common, test=(rest.like("NONE"),))
    if kind.upper() != "CMD":
        raise Mistake(f"HEALTHCHECK takes CMD or NONE, not {quoted(kind)}", rest, "write HEALTHCHECK CMD ...")
    if not command.text:
        raise Mistake("HEALTHCHECK CMD needs a command", rest)
    words = json_array(command)
    if words == ():
        raise Mistake("HEALTHCHECK CMD needs a command", command.offset)
    test = ("CMD-SHELL", command.text) if words is None else ("CMD", *words)
    fields: dict[str, Any] = {"test": tuple(parts.joined.word(text, command.offset) for text in test)}
    for name in _TIMES:
        if text := parts.flag(name):
            fields[name.replace("-", "_")] = values.duration(text, f"--{name}")
    if retries := parts.flag("retries"):
        if not re.fullmatch(r"\+?[0-9]{1,10}", retries) or int(retries) >= 1 << 31:
            raise Mistake(f"--retries is a number, not {quoted(retries)}", retries)
        fields["retries"] = int(retries)
    return made.Healthcheck(**parts.common, **fields)


def _partition(rest: Piece) -> tuple[str, str, Piece]:
    """The first word, the space behind it, the rest."""
    match = re.fullmatch(r"(\S*)(\s*)(.*)", rest.text, re.DOTALL)
    assert match is not None
    return match[1], match[2], Piece(match[3], rest.offset + match.start(3))


def _shell(parts: Parts) -> Instruction:
    parts.flags({})
    rest = parts.rest('a JSON array, as in ["/bin/bash", "-c"]')
    words = parts.strings()
    if not words:
        raise Mistake('SHELL takes a JSON array of at least one string, as in ["/bin/bash", "-c"]', rest)
    return made.Shell(**parts.common, command=words)


READERS: dict[str, Callable[[Parts], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _command_alone(made.Cmd),
    "COPY": _copy,
    "ENTRYPOINT": _command_alone(made.Entrypoint),
    "ENV": _pairs(made.Env),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _pairs(made.Label),
    "MAINTAINER": _one(made.Maintainer, "name", "a name"),
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _one(made.Stopsignal, "signal", "a signal", values.check_signal),
    "USER": _one(made.User, "user", "a user"),
    "VOLUME": _volume,
    "WORKDIR": _one(made.Workdir, "path", "a path"),
}
