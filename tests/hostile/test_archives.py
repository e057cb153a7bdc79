"""Archives that lead out of their root, that two readers take differently, or that cost more than they say.

After moby's CopyEscape (CVE-2026-17106) the corpus is the class, not the cases: every program of two entries, and of
three in part, over links, files and directories with every kind of name. The canary must stay as it was.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
import resource
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rawtar
from hostile.attacks import signature
from hostile.programs import Step, attempt, program, steps
from hostile.unpacking import Unpack, make_canary, nothing_left, refused
from pycontainer._errors import LayerError
from rawtar import CHAR, DIRECTORY, FIFO, FILE, GNU, LINK, SYMLINK, archive, base256, entry, header, pax, record


@pytest.fixture
def outside(arena: Path) -> Iterator[Path]:
    """The canary of this file: beside the store, in the same file system."""
    path = make_canary(arena / "canary")
    before = signature(path)
    yield path
    assert signature(path) == before, "an archive reached out of its root"


# ---- the corpus --------------------------------------------------------------------------------------------------


def run_all(unpack: Unpack, outside: Path, programs: Iterator[tuple[Step, ...]]) -> tuple[int, int]:
    """(unpacked, refused); the store is emptied now and then."""
    before, store = signature(outside), Path(os.environ["PYCONTAINER_ROOT"])
    done = [0, 0]
    for number, order in enumerate(programs):
        done[not attempt(unpack, order)] += 1
        assert signature(outside) == before, f"this program reached out: {order}"
        if number % 500 == 499:
            assert os.listdir(store) == ["archives"]
            shutil.rmtree(store)
    return done[0], done[1]


@pytest.mark.timeout(600)
def test_cve_2026_17106_all_programs_of_two_entries(unpack: Unpack, outside: Path) -> None:
    """Also CVE-2025-11395, CVE-2026-46703, CVE-2021-38511, CVE-2018-20990 and containerd's TestBreakouts."""
    unpacked, turned_away = run_all(unpack, outside, itertools.product(steps(outside), repeat=2))
    print(f"{unpacked} unpacked, {turned_away} refused")
    assert unpacked > 500
    assert turned_away > 500


@pytest.mark.timeout(600)
def test_cve_2026_17106_programs_of_three_entries(unpack: Unpack, outside: Path, times: Callable[[int], range]) -> None:
    every = steps(outside)
    links = [step for step in every if step[0] in (SYMLINK, LINK) and step[1] in (b"a", b"b")]
    chosen = random.Random(17106)
    orders = ((chosen.choice(links), chosen.choice(every), chosen.choice(every)) for _ in times(20_000))
    unpacked, turned_away = run_all(unpack, outside, orders)
    assert unpacked > 20
    assert turned_away > 20


def test_control_the_corpus_bites(arena: Path) -> None:
    """The same bytes change the canary when an unpacker trusts names: through a link, by a name, by a hard link."""
    attacks = [
        ((SYMLINK, b"a", b"CANARY"), (FILE, b"a/new", b"")),
        ((FILE, b"../canary-1/new", b""),),
        ((LINK, b"a", b"../canary-2/file"), (FILE, b"b", b"")),
    ]
    for number, order in enumerate(attacks):
        canary = make_canary(arena / f"canary-{number}")
        before = signature(canary)
        aimed = tuple((kind, name, link.replace(b"CANARY", os.fsencode(canary))) for kind, name, link in order)
        path = arena / "attack.tar"
        path.write_bytes(program(aimed))
        target = arena / f"target-{number}"
        target.mkdir()
        with tarfile.open(path) as archive:
            archive.extraction_filter = staticmethod(lambda member, _: member)  # type: ignore[assignment]
            archive.extractall(target)
        assert signature(canary) != before


# ---- named ones --------------------------------------------------------------------------------------------------


