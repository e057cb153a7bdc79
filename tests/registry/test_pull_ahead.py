"""Layers are unpacked while others are still fetched; what cannot be unpacked leaves no name and no half of a tree."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer
from pycontainer import _core
from registry import faults, layouts
from registry.faults import Handler, Registry

LAYERS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[faults.Server]:
    with faults.server() as made:
        yield made


@pytest.fixture
def picture() -> layouts.Picture:
    return layouts.picture(70, layers=LAYERS, size=50_000)


def unpacked(store: Path) -> list[str]:
    """Complete layers."""
    return sorted(path.name for path in (store / "layers").glob("*") if (path / "complete").exists())


def left(store: Path) -> list[str]:
    return [path.name for path in (store / "layers").iterdir() if path.suffix in (".tmp", ".lock")]


def diff_ids(picture: layouts.Picture) -> list[str]:
    config = json.loads(picture.manifest)["config"]["digest"]
    return [one.partition(":")[2] for one in json.loads(picture.blobs[config])["rootfs"]["diff_ids"]]


def test_a_layer_is_unpacked_while_others_are_fetched(
    server: faults.Server, picture: layouts.Picture, store: Path
) -> None:
    """The registry keeps the last layer back until it sees the first ones on the disk."""
    seen: list[int] = []

    def hold(handler: Handler, what: str) -> bool:
        if what == "layer" and handler.path.endswith(picture.layers[-1]):
            end = time.monotonic() + 20
            while time.monotonic() < end and sum(1 for _ in store.glob("layers/*.tmp/rootfs/file-*")) < LAYERS - 1:
                time.sleep(0.01)
            seen.append(sum(1 for _ in store.glob("layers/*.tmp/rootfs/file-*")))
        return False

    registry = server.takes(Registry(picture, hold))
    assert _core.image_pull(store, f"{registry.host}/a/b:1") == picture.digest
    assert seen == [LAYERS - 1]
    assert unpacked(store) == sorted(diff_ids(picture))
    assert left(store) == []
    layouts.assert_sound(store)


def broken(picture: layouts.Picture, how: str) -> layouts.Picture:
    """Whose second layer is what its digest says, and no layer that can be unpacked."""
    manifest = json.loads(picture.manifest)
    if how == "no tar":
        data = gzip.compress(b"this is no tar" * 100, mtime=0)
    else:
        data = gzip.compress(gzip.decompress(picture.blobs[picture.layers[0]]), 9, mtime=0)  # of another diff id
    manifest["layers"][1] = layouts.described(layouts.LAYER, data)
    blobs = picture.blobs | {layouts.digest(data): data}
    layers = [row["digest"] for row in manifest["layers"]]
    return layouts.Picture(json.dumps(manifest).encode(), picture.kind, blobs, layers)


@pytest.mark.parametrize(("how", "error"), [("no tar", pycontainer.LayerError), ("other", pycontainer.DigestMismatch)])
def test_what_cannot_be_unpacked_gets_no_name(
    server: faults.Server, picture: layouts.Picture, store: Path, how: str, error: type[Exception]
) -> None:
    bad = broken(picture, how)
    registry = server.takes(Registry(bad))
    name = f"{registry.host}/a/b:1"
    with pytest.raises(error):
        _core.image_pull(store, name)
    assert _core.image_find(str(store), name) is None
    assert left(store) == []
    # The same name, right now.
    server.takes(Registry(picture))
    assert _core.image_pull(store, name) == picture.digest
    assert unpacked(store) == sorted(diff_ids(picture))
    assert left(store) == []


def test_an_interrupted_pull_leaves_no_half_of_a_layer(
    server: faults.Server, picture: layouts.Picture, store: Path
) -> None:
    def hold(handler: Handler, what: str) -> bool:
        if what == "layer" and handler.path.endswith(picture.layers[-1]):
            time.sleep(faults.STALL)
        return False

    def look(state: str, *_: object) -> None:
        if list(store.glob("layers/*.tmp/rootfs/file-*")):
            raise KeyboardInterrupt

    registry = server.takes(Registry(picture, hold))
    with pytest.raises(KeyboardInterrupt):
        _core.image_pull(store, f"{registry.host}/a/b:1", None, None, look)
    assert left(store) == []
    assert unpacked(store) == []
    assert _core.image_find(str(store), f"{registry.host}/a/b:1") is None
