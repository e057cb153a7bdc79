"""Dockerfile: a Dockerfile as a value whose methods are the instructions. Makes text and checks it; builds nothing."""

from __future__ import annotations

from collections.abc import Mapping

from pycontainer._build import quote, write
from pycontainer._build.parse import parse_trigger
from pycontainer._build.source import SPACES, Span
from pycontainer._errors import BuildError
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import Frozen, is_sequence, parse_bool, parse_int

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import TypeAlias

    from pycontainer._types import Duration

    Text: TypeAlias = str | os.PathLike[str]
    Command: TypeAlias = str | Sequence[Text]
    Values: TypeAlias = Mapping[str, str]
    Files: TypeAlias = Mapping[str, str]
    RunMount: TypeAlias = str | Mapping[str, Text | int | bool]


class Dockerfile(Frozen):
    """A Dockerfile, to be built by Image.build(dockerfile=). A value: each method gives a new one with its instruction.

    `str(d)` is the text. What is given is what is meant: spaces, quotes, backslashes and `$` in a value are written so
    that they come out as they went in. With expand=True, $NAME and ${NAME...} are variables; they always are in a base,
    a platform, and in a mount that is given as a str. A command's own shell sees its `$` in any case.

    Raises, of every method:
        ValueError, TypeError: an argument that the instruction cannot have, by its name.
    """

    __slots__ = ("_instructions",)
    _instructions: tuple[str, ...]

    def __init__(
        self,
        base: str,
        *,
        name: str | None = None,
        platform: str | None = None,
        args: Mapping[str, str | None] | None = None,
    ) -> None:
        """Begin with FROM.

        Args:
            base: an image, "scratch", or a name of `args` as "$NAME".
            name: of the stage.
            platform: such as "linux/arm64"; None is the build's.
            args: arguments before the first FROM, for bases and platforms: their defaults, or None.
        """
        if args is not None and not isinstance(args, Mapping):
            raise TypeError(f"args must be a mapping of names to values or None, not {type(args).__name__}")
        given = tuple(write.arg_line(key, value, f"args[{shown(key)}]", False) for key, value in (args or {}).items())
        self._fill({"_instructions": (*given, write.from_line(base, name, platform))})

    def __str__(self) -> str:
        return "\n".join(self._instructions) + "\n"

    def __repr__(self) -> str:
        return f"<Dockerfile, {len(self._instructions)} instructions: {shown(self._instructions[0])}...>"

    def _and(self, method: str, text: str) -> Dockerfile:
        """With one more instruction, which is read once to know that it can be."""
        write.only_one(text, method)
        return self._of((*self._instructions, text))

    def stage(self, base: str, name: str | None = None, *, platform: str | None = None) -> Dockerfile:
        """FROM: begin another stage. `base` can be the name of an earlier one."""
        return self._and("stage", write.from_line(base, name, platform))

    def arg(self, name: str, default: str | None = None, *, expand: bool = False) -> Dockerfile:
        """ARG: name a build argument, for what follows in this stage."""
        return self._and("arg", write.arg_line(name, default, "default", parse_bool(expand, "expand")))

    def env(self, values: Values | None = None, /, *, expand: bool = False, **names: str) -> Dockerfile:
        """ENV: set variables, in the build from here on and in the image."""
        return self._and("env", write.pairs_line("ENV", values, names, expand))

    def label(self, values: Values | None = None, /, *, expand: bool = False, **names: str) -> Dockerfile:
        """LABEL: describe the image."""
        return self._and("label", write.pairs_line("LABEL", values, names, expand))

    def run(self, command: Command, *, mounts: Sequence[RunMount] = (), network: str | None = None) -> Dockerfile:
        """RUN: execute words, or a str by the SHELL; it can have many lines.

        Args:
            command: ["make", "-j2"] or "make && make install".
            mounts: "type=cache,target=/root/.cache" as docker writes it, or {"type": "cache", "target": ...}.
            network: "default", "none" or "host"; None says nothing.
        """
        if not is_sequence(mounts):
            raise TypeError(f"mounts must be a sequence of mounts, not {type(mounts).__name__}")
        flags = [quote.flag("mount", write.mount_fields(mount, f"mounts[{i}]")) for i, mount in enumerate(mounts)]
        flags.append(quote.flag("network", None if network is None else write.text_of(network, "network")))
        return self._and("run", f"RUN{''.join(flags)} {write.run_command(command)}")

    def copy(
        self,
        *paths: Text | Files,
        from_: str | None = None,
        chown: str | None = None,
        chmod: str | int | None = None,
        link: bool = False,
        parents: bool = False,
        exclude: Sequence[str] = (),
        expand: bool = False,
    ) -> Dockerfile:
        """COPY: the last of `paths` is the destination.

        Args:
            paths: sources, with * ? [a-z]; then the destination. A mapping is files to be written: {"name": "text\\n"}.
            from_: a stage by name or number, or an image; None is the context.
            chown: "user" or "user:group"; None is root.
            chmod: "755", 0o755 or "u=rwX,go=rX".
            link: a layer that does not depend on what is below it.
            parents: keep the directories of the sources, those behind /./ if that is in one.
            exclude: patterns of what is left out.
            expand: $NAME and ${NAME} in paths, chown and chmod are variables.
        """
        flags = [
            quote.flag("from", None if from_ is None else write.text_of(from_, "from_")),
            *write.owner_flags(chown, chmod, expand),
            quote.flag("link", parse_bool(link, "link")),
            quote.flag("parents", parse_bool(parents, "parents")),
            *write.exclude_flags(exclude),
        ]
        return self._and("copy", write.sources_line("COPY", flags, paths, parse_bool(expand, "expand")))

    def add(
        self,
        *paths: Text | Files,
        chown: str | None = None,
        chmod: str | int | None = None,
        link: bool = False,
        exclude: Sequence[str] = (),
        checksum: str | None = None,
        unpack: bool | None = None,
        expand: bool = False,
    ) -> Dockerfile:
        """ADD: as copy; a source can be an archive, which is unpacked, or a URL, with a `checksum` "sha256:..."."""
        flags = [
            *write.owner_flags(chown, chmod, expand),
            quote.flag("link", parse_bool(link, "link")),
            *write.exclude_flags(exclude),
            quote.flag("checksum", None if checksum is None else write.text_of(checksum, "checksum")),
        ]
        if unpack is not None:
            flags.append(quote.flag("unpack", "true" if parse_bool(unpack, "unpack") else "false"))
        return self._and("add", write.sources_line("ADD", flags, paths, parse_bool(expand, "expand")))

    def expose(self, *ports: int | str) -> Dockerfile:
        """EXPOSE: tell which ports the image serves: 80, "53/udp", "8000-8010"."""
        texts = [
            str(parse_int(port, f"ports[{i}]", 0, 65535))
            if isinstance(port, int)
            else write.text_of(port, f"ports[{i}]")
            for i, port in enumerate(ports)
        ]
        return self._and("expose", f"EXPOSE {' '.join(texts)}")

    def volume(self, *paths: Text, expand: bool = False) -> Dockerfile:
        """VOLUME: directories that are not of the image's layers when it runs."""
        return self._and("volume", f"VOLUME {write.words_text(paths, 'paths', parse_bool(expand, 'expand'))}")

    def user(self, user: str | int, *, expand: bool = False) -> Dockerfile:
        """USER: who runs what follows: a name, a uid, "user:group"."""
        text = str(parse_int(user, "user", 0, 2**32 - 2)) if isinstance(user, int) else write.text_of(user, "user")
        return self._and("user", f"USER {write.whole(text, 'user', expand)}")

    def workdir(self, path: Text, *, expand: bool = False) -> Dockerfile:
        """WORKDIR: the directory of what follows; it is made."""
        return self._and("workdir", f"WORKDIR {write.whole(write.text_of(path, 'path'), 'path', expand)}")

    def entrypoint(self, command: Command) -> Dockerfile:
        """ENTRYPOINT: what the image executes: words, or a str by the SHELL. [] takes the base's away."""
        return self._and("entrypoint", f"ENTRYPOINT {write.command_text(command)}")

    def cmd(self, command: Command) -> Dockerfile:
        """CMD: the arguments of ENTRYPOINT, or what is executed where there is none: words, or a str by the SHELL."""
        return self._and("cmd", f"CMD {write.command_text(command)}")

    def stopsignal(self, signal: str | int) -> Dockerfile:
        """STOPSIGNAL: what Container.stop() sends: "SIGINT", "INT" or a number."""
        text = str(int(signal)) if isinstance(signal, int) else write.text_of(signal, "signal")
        return self._and("stopsignal", f"STOPSIGNAL {text}")

    def healthcheck(
        self,
        command: Command | None,
        *,
        interval: Duration | None = None,
        timeout: Duration | None = None,
        start_period: Duration | None = None,
        start_interval: Duration | None = None,
        retries: int | None = None,
    ) -> Dockerfile:
        """HEALTHCHECK: how to ask whether a container is well; None takes the base's away. Times as in Limits."""
        times = {
            "interval": interval, "timeout": timeout, "start-period": start_period, "start-interval": start_interval,
        }  # fmt: skip
        flags = [
            quote.flag(name, write.duration_text(value, name.replace("-", "_")))
            for name, value in times.items()
            if value is not None
        ]
        if retries is not None:
            flags.append(quote.flag("retries", str(parse_int(retries, "retries", 0, 2**31 - 1))))
        what = "NONE" if command is None else f"CMD {write.command_text(command, nested=True)}"
        return self._and("healthcheck", f"HEALTHCHECK{''.join(flags)} {what}")

    def shell(self, command: Sequence[Text]) -> Dockerfile:
        """SHELL: what runs commands that are one str: ["/bin/bash", "-c"]."""
        if isinstance(command, str):
            raise TypeError('command must be a sequence of words, such as ["/bin/bash", "-c"], not str')
        return self._and("shell", f"SHELL {write.command_text(command)}")

    def onbuild(self, instruction: str) -> Dockerfile:
        """ONBUILD: an instruction, as text, for the images that will be built on this one."""
        text = write.text_of(instruction, "instruction", lines=True)
        try:
            parse_trigger(text, span=Span(1, 1, 1, 1))
        except BuildError as error:
            raise ValueError(f"instruction: {str(error).partition(': ')[2]}") from None
        return self._and("onbuild", f"ONBUILD {text.strip(SPACES)}")
