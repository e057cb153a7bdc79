"""The instructions of a Dockerfile value as text. Checks arguments of Python's, and names the one it refuses."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence

from pycontainer._build import quote
from pycontainer._build.parse import parse
from pycontainer._build.source import SPACES
from pycontainer._errors import BuildError
from pycontainer._text import shown
from pycontainer._types import is_sequence, parse_bool, parse_duration, parse_int


def text_of(value: object, argument: str, *, lines: bool = False) -> str:
    """A str or PathLike[str] as text that an instruction can hold."""
    try:
        text = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"{argument} has a NUL or is no Unicode text: {shown(text)}")
    if "\n" in text and not lines:
        raise ValueError(f"{argument} has a newline, which no Dockerfile can say there: {shown(text)}")
    return text


def from_line(base: object, name: object, platform: object) -> str:
    image = text_of(base, "base")
    if not image or any(char in SPACES for char in image) or image.startswith("--"):
        raise ValueError(f"base must be an image or a stage, not {shown(image)}")
    flag = quote.flag("platform", None if platform is None else text_of(platform, "platform"))
    stage = "" if name is None else f" AS {text_of(name, 'name')}"
    text = f"FROM{flag} {image}{stage}"
    only_one(text, "base, name or platform")
    return text


def only_one(text: str, what: str) -> None:
    """Refuse text that is not read as one instruction; `what` names the arguments that it was made of."""
    head = "" if text.startswith("FROM") else "FROM scratch\n"
    try:
        read = parse(f"{head}{text}\nFROM scratch").instructions
    except BuildError as error:
        raise ValueError(f"{what}: {str(error).partition(': ')[2]}") from None
    if len(read) != 2 + bool(head):
        raise ValueError(f"{what}: this cannot be written as one instruction: {shown(text)}")


def _name(value: object, argument: str) -> str:
    text = text_of(value, argument)
    if not text or any(char in SPACES or char in "='\"\\$" for char in text):
        raise ValueError(f"{argument} must be a name without spaces, quotes, = and $, not {shown(text)}")
    return text


def arg_line(name: object, default: object, argument: str, expand: bool) -> str:
    text = _name(name, "name")
    if text.startswith("--"):
        raise ValueError(f"name must not begin like a flag: {shown(text)}")
    return f"ARG {text}" + ("" if default is None else f"={quote.word(text_of(default, argument), variables=expand)}")


def pairs_line(keyword: str, values: object, names: Mapping[str, object], expand: object) -> str:
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"values must be a mapping of names to values, not {type(values).__name__}")
    variables = parse_bool(expand, "expand")
    given = {**(values or {}), **names}
    if not given:
        raise ValueError(f"{keyword} needs at least one name and value")
    made = []
    for key, value in given.items():
        name = text_of(key, "a name")
        if keyword == "ENV" or not name:
            name = _name(name, "a name")
        text = quote.word(text_of(value, shown(key)), variables=variables)
        made.append(f"{name if _plain(name) else quote.word(name, variables=False)}={text}")
    # A lone -- ends the flags, so that a name may begin like one.
    return f"{keyword} {'-- ' * made[0].startswith('--')}{' '.join(made)}"


def _plain(name: str) -> bool:
    if "=" in name:
        raise ValueError(f"a name must have no = in it: {shown(name)}")
    return re.fullmatch(r"[A-Za-z0-9_./-]+", name) is not None


def words_text(values: Sequence[object], argument: str, expand: bool) -> str:
    """Words that are split by blanks: as they are, or as an array."""
    texts = [text_of(value, f"{argument}[{i}]") for i, value in enumerate(values)]
    if not texts:
        raise ValueError(f"{argument} is empty")
    words = [quote.path(text, variables=expand) for text in texts]
    return quote.array(words) if quote.needs_array(words) else " ".join(words)


def whole(text: str, argument: str, expand: object) -> str:
    """A text that is the whole of an instruction."""
    made = quote.word(text, variables=parse_bool(expand, "expand"))
    if not text or text.strip(SPACES) != text:
        raise ValueError(f"{argument} must not be empty, or have spaces around it: {shown(text)}")
    return f"-- {made}" if made.startswith("--") else made


def sources_line(keyword: str, flags: list[str], paths: Sequence[object], expand: bool) -> str:
    if len(paths) < 2:
        raise ValueError("paths must be sources and a destination")
    files = {name: text for path in paths if isinstance(path, Mapping) for name, text in path.items()}
    head = keyword + "".join(flags)
    others = [path for path in paths if not isinstance(path, Mapping)]
    if isinstance(paths[-1], Mapping):
        raise TypeError("the last of paths, the destination, must be a path")
    words = words_text(others, "paths", expand)
    if not files:
        return f"{head} {words}"
    if words.startswith("["):
        raise ValueError("paths must have no spaces where files are written")
    begins, bodies = [], []
    for key, value in files.items():
        name, content = text_of(key, "a file's name in paths"), text_of(value, f"paths[{shown(key)}]", lines=True)
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ValueError(f"a file's name in paths must be letters, digits and any of _ . -, not {shown(name)}")
        if content and not content.endswith("\n"):
            raise ValueError(f"paths[{shown(key)}] must end with a newline: a Dockerfile has whole lines")
        if name in (line.rstrip("\r") for line in content.split("\n")):
            raise ValueError(f"paths[{shown(key)}] has a line that is the file's name, which would end it")
        begins.append(name if expand else f'"{name}"')
        bodies.append(f"\n{content}{name}")
    return f"{head} {' '.join('<<' + name for name in begins)} {words}{''.join(bodies)}"


def owner_flags(chown: object, chmod: object, expand: object) -> list[str]:
    variables = parse_bool(expand, "expand")
    flags = []
    if chown is not None:
        flags.append(quote.flag("chown", quote.path(text_of(chown, "chown"), variables=variables)))
    if isinstance(chmod, int):
        flags.append(quote.flag("chmod", f"{parse_int(chmod, 'chmod', 0, 0o7777):o}"))
    elif chmod is not None:
        flags.append(quote.flag("chmod", quote.path(text_of(chmod, "chmod"), variables=variables)))
    return flags


def exclude_flags(patterns: object) -> list[str]:
    if not is_sequence(patterns):
        raise TypeError(f"exclude must be a sequence of patterns, not {type(patterns).__name__}")
    return [quote.flag("exclude", text_of(pattern, f"exclude[{i}]")) for i, pattern in enumerate(patterns)]


def mount_fields(mount: object, argument: str) -> str:
    if isinstance(mount, str):
        return text_of(mount, argument)
    if not isinstance(mount, Mapping):
        raise TypeError(f"{argument} must be a str or a mapping, not {type(mount).__name__}")
    made: dict[str, str | None] = {}
    for key, value in mount.items():
        name = text_of(key, f"a key of {argument}")
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, int):
            text = f"{value:o}" if name == "mode" else str(value)
        else:
            text = quote.path(text_of(value, f"{argument}[{shown(key)}]"), variables=False)
        made[name] = text
    return quote.fields(made)


def _array(command: object) -> str | None:
    """A sequence of words as JSON; None for a str."""
    if isinstance(command, str):
        return None
    if not is_sequence(command):
        raise TypeError(f'command must be a str or a sequence of words, as ["make"], not {type(command).__name__}')
    return quote.array(text_of(word, f"command[{i}]", lines=True) for i, word in enumerate(command))


def run_command(command: object) -> str:
    array = _array(command)
    if array is not None:
        if array == "[]":
            raise ValueError("command is empty")
        return array
    text = text_of(command, "command", lines=True)
    if not text.strip(SPACES):
        raise ValueError("command is empty")
    if "\n" not in text and not _misread(text) and "<<" not in text:
        return text
    content = text if text.endswith("\n") else text + "\n"
    name = quote.heredoc_name(content)
    return f"<<{name}\n{content}{name}"


def _misread(text: str) -> bool:
    """Whether one line, as a command for the shell, would be read as something else."""
    return text.strip(SPACES) != text or text.startswith(("[", "--")) or text.endswith("\\")


def command_text(command: object, *, nested: bool = False) -> str:
    """A command of CMD, ENTRYPOINT, HEALTHCHECK or SHELL."""
    array = _array(command)
    if array is not None:
        return array
    text = text_of(command, "command")
    begins_as_flag = text.startswith("--") and not nested
    if not text or _misread(text.removeprefix("--") if begins_as_flag or nested else text):
        raise ValueError(f'command cannot be written as a line for a shell: {shown(text)}; give ["sh", "-c", ...]')
    return f"-- {text}" if begins_as_flag else text


def duration_text(value: object, argument: str) -> str:
    """Seconds or a timedelta as docker's duration, exact to the nanosecond; from a millisecond."""
    seconds = parse_duration(value, argument)
    if not 0.001 <= seconds < math.inf:
        raise ValueError(f"{argument} must be at least 0.001 seconds and bounded, not {shown(value)}")
    total = round(seconds * 10**9)
    return f"{total // 10**9}s" if total % 10**9 == 0 else f"{total}ns"
