"""The keywords of run() but `text`, `encoding`, `errors`, as a type for its overloads. For type checkers only."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from pycontainer._image import Image
    from pycontainer._limits import Limits
    from pycontainer._mounts import File, Mount
    from pycontainer._security import Security
    from pycontainer._types import Arg, Inherit

    Stream: TypeAlias = int | IO[Any] | Inherit | None


class Options(TypedDict, total=False):
    """Keywords that do not change the type of what run() returns."""

    image: Image | str | os.PathLike[str] | os.PathLike[bytes] | None
    entrypoint: Sequence[Arg] | None
    input: Any
    stdin: Stream
    stdout: Stream
    stderr: Stream
    capture_output: bool
    pass_fds: Sequence[int]
    timeout: float | timedelta | None
    check: bool
    limits: Limits
    env: Mapping[str, Arg | None] | None
    cwd: Arg | None
    user: int | str | None
    groups: Sequence[int | str]
    umask: int
    hostname: str | None
    mounts: Sequence[Mount]
    files: Mapping[str, bytes | File | os.PathLike[str]] | None
    network: Literal["none", "host", "private"]
    ports: Mapping[int | str, int] | None
    namespaces: Mapping[str, Any] | None
    security: Security
    read_only: bool
    upper: Literal["memory", "disk"]
    pid1: bool
    tty: bool
    degrade: Iterable[str]
