"""The files of a container: read, written, copied, compared. The engine resolves its paths, and runs nothing of it."""

from __future__ import annotations

import math
import os

from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import Frozen, encode, parse_mode, parse_size

if TYPE_CHECKING:
    from typing import Any, Literal

    from pycontainer._types import Arg

_ALL = (1 << 63) - 1


class Change(Frozen):
    """One line of Container.diff().

    Attributes:
        kind: "A" added, "C" changed, "D" deleted, as in `docker diff`.
        path: in the container, absolute; bytes that are not UTF-8 are surrogates, as in os.listdir().
    """

    __slots__ = ("kind", "path")
    kind: Literal["A", "C", "D"]
    path: str

    def __init__(self, kind: Literal["A", "C", "D"], path: str) -> None:
        self._fill({"kind": kind, "path": path})


class Files:
    """What Container does with the files in it.

    A container has them until it is closed: while it runs or is paused, when it has exited, and before it is started,
    for which it is set up, and its command waits. A path is absolute and resolved inside the container's root:
    links and ".." lead where they lead there, and never out. What the kernel makes up (/proc, /sys, control groups)
    and special files (devices, fifos, sockets) are refused.
    """

    if TYPE_CHECKING:

        def _reachable(self) -> Any: ...

    def read_bytes(self, path: Arg, max_size: int | str = "64MiB") -> bytes:
        """Return the content of a file; a link is followed.

        Args:
            path: of a regular file.
            max_size: bytes, or a size such as "64MiB"; "max" takes all.

        Raises:
            ValueError: `path` is relative, empty or has a NUL byte; the file has more than `max_size`.
            SetupError: it cannot be read; `errno` and `filename` say why and what.
            StateError: the container is closed.
        """
        name, most = _inside(path, "path"), parse_size(max_size, "max_size")
        return bytes(core().read_bytes(self._reachable(), name, _ALL if most == math.inf else most))

    def write_bytes(self, path: Arg, data: bytes | bytearray | memoryview, mode: int = 0o644) -> None:
        """Make a file, or replace the one that is there, in one step: a reader sees the old one or the new.

        It belongs to the container's root. A link of that name is replaced, not followed. Directories above it must be
        there.

        Args:
            path: of the file.
            data: its content.
            mode: its permission bits, at most 0o777.

        Raises:
            ValueError, TypeError: an argument is wrong.
            SetupError: it cannot be written: ENOENT where a directory above it is missing, EROFS, ENOSPC, ...
            StateError: the container is closed.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        name, bits = _inside(path, "path"), parse_mode(mode, "mode", 0o777)
        core().write_bytes(self._reachable(), name, bytes(data), bits)

    def copy_in(self, src: Arg, dst: Arg) -> None:
        """Copy a file, a link or a tree of this machine into the container.

        `dst` is the new name, never a directory to copy into; its parent must be there. Trees merge, as with
        shutil.copytree(symlinks=True, dirs_exist_ok=True): directories that are there are entered and get the mode
        of the source's, files and links of the same name are replaced. Modes, times of the last change, extended
        attributes `user.*` and holes are kept; what is made belongs to the container's root. Set-id bits are kept
        in the container's own layer, and nowhere else. Links are copied as links, also `src` itself, unless it ends
        in a slash. What cannot be read, and special files, are left out: the rest is copied, and then the error
        names the first.

        Args:
            src: a path of this machine.
            dst: a path in the container.

        Raises:
            ValueError, TypeError: an argument is wrong.
            SetupError: something could not be copied; `filename` is its path, on the side where it failed.
            StateError: the container is closed.
        """
        source, target = _outside(src, "src"), _inside(dst, "dst")
        core().copy_in(self._reachable(), source, target)

    def copy_out(self, src: Arg, dst: Arg) -> None:
        """Copy a file, a link or a tree of the container to this machine.

        As copy_in(), the other way: what is made belongs to this process's user, and set-id bits are dropped. The
        content of /proc, /sys and /dev of a running container stays there. Links are copied as links: they can lead
        anywhere on this machine, so a program that walks the copy must not follow them. A link that stands at
        `dst`, or in a tree that is merged, is not followed either.

        Args:
            src: a path in the container.
            dst: a path of this machine.

        Raises:
            As copy_in().
        """
        source, target = _inside(src, "src"), _outside(dst, "dst")
        core().copy_out(self._reachable(), source, target)

    def diff(self) -> list[Change]:
        """Return what differs from the image, sorted by path, as `docker diff` shows it.

        A directory is "C" where something in it, its mode or its owner has changed. What is mounted is not part of
        it, nor are empty mount points of the engine's own making; nor, with `Image.host(writable=True)`, what lies in
        the trees of this machine.

        Raises:
            SetupError: the layers cannot be compared.
            StateError: the container is closed.
        """
        return [Change(kind, os.fsdecode(path)) for kind, path in core().diff(self._reachable())]


def _inside(path: object, argument: str) -> bytes:
    raw = encode(path, argument)
    if not raw.startswith(b"/"):
        raise ValueError(f"{argument} must be an absolute path in the container, not {os.fsdecode(raw)!r}")
    return raw


def _outside(path: object, argument: str) -> bytes:
    raw = encode(path, argument)
    if not raw:
        raise ValueError(f"{argument} is an empty path")
    return raw
