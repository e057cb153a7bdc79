"""Images of our store, pushed to Debian's docker-registry and read from there by skopeo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pycontainer
from pycontainer import _core
from registry import layouts, serving
from registry.serving import Served

pytestmark = pytest.mark.requires("program:docker-registry", "program:skopeo")


def pulled(served: Served, tmp_path: Path, store: Path, name: str, picture: layouts.Picture, *more: str) -> str:
    serving.put(served, layouts.write(tmp_path / "source", "image", picture), name, *more)
    return str(_core.image_pull(store, f"{served.host}/{name}"))


def read_back(served: Served, name: str, place: Path, *more: str) -> dict[str, bytes]:
    serving.get(served, name, place, *more)
    return {f"sha256:{path.name}": path.read_bytes() for path in (place / "blobs/sha256").iterdir()}


def test_skopeo_reads_what_we_push(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(50, layers=5, size=300_000)
    digest = pulled(plain, tmp_path, store, "push/from:1", picture)
    # To a registry that has none of it.
    with serving.registry(tmp_path / "other") as other:
        said = _core.image_push(store, digest, f"{other.host}/push/to:2")
        assert said == (picture.digest, len(picture.blobs), 0, 0)
        assert read_back(other, "push/to:2", tmp_path / "back") == picture.blobs | {picture.digest: picture.manifest}
        # A second time nothing is sent.
        before = len(other.requests("PUT .*/blobs/uploads/"))
        assert _core.image_push(store, digest, f"{other.host}/push/to:2") == (picture.digest, 0, 0, len(picture.blobs))
        assert len(other.requests("PUT .*/blobs/uploads/")) == before


def test_blobs_of_another_repository_are_mounted(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(51, layers=3)
    digest = pulled(plain, tmp_path, store, "push/mounted-from:1", picture)
    said = _core.image_push(store, digest, f"{plain.host}/push/mounted-to:1")
    # The config is none of the layers that the store's names tell of.
    assert said == (picture.digest, 1, 3, 0)
    assert len(plain.requests("PUT /v2/push/mounted-to/blobs/uploads/")) == 1
    assert set(read_back(plain, "push/mounted-to:1", tmp_path / "back")) == {*picture.blobs, picture.digest}


def test_in_pieces(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(52, layers=1, size=100_000)
    digest = pulled(plain, tmp_path, store, "push/pieces-from:1", picture)
    with serving.registry(tmp_path / "other") as other:
        _core.image_push(store, digest, f"{other.host}/push/pieces:1", chunk=30_000)
        assert len(other.requests("PATCH ")) == 4 + 1
        assert set(read_back(other, "push/pieces:1", tmp_path / "back")) == {*picture.blobs, picture.digest}


def test_an_index_is_sent_where_all_of_it_is_here(plain: Served, tmp_path: Path, store: Path) -> None:
    parts = {"linux/amd64": layouts.picture(53), "linux/arm64": layouts.picture(54, architecture="arm64")}
    whole = layouts.index(parts)
    digest = pulled(plain, tmp_path, store, "push/index:1", whole, "--all")
    target = f"{plain.host}/push/index:2"
    assert _core.image_push(store, digest, target)[0] == parts["linux/amd64"].digest
    _core.image_pull(store, f"{plain.host}/push/index:1", "linux/arm64")
    digest = _core.image_pull(store, f"{plain.host}/push/index:1", "linux/amd64")
    assert _core.image_push(store, digest, target)[0] == whole.digest
    assert set(read_back(plain, "push/index:2", tmp_path / "back", "--all")) >= {*whole.blobs}


def test_progress_of_a_push(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(55, layers=2, size=400_000)
    digest = pulled(plain, tmp_path, store, "push/progress:1", picture)
    seen: dict[str, str] = {}
    with serving.registry(tmp_path / "other") as other:
        _core.image_push(
            store, digest, f"{other.host}/a:1", None, lambda state, what, *_: seen.__setitem__(what, state)
        )
    seen.pop("", None)  # a tick: nothing to tell
    assert set(seen) == set(picture.blobs)
    assert set(seen.values()) == {"done"}


def test_what_cannot_be_pushed(plain: Served, store: Path) -> None:
    with pytest.raises(pycontainer.ImageNotFound, match="has no image"):
        _core.image_push(store, f"sha256:{'0' * 64}", f"{plain.host}/x:1")
    with pytest.raises(pycontainer.ImageError, match=re.escape("no digest")):
        _core.image_push(store, "sha256:../../x", f"{plain.host}/x:1")
