"""Images that skopeo put into Debian's docker-registry, pulled; and our store, read by skopeo."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pycontainer
from pycontainer import _core
from registry import layouts, serving
from registry.serving import Served

pytestmark = pytest.mark.requires("program:docker-registry", "program:skopeo")


def offered(served: Served, tmp_path: Path, name: str, picture: layouts.Picture, *more: str) -> str:
    layout = layouts.write(tmp_path / f"layout-{name.replace('/', '-').replace(':', '-')}", "image", picture)
    serving.put(served, layout, name, *more)
    return f"{served.host}/{name}"


def test_what_skopeo_put_there_is_pulled_and_skopeo_reads_the_store(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(1, layers=5)
    name = offered(plain, tmp_path, "pull/one:1", picture)
    assert _core.image_pull(store, name) == picture.digest
    assert layouts.blobs_of(store) == picture.blobs | {picture.digest: picture.manifest}
    layouts.assert_sound(store)
    # skopeo finds a name in a layout by its annotation, and copies all that it needs.
    back = tmp_path / "back"
    serving.skopeo("copy", f"oci:{store / 'images'}:{name}", f"oci:{back}:image")
    for key, data in picture.blobs.items():
        assert (back / "blobs/sha256" / key.removeprefix("sha256:")).read_bytes() == data


def test_an_image_that_is_there_costs_one_request_or_none(
    plain: Served, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = offered(plain, tmp_path, "pull/again:1", layouts.picture(2))
    digest = _core.image_pull(store, name)
    before = len(plain.requests(".* /v2/pull/again/"))
    start = time.monotonic()
    assert _core.image_pull(store, name) == digest
    took = time.monotonic() - start
    lines = plain.requests(".* /v2/pull/again/")[before:]
    assert len(lines) == 1, lines
    assert '"HEAD ' in lines[0]
    assert took < 1
    monkeypatch.setenv("PYCONTAINER_ROOT", str(store))
    monkeypatch.setenv("PYCONTAINER_ROOT", str(store))
    assert pycontainer.Image(name).digest == digest
    assert len(plain.requests(".* /v2/pull/again/")) == before + 1


def test_a_tag_that_moved_is_pulled_anew_and_common_layers_are_not(plain: Served, tmp_path: Path, store: Path) -> None:
    name = offered(plain, tmp_path, "pull/moved:1", layouts.picture(3, layers=2))
    _core.image_pull(store, name)
    bigger = layouts.picture(3, layers=3)
    serving.put(plain, layouts.write(tmp_path / "bigger", "image", bigger), "pull/moved:1")
    before = len(plain.requests("GET /v2/pull/moved/blobs/"))
    assert _core.image_pull(store, name) == bigger.digest
    assert len(plain.requests("GET /v2/pull/moved/blobs/")) == before + 2  # the config, and one layer
    layouts.assert_sound(store)


def test_a_platform_is_chosen_and_the_index_is_kept(plain: Served, tmp_path: Path, store: Path) -> None:
    parts = {
        name: layouts.picture(number, architecture=name.split("/")[1])
        for number, name in enumerate(["linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7"], 10)
    }
    whole = layouts.index(parts)
    name = offered(plain, tmp_path, "pull/index:1", whole, "--all")
    for wanted, found in [(None, "linux/amd64"), ("linux/arm", "linux/arm/v7"), ("linux/arm/v6", "linux/arm/v6")]:
        assert _core.image_pull(store, name, wanted) == parts[found].digest
        layouts.assert_sound(store)
    assert whole.digest in layouts.blobs_of(store)
    before = len(plain.requests(".* /v2/pull/index/"))
    assert _core.image_pull(store, name, "linux/arm/v6") == parts["linux/arm/v6"].digest
    assert len(plain.requests(".* /v2/pull/index/")) == before + 1
    with pytest.raises(pycontainer.ImageNotFound, match=r"linux/s390x; there are: linux/amd64, linux/arm64/v8"):
        _core.image_pull(store, name, "linux/s390x")


def test_another_machine_s_image_is_refused_by_name(plain: Served, tmp_path: Path, store: Path) -> None:
    name = offered(plain, tmp_path, "pull/other:1", layouts.picture(20, architecture="s390x"))
    with pytest.raises(pycontainer.ImageNotFound, match="is for linux/s390x, not for linux/amd64"):
        _core.image_pull(store, name)
    assert _core.image_pull(store, name, "linux/s390x")


def test_by_digest(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(21)
    name = offered(plain, tmp_path, "pull/digest:1", picture).removesuffix(":1")
    assert _core.image_pull(store, f"{name}@{picture.digest}") == picture.digest
    before = len(plain.requests(".* /v2/pull/digest/"))
    assert _core.image_pull(store, f"{name}@{picture.digest}") == picture.digest
    assert len(plain.requests(".* /v2/pull/digest/")) == before
    with pytest.raises(pycontainer.ImageNotFound):
        _core.image_pull(store, f"{name}@sha256:{'0' * 64}")


def test_what_is_not_there_is_said(plain: Served, store: Path) -> None:
    for name in ("pull/nothing", "pull/one:nothing"):
        with pytest.raises(pycontainer.ImageNotFound, match=plain.host):
            _core.image_pull(store, f"{plain.host}/{name}")
    with pytest.raises(pycontainer.RegistryError, match="refused"):
        _core.image_pull(store, f"localhost:{serving.free_port()}/x")
    for bad in ("", "A b", "http://x/y"):
        with pytest.raises(pycontainer.InvalidReference):
            _core.image_pull(store, bad)
    with pytest.raises(ValueError, match="platform"):
        _core.image_pull(store, "x", "a/b/c/d")


def test_sixteen_processes_make_one_transfer(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(30, layers=4, size=2_000_000)
    name = offered(plain, tmp_path, "pull/shared:1", picture)
    program = f"from pycontainer import _core; print(_core.image_pull({str(store)!r}, {name!r}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(16)
    ]
    said = [process.communicate()[0].strip() for process in processes]
    assert said == [picture.digest] * 16
    fetched = plain.requests("GET /v2/pull/shared/blobs/")
    assert len(fetched) == len(picture.blobs), fetched
    layouts.assert_sound(store)


def test_progress_is_told_in_the_calling_thread(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(31, layers=3, size=500_000)
    name = offered(plain, tmp_path, "pull/progress:1", picture)
    seen: dict[str, list[str]] = {}
    threads = set()

    def look(state: str, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        seen.setdefault(what, []).append(state)
        threads.add(threading.get_ident())

    _core.image_pull(store, name, None, None, look)
    for layer in picture.layers:
        fetched = seen[layer].index("done")
        assert "unpacking" not in seen[layer][:fetched]
        assert set(seen[layer][fetched + 1 :]) == {"unpacking"}
    assert threads == {threading.get_ident()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _core.image_pull(tmp_path / "other", name, None, None, stop)


def test_lists(plain: Served, tmp_path: Path) -> None:
    layout = layouts.write(tmp_path / "layout", "image", layouts.picture(32))
    for tag in ("a", "b", "c"):
        serving.put(plain, layout, f"pull/tags:{tag}")
    assert sorted(_core.registry_tags(f"{plain.host}/pull/tags")) == ["a", "b", "c"]
    assert "pull/tags" in _core.registry_catalog(plain.host)
    with pytest.raises(pycontainer.ImageNotFound):
        _core.registry_tags(f"{plain.host}/pull/none")


def test_an_artifact_is_refused_by_its_type(plain: Served, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(33)
    manifest = json.loads(picture.manifest)
    manifest["config"]["mediaType"] = "application/vnd.example.model.v1+json"
    picture.manifest = json.dumps(manifest).encode()
    name = offered(plain, tmp_path, "pull/artifact:1", picture)
    with pytest.raises(pycontainer.ImageError, match=r"vnd\.example\.model"):
        _core.image_pull(store, name)
