"""What each process of a user tells of its containers, for the others: a file each, in the directory of its keeper.

A record is believed only while that keeper lives, and only where it is this user's own and nobody else's. It holds
plain values: nothing in it is executed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress

from pycontainer import _stored as stored
from pycontainer._errors import Error
from pycontainer._image import Image
from pycontainer._limits import IoLimit, Limits, NetworkLimit
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_BYTES = "\0bytes"
# What of a Spec is of no use to a command beside the first one, or is an object.
_LEFT_OUT = frozenset({"image", "images", "security", "said", "files", "input"})
# Lists of bytes, none of which can have a zero in it: as one text each.
_JOINED = ("argv", "env", "path")
_SHORT = 12
_ID = frozenset("0123456789abcdef")


def claim(name: str, id: str) -> str:
    """Take a name for a container that is about to be started.

    Returns:
        The link that holds it; "" where there is no place for one.

    Raises:
        ValueError: another live container of this user has it.
    """
    home = core().registry_home()
    if home is None:
        return ""
    names = _names()
    link = os.path.join(names, name)
    try:
        os.makedirs(names, 0o700, exist_ok=True)
        while True:
            try:
                os.symlink(os.path.join(os.path.basename(home), id), link)
                return link
            except FileExistsError:
                if not _free(names, link):
                    raise ValueError(f"name: {name!r} is the name of another container of this user") from None
    except OSError:
        return ""  # it runs all the same, and is found by its id


def _free(names: str, link: str) -> bool:
    """Let go of a name whose keeper is gone; False where it lives.

    By one process at a time: another would let go of what the first has just taken.
    """
    directory = os.open(names, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if core().keeper_lives(os.path.dirname(os.readlink(link))):
            return False
        os.unlink(link)
    except FileNotFoundError:
        pass
    finally:
        os.close(directory)
    return True


def enter(container: Any, native: Any) -> str:
    """Write the record of a container that runs, and return its path; "" where there is no place for it."""
    address = native.address()
    if address is None:
        return ""
    home, number, basis = address
    record = {
        "id": container.id,
        "name": container.name,
        "labels": list(container.labels.items()),
        "args": [os.fsdecode(word) for word in container.args],
        "created": container._created,
        "pid": native.command()[0],
        "number": number,
        "ports": native.ports(),
        "basis": basis,
        "limits": _said(container.limits),
        "kinds": container._kinds,
        "text": (container._text.mode, container._text.encoding, container._text.errors),
        "image": _image(container._spec.image),
        "spec": _plain(container._spec),
    }
    path, beside = os.path.join(home, container.id), os.path.join(home, f".{container.id}")
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(file, 0o600)  # the host's umask may have kept it from us
            os.write(file, _encode(record))
        finally:
            os.close(file)
        os.rename(beside, path)
    except OSError:
        return ""
    return str(path)


def leave(*paths: str) -> None:
    """Remove what claim() and enter() made."""
    for path in filter(None, paths):
        with suppress(OSError):  # its keeper died, and it with that
            os.unlink(path)


def records() -> Iterator[dict[str, Any]]:
    """All containers of this user's processes. What dead keepers left is swept."""
    for home in _homes():
        for entry in sorted(_listed(home)):
            if _is_id(entry) and (record := _read(home, entry)) is not None:
                yield record


def find(word: str) -> dict[str, Any]:
    """The record of a container by its id, its name or the beginning of its id that no other one's has; docker's order.

    Raises:
        LookupError: there is none, or several.
    """
    exact = _is_id(word)
    homes = list(_homes())
    for home in homes:
        if exact and (record := _read(home, word)) is not None:
            return record
    if (record := _named(word)) is not None:
        return record
    found = [(home, entry) for home in homes for entry in _listed(home) if _is_id(entry) and entry.startswith(word)]
    if not word or not found:
        raise LookupError(f"there is no container {word!r} among those of this user")
    if len(found) > 1:
        ids = ", ".join(sorted(entry[:_SHORT] for _, entry in found))
        raise LookupError(f"several containers of this user have ids that begin so: {word!r} is {ids}")
    record = _read(*found[0])
    if record is None:
        raise LookupError(f"there is no container {word!r} among those of this user")
    return record


