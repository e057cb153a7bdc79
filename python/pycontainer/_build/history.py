"""What an image's history says of an instruction: BuildKit's words, from the instruction after expansion."""

from __future__ import annotations

import json

from pycontainer._build import instructions as made
from pycontainer._build.commands import config_command, run_command
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainer._build.instructions import Instruction


def created_by(
    instruction: Instruction, shell: Sequence[str], *, arguments: Mapping[str, str] | None = None, workdir: str = "/"
) -> str:
    """The text of `created_by`.

    Args:
        instruction: expanded. Secrets are not in it: a mount's contents and variables never are.
        shell: the SHELL in force.
        arguments: of a RUN, Scope.arguments().
        workdir: of a WORKDIR, what it came to.
    """
    match instruction:
        case made.Env() | made.Label():
            return " ".join([instruction.keyword, *(f"{item.name}={item.value}" for item in instruction.items)])
        case made.Arg():
            items = (item.name if item.default is None else f"{item.name}={item.default}" for item in instruction.items)
            return " ".join(["ARG", *items])
        case made.Run():
            given = [f"{name}={value}" for name, value in (arguments or {}).items()]
            count = [f"|{len(given)}"] if given else []
            return " ".join(["RUN", *count, *given, *run_command(instruction, shell).argv])
        case made.Copy() | made.Add():
            return _copied(instruction)
        case made.Cmd() | made.Entrypoint():
            return f"{instruction.keyword} {_words(config_command(instruction, shell))}"
        case made.Healthcheck():
            return f"HEALTHCHECK {_words(instruction.test)}"
        case made.Shell():
            return f"SHELL [{' '.join(instruction.command)}]"
        case made.Expose():
            return f"EXPOSE [{' '.join(instruction.ports)}]"
        case made.Volume():
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case made.Workdir():
            return f"WORKDIR {workdir}"
        case made.User():
            return f"USER {instruction.user}"
        case made.Stopsignal():
            return f"STOPSIGNAL {instruction.signal}"
        case made.Maintainer():
            return f"MAINTAINER {instruction.name}"
    return instruction.original


def _words(words: Sequence[str]) -> str:
    return f"[{' '.join(json.dumps(str(word), ensure_ascii=False) for word in words)}]"


def _copied(instruction: made.Copy | made.Add) -> str:
    flags = [f"--{name}={value}" for name in ("chown", "chmod") if (value := getattr(instruction, name))]
    if isinstance(instruction, made.Copy) and instruction.parents:
        flags.insert(0, "--parents")
    files = (f"<<{file.name}" for file in instruction.files)
    return " ".join([instruction.keyword, *flags, *instruction.sources, *files, instruction.destination])
