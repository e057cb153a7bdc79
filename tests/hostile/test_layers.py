"""Layers that lead out of their root, by links or by whiteouts, and what is made of whiteouts that are none.

The corpus is every program of two entries over links, files, directories, whiteouts and opaque marks, and of three over
the shapes that matter; the canary must stay as it was.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from hostile.attacks import signature
from hostile.programs import Step, attempt, program, steps, whiteouts
from hostile.unpacking import Unpack, make_canary, refused
from rawtar import CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, archive, entry, pax

OPAQUE = "trusted.overlay.opaque" if os.geteuid() == 0 else "user.overlay.opaque"


@pytest.fixture
def outside(arena: Path) -> Iterator[Path]:
    """The canary of this file: beside the store, in the same file system."""
    path = make_canary(arena / "canary")
    before = signature(path)
    yield path
    assert signature(path) == before, "a layer reached out of its root"


def is_whiteout(path: Path) -> bool:
    seen = path.lstat()
    return stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return OPAQUE in os.listxattr(path) and os.getxattr(path, OPAQUE) == b"y"


# ---- the corpus --------------------------------------------------------------------------------------------------


def run_all(unpack_layer: Unpack, outside: Path, programs: Iterable[tuple[Step, ...]]) -> tuple[int, int]:
    """(unpacked, refused); the store is emptied now and then."""
    before, arena = signature(outside), outside.parent
    done = [0, 0]
    for number, order in enumerate(programs):
        done[not attempt(unpack_layer, order)] += 1
        assert signature(outside) == before, f"this program reached out: {order}"
        if number % 500 == 499:
            assert sorted(os.listdir(arena)) == ["canary", "layer.tar", "store"]
            left = [name for name in os.listdir(arena / "store/layers") if len(name) != 64]
            assert left == []
            shutil.rmtree(arena / "store")
    return done[0], done[1]


def sample(orders: Iterable[tuple[Step, ...]], times: Callable[[int], range]) -> list[tuple[Step, ...]]:
    """All of them, or a tenth in the quick form."""
    every = list(orders)
    return random.Random(49).sample(every, len(times(len(every))))


@pytest.mark.timeout(900)
def test_cve_2026_17106_all_programs_of_two_entries(
    unpack_layer: Unpack, outside: Path, times: Callable[[int], range]
) -> None:
    """Those with a whiteout in them; test_archives has the others. Also CVE-2025-11395."""
    marks = whiteouts(outside)
    every = [*steps(outside), *marks]
    orders = (order for order in itertools.product(every, repeat=2) if not set(marks).isdisjoint(order))
    unpacked, turned_away = run_all(unpack_layer, outside, sample(orders, times))
    print(f"{unpacked} unpacked, {turned_away} refused")
    assert unpacked > 100
    assert turned_away > 100


def shapes(canary: Path) -> list[Step]:
    """Few enough for programs of three: each kind, through a link and past it."""
    absolute = os.fsencode(canary)
    climbing = b"../" * 24 + absolute[1:]
    found = [(SYMLINK, b"a", target) for target in (absolute, climbing, b"b", b"/")]
    found += [(SYMLINK, b"b", absolute), (SYMLINK, b"a/directory", absolute)]
    found += [(LINK, b"b", source) for source in (b"a", b"a/file", absolute + b"/file", b"../canary/file")]
    found += [(DIRECTORY, name, b"") for name in (b"a", b"a/", b"b", b"a/directory")]
    found += [(FILE, name, b"") for name in (b"a", b"a/file", b"b", b"a/directory/new")]
    found += [(FILE, name, b"") for name in (b".wh.a", b".wh.b", b"a/.wh.file", b"a/.wh.directory", b"b/.wh.file")]
    return found + [(FILE, name, b"") for name in (b".wh..wh..opq", b"a/.wh..wh..opq", b"a/directory/.wh..wh..opq")]


@pytest.mark.timeout(900)
def test_cve_2026_17106_programs_of_three_entries(
    unpack_layer: Unpack, outside: Path, times: Callable[[int], range]
) -> None:
    orders = itertools.product(shapes(outside), repeat=3)
    unpacked, turned_away = run_all(unpack_layer, outside, sample(orders, times))
    print(f"{unpacked} unpacked, {turned_away} refused")
    assert unpacked > 100
    assert turned_away > 100


def test_control_whiteouts_bite(arena: Path) -> None:
    """The same bytes remove files of the canary when an unpacker trusts names."""

    def careless(path: Path, target: Path) -> None:
        with tarfile.open(path) as members:
            for member in members:
                place = target / member.name
                if member.issym():
                    place.symlink_to(member.linkname)
                elif place.name == ".wh..wh..opq":
                    shutil.rmtree(place.parent.resolve() / "directory")
                elif place.name.startswith(".wh."):
                    (place.parent / place.name[4:]).unlink()

    canary, target = make_canary(arena / "canary"), arena / "target"
    for name in (b"a/.wh.file", b"../canary/.wh.file", b"a/.wh..wh..opq"):
        shutil.rmtree(canary)
        make_canary(canary)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        before = signature(canary)
        (arena / "layer.tar").write_bytes(program(((SYMLINK, b"a", os.fsencode(canary)), (FILE, name, b""))))
        careless(arena / "layer.tar", target)
        assert signature(canary) != before


# ---- containerd's TestBreakouts, by name ---------------------------------------------------------------------------

ETC = [entry(DIRECTORY, b"etc"), entry(FILE, b"/etc/passwd", data=b"inside")]
INTO_ETC = entry(FILE, b"/localetc/unbroken", data=b"x")
COPY = entry(LINK, b"localpasswd", b"/localetc/passwd")
INSIDE = ("etc/unbroken", b"x")
SAME = ("localpasswd", b"inside")
# What is in it, and what is to be read where afterwards; None: it is refused.
BREAKOUTS: dict[str, tuple[list[bytes], tuple[str, bytes] | None]] = {
    "SymlinkAbsolute": ([*ETC, entry(SYMLINK, b"localetc", b"/etc"), INTO_ETC], INSIDE),
    "SymlinkUpAndOut": (
        [*ETC, entry(DIRECTORY, b"dummy"), entry(SYMLINK, b"localetc", b"/dummy/../etc"), INTO_ETC],
        INSIDE,
    ),
    "SymlinkMultipleAbsolute": (
        [*ETC, entry(SYMLINK, b"dummy/etc", b"/etc"), entry(SYMLINK, b"localetc", b"/dummy/etc"), INTO_ETC],
        INSIDE,
    ),
    "SymlinkMultipleRelative": (
        [*ETC, entry(SYMLINK, b"dummy/etc", b"/etc"), entry(SYMLINK, b"localetc", b"./dummy/etc"), INTO_ETC],
        INSIDE,
    ),
    "SymlinkEmptyFile": (
        [*ETC, entry(SYMLINK, b"localetc", b"/etc"), entry(FILE, b"localetc/passwd")],
        ("etc/passwd", b""),
    ),
    "HardlinkRelative": (
        [*ETC, entry(SYMLINK, b"breakouts/d1", b"../../etc"), entry(LINK, b"localpasswd", b"/breakouts/d1/passwd")],
        SAME,
    ),
    "HardlinkDownAndOut": (
        [
            *ETC,
            entry(DIRECTORY, b"downandout"),
            entry(SYMLINK, b"breakouts/d1", b"../downandout/../../etc"),
            entry(LINK, b"localpasswd", b"/breakouts/d1/passwd"),
        ],
        SAME,
    ),
    "HardlinkAbsolute": ([*ETC, entry(SYMLINK, b"localetc", b"/etc"), COPY], SAME),
    "HardlinkRelativeLong": ([*ETC, entry(SYMLINK, b"localetc", b"../" * 7 + b"etc"), COPY], SAME),
    "HardlinkRelativeUpAndOut": ([*ETC, entry(SYMLINK, b"localetc", b"upandout/../../../etc"), COPY], None),
    "HardlinkDirectRelative": ([*ETC, entry(LINK, b"localpasswd", b"../../../../../etc/passwd")], None),
    "HardlinkDirectAbsolute": ([*ETC, entry(LINK, b"localpasswd", b"/etc/passwd")], SAME),
    "SymlinkParentDirectory": ([*ETC, entry(SYMLINK, b"..", b"/etc/")], None),
    "SymlinkEmptyFilename": ([*ETC, entry(SYMLINK, b"", b"/etc/")], None),
    "SymlinkParentRelative": ([*ETC, entry(SYMLINK, b"localetc/sub/..", b"/etc/")], None),
    "SymlinkSlashEnded": (
        [*ETC, entry(DIRECTORY, b"localetc/"), entry(LINK, b"localetc/localpasswd", b"/etc/passwd")],
        ("localetc/localpasswd", b"inside"),
    ),
    "SymlinkOverrideDirectory": (
        [*ETC, entry(DIRECTORY, b"localetc/"), entry(SYMLINK, b"localetc", b"/etc"), INTO_ETC],
        INSIDE,
    ),
    "SymlinkOverrideDirectoryRelative": (
        [*ETC, entry(DIRECTORY, b"localetc/"), entry(SYMLINK, b"localetc", b"../../etc"), INTO_ETC],
        INSIDE,
    ),
    "DirectoryOverrideSymlink": (
        [*ETC, entry(SYMLINK, b"localetc", b"/etc"), entry(DIRECTORY, b"localetc/"), INTO_ETC],
        ("localetc/unbroken", b"x"),
    ),
    "DirectoryOverrideSymlinkAndHardlink": (
        [
            *ETC,
            entry(SYMLINK, b"localetc", b"etc"),
            entry(LINK, b"localetc/localpasswd", b"/etc/passwd"),
            entry(DIRECTORY, b"localetc/"),
            entry(FILE, b"localetc/localpasswd", data=b"different"),
        ],
        ("etc/localpasswd", b"inside"),
    ),
    "WhiteoutRootParent": ([*ETC, entry(FILE, b".wh...")], None),
    "WhiteoutParent": ([*ETC, entry(FILE, b"etc/.wh...")], None),
    "WhiteoutRoot": ([*ETC, entry(FILE, b".wh..")], None),
    "WhiteoutCurrentDirectory": ([*ETC, entry(FILE, b"etc/.wh..")], None),
    "WhiteoutSymlink": (
        [*ETC, entry(SYMLINK, b"localetc", b"/etc"), entry(FILE, b".wh.localetc")],
        ("etc/passwd", b"inside"),
    ),
    "WhiteoutSymlinkPath": (
        [*ETC, entry(SYMLINK, b"localetc", b"/etc"), entry(FILE, b"localetc/.wh.passwd")],
        ("etc/passwd", b"inside"),
    ),
    "WhiteoutDirectoryName": ([*ETC, entry(FILE, b".wh.etc/somefile", data=b"non-empty")], None),
    "WhiteoutDeadSymlinkParent": ([*ETC, entry(SYMLINK, b"localetc", b"/dne"), entry(FILE, b"localetc/.wh.etc")], None),
    "WhiteoutRelativePath": ([*ETC, entry(SYMLINK, b"localetc", b"/dne"), entry(FILE, b"dne/../.wh.etc")], None),
    "HardlinkSymlinkBeforeCreateTarget": (
        [entry(DIRECTORY, b"etc"), entry(SYMLINK, b"s", b"/etc/passwd"), entry(LINK, b"d", b"s"), ETC[1]],
        ("etc/passwd", b"inside"),
    ),
    "HardlinkSymlinkRelative": (
        [*ETC, entry(SYMLINK, b"s", b"../../../../../etc/passwd"), entry(LINK, b"d", b"/s")],
        ("etc/passwd", b"inside"),
    ),
    "HardlinkSymlinkAbsolute": (
        [*ETC, entry(SYMLINK, b"s", b"/etc/passwd"), entry(LINK, b"d", b"/s")],
        ("etc/passwd", b"inside"),
    ),
    "HardlinkSymlinkChmod": (
        [*ETC, entry(SYMLINK, b"tmp/also", b"/tmp/perm400"), entry(LINK, b"d", b"/tmp/also", mode=0o4777)],
        ("etc/passwd", b"inside"),
    ),
    "DirectoryCreation": (
        [entry(DIRECTORY, b"/etc/s/more"), entry(DIRECTORY, b"/other/n-1/1"), entry(FILE, b"/other/n-2/2", data=b"x")],
        ("other/n-2/2", b"x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKOUTS)
def test_cve_2021_32760_breakouts(unpack_layer: Unpack, outside: Path, name: str) -> None:
    """containerd's own list; where it takes what is ambiguous ("..", a name beneath a whiteout), that is refused."""
    entries, expected = BREAKOUTS[name]
    if expected is None:
        refused(unpack_layer, archive(*entries))
        return
    root = unpack_layer(archive(*entries))
    place, data = expected
    assert (root / place).read_bytes() == data
    assert (root / place).resolve().is_relative_to(root)
    for way in (root / "s", root / "d"):  # a hard link to a link is that link
        assert not os.path.lexists(way) or way.is_symlink()


