"""Small languages inside a Dockerfile: durations, ports, signals, modes, platforms, sizes. Values, or a Mistake.

Durations and sizes are Go's and docker's here ("1m30s"; "64mb" has 1024-based units), which are other languages than
those of this package's own arguments (_types.py). Platforms are read as core's platform_parse reads them, for which the
extension would be needed; a test compares the two.
"""

from __future__ import annotations

import re

from pycontainer._arguments import image_signal
from pycontainer._build.source import Mistake, Word, quoted

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(?=[0-9.]*[0-9])([0-9]{0,18})(?:\.([0-9]{0,18}))?(ns|us|µs|μs|ms|s|m|h)")
_DURATION_MAX = 2**63 - 1
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))? ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_PORT = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?(?:/([^/]*))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_PLATFORM_PART = re.compile(r"[A-Za-z0-9_.-]+")
_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"), "i386": ("386", ""),
}  # fmt: skip
_SYSTEMS = {"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1"}
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]+|[ugo])?)+")


def duration(text: Word, name: str) -> int:
    """Nanoseconds of "1h30m", "500ms", "0": Go's durations. 0, or at least a millisecond."""
    rest = text.lstrip("+")
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None:
            break
        unit = _UNITS[match[3]]
        fraction = match[2] or ""
        total += int(match[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = match.end()
    if position != len(rest) or not rest or len(text) - len(rest) > 1 or total > _DURATION_MAX:
        raise Mistake(f"{name} is a duration, not {quoted(text)}", text, "as in 30s, 1m30s or 500ms")
    if 0 < total < 10**6:
        raise Mistake(f"{name} is less than a millisecond: {quoted(text)}", text)
    return total


def boolean(text: Word, name: str) -> bool:
    """What Go's ParseBool takes."""
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    if text in ("0", "f", "F", "false", "False", "FALSE"):
        return False
    raise Mistake(f"{name} is true or false, not {quoted(text)}", text)


def size(text: Word, name: str) -> int:
    """Bytes of "64m", "1.5GiB": 1024-based, as docker's RAM sizes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Mistake(f"{name} is a size, not {quoted(text)}", text, "as in 64m or 1g")
    factor = 1 << 10 * " kmgtp".index(match[3].lower() or " ")
    fraction = match[2] or ""
    parts = int(fraction or 0) * factor // int("1" + "0" * len(fraction))
    return int(match[1]) * factor + parts


def number(text: Word, name: str, base: int = 10) -> int:
    """A number of 32 bits without a sign."""
    digits = "[0-7]+" if base == 8 else "[0-9]+"
    if not re.fullmatch(digits, text) or len(text) > 20 or (value := int(text, base)) >= 1 << 32:
        kind = "an octal number" if base == 8 else "a number"
        raise Mistake(f"{name} is {kind} below 2**32, not {quoted(text)}", text)
    return value


def ports(text: Word) -> list[str]:
    """What EXPOSE of one word exposes: "80/tcp" of "80", three of "8000-8002/udp".

    Docker takes "8080:80" too and drops the first half; what would be dropped is refused here.
    """
    if ":" in text:
        raise Mistake(
            f"EXPOSE names ports of the container only, not {quoted(text)}", text,
            f"write {quoted(text.rpartition(':')[2])[1:-1]}; ports of the host are given when it runs",
        )  # fmt: skip
    match = _PORT.fullmatch(text)
    if match is None:
        raise Mistake(f"EXPOSE takes ports, not {quoted(text)}", text, "as in 80, 53/udp or 8000-8010")
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise Mistake(f"a port's protocol is tcp, udp or sctp, not {quoted(match[3])}", text)
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if last > 65535 or first > 65535:
        raise Mistake(f"a port is at most 65535: {quoted(text)}", text)
    if last < first:
        raise Mistake(f"ports go upwards: {quoted(text)}", text)
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def check_signal(text: Word) -> None:
    """Refuse what a container could not be stopped with: by the reader of images' configs."""
    try:
        image_signal(text)
    except ValueError:
        raise Mistake(f"STOPSIGNAL is a signal, not {quoted(text)}", text, "as in SIGTERM, INT or 9") from None


def check_mode(text: Word) -> None:
    """Refuse what --chmod cannot mean: octal up to 07777, or chmod(1)'s u=rwX,g-w."""
    if re.fullmatch("[0-9]+", text):
        if not re.fullmatch("0*[0-7]{1,4}", text):
            raise Mistake(f"--chmod is octal, between 0 and 7777, not {quoted(text)}", text)
    elif not all(_SYMBOLIC.fullmatch(part) for part in text.split(",")):
        raise Mistake(f"--chmod is a mode, not {quoted(text)}", text, "as in 755, 0644 or u=rwX,go=rX")


def platform(text: Word) -> str:
    """A platform as os/architecture[/variant], in the names that images use: "linux/amd64" of "x86_64"."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
        raise Mistake(f"a platform is os/architecture, not {quoted(text)}", text, "as in linux/arm64")
    parts = [part.lower() for part in parts]
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            raise Mistake(f"a platform has an architecture: {quoted(text)} has none", text, f"as in {parts[0]}/amd64")
        parts = ["linux", *parts]
    system, name, *variants = parts
    name, variant = _ARCHITECTURES.get(name, (name, ""))
    variant = variants[0] if variants else variant
    if (name, variant) in (("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")):
        variant = ""
    if name == "arm":
        variant = f"v{variant.removeprefix('v') or 7}"
    return "/".join(part for part in (system, name, variant) if part)
