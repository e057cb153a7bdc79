"""Layers as streams: frames and members, what is to cost a decompressor its memory, and junk before a good one."""

from __future__ import annotations

import gzip
import itertools
import os
import resource
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.unpacking import Unpack, nothing_left, refused
from pycontainer import _core
from pycontainer._errors import ImageError, LayerError
from rawtar import FILE, archive, entry, header

GOOD = archive(entry(FILE, b"f", data=b"x" * 3000))
ZSTD = b"\x28\xb5\x2f\xfd"


def frame(data: bytes, window: int = 7) -> bytes:
    """A zstd frame of one raw block (RFC 8878); `window` is the window's exponent above 10."""
    assert len(data) < 1 << 17
    return ZSTD + bytes([0, window << 3]) + (len(data) << 3 | 1).to_bytes(3, "little") + data


def skippable(data: bytes = b"") -> bytes:
    return b"\x50\x2a\x4d\x18" + struct.pack("<I", len(data)) + data


def test_members_and_frames_are_one_stream(unpack_layer: Unpack) -> None:
    """As pigz, eStargz and zstd:chunked write them; docker's reader takes them so."""
    cuts = [0, 1, 100, 512, 2000, len(GOOD)]
    pieces = [GOOD[start:end] for start, end in itertools.pairwise(cuts)]
    packed = [
        b"".join(gzip.compress(piece) for piece in pieces),
        gzip.compress(b"") + gzip.compress(GOOD) + gzip.compress(b""),
    ]
    packed += [b"".join(frame(piece) + skippable(b"index") for piece in pieces), skippable() + frame(GOOD)]
    for data in packed:
        assert (unpack_layer(data) / "f").read_bytes() == b"x" * 3000


def test_what_follows_a_stream_is_no_part_of_it(unpack_layer: Unpack, arena: Path) -> None:
    """Readers disagree on what stands behind: an error, as in Go's gzip."""
    for data in (
        gzip.compress(GOOD) + b"junk",
        frame(GOOD) + b"junk",
        GOOD + b"junk" * 128,
        gzip.compress(GOOD + b"junk"),
    ):
        refused(unpack_layer, data)
    for cut in (1, 5, 9, 40):
        refused(unpack_layer, gzip.compress(GOOD)[:-cut])
        refused(unpack_layer, frame(GOOD)[:-cut])
    assert nothing_left(arena)


@pytest.mark.parametrize("name", ["gzip members", "skippable frames", "empty frames"])
def test_rustsec_2024_0400_a_million_of_nothing(unpack_layer: Unpack, name: str) -> None:
    """They say nothing and cost time: a layer is done with them in its time, and with little memory."""
    one = {"gzip members": gzip.compress(b"", mtime=0), "skippable frames": skippable(), "empty frames": frame(b"")}[
        name
    ]
    last = gzip.compress(GOOD) if name == "gzip members" else frame(GOOD)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = one * 100_000 + last
    assert (unpack_layer(data) / "f").read_bytes() == b"x" * 3000
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_windows_have_a_bound(unpack_layer: Unpack) -> None:
    """128 MiB at most, what zstd itself decodes unasked; one of gigabytes is refused before it is made."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for exponent in (28 - 10, 33 - 10, 41 - 10):
        refused(unpack_layer, frame(GOOD, window=exponent))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert unpack_layer(frame(GOOD, window=20 - 10))


def test_bombs_are_stopped(unpack_layer: Unpack, arena: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    member = packer.compress(bytes(16 << 20)) + packer.flush()
    refused(unpack_layer, gzip.compress(header(FILE, b"bomb", size=4 << 30)) + member * 256, "bomb")
    assert os.listdir(arena / "store/layers") == []


def test_memory_does_not_grow_with_the_layer(unpack_layer: Unpack) -> None:
    """A layer and a file in it that are larger than the bound."""
    size = 160 << 20
    piece = os.urandom(1 << 20)
    data = header(FILE, b"big", size=size) + piece * (size >> 20) + bytes(1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (unpack_layer(data) / "big").stat().st_size == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


def test_cve_2021_20291_junk_leaves_nothing_in_the_way(
    unpack_layer: Unpack, arena: Path, times: Callable[[int], range]
) -> None:
    """After containers/storage's apply-junk: no lock, no half tree, and a good layer takes its usual time."""
    text = b"NAME=junk\n" * 20
    junk = [
        text,
        gzip.compress(text),
        b"BZh91AY&SY" + text,
        b"\xfd7zXZ\0" + text,
        frame(text),
        b"\x1f\x8b",
        ZSTD,
        text * 60,
    ]
    for _ in times(100):
        for data in junk:
            refused(unpack_layer, data)
    assert nothing_left(arena)
    started = time.monotonic()
    assert unpack_layer(GOOD)
    assert time.monotonic() - started < 5


def test_one_of_many_is_bad(arena: Path) -> None:
    """The error names it; the others are whole or not there; then, without it, all are there."""
    paths = []
    for number in range(8):
        path = arena / f"{number}.tar"
        path.write_bytes(archive(entry(FILE, b"f%d" % number, data=bytes([number]) * 100_000)))
        paths.append(os.fsencode(path))
    bad = arena / "bad.tar"
    bad.write_bytes(archive(entry(FILE, b"../f", data=b"x")))
    with pytest.raises(LayerError, match=r"layer sha256:[0-9a-f]{64}: entry") as caught:
        _core.unpack_layer_files([*paths[:4], os.fsencode(bad), *paths[4:]], os.fsencode(arena / "store"))
    assert isinstance(caught.value, ImageError)
    assert all(len(name) == 64 for name in os.listdir(arena / "store/layers"))
    found = _core.unpack_layer_files(paths, os.fsencode(arena / "store"))
    assert [os.listdir(path) for path in found] == [[f"f{number}"] for number in range(8)]
