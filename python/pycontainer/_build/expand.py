"""Instructions with their variables replaced: which fields of which, by docker's table. What they then say is checked.

Not looked at: RUN's, CMD's, ENTRYPOINT's and HEALTHCHECK's commands (their shell does that), SHELL, ONBUILD, --from,
--exclude.
"""

from __future__ import annotations

import re

from pycontainer._build import instructions as made, shell, values
from pycontainer._build.instructions import Instruction, Pair
from pycontainer._build.mounts import read_mount
from pycontainer._build.parse import check_source, is_git, is_url, refuse
from pycontainer._build.source import SPACES, Mistake, Word, clean, failure, quoted, suggestion
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    Expander = Callable[[Word], Word]
    AnInstruction = TypeVar("AnInstruction", bound=Instruction)

_CONTENT = shell.Rules(quotes=False)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


def expand(
    instruction: AnInstruction, variables: Mapping[str, str], *, escape: str = "\\", file: str = "Dockerfile"
) -> AnInstruction:
    """The instruction with its variables replaced, EXPOSE's ranges spread, RUN's mounts read.

    FROM and ARG stay: their variables are others; see scope and stages.

    Raises:
        BuildError: a variable that cannot be replaced, or what is wrong with the result; at the word's place.
    """
    reader = _EXPANDERS.get(type(instruction))
    if reader is None:
        return instruction
    try:
        done = reader(instruction, variables, escape)
        refuse(done)
    except Mistake as mistake:
        raise at_word(mistake, instruction, file) from None
    assert isinstance(done, type(instruction))
    return done


def at_word(mistake: Mistake, instruction: Instruction, file: str, log: str | None = None) -> Exception:
    """The BuildError of a mistake that was found after reading; without a word, at the instruction's beginning."""
    at = mistake.at
    place = (at.line, at.column) if isinstance(at, Word) else (instruction.span.line, instruction.span.column)
    return failure(file, place, mistake.text(), instruction.original, log)


def expand_word(word: Word, variables: Mapping[str, str], escape: str) -> Word:
    """One word, whole.

    Raises:
        Mistake: at the word.
    """
    return word.like(_expansion(word, variables, shell.Rules(escape=escape)).text)


def _expansion(word: Word, variables: Mapping[str, str], rules: shell.Rules) -> shell.Expansion:
    try:
        return shell.expand(word, variables, rules)
    except Mistake as mistake:
        raise Mistake(f"{mistake.what} in {quoted(word)}", word, mistake.fix) from None


def _expander(variables: Mapping[str, str], escape: str) -> Expander:
    return lambda word: expand_word(word, variables, escape)


def _pairs(instruction: made.Env | made.Label, variables: Mapping[str, str], escape: str) -> Instruction:
    one = _expander(variables, escape)
    items = tuple(Pair(name=one(item.name), value=one(item.value), legacy=item.legacy) for item in instruction.items)
    for item, written in zip(items, instruction.items, strict=True):
        if not item.name:
            raise _empty(f"a name of {instruction.keyword}", written.name, variables, escape)
        if isinstance(instruction, made.Env) and "=" in item.name:
            raise Mistake(f"a name of ENV has a = in it: {quoted(item.name)}", written.name)
    return instruction.but(items=items)


def _run(instruction: made.Run, variables: Mapping[str, str], escape: str) -> Instruction:
    one = _expander(variables, escape)
    return instruction.but(mounts=tuple(read_mount(mount.text, one) for mount in instruction.mounts))


def _copy(instruction: made.Copy | made.Add, variables: Mapping[str, str], escape: str) -> Instruction:
    one = _expander(variables, escape)
    sources = tuple(one(source) for source in instruction.sources)
    chmod = one(instruction.chmod) if instruction.chmod else None
    chown = one(instruction.chown) if instruction.chown else None
    files = tuple(_inline(file, variables) for file in instruction.files)
    destination = one(instruction.destination)
    done = instruction.but(
        sources=sources, destination=destination, chmod=chmod or None, chown=chown or None, files=files
    )
    if done.chmod:
        values.check_mode(done.chmod)
    outside = not (isinstance(done, made.Copy) and done.from_)
    for source, written in zip(sources, instruction.sources, strict=True):
        if not source:
            raise _empty(f"a source of {done.keyword}", written, variables, escape)
        _check_source(source, written, done.keyword, outside)
    if "\0" in destination:
        raise Mistake("a NUL byte in the destination", destination)
    return _checksum(done, one) if isinstance(done, made.Add) else done


