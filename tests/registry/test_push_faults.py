"""Uploads to a registry that misbehaves: sent again where that helps, and to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer
from pycontainer import _core
from registry import faults, layouts
from registry.faults import PATIENCE, Handler, Registry, challenged, gives

PICTURE = layouts.picture(80, layers=2, size=50_000)
BASIC = "Basic bWU6aHVudGVyMg=="  # me:hunter2


@pytest.fixture
def source(store: Path) -> tuple[Path, str]:
    """A store with the image in it."""
    with faults.serving(Registry(PICTURE)) as registry:
        return store, _core.image_pull(store, f"{registry.host}/from:1", patience=PATIENCE)


@pytest.fixture
def empty() -> Iterator[Registry]:
    """A registry that takes uploads and has nothing."""
    with faults.serving(Registry(layouts.Picture(b""))) as registry:
        yield registry


def puts(*statuses: int) -> faults.Fault:
    """Answer the first uploads of content with these."""
    left = list(statuses)

    def fault(handler: Handler, what: str) -> bool:
        if what != "upload" or handler.command != "PUT" or "/uploads/" not in handler.path:
            return False
        with handler.registry.lock:  # several come at once
            status = left.pop(0) if left else None
        if status is None:
            return False
        handler.sent()
        handler.answer(status, b"{}", {"Retry-After": "0"})
        return True

    return fault


def test_all_of_it_arrives(source: tuple[Path, str], empty: Registry) -> None:
    assert _core.image_push(*source, f"{empty.host}/to:1", patience=PATIENCE)[1] == len(PICTURE.blobs)
    assert PICTURE.blobs.items() <= empty.picture.blobs.items()
    assert PICTURE.manifest in empty.picture.blobs.values()
    kinds = [seen.headers["content-type"] for seen in empty.seen if seen.path.endswith("/manifests/1")]
    assert kinds == [layouts.MANIFEST]


@pytest.mark.parametrize("statuses", [(500,), (503, 502), (429, 429), (404,), (416,)])
def test_what_passes_is_tried_again(source: tuple[Path, str], empty: Registry, statuses: tuple[int, ...]) -> None:
    empty.fault = puts(*statuses)
    _core.image_push(*source, f"{empty.host}/to:1", patience=PATIENCE)
    assert PICTURE.blobs.items() <= empty.picture.blobs.items()


def test_pieces_where_all_at_once_is_too_much(source: tuple[Path, str], empty: Registry) -> None:
    empty.fault = puts(413)
    _core.image_push(*source, f"{empty.host}/to:1", patience=PATIENCE)
    assert PICTURE.blobs.items() <= empty.picture.blobs.items()
    assert any(seen.method == "PATCH" for seen in empty.seen)


@pytest.mark.parametrize("status", [400, 403, 405, 500])
def test_what_stays_is_an_error(source: tuple[Path, str], empty: Registry, status: int) -> None:
    empty.fault = puts(*[status] * 1000)
    with pytest.raises((pycontainer.RegistryError, pycontainer.AuthError)):
        _core.image_push(*source, f"{empty.host}/to:1", patience=PATIENCE)
    assert PICTURE.manifest not in empty.picture.blobs.values()


@pytest.mark.parametrize("place", ["", "file:///x", "http://me:hunter2@localhost/x"])
def test_an_upload_to_nowhere(source: tuple[Path, str], empty: Registry, place: str) -> None:
    def fault(handler: Handler, what: str) -> bool:
        if handler.command != "POST":
            return False
        handler.answer(202, b"", {"Location": place} if place else {})
        return True

    empty.fault = fault
    with pytest.raises(pycontainer.RegistryError):
        _core.image_push(*source, f"{empty.host}/to:1", patience=PATIENCE)


def test_an_upload_to_another_origin_takes_no_password_along(source: tuple[Path, str], empty: Registry) -> None:
    wanted = challenged('Basic realm="here"', gives(b""), BASIC)

    def fault(handler: Handler, what: str) -> bool:
        if "authorization" not in {name.lower() for name in handler.headers}:
            handler.sent()
        return wanted(handler, what)

    empty.fault = fault
    with faults.serving(Registry(layouts.Picture(b""))) as other:
        empty.uploads_at = f"http://{other.host}"
        _core.image_push(*source, f"{empty.host}/to:1", ("me", "hunter2"), patience=PATIENCE)
        assert PICTURE.blobs.items() <= other.picture.blobs.items()
        assert other.seen
        assert all("authorization" not in seen.headers for seen in other.seen)
        assert any(seen.headers.get("authorization") == BASIC for seen in empty.seen)


def test_a_registry_that_stored_something_else(source: tuple[Path, str], empty: Registry) -> None:
    def fault(handler: Handler, what: str) -> bool:
        if handler.command != "PUT":
            return False
        handler.sent()
        handler.answer(201, b"", {"Docker-Content-Digest": layouts.digest(b"else")})
        return True

    empty.fault = fault
    with pytest.raises(pycontainer.DigestMismatch):
        _core.image_push(*source, f"{empty.host}/to:1", patience=PATIENCE)


@pytest.mark.parametrize("status", [403, 404, 400])
def test_a_mount_that_is_refused_is_done_without(store: Path, status: int) -> None:
    def fault(handler: Handler, what: str) -> bool:
        if "mount=" not in handler.path:
            return False
        handler.sent()
        handler.answer(status)
        return True

    with faults.server() as server:
        first = server.takes(Registry(PICTURE))
        digest = _core.image_pull(store, f"{first.host}/from:1", patience=PATIENCE)
        second = server.takes(Registry(layouts.Picture(b""), fault))
        said = _core.image_push(store, digest, f"{second.host}/to:1", patience=PATIENCE)
        assert said[1:] == (len(PICTURE.blobs), 0, 0)
        asked = [seen.path for seen in second.seen if "mount=" in seen.path]
        assert len(asked) == len(PICTURE.layers)
        assert all(path.endswith("&from=from") for path in asked)
