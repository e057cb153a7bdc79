"""Contexts and archives of a build that lead out: COPY and ADD take nothing from outside and put nothing there.

A context is anybody's directory, and what is below a layer was made by anybody's program.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostile.attacks import signature
from hostile.programs import program, steps
from hostile.unpacking import make_canary
from pycontainer import _core
from pycontainer._errors import LayerError, SetupError

SECRET = b"do not touch\n"  # what the canary's file says


@pytest.fixture
def outside(arena: Path) -> Iterator[Path]:
    path = make_canary(arena / "canary")
    before = signature(path)
    yield path
    assert signature(path) == before, "a copy reached out of its root"


@pytest.fixture
def context(arena: Path) -> Path:
    path = arena / "context"
    (path / "d").mkdir(parents=True)
    (path / "d/file").write_text("inside")
    return path


def copy(arena: Path, context: Path, source: bytes, *, add: bool = False, to: bytes = b"/x") -> list[tuple[str, bytes]]:
    """What the layer has: names, and contents of files."""
    base = arena / "base"
    base.mkdir(exist_ok=True)
    made = _core.layer_copy(
        arena / "store",
        _core.Tree.layers([base]),
        [(_core.Tree.context(context), source, None, add)],
        to,
        directory=False,
    )
    if made is None:
        return []
    with tarfile.open(arena / "store/images/blobs/sha256" / made[0][7:]) as tar:
        check(tar.getmembers())
        return [(one.name, content(tar, one)) for one in tar.getmembers()]


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    data = tar.extractfile(member) if member.isreg() else None
    return data.read() if data is not None else b""


def check(members: list[tarfile.TarInfo]) -> None:
    """No name of the layer leads out or through another entry: whoever unpacks it, in whatever way, stays inside."""
    links = {member.name for member in members if not member.isdir()}
    for member in members:
        parts = member.name.split("/")
        assert not {"..", ""} & set(parts), member.name
        above = {"/".join(parts[:length]) for length in range(1, len(parts))}
        assert not above & links, member.name
        if member.islnk():
            assert member.linkname in links


def test_paths_of_a_context_stay_in_it(arena: Path, context: Path, outside: Path) -> None:
    """moby 5656: `../x`, absolute paths, links that lead out, at the end and on the way."""
    climbing = b"../" * 24 + os.fsencode(outside)[1:]
    absolute = os.fsencode(outside)
    (context / "absolute").symlink_to(outside)
    (context / "climbing").symlink_to(os.fsdecode(climbing))
    (context / "magic").symlink_to("/proc/self/root" + str(outside))
    (context / "twice").symlink_to("absolute/file")
    (context / "loop").symlink_to("loop")
    tails = (b"", b"/file", b"/directory/../file")
    names = (b"absolute", b"climbing", b"magic", b"twice", b"loop", climbing, absolute, b"d/../../canary")
    for name, tail in itertools.product(names, tails):
        with pytest.raises(SetupError):
            copy(arena, context, name + tail)
        tree = _core.Tree.context(context)
        if name != b"loop":
            assert tree.kind(name + tail) is None
            assert tree.paths(name + tail) == []
            assert tree.read(name + tail, 100) is None  # .dockerignore -> /etc/shadow
    assert copy(arena, context, b"../../d/../d/file") == [("x", b"inside")]


def test_links_in_a_context_are_copied_as_links(arena: Path, context: Path, outside: Path) -> None:
    (context / "d/link").symlink_to(outside / "file")
    (context / "d/directory").symlink_to(outside)
    assert copy(arena, context, b"d") == [("x", b""), ("x/directory", b""), ("x/file", b"inside"), ("x/link", b"")]


def test_control_a_path_that_is_joined_reads_outside(context: Path, outside: Path) -> None:
    """The links are live: who joins names and opens them is led out."""
    (context / "link").symlink_to(outside)
    assert Path(os.fsdecode(context) + "/link/file").read_bytes() == SECRET


def test_destinations_stay_inside(arena: Path, context: Path, outside: Path) -> None:
    base = arena / "base"
    base.mkdir()
    (base / "absolute").symlink_to(outside)
    (base / "climbing").symlink_to("../" * 24 + str(outside)[1:])
    for to in (b"/absolute/new", b"/climbing/new", b"/../../canary/new", b"/absolute", b"/x/../../canary/new"):
        names = [name for name, _ in copy(arena, context, b"d/file", to=to)]
        assert all(not name.startswith(("/", "..")) for name in names)
    for to in (b"/absolute/a/b", b"/climbing/../canary/c"):
        _core.layer_directory(arena / "store", _core.Tree.layers([base]), to)


@pytest.mark.timeout(900)
def test_cve_2020_10696_archives_of_add(
    arena: Path, context: Path, outside: Path, times: Callable[[int], range]
) -> None:
    """Every program of two entries of the corpus, beneath a directory and beneath the root."""
    every = list(itertools.product(steps(outside), repeat=2))
    chosen = random.Random(110).sample(every, len(times(1500)))
    before, done = signature(outside), [0, 0]
    for number, order in enumerate(chosen):
        (context / "tar").write_bytes(program(order))
        try:
            copy(arena, context, b"tar", add=True, to=b"/" if number % 2 else b"/x/y")
            done[0] += 1
        except LayerError:
            done[1] += 1
        assert signature(outside) == before, f"this program reached out: {order}"
        if number % 100 == 99:
            shutil.rmtree(arena / "store")
    assert min(done) > len(chosen) // 20, done


def test_moby_s_symlink_breakout(arena: Path, context: Path, outside: Path) -> None:
    """TestBuildSymlinkBreakout: an archive makes the way out, and a second ADD takes it."""
    link = os.fsencode(outside)[1:]
    first = program(((b"2", b"symlink2", b"/../../../"), (b"2", b"symlink", b"symlink2/" + link)))
    (context / "first").write_bytes(first)
    (context / "inject").write_text("evil")
    base = arena / "base"
    base.mkdir()
    tree, store = _core.Tree.context(context), arena / "store"
    below = _core.Tree.layers([base])
    made = _core.layer_copy(store, below, [(tree, b"first", None, True)], b"/", directory=True)
    assert made is not None
    blob = store / "images/blobs/sha256" / made[0][7:]
    upper = _core.unpack_layer_files([os.fsencode(blob)], os.fsencode(store))
    below = _core.Tree.layers([base, *upper])
    made = _core.layer_copy(store, below, [(tree, b"inject", None, True)], b"/symlink/", directory=True)
    assert made is not None
    with tarfile.open(store / "images/blobs/sha256" / made[0][7:]) as tar:
        assert os.fsdecode(link) + "/inject" in tar.getnames()


def test_a_context_that_changes_meanwhile(
    arena: Path, context: Path, outside: Path, times: Callable[[int], range]
) -> None:
    """A directory and a file are exchanged for links to the canary, again and again, while they are copied."""
    for number in range(20):
        (context / f"d/{number}").mkdir()
        (context / f"d/{number}/file").write_text("inside")
    (context / "evil").symlink_to(outside)
    (context / "evil_file").symlink_to(outside / "file")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for name, other in (("d/7", "evil"), ("d/9/file", "evil_file")):
                for source, target in ((name, "aside"), (other, name), ("aside", other)):
                    os.rename(context / source, context / target)
                for source, target in ((name, "aside"), (other, name), ("aside", other)):
                    os.rename(context / source, context / target)

    swapper = threading.Thread(target=exchange)
    swapper.start()
    seen = []
    try:
        for _ in times(300):
            for source in (b"d", b"d/7/file", b"d/9/file"):
                try:
                    found = copy(arena, context, source)
                    seen.append("copied")
                except (LayerError, SetupError):
                    seen.append("refused")
                    continue
                assert all(SECRET not in content for _, content in found)
            try:
                _core.Tree.context(context).digest([(b"d", None)])
            except (LayerError, SetupError):
                seen.append("refused")
    finally:
        stop.set()
        swapper.join()
    assert {"copied", "refused"} == set(seen)
