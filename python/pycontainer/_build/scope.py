"""ARG and ENV: what a variable is worth at an instruction. One Scope follows a stage from its FROM to its end.

ENV beats ARG, wherever the two stand, as docker's page says and its first builder did; BuildKit lets the later one win.
"""

from __future__ import annotations

from pycontainer._build.expand import at_word, expand, expand_word
from pycontainer._build.instructions import Arg, ArgItem, Env, Instruction
from pycontainer._build.source import Mistake
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROXIES = tuple(
    name
    for protocol in ("http", "https", "ftp", "no", "all")
    for name in (f"{protocol}_proxy".upper(), f"{protocol}_proxy")
)
_PLATFORM = ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
PLATFORM_ARGS = (*(f"BUILD{part}" for part in _PLATFORM), *(f"TARGET{part}" for part in _PLATFORM), "TARGETSTAGE")
# Known without an ARG. The proxies are in RUN's environment, and in no history and no cache key.
PREDEFINED = frozenset((*PROXIES, *PLATFORM_ARGS, "SOURCE_DATE_EPOCH"))


def platform_args(build: str, target: str, stage: str = "") -> dict[str, str]:
    """The arguments that tell platforms, of os/architecture[/variant]. FROM knows them; a stage must name them."""
    found: dict[str, str] = {}
    for side, platform in (("BUILD", build), ("TARGET", target)):
        system, architecture, variant = (*platform.split("/"), "", "")[:3]
        found |= {
            f"{side}PLATFORM": platform,
            f"{side}OS": system,
            f"{side}OSVERSION": "",
            f"{side}ARCH": architecture,
            f"{side}VARIANT": variant,
        }
    return {**found, "TARGETSTAGE": stage or "default"}


def global_arguments(
    arguments: Iterable[Arg],
    build_args: Mapping[str, str],
    predefined: Mapping[str, str],
    *,
    escape: str = "\\",
    file: str = "Dockerfile",
) -> dict[str, str]:
    """The values that FROM can use: of the ARGs before the first FROM, over the platform's.

    Raises:
        BuildError: a default that cannot be expanded.
    """
    found = {name: build_args.get(name, value) for name, value in predefined.items()}
    for argument in arguments:
        for item in argument.items:
            value = _worth(item, argument, build_args, found, escape, file)
            if value is not None:
                found[item.name] = value
    return found


def _worth(
    item: ArgItem, argument: Arg, build_args: Mapping[str, str], variables: Mapping[str, str], escape: str, file: str
) -> str | None:
    if item.name in build_args:
        return build_args[item.name]
    if item.default is None:
        return None
    try:
        return str(expand_word(item.default, variables, escape))
    except Mistake as mistake:
        raise at_word(mistake, argument, file) from None


class Scope:
    """The variables of a stage while its instructions go by.

    Attributes:
        env: the image's environment: of the base, and of ENV.
        args: the arguments that were named, in order; None where one has no value.
    """

    def __init__(
        self,
        globals_: Mapping[str, str],
        build_args: Mapping[str, str],
        *,
        env: Mapping[str, str] | None = None,
        escape: str = "\\",
        file: str = "Dockerfile",
    ) -> None:
        self.env: dict[str, str] = dict(env or {})
        self.args: dict[str, str | None] = {}
        self._globals = globals_
        self._build_args = build_args
        self._escape = escape
        self._file = file

    def child(self) -> Scope:
        """The scope of a stage that is FROM this one, as it is now: it inherits ENV and ARG."""
        made = Scope(self._globals, self._build_args, env=self.env, escape=self._escape, file=self._file)
        made.args = dict(self.args)
        return made

    def variables(self) -> dict[str, str]:
        """What instructions can use."""
        return {**{name: value for name, value in self.args.items() if value is not None}, **self.env}

    def environment(self) -> dict[str, str]:
        """What the command of a RUN finds: the variables, and the proxies that the build was given."""
        proxies = {name: self._build_args[name] for name in PROXIES if name in self._build_args}
        return {**proxies, **self.variables()}

    def arguments(self) -> dict[str, str]:
        """The arguments whose values a RUN depends on: named ones, as they are seen, but for the proxies."""
        seen = self.variables()
        return {name: seen.get(name, "") for name in self.args if name not in PROXIES}

    def apply(self, instruction: Instruction) -> Instruction:
        """Let an instruction go by: the instruction, expanded. ARG and ENV change what the next ones see.

        Raises:
            BuildError: see expand.
        """
        if isinstance(instruction, Arg):
            return self._argument(instruction)
        done = expand(instruction, self.variables(), escape=self._escape, file=self._file)
        if isinstance(done, Env):
            self.env.update((str(item.name), str(item.value)) for item in done.items)
        return done

    def _argument(self, argument: Arg) -> Arg:
        items = []
        for item in argument.items:
            value = _worth(item, argument, self._build_args, self.variables(), self._escape, self._file)
            if value is None:
                value = self._globals.get(item.name)
            self.args.pop(item.name, None)
            self.args[str(item.name)] = value
            items.append(ArgItem(name=item.name, default=None if value is None else item.name.like(value)))
        return argument.but(items=tuple(items))