# ---- whiteouts, and what is none ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b".", b"./", b"", b"/", b"..", b".wh.", b".wh..", b".wh..."])
@pytest.mark.parametrize("kind", [SYMLINK, LINK, FILE, DIRECTORY, FIFO])
def test_cve_2021_29136_names_of_the_root(unpack_layer: Unpack, outside: Path, name: bytes, kind: bytes) -> None:
    data = archive(entry(kind, name, os.fsencode(outside)), entry(FILE, b"new", data=b"x"))
    if name in (b".", b"./", b"/") and (kind == DIRECTORY or (kind == FILE and name.endswith(b"/"))):
        assert (unpack_layer(data) / "new").read_bytes() == b"x"
    else:
        refused(unpack_layer, data)


NO_WHITEOUTS = {
    "with data": ([entry(FILE, b".wh.a", data=b"x")], "with data"),
    "opaque with data": ([entry(FILE, b".wh..wh..opq", data=b"x")], "with data"),
    "a directory": ([entry(DIRECTORY, b".wh.a")], "no file"),
    "a file with a slash": ([entry(FILE, b".wh.a/")], "no file"),
    "a symbolic link": ([entry(SYMLINK, b".wh.a", b"b")], "no file"),
    "a device": ([entry(CHAR, b".wh.a", device=(0, 0))], "no file"),
    "an opaque directory": ([entry(DIRECTORY, b"d/.wh..wh..opq")], "no file"),
    "beneath one": ([entry(FILE, b".wh.a"), entry(FILE, b".wh.a/b")], "beneath a whiteout"),
    "in a file": ([entry(FILE, b"a"), entry(FILE, b"a/.wh.b")], "Not a directory"),
    "an overlay's own": ([entry(CHAR, b"a", device=(0, 0))], "0:0"),
    "a link to one": ([entry(FILE, b".wh.a"), entry(LINK, b"b", b".wh.a")], "apart from each other"),
    "a link to a lower layer's file": ([entry(LINK, b"b", b"lower")], "apart from each other"),
}


