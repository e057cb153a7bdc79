"""What the tests of images share: a store of each test's own, a layout with the small root file system as its layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import drivers
import layouts
import pycontainer as pc


@pytest.fixture(scope="session")
def base(rootfs: Path) -> bytes:
    """The small root file system as a layer."""
    return layouts.tree(rootfs)


@pytest.fixture(scope="session")
def shared_place(scratch: Path, base: bytes) -> Path:
    """A store with one image, `base:1`, that tests only read; their containers start from it."""
    place = Path(tempfile.mkdtemp(prefix="images-", dir=scratch))
    layouts.Layout(place / "layout").image("base:1", [base])
    return place


@pytest.fixture
def store(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    place = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
    place.chmod(0o755)
    monkeypatch.setenv("PYCONTAINER_ROOT", str(place / "store"))
    return place / "store"


@pytest.fixture
def layout(store: Path) -> layouts.Layout:
    """A layout beside the store."""
    return layouts.Layout(store.parent / "layout")


@pytest.fixture
def image(store: Path, shared_place: Path) -> pc.Image:
    """`base:1`, loaded."""
    return pc.Image.load(shared_place / "layout")[0]


@pytest.fixture(
    params=[
        pytest.param(one, marks=pytest.mark.requires(one) if one == "fuse-overlayfs" else ()) for one in drivers.DRIVERS
    ]
)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(drivers.VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def three(layout: layouts.Layout, base: bytes) -> pc.Image:
    """An image of three layers, with something of everything in it."""
    layout.image("three:1", [base, drivers.UPPER, drivers.TOP])
    return pc.Image.load(layout.path)[0]


@pytest.fixture
def leaves_no_copy(store: Path) -> Iterator[None]:
    yield
    assert drivers.uppers(store) == []
