"""Published ports as run() takes them: {port inside: port of this machine}. Checks only; opens none."""

from __future__ import annotations

from collections.abc import Mapping

from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import parse_int

if TYPE_CHECKING:
    from typing import Any

# Where they are published; ::1 too, where there is one.
HERE = "127.0.0.1"
PORT_MAX = 65535
PORTS_MAX = 64
# As IP numbers them.
_PROTOCOLS = {"tcp": 6, "udp": 17}


def ports(value: Any, network: str) -> list[tuple[str, int, int, int]]:
    """Check `ports`: for each its name in messages, the port inside, the protocol, and the port here (0: any)."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise TypeError(f"ports must be a mapping of ports, not {type(value).__name__}")
    if value and network == "host":
        raise ValueError("ports: with network='host' the container's ports are this machine's already")
    if len(value) > PORTS_MAX:
        raise ValueError(f"ports: at most {PORTS_MAX} can be published, not {len(value)}")
    made = [_port(key, outside) for key, outside in value.items()]
    _unique(made)
    return made


def _port(key: Any, outside: Any) -> tuple[str, int, int, int]:
    name = f"ports[{shown(key)}]"
    port, protocol = inside(key, name)
    return name, port, _PROTOCOLS[protocol], parse_int(outside, name, 0, PORT_MAX)


def inside(key: Any, name: str) -> tuple[int, str]:
    """Check the port and the protocol of 5432, "5432/tcp" or "5432/udp"."""
    if not isinstance(key, str):
        return parse_int(key, name, 1, PORT_MAX), "tcp"
    digits, _, protocol = key.partition("/")
    if protocol not in _PROTOCOLS or not (digits.isascii() and digits.isdigit()) or len(digits) > 5:
        raise ValueError(f"{name}: a port is a number, 'NUMBER/tcp' or 'NUMBER/udp'")
    return parse_int(int(digits), name, 1, PORT_MAX), protocol


def _unique(made: list[tuple[str, int, int, int]]) -> None:
    known: dict[tuple[int, int], str] = {}
    outside: dict[tuple[int, int], str] = {}
    for name, port, protocol, here in made:
        if (port, protocol) in known:
            raise ValueError(f"{name}: {known[port, protocol]} publishes the same port")
        if here and (here, protocol) in outside:
            raise ValueError(f"{name}: {outside[here, protocol]} takes port {here} of this machine")
        known[port, protocol] = outside[here, protocol] = name