@pytest.mark.parametrize("name", NO_WHITEOUTS)
def test_what_is_no_whiteout_is_refused(unpack_layer: Unpack, arena: Path, outside: Path, name: str) -> None:
    entries, text = NO_WHITEOUTS[name]
    refused(unpack_layer, archive(*entries), text)
    refused(unpack_layer, archive(*entries), "layer sha256:")
    assert os.listdir(arena / "store/layers") == []


def test_whiteouts_in_any_order(unpack_layer: Unpack) -> None:
    """They hide lower layers alone: docker removed what the same layer had brought before."""
    parts = [entry(FILE, b".wh.f"), entry(FILE, b"f", data=b"x"), entry(FILE, b".wh.d"), entry(FILE, b"d/f", data=b"x")]
    parts += [entry(FILE, b"o/.wh..wh..opq"), entry(FILE, b"o/f", data=b"x"), entry(FILE, b"w/.wh.f")]
    for order in itertools.islice(itertools.permutations(parts), 0, 5040, 63):
        root = unpack_layer(archive(*order))
        assert sorted(os.listdir(root)) == ["d", "f", "o", "w"]
        assert [(root / name).read_bytes() for name in ("f", "d/f", "o/f")] == [b"x"] * 3
        assert is_whiteout(root / "w/f")
        assert [is_opaque(root / name) for name in ("d", "o", "w", ".")] == [True, True, False, False]


