"""Layers are unpacked while they and others come; what cannot be unpacked leaves no name and no half of a tree."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer
from pace import patience
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


def is_begun(store: Path) -> bool:
    """Half a megabyte of the layer's file is on the disk, and it is no layer yet."""
    return any(path.stat().st_size > 500_000 for path in store.glob("layers/*.tmp/rootfs/file-0"))


def halved(handler: Handler, what: str, store: Path, seen: list[bool], rest: bytes | None = None) -> bool:
    """Send a half of the layer, and what follows only when that is on the disk; None: nothing follows."""
    if what != "layer" or seen:
        return False
    body = handler.body()
    half = len(body) // 2
    handler.answer(200, body[:half], claim=len(body))
    handler.wfile.flush()
    end = time.monotonic() + patience(20)
    while time.monotonic() < end and not is_begun(store):
        time.sleep(0.01)
    seen.append(is_begun(store))
    handler.wfile.write(b"" if rest is None else rest)
    return True


@pytest.fixture
def large() -> layouts.Picture:
    """One layer, with one file of two megabytes."""
    return layouts.picture(71, layers=1, size=2_000_000)


def second_half(picture: layouts.Picture) -> bytes:
    body = picture.blobs[picture.layers[0]]
    return body[len(body) // 2 :]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_layer_is_unpacked_while_it_comes(
    server: faults.Server, large: layouts.Picture, store: Path, resumed: bool
) -> None:
    """Also by two connections, of which the second one begins where the first was cut."""
    seen: list[bool] = []
    rest = None if resumed else second_half(large)
    registry = server.takes(Registry(large, lambda handler, what: halved(handler, what, store, seen, rest)))
    told: list[str] = []
    name = f"{registry.host}/a/b:1"
    assert _core.image_pull(store, name, None, None, lambda *event: told.append(event[0])) == large.digest
    assert seen == [True]
    assert [one.headers.get("range") is not None for one in registry.seen if large.layers[0] in one.path][1:] == (
        [True] if resumed else []
    )
    assert told.index("unpacking") > told.index("done")
    assert unpacked(store) == diff_ids(large)
    assert left(store) == []
    layouts.assert_sound(store)
    (file,) = store.glob("layers/*/rootfs/file-0")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == hashlib.sha256(layouts.content(large)).hexdigest()


def test_a_layer_whose_end_is_wrong_leaves_nothing_of_its_beginning(
    server: faults.Server, large: layouts.Picture, store: Path
) -> None:
    """It was unpacked half-way before anybody knew."""
    seen: list[bool] = []
    wrong = bytes(byte ^ 1 for byte in second_half(large))
    registry = server.takes(Registry(large, lambda handler, what: halved(handler, what, store, seen, wrong)))
    name = f"{registry.host}/a/b:1"
    with pytest.raises(pycontainer.DigestMismatch):
        _core.image_pull(store, name)
    assert seen == [True]
    assert (left(store), unpacked(store)) == ([], [])
    assert _core.image_find(str(store), name) is None
    assert list((store / "images" / "blobs" / "sha256").glob(large.layers[0].partition(":")[2])) == []
    assert _core.image_pull(store, name) == large.digest
    assert unpacked(store) == diff_ids(large)


def test_layers_that_come_slowly_hold_up_none_that_is_there(server: faults.Server, store: Path) -> None:
    """Three stand still half-way until all others are on the disk."""
    many = layouts.picture(72, layers=9, size=300_000)
    slow, seen = many.layers[:3], []

    def there() -> int:
        return sum(path.stat().st_size == 300_000 for path in store.glob("layers/*.tmp/rootfs/file-*"))

    def hold(handler: Handler, what: str) -> bool:
        if what != "layer" or not any(handler.path.endswith(one) for one in slow):
            return False
        body = handler.body()
        handler.answer(200, body[: len(body) // 2], claim=len(body))
        handler.wfile.flush()
        end = time.monotonic() + patience(20)
        while time.monotonic() < end and there() < 6:
            time.sleep(0.01)
        seen.append(there() >= 6)
        handler.wfile.write(body[len(body) // 2 :])
        return True

    registry = server.takes(Registry(many, hold))
    assert _core.image_pull(store, f"{registry.host}/a/b:1") == many.digest
    assert seen == [True] * 3
    assert unpacked(store) == sorted(diff_ids(many))
    assert left(store) == []


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
