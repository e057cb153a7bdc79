"""Checks of run()'s plain arguments: commands, environment, names, users. Touches no kernel and no file.

Each function returns the value as it crosses into the native module, or raises ValueError or TypeError that names the
argument.
"""

from __future__ import annotations

import codecs
import os
import re
import signal as signals
from collections.abc import Mapping, Sequence

from pycontainer._text import TYPE_CHECKING, escape, shown
from pycontainer._types import ID_MAX, encode, is_sequence, parse_bool, parse_int

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS_MAX = 1023  # rust/keeper/users.rs, which counts the primary group too


def command(args: object, argument: str = "args", *, empty: bool = False) -> tuple[bytes, ...]:
    """Check a command: a sequence of str, bytes or PathLike.

    Raises:
        TypeError: a str or bytes (there is no shell here), a dict, set or iterator, a word of another type.
        ValueError: no words (unless `empty`), an empty first word, a NUL byte.
    """
    if isinstance(args, (str, bytes, bytearray, memoryview, os.PathLike)):
        raise TypeError(
            f'{argument} must be a sequence of words, not {type(args).__name__}; for a shell line: ["sh", "-c", ...]'
        )
    if not isinstance(args, Sequence):
        raise TypeError(f"{argument} must be a sequence of words, such as a list, not {type(args).__name__}")
    words = tuple(encode(word, f"{argument}[{index}]") for index, word in enumerate(args))
    if not words and not empty:
        raise ValueError(f"{argument} is empty")
    if words and not words[0]:
        raise ValueError(f"{argument}[0], the program, is empty")
    return words


def environment(env: object, argument: str = "env") -> tuple[tuple[bytes, bytes | None], ...]:
    """Check environment variables: a mapping of names to str, bytes or PathLike, or None, which removes the name."""
    if env is None:
        return ()
    if not isinstance(env, Mapping):
        raise TypeError(f"{argument} must be a mapping of names to values, not {type(env).__name__}")
    made: dict[bytes, bytes | None] = {}
    for name, value in env.items():
        raw = encode(name, f"a name in {argument}")
        if not raw or b"=" in raw:
            raise ValueError(f"a name in {argument} is {'empty' if not raw else 'written with a =: ' + shown(name)}")
        if raw in made:
            raise ValueError(f"{argument} has {escape(raw)} twice, as str and as bytes")
        made[raw] = None if value is None else encode(value, f"{argument}[{shown(name)}]")
    return tuple(made.items())


def identifier(name: object, argument: str) -> str:
    """Check the name of a container or volume: [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}, docker's grammar with a bound."""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, not {type(name).__name__}")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", name):
        raise ValueError(f"{argument} must match [a-zA-Z0-9][a-zA-Z0-9_.-]{{0,127}}, not {shown(name)}")
    return name


def hostname(name: object, argument: str = "hostname") -> str:
    """Check a host name: RFC 1123 labels, 64 bytes in all (the kernel's __NEW_UTS_LEN)."""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, not {type(name).__name__}")
    label = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    if len(name) > 64 or not re.fullmatch(rf"{label}(?:\.{label})*", name):
        raise ValueError(f"{argument} must be letters, digits, '-' and '.', at most 64, not {shown(name)}")
    return name


def account(name: object, argument: str) -> str:
    """Check a user or a group: an id from 0 to 2**32-2, or a name. All digits are an id, as in docker and chown."""
    if isinstance(name, int) and not isinstance(name, bool):
        return str(parse_int(name, argument, 0, ID_MAX))
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be an int or a str, not {type(name).__name__}")
    if name.isascii() and name.isdigit():
        if len(name) > 10 or int(name) > ID_MAX:
            raise ValueError(f"{argument} must be from 0 to {ID_MAX}, not {shown(name)}")
        return str(int(name))
    if not name or len(name) > 256 or name.startswith("-") or not name.isprintable() or set(name) & set(":/ "):
        raise ValueError(f"{argument} must be an id or a name, not {shown(name)}")
    encode(name, argument)
    return name


def user(value: object, argument: str = "user") -> str | None:
    """Check `user`: a uid, a name, or "user:group". Returns it as text with ids in plain decimal, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        return account(value, argument)
    parts = value.split(":")
    if len(parts) > 2:
        raise ValueError(f"{argument} must be a user or 'user:group', not {shown(value)}")
    return ":".join(account(part, argument) for part in parts)


def groups(value: object, argument: str = "groups") -> tuple[str, ...]:
    """Check supplementary groups: a sequence of gids and names, as many as PID 1 has room for."""
    if not is_sequence(value):
        raise TypeError(f"{argument} must be a sequence of gids and names, not {type(value).__name__}")
    made = tuple(account(item, f"{argument}[{index}]") for index, item in enumerate(value))
    if len(made) > GROUPS_MAX:
        raise ValueError(f"{argument} has more than {GROUPS_MAX} groups")
    return made


def signal_number(value: object, argument: str = "signal") -> int:
    """Check a signal: a number, a `signal.Signals`, or a name with or without "SIG"."""
    if isinstance(value, str):
        name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        number = getattr(signals, name, None)
        if not isinstance(number, signals.Signals):
            raise ValueError(f"{argument}: there is no {shown(value)}")
        return int(number)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be a number or a name, not {type(value).__name__}")
    return parse_int(value, argument, 1, 64)


def image_signal(text: str) -> int:
    """Read a signal as an image's config has it: SIGTERM, TERM, 15, SIGRTMIN+3, and old names of Linux's.

    Raises:
        ValueError: there is none of this name or number.
    """
    text = text.strip().upper()
    if text.isdecimal() and text.isascii() and len(text) < 4:
        return signal_number(int(text))
    name = text.removeprefix("SIG")
    base, sign, offset = name[:5], name[5:6], name[6:]
    if base in ("RTMIN", "RTMAX") and sign == "+-"[base == "RTMAX"] and 0 < len(offset) < 3 and offset.isdecimal():
        number = int(offset) if sign == "+" else -int(offset)
        return parse_int(signal_number(base) + number, "signal", signals.SIGRTMIN, signals.SIGRTMAX)
    return signal_number(f"SIG{name}")


def text_mode(text: object, encoding: object, errors: object) -> bool:
    """Check `text`, `encoding` and `errors`; whether streams are str, as subprocess decides it."""
    wanted = text is not None and parse_bool(text, "text")
    if encoding is not None:
        _codec(encoding, "encoding", "a".encode)  # unlike lookup, it refuses "hex"
    if errors is not None:
        _codec(errors, "errors", codecs.lookup_error)
    return wanted or encoding is not None or errors is not None


def _codec(name: object, argument: str, look_up: Callable[[str], object]) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, not {type(name).__name__}")
    try:
        look_up(name)
    except (LookupError, ValueError):
        raise ValueError(f"{argument}: Python has no {shown(name)}") from None
