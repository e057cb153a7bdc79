"""What is mounted and put into a container, as frozen values. Checks names and overlaps; never looks at the disk."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from pycontainer._arguments import identifier
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import (
    ID_MAX,
    Frozen,
    container_path,
    host_path,
    is_sequence,
    parse_bool,
    parse_int,
    parse_mode,
    parse_size,
    within,
)

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from pycontainer._types import Arg, Size

    PlannedFile: TypeAlias = tuple[str, "File | str"]

# The engine's own: a mount there would hide what masks, read-only paths and the device nodes rest on.
_WHOLE = ("/", "/dev")
_BELOW = ("/proc", "/sys")


class Mount(Frozen):
    """Something that is mounted in a container. Made by `bind`, `overlay`, `tmpfs`, `volume` and `image`.

    Attributes:
        kind: "bind", "overlay", "tmpfs", "volume" or "image".
        source: the absolute path on this machine; a volume's name; an image or its reference; None for a tmpfs.
        target: the absolute path in the container.
        read_only: a bind that cannot be written, with everything mounted below it.
        owner: for a writable bind, the uid of this machine that owns what the container's root writes; None is the
            owner of the source directory.
        size: for a tmpfs, its bound in bytes; None is the engine's default.
        mode: for a tmpfs, the permission bits of its root.
    """

    __slots__ = ("kind", "mode", "owner", "read_only", "size", "source", "target")
    kind: str
    source: Any
    target: str
    read_only: bool
    owner: int | None
    size: int | None
    mode: int | None

    def __init__(self) -> None:
        raise TypeError("Mount is made by Mount.bind, .overlay, .tmpfs, .volume or .image")

    @classmethod
    def _make(cls, kind: str, target: Arg, source: Any = None, **fields: Any) -> Mount:
        made = object.__new__(cls)
        unsaid = {"read_only": False, "owner": None, "size": None, "mode": None}
        made._fill({"kind": kind, "source": source, "target": _mount_target(target), **unsaid, **fields})
        return made

    @classmethod
    def bind(cls, source: Arg, target: Arg, *, read_only: bool = False, owner: int | None = None) -> Mount:
        """A file or directory of this machine, seen and changed from both sides.

        Args:
            source: a path; a relative one is made absolute now.
            target: an absolute path in the container.
            read_only: refuse writes, also to what is mounted below the source.
            owner: a uid of this machine. What the container's root writes there belongs to the owner of the source
                directory; as root, a writable source that root owns needs `owner=uid`, or `owner=0` said aloud.
                Another user of that container can make nothing there (EOVERFLOW, whatever the mode).
                What a plain user's container writes is his own: another owner is NotSupported when it starts.

        Raises:
            ValueError: a target that is relative, has "..", or is the engine's own (/, /dev, /proc, /sys); an owner
                of what nobody may write (`read_only=True`).
            TypeError: an argument of another type.
        """
        uid = None if owner is None else parse_int(owner, "owner", 0, ID_MAX)
        shut = parse_bool(read_only, "read_only")
        if shut and uid is not None:
            raise ValueError("owner is who owns what the container writes; with read_only=True it writes nothing")
        return cls._make("bind", target, host_path(source, "source"), read_only=shut, owner=uid)

    @classmethod
    def overlay(cls, source: Arg, target: Arg) -> Mount:
        """A copy-on-write view of a directory of this machine: the container may write, the directory never changes.

        Raises:
            ValueError, TypeError: as `bind`.
        """
        return cls._make("overlay", target, host_path(source, "source"))

    @classmethod
    def tmpfs(cls, target: Arg, *, size: Size | None = None, mode: int = 0o1777) -> Mount:
        """Memory as a directory, empty at the start, gone at the end; it counts against the memory limit.

        Args:
            target: an absolute path in the container.
            size: its bound, at least 4096 bytes (to the kernel, 0 means none).
            mode: permission bits of its root; the default is docker's.

        Raises:
            ValueError, TypeError: as `bind`; a size of "max" too, for it would be the machine's memory.
        """
        bound = None if size is None else parse_size(size, "size", 4096)
        if bound == math.inf:
            raise ValueError("size of a tmpfs must be bounded, not 'max'")
        return cls._make("tmpfs", target, size=bound, mode=parse_mode(mode, "mode"))

    @classmethod
    def volume(cls, name: str, target: Arg) -> Mount:
        """A named volume of the store.

        Raises:
            ValueError: a name outside [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}, or a target as for `bind`.
            TypeError: an argument of another type.
        """
        return cls._make("volume", target, identifier(name, "name"))

    @classmethod
    def image(cls, image: Any, target: Arg) -> Mount:
        """The files of an image, read-only.

        Args:
            image: an Image, or a reference as text.
            target: an absolute path in the container.

        Raises:
            ValueError, TypeError: as `bind`.
        """
        if image is None or image == "":
            raise ValueError("image is empty")
        return cls._make("image", target, image, read_only=True)

    def __repr__(self) -> str:
        places = [repr(self.target)] if self.source is None else [repr(self.source), repr(self.target)]
        if self.read_only and self.kind == "bind":
            places.append("read_only=True")
        places += [f"{name}={getattr(self, name)!r}" for name in ("owner", "size") if getattr(self, name) is not None]
        if self.mode is not None:
            places.append(f"mode={self.mode:#o}")
        return f"Mount.{self.kind}({', '.join(places)})"


def _mount_target(path: Any) -> str:
    target = container_path(path, "target")
    owned = next((place for place in _WHOLE if target == place), None)
    owned = owned or next((place for place in _BELOW if within(target, place)), None)
    if owned:
        raise ValueError(f"target {shown(target)} is the engine's own: nothing can be put at or over {owned}")
    return target


class File(Frozen):
    """A file that is in the container before its command starts.

    Args:
        data: its content.
        mode: its permission bits.

    Raises:
        TypeError: data that is not bytes (encode a str first), a mode that is no int.
        ValueError: a mode outside 0 to 0o7777.
    """

    __slots__ = ("data", "mode")
    data: bytes
    mode: int

    def __init__(self, data: bytes, mode: int = 0o644) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, not {type(data).__name__}{_encode_hint(data)}")
        self._fill({"data": bytes(data), "mode": parse_mode(mode, "mode")})

    def __repr__(self) -> str:
        # Never the content: files carry secrets, and reprs go into logs.
        return f"<File of {len(self.data)} bytes, mode {self.mode:#o}>"


def _encode_hint(value: object) -> str:
    return "; encode it, or give a Path to copy a file" if isinstance(value, str) else ""


def plan_mounts(mounts: object, argument: str = "mounts") -> tuple[Mount, ...]:
    """Check `mounts` and order them so that what lies below another comes after it.

    Raises:
        TypeError: not a sequence of Mount.
        ValueError: two mounts with one target.
    """
    if not is_sequence(mounts):
        raise TypeError(f"{argument} must be a sequence of Mount, not {type(mounts).__name__}")
    seen: dict[str, Mount] = {}
    for index, mount in enumerate(mounts):
        if not isinstance(mount, Mount):
            raise TypeError(f"{argument}[{index}] must be a Mount, not {type(mount).__name__}")
        if mount.target in seen:
            raise ValueError(f"{argument} has two for one target: {shown(seen[mount.target])} and {shown(mount)}")
        seen[mount.target] = mount
    return tuple(sorted(seen.values(), key=lambda mount: mount.target.count("/")))


def plan_files(files: object, mounts: tuple[Mount, ...] = (), argument: str = "files") -> tuple[PlannedFile, ...]:
    """Check `files` against each other and against the mounts.

    Returns:
        (target, File) for content, (target, absolute path on this machine) for a file that is read at the start.

    Raises:
        TypeError: not a mapping, or a value that is neither bytes, File nor PathLike; a str is ambiguous.
        ValueError: a target that no mount could have either, that is said twice, that lies at, in or around a
            mount, or below another file.
    """
    if files is None:
        return ()
    if not isinstance(files, Mapping):
        raise TypeError(f"{argument} must be a mapping of targets to bytes, File or Path, not {type(files).__name__}")
    made: dict[str, File | str] = {}
    for key, value in files.items():
        target = _file_target(key, argument)
        if target in made:
            raise ValueError(f"{argument} has {shown(target)} twice")
        made[target] = _content(value, f"{argument}[{shown(key)}]")
    _check_overlaps(made, mounts, argument)
    return tuple(made.items())


def _file_target(key: object, argument: str) -> str:
    target = container_path(key, f"a target in {argument}")
    if os.fsdecode(key).endswith(("/", "/.")):  # type: ignore[arg-type]
        raise ValueError(f"a target in {argument} is a directory, not a file: {shown(key)}")
    try:
        return _mount_target(target)
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from None


def _content(value: object, argument: str) -> File | str:
    if isinstance(value, File):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return File(bytes(value))
    if isinstance(value, os.PathLike):
        return host_path(value, argument)
    raise TypeError(f"{argument} must be bytes, File or Path, not {type(value).__name__}{_encode_hint(value)}")


def _check_overlaps(files: Mapping[str, Any], mounts: tuple[Mount, ...], argument: str) -> None:
    for target in files:
        for mount in mounts:  # a file written through a bind would land in the source directory
            if within(target, mount.target) or within(mount.target, target):
                raise ValueError(f"{argument} has {shown(target)}, which overlaps {shown(mount)}")
        parent = target
        while parent := parent.rpartition("/")[0]:
            if parent in files:
                raise ValueError(f"{argument} has {shown(target)} below {shown(parent)}, which is a file")
