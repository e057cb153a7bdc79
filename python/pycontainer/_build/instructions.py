"""The instructions of a Dockerfile as frozen values, one class each. What variables stand for is not in them yet.

Two are equal when they say the same, wherever they stand. Texts are Words, which know their place.
"""

from __future__ import annotations

from enum import StrEnum

from pycontainer._build.frozen import Value
from pycontainer._build.source import Span, Word
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    Words: TypeAlias = tuple[Word, ...]


class MountKind(StrEnum):
    """`type=` of RUN --mount."""

    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class Sharing(StrEnum):
    """`sharing=` of a cache: at once, one build after the other, or one cache for each."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


class Network(StrEnum):
    """`--network` of RUN."""

    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


class Heredoc(Value):
    """A text that follows its instruction: <<EOF.

    Attributes:
        name: the word that ends it, without quotes.
        content: its lines as written.
        expand: variables in it are looked at: no part of the name was quoted.
        strip_tabs: it was <<-: tabs that begin a line are not of the text.
        descriptor: the number before the <<, 0 where there is none.
    """

    name: Word
    content: Word
    expand: bool = True
    strip_tabs: bool = False
    descriptor: int = 0

    def text(self) -> Word:
        """The content, without leading tabs where it is to go without."""
        if not self.strip_tabs:
            return self.content
        lines = self.content.split("\n")
        return self.content.like("\n".join(line.lstrip("\t") for line in lines))


class Mount(Value):
    """One --mount of RUN.

    Attributes:
        text: as written, without quotes.
        kind: what is mounted.
        from_: a stage or an image as the source, or None: the context of a bind, nothing of a cache.
        source: a path in it; None is its root.
        target: where, as written: relative to the WORKDIR. None where a secret is only a variable.
        read_only: said or not, what holds.
        id: of a cache or a secret, said or not. Any text: never a path.
        sharing: of a cache.
        required: a secret that is not given is an error.
        size: of a tmpfs in bytes; None is no bound of its own.
        mode, uid, gid: of a secret's file, or of a new cache.
        env: the variable that holds a secret.
        pending: there are variables in the text, and but for `from_` nothing was read of what they stand for.
    """

    text: Word
    kind: MountKind = MountKind.BIND
    from_: Word | None = None
    source: str | None = None
    target: str | None = None
    read_only: bool = True
    id: str | None = None
    sharing: Sharing = Sharing.SHARED
    required: bool = False
    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None
    pending: bool = False


class Pair(Value, silent=("legacy",)):
    """name=value of ENV or LABEL. `legacy`: written with a blank instead of the =."""

    name: Word
    value: Word
    legacy: bool = False


class ArgItem(Value):
    """One argument of ARG. `default` is None where there is no =."""

    name: Word
    default: Word | None = None


class InlineFile(Value):
    """A source of COPY or ADD that is written in the Dockerfile."""

    name: Word
    content: Word
    expand: bool = True


class Instruction(Value, silent=("span", "original")):
    """What all instructions have.

    Attributes:
        span: where it stands, with its continuation lines and heredocs.
        original: its text, continuation lines joined, without heredocs.
    """

    span: Span
    original: str

    @property
    def keyword(self) -> str:
        """The instruction's name, such as "COPY"."""
        return type(self).__name__.upper()


class From(Instruction):
    """FROM [--platform=] image [AS name]. `name` is in lower case, None where there is none."""

    image: Word
    platform: Word | None = None
    name: Word | None = None


class Arg(Instruction):
    """ARG name[=default] ..."""

    items: tuple[ArgItem, ...]


class Env(Instruction):
    """ENV name=value ..."""

    items: tuple[Pair, ...]


class Label(Instruction):
    """LABEL name=value ..."""

    items: tuple[Pair, ...]


class Run(Instruction):
    """RUN. `shell`: `command` is one text for the SHELL; else its words are executed."""

    command: Words
    shell: bool
    mounts: tuple[Mount, ...] = ()
    network: Network | None = None
    heredocs: tuple[Heredoc, ...] = ()


class Copy(Instruction):
    """COPY. `sources` are paths or globs, `files` are inline; `link` and `parents` are flags."""

    sources: Words
    destination: Word
    files: tuple[InlineFile, ...] = ()
    from_: Word | None = None
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    parents: bool = False
    exclude: Words = ()


class Add(Instruction):
    """ADD. `sources` are paths, globs or URLs. `unpack` None: archives that are files are, those of URLs are not."""

    sources: Words
    destination: Word
    files: tuple[InlineFile, ...] = ()
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    exclude: Words = ()
    checksum: Word | None = None
    keep_git_dir: bool | None = None
    unpack: bool | None = None


class Expose(Instruction):
    """EXPOSE port[-port][/protocol] ..., as written; after expansion each is one "80/tcp"."""

    ports: Words


class Volume(Instruction):
    """VOLUME path ..."""

    paths: Words


class User(Instruction):
    """USER name or id[:group]."""

    user: Word


class Workdir(Instruction):
    """WORKDIR path."""

    path: Word


class Entrypoint(Instruction):
    """ENTRYPOINT; as Run's. No words: there is none any more."""

    command: Words
    shell: bool


class Cmd(Instruction):
    """CMD; as Entrypoint."""

    command: Words
    shell: bool


class Stopsignal(Instruction):
    """STOPSIGNAL name or number."""

    signal: Word


class Healthcheck(Instruction):
    """HEALTHCHECK. `test` begins with "NONE", "CMD" or "CMD-SHELL", as in an image's config; times are nanoseconds.

    A time or a count that was not said is 0.
    """

    test: Words
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Shell(Instruction):
    """SHELL ["program", "argument"]."""

    command: Words


class Onbuild(Instruction):
    """ONBUILD instruction: its text, as an image's config keeps it, heredocs and all."""

    trigger: Word


class Maintainer(Instruction):
    """MAINTAINER name."""

    name: Word


KINDS: dict[str, type[Instruction]] = {
    kind.__name__.upper(): kind
    for kind in (
        Add, Arg, Cmd, Copy, Entrypoint, Env, Expose, From, Healthcheck, Label, Maintainer, Onbuild, Run, Shell,
        Stopsignal, User, Volume, Workdir,
    )
}  # fmt: skip


class Directive(Value):
    """`# name=value` at the head of a file."""

    name: str
    value: Word


class Notice(Value):
    """What docker warns about: nothing is wrong yet."""

    line: int
    text: str


class Document(Value, silent=("file", "notices")):
    """A Dockerfile, read.

    Attributes:
        file: its name, for messages.
        escape: the character that escapes.
        directives: at its head: syntax, escape, check. `syntax` is never fetched.
        instructions: in order.
        notices: what docker would warn about.
    """

    file: str
    escape: str
    directives: tuple[Directive, ...]
    instructions: tuple[Instruction, ...]
    notices: tuple[Notice, ...] = ()
