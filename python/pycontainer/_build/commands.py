"""What instructions come to: the words that a RUN executes, directories, the paths of COPY. No file system is asked."""

from __future__ import annotations

import re

from pycontainer._build.frozen import Value
from pycontainer._build.glob import has_wildcard
from pycontainer._build.instructions import Cmd, Entrypoint, InlineFile, Run
from pycontainer._build.lines import heredoc_of
from pycontainer._build.source import Word, clean
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_SHELL = ("/bin/sh", "-c")
SCRIPTS = "/dev/pipes"  # where docker puts a heredoc that is a script of its own


class CommandLine(Value):
    """What a RUN executes. `script`: a file of mode 0755 that has to be in SCRIPTS while it runs, and not after."""

    argv: tuple[str, ...]
    script: InlineFile | None = None


def run_command(run: Run, shell: Sequence[str] = DEFAULT_SHELL) -> CommandLine:
    """The words that a RUN executes.

    A heredoc alone is what the shell runs, or, if it begins with #!, a script; one with a command around it stays a
    heredoc, for the shell to read.
    """
    if not run.shell:
        return CommandLine(tuple(map(str, run.command)))
    text = str(run.command[0])
    if not run.heredocs:
        return CommandLine((*shell, text))
    if heredoc_of(run.command[0]) is None:
        pieces = [text, *(f"\n{heredoc.content}{heredoc.name}" for heredoc in run.heredocs)]
        return CommandLine((*shell, "".join(pieces)))
    heredoc = run.heredocs[0]
    content = heredoc.text()
    if content.startswith("#!"):
        name = Word(re.sub(r"[^a-zA-Z0-9_.-]", "_", heredoc.name).strip(".") or "script")
        return CommandLine((f"{SCRIPTS}/{name}",), InlineFile(name=name, content=content, expand=False))
    return CommandLine((*shell, str(content)))


def config_command(instruction: Cmd | Entrypoint, shell: Sequence[str] = DEFAULT_SHELL) -> list[str]:
    """What CMD or ENTRYPOINT puts into the image's config."""
    words = list(map(str, instruction.command))
    return [*shell, *words] if instruction.shell else words


def join_workdir(current: str, path: str) -> str:
    """The directory that WORKDIR makes of the one before, absolute and clean."""
    return clean(path) if path.startswith("/") else clean(f"/{current}/{path}")


class Destination(Value):
    """Where COPY and ADD put things: an absolute, clean path. `directory`: written as one, with a slash at the end."""

    path: str
    directory: bool


def destination(workdir: str, text: str) -> Destination:
    """The destination of COPY or ADD: below the WORKDIR unless it is absolute; "", "." and ".." are directories."""
    directory = text.rpartition("/")[2] in ("", ".", "..")
    return Destination(join_workdir(workdir, text), directory)


class Parents(Value):
    """A source of COPY --parents.

    Attributes:
        root: the directory whose name is not kept: what is before /./ in the source; "" is the root.
        pattern: of paths below it, in the grammar of PathPatterns; their directories are kept.
        required: the path that must be there, or None: it has a wildcard.
    """

    root: str
    pattern: str
    required: str | None


def parents(source: str) -> Parents:
    """Take a source of COPY --parents apart."""
    before, pivot, after = source.partition("/./")
    root, pattern = (before, after) if pivot else ("", source)
    root = clean("/" + root)[1:]
    pattern = clean("/" + pattern)[1:]
    required = None
    if not has_wildcard(root) and not has_wildcard(pattern):
        required = clean(f"/{root}/{pattern}")[1:]
    return Parents(root, pattern, required)


def url_name(url: str) -> str:
    """The name of the file that ADD makes of a URL: the last part of its path, or docker's "__unnamed__"."""
    path = re.split(r"[?#]", re.sub(r"^https?://[^/?#]*", "", url), maxsplit=1)[0]
    name = path.rstrip("/").rpartition("/")[2]
    return name if name not in ("", ".", "..") and "\0" not in name else "__unnamed__"


def set_mode(mode: int, change: str, *, directory: bool) -> int:
    """The permission bits that --chmod makes of `mode`: "755", or chmod(1)'s "u=rwX,g-w" without a umask.

    `change` was checked by values.check_mode.
    """
    if change.isdecimal():
        return int(change, 8)
    for part in change.split(","):
        match = re.match("[ugoa]*", part)
        who = match[0] if match else ""
        for sign, what in re.findall(r"([-+=])([ugo]|[rwxXst]*)", part[len(who) :]):
            mode = _changed(mode, who or "a", sign, what, directory)
    return mode


_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def _changed(mode: int, who: str, sign: str, what: str, directory: bool) -> int:
    scope = 0
    for char in who:
        scope |= _WHO[char]
    bits = 0
    for char in what:
        if char in _SHIFT:
            bits |= (mode >> _SHIFT[char] & 7) * 0o111
        elif char == "X":
            bits |= 0o111 if directory or mode & 0o111 else 0
        elif char == "s":
            bits |= 0o6000
        elif char == "t":
            bits |= 0o1000
        else:
            bits |= _BITS[char]
    if "t" in what:
        scope |= 0o1000
    if sign == "+":
        return mode | (bits & scope)
    if sign == "-":
        return mode & ~(bits & scope)
    kept = mode & ~scope & 0o7777
    return kept | (bits & scope)
