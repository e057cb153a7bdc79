"""Two and sixteen processes at once in one store: each step once, no name lost, no damage, nobody waits for ever."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import storing
from pen import Pen

import pycontainer as pc
from pycontainer import _core

pytestmark = [pytest.mark.requires("pen"), pytest.mark.leaks_by_design, pytest.mark.timeout(900)]
PATIENCE = 120
PRELUDE = """
import contextlib, json, os, sys
import pycontainer as pc
place, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
"""
# The content of /id is another one each time that the step is carried out.
SAME = """
image = pc.Image.load(f"{place}/archive1")[0]
image.verify()
built = pc.Image.build(f"{place}/once", tag=f"own{number}:0")
for i in range(1, count):
    image.tag(f"own{number}:{i}")
print(json.dumps([image.digest, built.digest]))
"""
# Whoever is told that an image is there may find it gone a moment later. Nobody finds half of one, or cannot make one.
AGAINST = """
GONE = contextlib.suppress(pc.ImageNotFound)
made = 0
for i in range(count):
    match number % 4:
        case 0:
            image = pc.Image.load(f"{place}/layout{i % 3}")[0]
            made += 1
        case 1:
            with GONE:
                pc.Image.get(f"l{i % 3}:1").remove()
        case 2:
            with open(f"{place}/context{number}/changing", "w") as file:
                file.write(f"{number} {i}")
            image = pc.Image.build(f"{place}/context{number}", tag=f"b{number}:{i}")
            made += 1
        case 3:
            pc.Image.prune(labels={"sort": "1"})
            with GONE:
                pc.Image.get(f"b{number - 1}:{max(0, i - 1)}").remove()
if number % 4 == 0:
    pc.Image.get("keep:1").tag(f"kept{number}:1")
print(json.dumps(made))
"""


@pytest.fixture
def place(rootfs: Path, scratch: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        made = storing.material(Path(directory), rootfs)
        (made / "once").mkdir()
        (made / "once/Dockerfile").write_text(
            "FROM keep:1\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN date >> /id\n"
        )
        yield made


def at_once(pen: Pen, place: Path, program: str, processes: int, count: int) -> list[object]:
    """What each of so many processes printed last, begun at the same moment."""
    for number in range(processes):
        context = place / f"context{number}"
        if not context.exists():
            context.mkdir()
            for name in ("Dockerfile", "fixed"):
                (context / name).write_bytes((place / "context0" / name).read_bytes())
    children = [pen.start(PRELUDE + program, place, number, count) for number in range(processes)]
    for child in children:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n", child.communicate()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    told = []
    for number, child in enumerate(children):
        out, err = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, f"process {number}: {err[-3000:]}"
        told.append(json.loads(out))
    assert not pen.left()
    return told


def prepared(pen: Pen, place: Path) -> str:
    """An image under a name that nobody removes."""
    ((_, digest),) = _core.image_load(str(pen.store), str(place / "layout0"))
    _core.image_tag(str(pen.store), digest, "keep:1")
    return str(digest)


def test_an_image_that_lacks_a_layer_gets_no_name(pen: Pen, place: Path) -> None:
    """As a removal leaves it that was killed on its way, seen by who knows it by its digest."""
    digest = prepared(pen, place)
    layer = json.loads(_core.image_open(str(pen.store), digest)[2])["layers"][1]["digest"]
    _core.image_untag(str(pen.store), "keep:1")
    (pen.store / "images/blobs/sha256" / layer.removeprefix("sha256:")).unlink()
    with pytest.raises(pc.ImageError, match=layer):
        _core.image_tag(str(pen.store), digest, "half:1")
    assert set(storing.listed(pen.store)) == {"docker.io/library/l0:1"}


@pytest.mark.parametrize("processes", [2, 16])
def test_what_all_want_is_made_once(pen: Pen, place: Path, processes: int, tell: Callable[[str], None]) -> None:
    prepared(pen, place)
    told = at_once(pen, place, SAME, processes, 10)
    assert [told[0]] * processes == told, "a step was carried out more than once"
    names = storing.listed(pen.store)
    assert {f"docker.io/library/own{n}:{i}" for n in range(processes) for i in range(10)} <= set(names), (
        "a name is lost"
    )
    storing.assert_sound(pen.store)
    assert storing.leftovers(pen.store) == []
    tell(f"{processes} processes, {len(names)} names, one image")


@pytest.mark.parametrize("processes", [2, 16])
def test_who_removes_hurts_nobody_who_makes(
    pen: Pen, place: Path, processes: int, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    digest = prepared(pen, place)
    made = at_once(pen, place, AGAINST, processes, len(times(30)))
    names = storing.listed(pen.store)
    kept = {f"docker.io/library/{name}:1" for name in ["keep", *[f"kept{n}" for n in range(0, processes, 4)]]}
    assert {name: names.get(name) for name in kept} == dict.fromkeys(kept, digest)
    storing.assert_sound(pen.store)
    storing.next_works(pen.store, place)
    assert storing.leftovers(pen.store) == []
    tell(f"{processes} processes: {made} made")
