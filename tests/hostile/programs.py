"""The corpus of archives that try to lead out: each a short program of links, files, directories and whiteouts."""

from __future__ import annotations

import os
from pathlib import Path

from hostile.unpacking import Unpack
from pycontainer._errors import LayerError
from rawtar import DIRECTORY, FIFO, FILE, LINK, SYMLINK, archive, entry, pax

Step = tuple[bytes, bytes, bytes]  # kind, name, target


def steps(canary: Path) -> list[Step]:
    """Links that lead out, round and nowhere, and writes through them."""
    absolute = os.fsencode(canary)
    climbing = b"../" * 24 + absolute[1:]
    targets = [absolute, climbing, b"../../../../canary", b"/proc/self/root" + absolute]
    targets += [b"a", b"b", b".", b"..", b"/", b"a/..", b""]
    found = [(SYMLINK, name, target) for name in (b"a", b"b") for target in targets]
    found += [(SYMLINK, name, absolute) for name in (b"a/directory", b"a/", b".", b"")]
    sources = [absolute + b"/file", climbing + b"/file", b"../canary/file"]
    sources += [b"a", b"a/", b"a/file", b"b", b"b/file", b"/a", b".", b""]
    found += [(LINK, name, source) for name in (b"a", b"b") for source in sources]
    names = [b"a", b"a/", b"a/.", b"a/directory", b"a//", b"b/../a", b"a/..", b".", b"./", b"", b"/", b".."]
    found += [(DIRECTORY, name, b"") for name in [*names, absolute, climbing]]
    names = [b"a", b"a/", b"a/file", b"a/new", b"b", b"b/file", b"a/directory/new", b".", b"", b"/", b".."]
    names += [b"../canary/file", absolute + b"/file", climbing + b"/new", b"a/../canary/new"]
    return [*found, *((FILE, name, b"") for name in names)]


def program(order: tuple[Step, ...]) -> bytes:
    parts = []
    for kind, name, link in order:
        data = b"evil" if kind == FILE and not name.endswith(b"/") and b".wh." not in name else b""
        records = [(key, value) for key, value in ((b"path", name), (b"linkpath", link)) if len(value) > 100]
        parts += [pax(*records)] if records else []
        parts.append(entry(kind, name[:100], link[:100], data, mode=0o4777))
    return archive(*parts)


def whiteouts(canary: Path) -> list[Step]:
    """What a layer adds: names that are gone, directories whose lower content is, and AUFS' own."""
    absolute = os.fsencode(canary)
    climbing = b"../" * 24 + absolute[1:]
    places = [b"", b"a/", b"b/", b"a/directory/", b"../canary/", b"/", b"./", absolute + b"/", climbing + b"/"]
    found = [(FILE, place + b".wh..wh..opq", b"") for place in places]
    found += [(FILE, place + b".wh.file", b"") for place in places]
    names = [
        b".wh.a",
        b"a/.wh.directory",
        b".wh.b",
        b"a/.wh.b",
        b"b/../.wh.a",
        b".wh.",
        b".wh..",
        b".wh...",
        b"a/.wh...",
    ]
    names += [
        b".wh.a/",
        b".wh.a/x",
        b".wh../canary",
        b".wh..wh.plnk",
        b".wh..wh.plnk/file",
        b".wh..wh.aufs",
        b"a/.wh..wh.x",
    ]
    found += [(FILE, name, b"") for name in names]
    found += [(kind, b".wh.a", absolute) for kind in (LINK, SYMLINK, DIRECTORY, FIFO)]
    return found + [(kind, b"a/.wh..wh..opq", absolute + b"/file") for kind in (LINK, SYMLINK, DIRECTORY)]


def attempt(unpack: Unpack, order: tuple[Step, ...]) -> bool:
    try:
        unpack(program(order))
    except LayerError:
        return False
    return True
