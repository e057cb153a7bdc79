"""Frozen values, size and time parsers, paths. Asks for the cwd only.

Every check names the argument it refuses, raises ValueError or TypeError only, and shows foreign text escaped.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Mapping, Sequence

from pycontainer._text import TYPE_CHECKING, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta
    from typing import Any, Final, NoReturn, Self, TypeAlias, TypeGuard, TypeVar

    K = TypeVar("K")
    V = TypeVar("V")
    Arg: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Age: TypeAlias = float | timedelta | None
    Size: TypeAlias = int | float | str
    Duration: TypeAlias = int | float | str | timedelta

# subprocess's own, whose import takes longer than all of this package; a test compares them.
PIPE: Final = -1
STDOUT: Final = -2
DEVNULL: Final = -3


class Inherit:
    """The type of INHERIT: "this process's own stream". One instance; it pickles and copies to itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INHERIT"

    def __reduce__(self) -> str:
        return "INHERIT"


INHERIT: Final = Inherit()


class Frozen:
    """Base of the value classes: what `__slots__` names is compared, hashed, shown and pickled, and cannot be set.

    Hand-written because `dataclasses` imports inspect, 5 ms of every import.
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _defaults: Mapping[str, object] = {}  # a field that has its default is left out of the repr

    _puts: tuple[Any, ...] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *cls.__dict__.get("__slots__", ()))
        cls._puts = tuple(getattr(cls, name).__set__ for name in cls._fields)

    @classmethod
    def _of(cls, *values: object) -> Self:
        """Make one of values that were checked, in the order of `_fields`."""
        made = object.__new__(cls)
        for put, value in zip(cls._puts, values, strict=True):
            put(made, value)
        return made

    def _fill(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _take(self, given: Mapping[str, object]) -> None:
        """Fill all fields from what was given, which may be an __init__'s locals()."""
        put = object.__setattr__
        for name in self._fields:
            put(self, name, given[name])

    def _values(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._fields}

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values().values()))

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self._values().items() if not self._is_default(name, value))
        return f"{type(self).__name__}({', '.join(shown)})"

    def _is_default(self, name: str, value: object) -> bool:
        return name in self._defaults and bool(value == self._defaults[name])

    def __reduce__(self) -> tuple[object, ...]:
        return restore, (type(self), self._values())


def restore(cls: type[Frozen], values: dict[str, object]) -> Frozen:
    """Rebuild a pickled value. The values were checked when it was first made."""
    made = object.__new__(cls)
    made._fill(values)
    return made


