"""What instructions that change no file do to an image's config, as docker's builder does it. Pure."""

from __future__ import annotations

from pycontainer._build import instructions as made
from pycontainer._build.commands import DEFAULT_SHELL, config_command
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._build.draft import Draft
    from pycontainer._build.instructions import Instruction


def shell_of(draft: Draft) -> tuple[str, ...]:
    """The SHELL in force."""
    return tuple(draft.config.get("Shell") or DEFAULT_SHELL)


def change(draft: Draft, instruction: Instruction, *, has_cmd: bool) -> None:
    """Let an instruction, expanded, change the config.

    Args:
        draft: changed in place.
        instruction: any but FROM, RUN, COPY, ADD and WORKDIR.
        has_cmd: this stage had a CMD before: ENTRYPOINT leaves it alone.
    """
    config = draft.config
    match instruction:
        case made.Env():
            for item in instruction.items:
                draft.set_env(str(item.name), str(item.value))
        case made.Label():
            config.setdefault("Labels", {}).update((str(item.name), str(item.value)) for item in instruction.items)
        case made.Expose():
            config.setdefault("ExposedPorts", {}).update((str(port), {}) for port in instruction.ports)
        case made.Volume():
            config.setdefault("Volumes", {}).update((str(path), {}) for path in instruction.paths)
        case made.User():
            config["User"] = str(instruction.user)
        case made.Cmd():
            config["Cmd"] = config_command(instruction, shell_of(draft))
            config["ArgsEscaped"] = True  # of no meaning here; docker's builder says it
        case made.Entrypoint():
            config["Entrypoint"] = config_command(instruction, shell_of(draft))
            if not has_cmd:
                config.pop("Cmd", None)
        case made.Stopsignal():
            config["StopSignal"] = str(instruction.signal)
        case made.Healthcheck():
            config["Healthcheck"] = _health(instruction)
        case made.Shell():
            config["Shell"] = list(map(str, instruction.command))
        case made.Onbuild():
            config.setdefault("OnBuild", []).append(str(instruction.trigger))
        case made.Maintainer():
            draft.whole["author"] = str(instruction.name)


def _health(instruction: made.Healthcheck) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Test": list(map(str, instruction.test)),
        "Interval": instruction.interval,
        "Timeout": instruction.timeout,
        "StartPeriod": instruction.start_period,
        "StartInterval": instruction.start_interval,
        "Retries": instruction.retries,
    }
    return {name: value for name, value in found.items() if value}
