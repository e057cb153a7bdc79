"""A Dockerfile's text to its instructions, to BuildKit's grammar: `parse`. Variables stay as written; see expand.

What the engine cannot carry out is read, and refused at its line: `refuse` has the list.
"""

from __future__ import annotations

import re

from pycontainer._build.instructions import KINDS, Add, Copy, Document, Instruction, MountKind, Onbuild, Run
from pycontainer._build.lines import Line, Reader
from pycontainer._build.readers import READERS, Parts
from pycontainer._build.source import SPACES, Mistake, Span, Word, failure, quoted, suggestion

DEFAULT_FILE = "Dockerfile"
# Words that other formats, or a slip, put where an instruction stands.
_MEANT = {
    "IMPORT": "FROM", "EXEC": "RUN", "SH": "RUN", "BASH": "RUN", "ENVIRONMENT": "ENV", "EXPORT": "ENV", "SET": "ENV",
    "PORT": "EXPOSE", "CD": "WORKDIR", "CWD": "WORKDIR", "COMMAND": "CMD", "INCLUDE": "COPY", "BASE": "FROM",
    "APT-GET": "RUN apt-get", "APT": "RUN apt-get", "APK": "RUN apk", "PIP": "RUN pip", "YUM": "RUN yum",
    "DNF": "RUN dnf", "NPM": "RUN npm", "MKDIR": "RUN mkdir", "ECHO": "RUN echo", "CHMOD": "RUN chmod",
    "&&": "a \\ at the end of the line before", "|": "a \\ at the end of the line before",
}  # fmt: skip
_GIT_HOST = re.compile(r"[a-zA-Z0-9_.-]+@[a-zA-Z0-9.-]+:.*")


def parse(text: str | bytes, *, file: str = DEFAULT_FILE) -> Document:
    """Read a Dockerfile.

    Args:
        text: its content. Bytes that are not UTF-8 may stand in comments only.
        file: its name, for messages.

    Raises:
        BuildError: the first mistake: "Dockerfile:3:5: what is wrong; the likely fix", with `line` and `step`.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    reader = Reader(text, file)
    made = []
    for line in reader.read():
        try:
            instruction = _instruction(line, reader.escape)
            refuse(instruction)
        except Mistake as mistake:
            raise reader.failure(mistake, line.joined) from None
        made.append(instruction)
    if not made:
        raise failure(file, (1, 1), "there is no instruction in it", None)
    notices = tuple(reader.notices)
    return Document(
        file=file, escape=reader.escape, directives=tuple(reader.directives), instructions=tuple(made), notices=notices
    )


def parse_trigger(text: str, *, escape: str = "\\", file: str = DEFAULT_FILE, span: Span) -> Instruction:
    """Read one instruction that an image's config keeps for the images that are built on it.

    Args:
        text: as ONBUILD wrote it.
        escape: the escape of the file that is being built.
        file: that file's name, for messages.
        span: where the FROM stands that brings it. Messages name that place, and it is the instruction's.

    Raises:
        BuildError: it is none, or more than one, or not allowed there.
    """
    reader = Reader(text, file, escape, span)
    lines = reader.read()
    if len(lines) != 1 or reader.directives:
        what = f"an ONBUILD trigger is one instruction, not {len(lines)}: {quoted(text)}"
        raise failure(file, (span.line, span.column), what, text)
    try:
        _check_trigger(lines[0].command.name.text.upper(), Word(""))
        instruction = _instruction(lines[0], escape)
        refuse(instruction)
    except Mistake as mistake:
        raise reader.failure(mistake, lines[0].joined) from None
    return instruction


def _instruction(line: Line, escape: str) -> Instruction:
    name = line.command.name
    keyword = name.text.upper()
    if keyword not in KINDS:
        raise Mistake(f"no instruction is called {quoted(name.text)}", name.offset, _fix(keyword))
    parts = Parts(
        joined=line.joined,
        command=line.command,
        heredocs=line.heredocs,
        escape=escape,
        span=line.span,
        original=line.joined.text.strip(SPACES),
    )
    if keyword == "ONBUILD":
        return _onbuild(line, parts, escape)
    return READERS[keyword](parts)


def _fix(keyword: str) -> str:
    if meant := _MEANT.get(keyword):
        return f"did you mean {meant}?"
    meant = suggestion(keyword, KINDS)
    return meant or f"there are {', '.join(sorted(KINDS))}"


def _onbuild(line: Line, parts: Parts, escape: str) -> Onbuild:
    parts.flags({})
    rest = parts.rest("an instruction")
    assert line.inner is not None
    _check_trigger(line.inner.name.text.upper(), rest)
    inner = Line(line.joined, line.inner, None, line.heredocs, line.span)
    _instruction(inner, escape)
    text = "".join([rest, *(f"\n{heredoc.content}{heredoc.name}" for heredoc in line.heredocs)])
    return Onbuild(**parts.common, trigger=rest.like(text))


def _check_trigger(keyword: str, at: Word) -> None:
    if keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise Mistake(f"{keyword} cannot be a trigger of ONBUILD", at)


def refuse(instruction: Instruction) -> None:
    """Refuse what was understood and cannot be carried out here.

    Raises:
        Mistake: an ssh mount, a git source.
    """
    if isinstance(instruction, Run):
        for mount in instruction.mounts:
            if mount.kind is MountKind.SSH:
                raise Mistake("mounts of type ssh are not supported", mount.text, "give the key as a secret")
    elif isinstance(instruction, (Add, Copy)):
        if isinstance(instruction, Add) and instruction.keep_git_dir is not None:
            what = "--keep-git-dir is for git sources, which are not supported"
            raise Mistake(what, instruction.destination, "clone it in a RUN with --network=host")
        for source in instruction.sources:
            check_source(source, instruction.keyword)


def check_source(source: Word, keyword: str) -> None:
    """Refuse sources that are git repositories, and URLs that COPY cannot fetch.

    Raises:
        Mistake: at the source.
    """
    if is_git(source):
        what = f"{keyword} from git is not supported: {quoted(source)}"
        raise Mistake(what, source, "clone it in a RUN, or ADD an archive of it by https")
    if keyword == "COPY" and is_url(source):
        raise Mistake(f"COPY fetches nothing: {quoted(source)} is a URL", source, "use ADD")


def is_url(source: str) -> bool:
    """Whether a source is fetched by http."""
    return source.startswith(("http://", "https://"))


def is_git(source: str) -> bool:
    """Whether docker would clone this source."""
    if is_url(source):
        return re.split("[?#]", source, maxsplit=1)[0].endswith(".git")
    return source.startswith(("git://", "ssh://")) or _GIT_HOST.fullmatch(source) is not None