def test_cve_2025_62518_tarmageddon(either: Unpack) -> None:
    """A PAX size beside a header's 0: what is in the file stays in the file."""
    inner = archive(entry(FILE, b"hidden", data=b"x"))
    root = either(archive(pax((b"size", str(len(inner)).encode())), header(FILE, b"outer", size=0), inner))
    assert os.listdir(root) == ["outer"]
    assert (root / "outer").read_bytes() == inner


@pytest.mark.parametrize(("stated", "pax_size"), [(512, 1024), (1024, 512)])
def test_cve_2026_33055_pax_size_beside_a_header_that_has_one(either: Unpack, stated: int, pax_size: int) -> None:
    body = bytes(range(256)) * (pax_size // 256)
    root = either(archive(pax((b"size", str(pax_size).encode())), header(FILE, b"f", size=stated), body))
    assert (root / "f").read_bytes() == body


def test_cve_2026_33056_a_directory_over_a_link(either: Unpack, outside: Path) -> None:
    """Also RUSTSEC-2026-0113: the link is replaced, its target keeps its mode."""
    root = either(archive(entry(SYMLINK, b"d", os.fsencode(outside)), entry(DIRECTORY, b"d", mode=0o777)))
    assert not (root / "d").is_symlink()
    assert (root / "d").stat().st_mode & 0o7777 == 0o777


def test_cve_2021_29136_the_root_is_no_link(unpack: Unpack, outside: Path) -> None:
    for name, kind in itertools.product((b".", b"./", b"/", b"", b".."), (SYMLINK, LINK, FILE, FIFO)):
        if kind == FILE and name.endswith(b"/"):
            continue  # an old way to write a directory
        refused(unpack, archive(entry(kind, name, os.fsencode(outside)), entry(FILE, b"new", data=b"x")))


def test_cve_2021_32760_a_hard_link_gives_nothing_to_its_target(either: Unpack, outside: Path) -> None:
    """containerd's HardlinkSymlinkChmod, with times and attributes too."""
    root = either(
        archive(
            entry(SYMLINK, b"s", os.fsencode(outside / "file")),
            pax((b"SCHILY.xattr.user.x", b"1"), (b"mtime", b"77")),
            entry(LINK, b"h", b"s", mode=0o777),
        )
    )
    assert os.readlink(root / "h") == os.readlink(root / "s")


def test_hard_links_stay_inside(either: Unpack, outside: Path) -> None:
    """An absolute target is one inside the root (the first fix of CopyEscape broke that)."""
    root = either(archive(entry(FILE, b"d/f", data=b"x"), entry(LINK, b"h", b"/d/f"), entry(LINK, b"h", b"h")))
    assert (root / "h").samefile(root / "d/f")
    for target in (os.fsencode(outside / "file"), b"../canary/file", b"..", b"d/../../../canary/file"):
        refused(either, archive(entry(DIRECTORY, b"d"), entry(LINK, b"h", target)))
    way = entry(SYMLINK, b"way", os.fsencode(outside))
    refused(either, archive(way, entry(LINK, b"h", b"way/file")), "No such file")


def test_cve_2025_4517_a_ladder_longer_than_a_path(either: Unpack, outside: Path) -> None:
    """tarfile's filter gave up where a real path grew past PATH_MAX; here the kernel resolves, and depth is bounded."""
    long, parts, path = b"d" * 247, [], b""
    for letter in b"abcdefghijklmnop":
        parts.append(pax((b"path", path + long)) + entry(DIRECTORY, b"d"))
        parts.append(pax((b"path", path + bytes([letter])), (b"linkpath", long)) + entry(SYMLINK, b"s", b"t"))
        path += bytes([letter]) + b"/"
    up = pax((b"path", path + b"l" * 254), (b"linkpath", b"../" * 16)) + entry(SYMLINK, b"s", b"t")
    through = pax((b"linkpath", path + b"l" * 254 + b"/../../../canary")) + entry(SYMLINK, b"escape", b"t")
    for write in (b"escape/new", b"escape"):
        try:
            either(archive(*parts, up, through, entry(FILE, write, data=b"x")))
        except LayerError as error:
            assert "too deep" in str(error) or "long" in str(error) or "No such" in str(error)  # noqa: PT017


@pytest.mark.parametrize("field", ["size", "mode"])
def test_cve_2025_8194_negative_numbers(either: Unpack, field: str) -> None:
    started = time.monotonic()
    block = bytearray(header(FILE, b"f"))
    at, width = {"size": (124, 12), "mode": (100, 8)}[field]
    block[at : at + width] = base256(-512, width)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(either, archive(bytes(block)), f"{field} is negative")
    refused(either, archive(pax((b"size", b"-1")), header(FILE, b"f")), "number")
    refused(either, archive(header(FILE, b"f", size=base256(1 << 70, 12))), "out of range")
    assert time.monotonic() - started < 5


CONTRADICTIONS = {
    "pax then long name": [pax((b"path", b"a")), entry(b"L", b"l", data=b"b\0"), entry(FILE, b"f")],
    "long name then pax": [entry(b"L", b"l", data=b"b\0"), pax((b"path", b"a")), entry(FILE, b"f")],
    "two pax headers": [pax((b"path", b"a")), pax((b"size", b"0")), entry(FILE, b"f")],
    "one key twice": [pax((b"path", b"a"), (b"path", b"b")), entry(FILE, b"f")],
    "empty path": [pax((b"path", b"")), entry(FILE, b"f")],
    "pax at the end": [pax((b"path", b"a"))],
    "long name at the end": [entry(b"L", b"l", data=b"b\0")],
    "long link at the end": [entry(b"K", b"l", data=b"b\0")],
    "record without an end": [entry(b"x", b"x", data=b"9 path=ab"), entry(FILE, b"f")],
    "record longer than the data": [entry(b"x", b"x", data=b"99 path=a\n"), entry(FILE, b"f")],
    "record shorter than it says": [entry(b"x", b"x", data=b"20 path=abcdefghijkl"), entry(FILE, b"f")],
    "size with a fraction": [pax((b"size", b"1.5")), entry(FILE, b"f")],
    "size in hexadecimal": [pax((b"size", b"0x1")), entry(FILE, b"f")],
    "size with a sign": [pax((b"size", b"+1")), entry(FILE, b"f")],
    "size beyond 63 bits": [pax((b"size", b"9223372036854775808")), entry(FILE, b"f")],
    "path with a NUL": [pax((b"path", b"a\0b")), entry(FILE, b"f")],
    "global size": [pax((b"size", b"512"), kind=b"g"), entry(FILE, b"f", data=b"x" * 512)],
    "global path": [pax((b"path", b"g"), kind=b"g"), entry(FILE, b"f")],
    "NUL version of ustar": [entry(FILE, b"f", magic=b"ustar\0\0\0", prefix=b"p")],
    "unknown magic": [entry(FILE, b"f", magic=b"ustar 00")],
    "star's header": [header(FILE, b"f", tail=bytes(163) + b"tar\0")],
    "directory with data": [entry(DIRECTORY, b"d", data=b"x" * 512)],
    "link with data": [entry(SYMLINK, b"l", b"t", data=b"x" * 512)],
    "hard link with data": [entry(FILE, b"f"), entry(LINK, b"l", b"f", data=b"x" * 512)],
    "FIFO with a PAX size": [pax((b"size", b"512")), entry(FIFO, b"p"), bytes(512)],
    "unknown type": [entry(b"Z", b"z")],
    "GNU dumpdir": [entry(b"D", b"d", magic=GNU)],
    "GNU multi-volume": [entry(b"M", b"m", magic=GNU)],
    "sparse without GNU": [entry(b"S", b"s")],
    "sparse 0.1": [pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"1")), entry(FILE, b"f", data=b"x")],
    "sparse without its map": [pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")), entry(FILE, b"f")],
    "sparse orphan": [pax((b"GNU.sparse.name", b"s")), entry(FILE, b"f")],
    "bad checksum": [entry(FILE, b"f").replace(b"f", b"g", 1)],
    "single zero block": [entry(FILE, b"f"), bytes(512), entry(FILE, b"g")],
    "whiteout device": [entry(CHAR, b"c", device=(0, 0))],
    "file over a full directory": [entry(FILE, b"d/f"), entry(FILE, b"d")],
    "file as a directory": [entry(FILE, b"f"), entry(FILE, b"f/g")],
    "links in a circle": [entry(SYMLINK, b"a", b"b"), entry(SYMLINK, b"b", b"a"), entry(FILE, b"a/f")],
    "link to nowhere as a directory": [entry(SYMLINK, b"a", b"/nowhere"), entry(FILE, b"a/f")],
    "component too long": [pax((b"path", b"n" * 256)), entry(FILE, b"f")],
    "path too long": [pax((b"path", b"n/" * 2100 + b"f")), entry(FILE, b"f")],
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_cve_2026_32766_what_readers_take_differently(either: Unpack, arena: Path, outside: Path, name: str) -> None:
    """Also RUSTSEC-2026-0112, RUSTSEC-2026-0145: an error, never a guess, and nothing is left of it."""
    refused(either, archive(*CONTRADICTIONS[name]))
    assert nothing_left(arena)


@pytest.mark.parametrize("cut", [0, 1, 100, 511, 512, 513, 1000, 1024, 1100])
def test_an_archive_cut_short(unpack: Unpack, cut: int) -> None:
    whole = archive(entry(FILE, b"f", data=b"x" * 600))
    assert unpack(whole)
    refused(unpack, whole[:cut])
    packed = gzip.compress(whole, mtime=0)
    assert unpack(packed)
    refused(unpack, packed[: len(packed) * (cut + 1) // 1200])
    refused(unpack, packed[:-5] + bytes(5))  # the checksum of the stream is read too


def test_names_of_every_byte(either: Unpack) -> None:
    """Names are bytes: control characters, escapes and what is no UTF-8 are kept, and shown escaped in an error."""
    names = [bytes([byte]) + b"x" for byte in range(1, 256) if byte not in b"/"]
    root = either(archive(*(entry(FILE, name) for name in names)))
    assert sorted(os.listdir(os.fsencode(root))) == sorted(names)
    with pytest.raises(LayerError) as caught:
        either(archive(entry(b"Z", b"\x1b[2J\r\nroot")))
    assert "\x1b" not in str(caught.value)
    assert "\r" not in str(caught.value)


def test_whiteouts_are_plain_names(unpack: Unpack) -> None:
    """The archive is a root file system, as with docker import, and no layer."""
    names = [b".wh.f", b".wh..wh..opq", b".wh..", b".wh..."]
    root = unpack(archive(entry(FILE, b"f"), *(entry(FILE, name) for name in names)))
    assert sorted(os.listdir(os.fsencode(root))) == sorted([b"f", *names])


def test_attributes_of_the_engine_are_dropped(either: Unpack) -> None:
    wanted = (b"SCHILY.xattr.user.kept", b"value")
    dropped = [
        b"user.overlay.opaque",
        b"trusted.overlay.opaque",
        b"user.overlay.whiteout",
        b"security.selinux",
        b"system.x",
    ]
    records = [wanted, *((b"SCHILY.xattr." + name, b"y") for name in dropped)]
    root = either(archive(pax(*records), entry(FILE, b"f"), pax(*records), entry(DIRECTORY, b"d")))
    for name in ("f", "d"):
        assert set(os.listxattr(root / name)) <= {"user.kept"}
    probe = root.parent.parent / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.kept", b"value")
    except OSError:  # this tmpfs holds none (before Linux 6.6)
        return
    assert os.getxattr(root / "f", "user.kept") == b"value"


def test_attributes_of_what_nobody_may_write_to(either: Unpack) -> None:
    """Set before the mode: a plain user's own file of mode 0444 takes none (EACCES)."""
    root = either(archive(pax((b"SCHILY.xattr.user.kept", b"v")), entry(FILE, b"f", mode=0o444)))
    assert (root / "f").stat().st_mode & 0o7777 == 0o444
    assert os.listxattr(root / "f") in (["user.kept"], [])  # a tmpfs holds none before Linux 6.6


# ---- budgets -----------------------------------------------------------------------------------------------------


def grown(body: Callable[[], None]) -> int:
    """KiB by which the memory high-water mark of this process rose."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def sparse_block(size: int, regions: list[tuple[int, int]], real: int) -> bytes:
    maps = b"".join(rawtar.octal(offset, 12) + rawtar.octal(length, 12) for offset, length in regions)
    tail = bytes(41) + maps.ljust(96, b"\0") + b"\0" + rawtar.octal(real, 12)
    return header(b"S", b"s", size=size, magic=GNU, tail=tail)


def test_cve_2022_2879_unbounded_extension_headers(either: Unpack) -> None:
    """Also CVE-2017-14992, CVE-2025-58183, CVE-2026-32288: 1 GiB records, 100 MiB names are refused by their size."""
    started = time.monotonic()

    def body() -> None:
        for kind, size in ((b"x", 1 << 30), (b"g", 1 << 30), (b"L", 100 << 20), (b"K", 100 << 20)):
            refused(either, header(kind, b"x", size=size) + bytes(4096), "bytes")
        many = record(b"a", b"") * 200_000
        assert len(many) <= 1 << 20
        refused(either, archive(entry(b"x", b"x", data=many), entry(b"Z", b"f")), "type")
        version = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"s")]
        lines = b"10000000\n" + b"0\n0\n" * 10_000
        refused(
            either, archive(pax(*version, (b"GNU.sparse.realsize", b"9")), entry(FILE, b"f", data=lines)), "too long"
        )

    assert grown(body) < 64 << 10
    assert time.monotonic() - started < 20


def test_holes_that_do_not_fit(either: Unpack) -> None:
    good = sparse_block(4, [(1 << 20, 4)], 2 << 20) + rawtar.padded(b"data")
    root = either(archive(good))
    assert (root / "s").stat().st_size == 2 << 20
    assert (root / "s").read_bytes() == bytes(1 << 20) + b"data" + bytes((1 << 20) - 4)
    for regions, real in (([(0, 8)], 8), ([(0, 4)], 2), ([(8, 2), (0, 2)], 10), ([(0, 3), (2, 1)], 4)):
        refused(either, archive(sparse_block(4, regions, real) + rawtar.padded(b"data")))
    refused(either, archive(sparse_block(0, [], (1 << 33) - 1), entry(b"Z", b"z")), "type")  # a hole costs nothing


def test_bombs_are_stopped(unpack: Unpack, arena: Path) -> None:
    """4 GiB of zeros in 4 MiB of gzip: given up at 256 MiB, and nothing is left of it."""
    size = 4 << 30
    assert shutil.disk_usage(arena).free > 512 << 20, f"{arena} is too small for this test"
    refused(unpack, bomb(size), "bomb")
    assert os.listdir(arena / "store/archives") == []


def bomb(size: int) -> bytes:
    """Gzip members of 16 MiB of zeros after a header that promises them."""
    packer = zlib.compressobj(9, wbits=31)
    member = packer.compress(bytes(16 << 20)) + packer.flush()
    return gzip.compress(header(FILE, b"bomb", size=size)) + member * (size >> 24)


def test_deep_trees_are_refused_and_removed(either: Unpack, arena: Path) -> None:
    """Each link leads as deep as a path allows, the next one on from there."""
    deep, parts, start = b"d/" * 1000, [], b""
    for number in range(4):
        parts += [pax((b"path", start + deep)), entry(DIRECTORY, b"d")]
        link = b"l%d" % number
        parts += [pax((b"linkpath", start + deep)), entry(SYMLINK, link, b"t")]
        start = link + b"/"
    refused(either, archive(*parts), "too deep")
    assert nothing_left(arena)