def _empty(what: str, written: Word, variables: Mapping[str, str], escape: str) -> Mistake:
    """What variables made nothing of, with the one that was likely meant."""
    missing = sorted(_expansion(written, variables, shell.Rules(escape=escape)).missing)
    fix = next(filter(None, (suggestion(name, variables) for name in missing)), "")
    if missing and not fix:
        fix = f"{quoted(missing[0])[1:-1]} is not set here; an ARG before FROM has to be named again after it"
    return Mistake(f"{what} is empty: {quoted(written)}", written, fix)


def _check_source(source: Word, written: Word, keyword: str, of_context: bool) -> None:
    check_source(source, keyword)
    if keyword == "ADD" and is_url(source):
        return
    if of_context and clean(source).split("/")[0] == "..":
        fix = "build from a directory that holds it, or bring it by a stage"
        raise Mistake(f"{quoted(source)} is outside the build context", written, fix)


def _inline(file: made.InlineFile, variables: Mapping[str, str]) -> made.InlineFile:
    if not file.expand:
        return file
    content = file.content
    try:
        text = shell.expand(content, variables, _CONTENT).text
    except Mistake as mistake:
        before = content[: mistake.at if isinstance(mistake.at, int) else 0]
        place = Word("", content.line + before.count("\n"), len(before) - before.rfind("\n"))
        raise Mistake(mistake.what, place, mistake.fix) from None
    return file.but(content=content.like(text))


def _checksum(instruction: made.Add, one: Expander) -> made.Add:
    checksum = one(instruction.checksum) if instruction.checksum else None
    if checksum:
        if len(instruction.sources) != 1 or instruction.files or not is_url(instruction.sources[0]):
            raise Mistake("--checksum is of one source, which is a URL", checksum)
        if not _CHECKSUM.fullmatch(checksum):
            raise Mistake(f"--checksum is a digest, not {quoted(checksum)}", checksum, "as in sha256:24454f83...")
    return instruction.but(checksum=checksum or None)


def _expose(instruction: made.Expose, variables: Mapping[str, str], escape: str) -> Instruction:
    rules = shell.Rules(escape=escape)
    found: dict[str, Word] = {}
    for port in instruction.ports:
        for word in _expansion(port, variables, rules).words:
            found.update((made_port, port.like(made_port)) for made_port in values.ports(port.like(word)))
    return instruction.but(ports=tuple(found.values()))


def _volume(instruction: made.Volume, variables: Mapping[str, str], escape: str) -> Instruction:
    one = _expander(variables, escape)
    paths = tuple(one(path) for path in instruction.paths)
    for path, written in zip(paths, instruction.paths, strict=True):
        if not path.strip(SPACES):
            raise _empty("a path of VOLUME", written, variables, escape)
    return instruction.but(paths=paths)


def _user(instruction: made.User, variables: Mapping[str, str], escape: str) -> Instruction:
    user = expand_word(instruction.user, variables, escape)
    if not user:
        raise _empty("USER", instruction.user, variables, escape)
    if "\n" in user or "\0" in user:
        raise Mistake(f"USER is no name: {quoted(user)}", instruction.user)
    return instruction.but(user=user)


def _workdir(instruction: made.Workdir, variables: Mapping[str, str], escape: str) -> Instruction:
    path = expand_word(instruction.path, variables, escape)
    if not path:
        raise _empty("WORKDIR", instruction.path, variables, escape)
    return instruction.but(path=path)


def _stopsignal(instruction: made.Stopsignal, variables: Mapping[str, str], escape: str) -> Instruction:
    signal = expand_word(instruction.signal, variables, escape)
    values.check_signal(signal)
    return instruction.but(signal=signal)


_EXPANDERS: dict[type[Instruction], Callable[..., Instruction]] = {
    made.Add: _copy,
    made.Copy: _copy,
    made.Env: _pairs,
    made.Expose: _expose,
    made.Label: _pairs,
    made.Run: _run,
    made.Stopsignal: _stopsignal,
    made.User: _user,
    made.Volume: _volume,
    made.Workdir: _workdir,
}

__all__ = ["at_word", "expand", "expand_word", "is_git", "is_url"]
