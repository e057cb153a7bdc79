"""A disk that fills up under the store, by bytes or inodes: a typed error, nothing half done, and then it goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import storing

import layouts
import pace
import pycontainer as pc
from programs import stores

pytestmark = [pytest.mark.requires("root"), pytest.mark.leaks_by_design, pytest.mark.timeout(900)]
ROOM = 64 << 20


@pytest.fixture(scope="module")
def place(scratch: Path) -> Iterator[Path]:
    """An image of three layers, 1.5 MB compressed and 240 files; contexts."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        made = Path(directory)
        layout = layouts.Layout(made / "layout")
        layers = [
            layouts.tar({f"d{n}/{i}": os.urandom(100) for i in range(80)} | {f"big{n}": os.urandom(500_000)})
            for n in range(3)
        ]
        layout.image("full:1", layers)
        storing.pack(layout.path, made / "archive")
        context = made / "context"
        context.mkdir()
        (context / "file").write_bytes(os.urandom(700_000))
        (context / "Dockerfile").write_text("FROM scratch\nCOPY file /a\nCOPY file /b/c\nWORKDIR /d\n")
        yield made


@contextlib.contextmanager
def mounted(place: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Iterator[tuple[Path, Callable[..., None]]]:
    """A store on a tmpfs with these options, and what gives the tmpfs other ones."""
    with tempfile.TemporaryDirectory(dir=place) as point:

        def mount(*words: str) -> None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(words), "tmpfs", point], check=True)

        mount(*options)
        try:
            store = Path(point, "store")
            monkeypatch.setenv("PYCONTAINER_ROOT", str(store))
            yield store, lambda *words: mount("remount", *words)
        finally:
            stores.unmount(Path(point))


def load(place: Path) -> pc.Image:
    return pc.Image.load(place / "archive")[0]


def load_layout(place: Path) -> pc.Image:
    return pc.Image.load(place / "layout")[0]


def build(place: Path) -> pc.Image:
    return pc.Image.build(place / "context", tag="built:1")


# (what is done, the options of a tmpfs at each of so many steps, and those that suffice)
WORK = {"load": load, "layout": load_layout, "build": build}
SIZES = [f"size={(4 + 8192 * step // 50) & ~3}k" for step in range(50)]
INODES = [f"size={ROOM},nr_inodes={2 + 8 * step}" for step in range(50)]
ENOUGH = f"size={ROOM},nr_inodes=10000"


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("options", [SIZES, INODES], ids=["bytes", "inodes"])
def test_a_full_disk_is_an_error_and_nothing_half_done(
    place: Path, kind: str, options: list[str], monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    outcomes: Counter[str] = Counter()
    for option in pace.spread(options, 5 if pytestconfig.getoption("--quick") else 50):
        with mounted(place, monkeypatch, *option.split(",")) as (store, remount):
            outcomes[one(store, place, kind, option)] += 1
            remount(*ENOUGH.split(","))
            image = WORK[kind](place)
            image.verify()
            assert [*image.files()], option
            storing.assert_sound(store)
            assert storing.leftovers(store) == []
    tell(f"{outcomes.total()} disks: {dict(outcomes)}")
    assert outcomes["full"]
    assert outcomes["done"]


def one(store: Path, place: Path, kind: str, option: str) -> str:
    try:
        image = WORK[kind](place)
        for _ in image.files():
            break
    except pc.NoSpaceError:
        if store.exists() and (store / "partial").exists():
            # Its blobs may all have come and their layers not fit: then it has its name, and is whole.
            for name in storing.listed(store):
                pc.Image.get(name).verify()
            assert storing.leftovers(store) == [], option
            if not storing.listed(store) and kind != "build":  # what a step came to is kept
                blobs = list(store.glob("images/blobs/*/*"))
                assert blobs == [], f"{option}: {len(blobs)} blobs that nobody needs"
        return "full"
    except BaseException as error:
        error.add_note(option)
        raise
    return "done"


@pytest.mark.parametrize("options", ["size=32m", "size=32m,nr_inodes=1000"], ids=["bytes", "inodes"])
def test_images_can_be_removed_from_a_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    with mounted(place, monkeypatch, *options.split(",")) as (store, _):
        image = load(place)
        image.tag("second:1")
        fill(store.parent)
        image.remove()
        assert list(storing.listed(store)) == ["docker.io/library/second:1"]
        pc.Image.get("second:1").verify()
        fill(store.parent)
        pc.Image.get("second:1").remove()
        assert storing.listed(store) == {}
        assert list(store.glob("images/blobs/*/*")) == []
        assert storing.leftovers(store) == []
        for filler in store.parent.glob("filler-*"):
            filler.unlink()
        load(place).verify()


def fill(point: Path) -> None:
    """Take all bytes and all inodes that there are."""
    number = time.monotonic_ns()
    for size in (1 << 16, 1 << 12):
        with contextlib.suppress(OSError), Path(point, f"filler-{number}-{size}").open("wb", 0) as file:
            while True:
                file.write(bytes(size))
    with contextlib.suppress(OSError):
        for more in range(2000):
            Path(point, f"filler-{number}-{more}").touch()