class FrozenMap(Mapping["K", "V"]):
    """A read-only mapping that hashes, pickles, equals the dict of the same items and looks like it."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self._items: dict[K, V] = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[object, ...]:
        return FrozenMap, (self._items,)


# --- numbers ----------------------------------------------------------------------------------------------------------

SIZE_MAX = 2**63 - 1  # the kernel's loff_t and page counters are signed 64-bit
SECONDS_MAX = SIZE_MAX / 1e9  # time limits are counted in nanoseconds
ID_MAX = 2**32 - 2  # (uid_t)-1 means "no change" to chown and setresuid
_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgtpe", 1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def whole(value: object, argument: str) -> int:
    """Check that a value is an int, or converts to one without loss (numpy's do)."""
    if isinstance(value, bool):  # `pids=True` is a slip, not a limit of one
        raise TypeError(f"{argument} must be an int, not bool")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{argument} must be an int, not {type(value).__name__}") from None


def parse_int(value: object, argument: str, minimum: int, maximum: int) -> int:
    """Check a whole number and its bounds."""
    number = whole(value, argument)
    if not minimum <= number <= maximum:
        raise ValueError(f"{argument} must be from {minimum} to {maximum}, not {shown(value)}")
    return number


def is_max(value: object) -> bool:
    """Whether a value lifts its limit: "max" (cgroup v2's word, in any case) or math.inf."""
    return value.strip().lower() == "max" if isinstance(value, str) else isinstance(value, float) and value == math.inf


def parse_size(value: object, argument: str, minimum: int = 0) -> int | float:
    """Read a size into bytes.

    Args:
        value: an int (bytes), "max" or math.inf, or a number with a unit: "512", "512k", "512m", "1.5GiB" are
            1024-based as in docker and Kubernetes' Ki, Mi, Gi; "MB" is 1000-based as in SI. Case does not matter.
            A fraction of a byte is dropped.
        argument: the name that an error shows.
        minimum: the least size that makes sense here, in bytes.

    Returns:
        An int, or math.inf for "max".

    Raises:
        ValueError: negative, below the minimum, above 2**63-1, not a number, not readable.
        TypeError: neither int nor str.
    """
    if is_max(value):
        return math.inf
    if isinstance(value, str):
        number = _size_from_text(value, argument)
    elif isinstance(value, float):
        raise (ValueError if math.isnan(value) or math.isinf(value) else TypeError)(
            f"{argument} must be a whole number of bytes or a size such as '512MiB', not {value!r}"
        )
    else:
        number = whole(value, argument)
    if not minimum <= number <= SIZE_MAX:
        raise ValueError(f"{argument} must be from {minimum} to 2**63-1 bytes, not {shown(value)}")
    return number


def _size_from_text(text: str, argument: str) -> int:
    # The bound on digits keeps int() away from its own limit of 4300, whose error would not name the argument.
    match = re.fullmatch(r"([0-9]{1,40})(?:\.([0-9]{1,40}))?\s*([a-z]{0,3})", text.strip().lower(), re.ASCII)
    unit = _UNITS.get(match[3]) if match else None
    if match is None or unit is None:
        raise ValueError(f"{argument} must be a size such as '512MiB', '1.5g' or 'max', not {shown(text)}")
    fraction = match[2] or ""
    scale: int = 10 ** len(fraction)
    return int(match[1] + fraction) * unit // scale


def exact_size(size: int | float) -> int | str:
    """A size as parse_size reads it back: "512MiB" where a unit divides it, else the bytes; "max" for math.inf."""
    if size == math.inf:
        return "max"
    for power, letter in ((3, "G"), (2, "M"), (1, "K")):
        if size and size % 1024**power == 0:
            return f"{int(size) // 1024**power}{letter}iB"
    return int(size)


def format_size(size: int | float) -> str:
    """A size for people: "64.0 MiB", "512 B"."""
    if size == math.inf:
        return "unlimited"
    if size < 1024:
        return f"{int(size)} B"
    power = min(6, (int(size).bit_length() - 1) // 10)
    if power < 6 and round(size / 1024**power, 1) >= 1024:  # 1048575 is 1.0 MiB, not 1024.0 KiB
        power += 1
    return f"{size / 1024**power:.1f} {'KMGTPE'[power - 1]}iB"


def parse_duration(value: object, argument: str, *, signed: bool = False) -> float:
    """Read a time into seconds.

    Args:
        value: seconds as an int or float, a timedelta, or "max" or math.inf.
        argument: the name that an error shows.
        signed: accept zero and less, as `timeout` does (it has expired already).

    Raises:
        ValueError: less than a microsecond (unless signed), more than 2**63-1 nanoseconds, not a number.
        TypeError: anything else.
    """
    if is_max(value):
        return math.inf
    total = getattr(value, "total_seconds", None)  # a timedelta, without importing datetime
    seconds = total() if callable(total) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{argument} must be seconds or a timedelta, not {type(value).__name__}")
    if not (signed or seconds >= 1e-6) or not seconds <= SECONDS_MAX:  # a NaN is not <= anything
        raise ValueError(f"{argument} must be from 0.000001 to {SECONDS_MAX:.0f} seconds, not {shown(value)}")
    return float(max(seconds, -SECONDS_MAX))


def parse_bool(value: object, argument: str) -> bool:
    """Check a bool. Truthy strings such as "no" are refused."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {type(value).__name__}")
    return value


def parse_mode(value: object, argument: str, maximum: int = 0o7777) -> int:
    """Check permission bits, such as 0o644."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int such as 0o644, not {type(value).__name__}")
    if not 0 <= value <= maximum:
        raise ValueError(f"{argument} must be from 0 to {maximum:#o}, not {value:#o}")
    return value


# --- words and paths --------------------------------------------------------------------------------------------------


def encode(value: object, argument: str) -> bytes:
    """A str, bytes or PathLike as the bytes that cross into the kernel. Refuses NUL, where a C string would end."""
    try:
        raw = os.fsencode(value)  # type: ignore[arg-type]
    except UnicodeEncodeError:
        raise ValueError(f"{argument} cannot be encoded for the file system: {shown(value)}") from None
    except TypeError:
        raise TypeError(f"{argument} must be str, bytes or PathLike, not {type(value).__name__}") from None
    if b"\0" in raw:
        raise ValueError(f"{argument} has a NUL byte: {shown(value)}")
    return raw


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether this is an ordered collection of things, and not one text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


def container_path(path: object, argument: str) -> str:
    """Check and normalise a path inside a container: absolute, no "..", no NUL, no trailing or doubled slash."""
    text = os.fsdecode(encode(path, argument))
    if not text.startswith("/"):
        raise ValueError(f"{argument} must be an absolute path in the container, not {shown(path)}")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{argument} must not have a '..' in it: {shown(path)}")
    return "/" + "/".join(parts)


def host_path(path: object, argument: str) -> str:
    """Check a path of this machine and make it absolute now.

    ".." stays in it: only the kernel knows what that is behind a link.
    """
    text = os.fsdecode(encode(path, argument))
    if not text:
        raise ValueError(f"{argument} is an empty path")
    joined = os.path.join(os.getcwd(), text) if not text.startswith("/") else text
    if ".." in joined.split("/"):
        return joined
    return "/" + os.path.normpath(joined).lstrip("/")


def within(path: str, parent: str) -> bool:
    """Whether a normalised container path is `parent` or lies below it."""
    return path == parent or parent == "/" or path.startswith(parent + "/")