def test_aufs_own_names_are_ignored(unpack_layer: Unpack) -> None:
    kept = [entry(FILE, b".wh.a"), entry(LINK, b".wh.b", b".wh..wh.aufs")]
    own = [entry(FILE, b".wh..wh.aufs", data=b"x"), entry(DIRECTORY, b".wh..wh.plnk"), entry(FILE, b".wh..wh.plnk/1.2")]
    root = unpack_layer(archive(*own, *kept, entry(DIRECTORY, b".wh..wh.orph")))
    assert sorted(os.listdir(root)) == ["a", "b"]
    assert is_whiteout(root / "a")
    assert is_whiteout(root / "b")


def test_a_layer_s_own_marks_are_not_taken_from_attributes(unpack_layer: Unpack) -> None:
    """Not opaque because an attribute says so, nor redirected, nor a whiteout (row of overlay's own attributes)."""
    names = [b"trusted.overlay.opaque", b"user.overlay.opaque", b"trusted.overlay.redirect", b"user.overlay.redirect"]
    names += [
        b"trusted.overlay.whiteout",
        b"user.overlay.whiteout",
        b"trusted.overlay.metacopy",
        b"user.overlay.metacopy",
    ]
    records = pax(*((b"SCHILY.xattr." + name, b"y") for name in names))
    root = unpack_layer(
        archive(records, entry(DIRECTORY, b"d"), records, entry(FILE, b"d/f"), records, entry(DIRECTORY, b"."))
    )
    for name in (".", "d", "d/f"):
        assert [name for name in os.listxattr(root / name) if ".overlay." in name] == []


def test_a_layer_may_end_without_its_marker(unpack_layer: Unpack) -> None:
    """As Go's readers take it: the digest vouches that nothing was cut off. Nothing at all is a layer of nothing."""
    assert (unpack_layer(entry(FILE, b"f", data=b"x")) / "f").read_bytes() == b"x"
    assert os.listdir(unpack_layer(b"")) == []
    refused(unpack_layer, entry(FILE, b"f", data=b"x" * 600)[:-512], "cut short")