def _named(name: str) -> dict[str, Any] | None:
    if "/" in name or name in ("", ".", ".."):
        return None
    try:
        keeper, _, id = os.readlink(os.path.join(_names(), name)).partition("/")
    except OSError:
        return None
    if not _is_id(id) or not core().keeper_lives(keeper):
        return None
    return _read(os.path.join(core().registry_place(), keeper), id)


def _names() -> str:
    return os.path.join(os.path.dirname(core().registry_place()), "names")


def _homes() -> Iterator[str]:
    place = core().registry_place()
    for name in sorted(_listed(place)):
        if core().keeper_lives(name):
            yield os.path.join(place, name)


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_id(word: str) -> bool:
    return len(word) == 32 and _ID.issuperset(word)


def _read(home: str, id: str) -> dict[str, Any] | None:
    """Read a record; None where there is none that is this user's own, and whole."""
    import json  # noqa: PLC0415 - milliseconds, for those who only run

    try:
        file = os.open(os.path.join(home, id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(file, "rb") as opened:
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
            return None
        try:
            record = json.load(opened, object_hook=_untagged)
        except (OSError, ValueError):
            return None
    if not isinstance(record, dict) or record.get("id") != id:
        return None
    record["home"] = home
    return record


def _image(image: Image) -> tuple[Any, ...]:
    return image._kind, image._directory, list(image._directories), image._writable, image.reference, image.digest


def image_of(said: tuple[Any, ...]) -> Image:
    """Make the Image of a record. One that the store has no more is known by its name alone."""
    kind, directory, directories, writable, reference, digest = said
    if kind == "layers":
        try:
            return Image._of(reference, *stored.opened(digest)[1:])
        except Error:
            return Image._make("directory", reference or digest)
    return Image._make(kind, directory, directories, writable)


def _plain(spec: Any) -> dict[str, Any]:
    fields = vars(spec).copy()
    for name in _LEFT_OUT:
        fields.pop(name, None)
    for name in _JOINED:
        fields[name] = b"\0".join(fields[name]).decode("latin-1")
    return dict(fields)


def spec_of(plain: dict[str, Any]) -> dict[str, Any]:
    """Tell the fields of the Spec of a record."""
    fields = dict(plain)
    for name in _JOINED:
        fields[name] = fields[name].encode("latin-1").split(b"\0") if fields[name] else []
    return fields | {"files": [], "input": None}


def _tagged(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return {_BYTES: value.decode("latin-1")}
    raise TypeError(f"{type(value).__name__} is no plain value")


_encoder: Any = None


def _encode(record: dict[str, Any]) -> bytes:
    global _encoder
    if _encoder is None:
        import json  # noqa: PLC0415 - milliseconds, for those who only run

        _encoder = json.JSONEncoder(default=_tagged, check_circular=False, separators=(",", ":"))
    return bytes(_encoder.encode(record).encode("ascii"))


def _untagged(made: dict[str, Any]) -> Any:
    if _BYTES in made:
        return made[_BYTES].encode("latin-1")
    return {name: _frozen(value) for name, value in made.items()}


def _frozen(value: Any) -> Any:
    """The native side takes pairs as tuples, which JSON does not have."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _said(limits: Limits) -> dict[str, Any]:
    said = limits._said()
    if "io" in said:
        said["io"] = {device: limit._said() for device, limit in said["io"].items()}
    if "rlimits" in said:
        said["rlimits"] = dict(said["rlimits"])
    if "network" in said:
        said["network"] = said["network"]._said()
    return said


def limits_of(said: dict[str, Any]) -> Limits:
    """Make the Limits of a record."""
    said = dict(said)
    if "io" in said:
        said["io"] = {device: IoLimit(**limit) for device, limit in said["io"].items()}
    if "network" in said:
        said["network"] = NetworkLimit(**said["network"])
    return Limits(**said)
