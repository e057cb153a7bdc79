"""Tar archives byte by byte: headers that lie, records out of order, what a writer would refuse. Writes no file."""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
GNU, USTAR, V7 = b"ustar  \0", b"ustar\x0000", bytes(8)
FILE, LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """GNU's numbers: two's complement, with the first bit set."""
    return (value % (1 << 8 * width) | 0x80 << 8 * (width - 1)).to_bytes(width, "big")


def header(
    kind: bytes, name: bytes, link: bytes = b"", *, size: int | bytes = 0, mode: int = 0o755, magic: bytes = USTAR,
    prefix: bytes = b"", uid: int = 0, mtime: int | bytes = 1, device: tuple[int, int] = (0, 0), tail: bytes = b"",
) -> bytes:  # fmt: skip
    """One header block; `size` and `mtime` as bytes stand as they are, `tail` replaces prefix and padding."""
    fields = [
        name.ljust(100, b"\0"), octal(mode, 8), octal(uid, 8), octal(uid, 8),
        size if isinstance(size, bytes) else octal(size, 12),
        mtime if isinstance(mtime, bytes) else octal(mtime, 12),
        b" " * 8, kind, link.ljust(100, b"\0"), magic, bytes(64), octal(device[0], 8), octal(device[1], 8),
        tail or prefix.ljust(155, b"\0"),
    ]  # fmt: skip
    assert len(name) <= 100
    assert len(link) <= 100
    block = b"".join(fields).ljust(BLOCK, b"\0")
    assert len(block) == BLOCK
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def entry(kind: bytes, name: bytes, link: bytes = b"", data: bytes = b"", **fields: object) -> bytes:
    fields.setdefault("size", len(data))
    return header(kind, name, link, **fields) + padded(data)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = next(total for total in range(rest, rest + 12) if len(str(total)) + rest == total)
    return b"%d %s=%s\n" % (length, key, value)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return entry(kind, b"PaxHeaders/x", data=b"".join(record(key, value) for key, value in records))


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + END
