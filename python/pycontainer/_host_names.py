"""What a container of an image is told of names: /etc/hosts, /etc/hostname, /etc/resolv.conf."""

from __future__ import annotations

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def host_names(hostname: str, shares_network: bool) -> list[tuple[str, bytes]]:
    """Return (path, content) of each: this machine's where its network is shared, else of the loopback interface."""
    hosts, resolver = f"{_LOOPBACK}127.0.0.1\t{hostname}\n".encode(), b""
    if shares_network:
        hosts, resolver = _read("/etc/hosts") or hosts, _read("/etc/resolv.conf")
    return [("/etc/hosts", hosts), ("/etc/hostname", f"{hostname}\n".encode()), ("/etc/resolv.conf", resolver)]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64 << 10)
    except OSError:
        return b""
