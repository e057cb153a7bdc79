"""commit(): what a container has made as a layer and an image."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import struct
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Image, Mount, aio
from pycontainer._native import core
from states import SLEEP, STATES, container
from tars import CHANGES, blob, kinds, members, printed, ran, top

pytestmark = pytest.mark.requires("userns")


# ---- what is in a layer --------------------------------------------------------------------------------------------


def test_a_layer_holds_the_changes_and_nothing_else(base: Image, store: Path, tmp_path: Path) -> None:
    mounts = [Mount.tmpfs("/srv/deep/er"), Mount.bind(tmp_path, "/mnt/x", read_only=True)]
    with ran(base, CHANGES, mounts=mounts) as made:
        image = made.commit("changed")
    tar = top(store, image)
    # To an overlay a directory in place of another one is opaque; of a copy it is told what is gone from it.
    copies = os.environ.get("PYCONTAINER_STORAGE_DRIVER", "") in ("vfs", "btrfs")
    hides = ["f data/replaced/.wh.old"] if copies else []
    opaque = [] if hides else ["f data/replaced/.wh..wh..opq"]
    assert kinds(tar) == [
        "d data", "d data/deep", "d data/deep/er", "f data/deep/er/x", "f data/dir", "p data/fifo", "f data/file",
        "f data/.wh.gone", "h data/hard", "l data/link", "f data/mode", "d data/replaced",
        *opaque, "f data/replaced/new", *hides, "f data/replaced/same",
    ]  # fmt: skip
    found = members(tar)
    assert (found["data/mode"].mode, found["data/deep"].mode) == (0o4711, 0o1777)
    assert (found["data/hard"].linkname, found["data/link"].linkname) == ("data/file", "nowhere")
    assert image.layers[:-1] == base.layers
    assert image.layers[-1] == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    image.verify()


def test_the_image_is_what_the_container_has_seen(base: Image) -> None:
    """From both ends: what the next container of it sees is what this one saw."""
    tell = "cd /data; find . | sort | xargs stat -c '%A %u:%g %Y %N'; cat file dir replaced/*"
    with ran(base, CHANGES + tell) as made:
        seen = made.logs()
        image = made.commit("changed")
    assert printed(image, tell) == seen
    assert b"gone" not in seen


def test_an_untouched_container_adds_no_layer(base: Image) -> None:
    with ran(base, "true", cwd="/data", files={}) as made:
        assert made.diff() == []
        image = made.commit("same")
    assert image.layers == base.layers
    assert image.history[-1]["empty_layer"] is True
    assert image.config["WorkingDir"] == "/data"


def test_what_the_engine_gives_is_not_the_container_s(base: Image, store: Path) -> None:
    with ran(base, "echo '1.2.3.4 x' >> /etc/hosts; rm /etc/resolv.conf; echo x > /etc/mine") as made:
        assert [line.path for line in made.diff()] == ["/etc", "/etc/mine"]
        assert kinds(top(store, made.commit("x"))) == ["d etc", "f etc/mine"]


def test_many_layers_are_compared_as_one(base: Image, store: Path) -> None:
    steps = [
        "rm /data/gone; echo 1 > /data/one",
        "rm /data/one; mkdir /data/gone; echo x > /data/gone/x",
        "rm -r /data/replaced; mkdir /data/replaced; echo x > /data/replaced/mine",
    ]
    image = base
    for number, step in enumerate(steps):
        with ran(image, step) as made:
            image = made.commit(f"step:{number}")
    with ran(image, "rm -r /data/gone /data/replaced/mine; chmod 755 /data; touch /data/file; rm /data/file") as made:
        assert [f"{line.kind} {line.path}" for line in made.diff()] == [
            "C /data", "D /data/file", "D /data/gone", "C /data/replaced", "D /data/replaced/mine",
        ]  # fmt: skip
        image = made.commit("last")
    assert kinds(top(store, image)) == [
        "d data", "f data/.wh.file", "f data/.wh.gone", "d data/replaced", "f data/replaced/.wh.mine",
    ]  # fmt: skip
    assert printed(image, "cd /data; ls . replaced") == b".:\ndir\nkept\nmode\nreplaced\n\nreplaced:\n"
    assert len(image.layers) == 5


def test_attributes_owners_and_capabilities(base: Image, store: Path) -> None:
    with ran(base, "cd /data; touch plain; chown 12:34 plain; chown 65000:65000 mode", limits=pc.Limits()) as made:
        found = members(top(store, made.commit("owners")))
    assert (found["data/plain"].uid, found["data/plain"].gid) == (12, 34)
    assert (found["data/mode"].uid, found["data/mode"].gid) == (65000, 65000)
    assert not any(member.uname or member.gname for member in found.values())


@pytest.mark.requires("kernel>=6.6", "path:/usr/bin/python3")
@pytest.mark.parametrize("way", ["layer", "whole"])
def test_user_attributes_and_file_capabilities(way: str, base: Image, store: Path) -> None:
    """Set by a program inside, this machine's own Python; a capability is any root's, not this container's."""
    code = """import os, struct
os.chdir('/data')
os.setxattr('file', 'user.a=b', b'\\0v'); os.setxattr('dir', 'user.of', b'dir')
os.setxattr('mode', 'security.capability', struct.pack('<5I', 0x02000001, 1 << 10, 0, 0, 0))
"""
    mounts = [Mount.bind(path, path, read_only=True) for path in ("/usr", "/lib", "/lib64") if os.path.exists(path)]
    with Container(["/usr/bin/python3", "-c", code], image=base, mounts=mounts) as made:
        assert made.wait(timeout=patience(20)) == 0, made.logs()
        if way == "layer":
            tar = top(store, made.commit("attributes"))
        else:
            made.export(store / "whole.tar")
            tar = (store / "whole.tar").read_bytes()
    found = members(tar)
    assert found["data/file"].pax_headers == {"SCHILY.xattr.user.a%3Db": "\0v"}
    assert found["data/dir"].pax_headers == {"SCHILY.xattr.user.of": "dir"}
    (capability,) = found["data/mode"].pax_headers.values()
    # Version 2: without the id of the root whose it was.
    assert capability.encode() == struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


@pytest.mark.requires("root")
def test_owners_by_a_map_of_the_caller_s(base: Image, store: Path) -> None:
    security = pc.Security(user_namespace=[pc.IdMap(0, 700_000, 100), pc.IdMap(1000, 800_000, 10)])
    with ran(base, "cd /data; chown 5:99 file; chown 1009:1000 mode", security=security) as made:
        found = members(top(store, made.commit("owners")))
    assert (found["data/file"].uid, found["data/file"].gid) == (5, 99)
    assert (found["data/mode"].uid, found["data/mode"].gid) == (1009, 1000)


@pytest.mark.requires("root")
def test_devices_and_big_ids_where_ids_are_the_host_s(base: Image, store: Path) -> None:
    security = pc.Security(user_namespace="host", capabilities=pc.DEFAULT_CAPABILITIES | {"MKNOD"})
    script = "cd /data; mknod null c 1 3; touch big; chown 3000000000:2999999999 big"
    with ran(base, script, security=security) as made:
        found = members(top(store, made.commit("devices")))
    assert (found["data/null"].type, found["data/null"].devmajor, found["data/null"].devminor) == (b"3", 1, 3)
    assert (found["data/big"].uid, found["data/big"].gid) == (3_000_000_000, 2_999_999_999)


def test_holes_and_long_names(base: Image, store: Path) -> None:
    long = "/data/" + "/".join(["n" * 200] * 3)
    script = f"mkdir -p {long}; echo x > {long}/x; cd /data; truncate -s 3221225472 holes; echo end >> holes"
    with ran(base, script) as made:
        image = made.commit("holes")
    tar = top(store, image)
    assert len(tar) < 100_000
    found = members(tar)
    assert (found["data/holes"].size, f"{long[1:]}/x" in found) == ((3 << 30) + 4, True)
    assert (
        printed(image, "cd /data; tail -c 4 holes; head -c 10 holes | od -c | head -1; du -k holes").split(b"\n")[0]
        == b"end"
    )


@pytest.mark.parametrize("image", ["layers", "directory"])
def test_a_name_that_a_layer_cannot_hold(image: str, base: Image, rootfs: Path, store: Path) -> None:
    on = base if image == "layers" else rootfs
    if os.environ.get("PYCONTAINER_STORAGE_DRIVER") == "fuse-overlayfs":  # nor a container on it: docs/storage.md
        refused = pc.run(["sh", "-c", "mkdir -p /data; touch /data/.wh.x"], image=on, text=True).stderr
        assert refused.endswith("/data/.wh.x: Invalid argument\n")
        return
    with ran(on, "mkdir -p /data; touch /data/.wh.x") as made:
        with pytest.raises(pc.LayerError, match=r"/data/\.wh\.x"):
            made.commit("x")
        made.export(store / "x.tar")
    with pytest.raises(pc.ImageNotFound):
        Image.get("x")
    assert "data/.wh.x" in members((store / "x.tar").read_bytes())


# ---- the same changes, the same digest -------------------------------------------------------------------------------


def test_equal_changes_have_equal_digests(base: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    backwards = "mkdir /new; for x in c b a; do echo $x > /new/$x; done; rm /data/gone"
    forwards = "rm /data/gone; mkdir /new; for x in a b c; do echo $x > /new/$x; done"
    images = []
    for script in (backwards, forwards):
        with ran(base, script) as made:
            made._words = {**made._words, "args": ["sh"]}  # the command is part of a config
            made._spec.argv = [b"sh"]
            images.append(made.commit("equal"))
    assert images[0].digest == images[1].digest
    assert images[0].history[-1]["created"] == "2020-09-13T12:26:40Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with ran(base, "true") as made, pytest.raises(ValueError, match="SOURCE_DATE_EPOCH"):
        made.commit("x")


# ---- config ----------------------------------------------------------------------------------------------------------


def test_the_config_is_the_image_s_and_what_was_said(base: Image) -> None:
    with Container(["cat"], image=base, env={"A": "1", "B": "2"}, user="12:34", labels={"x": "y"}) as made:
        first = made.commit("config:1")
    assert dict(first.config) == {
        "Cmd": ["cat"], "Env": ["A=1", "B=2"], "User": "12:34", "Labels": {"x": "y"},
    }  # fmt: skip
    with Container(image=first, entrypoint=["echo"], env={"A": None, "C": "ü"}, cwd="/data") as made:
        second = made.commit("config:2")
    assert dict(second.config) == {
        "Entrypoint": ["echo"], "Env": ["B=2", "C=ü"], "User": "12:34", "Labels": {"x": "y"}, "WorkingDir": "/data",
    }  # fmt: skip
    assert [entry["created_by"] for entry in second.history][-2:] == ["cat", "echo"]
    assert second.platform == base.platform
    assert Image.get("config:2") == second


# ---- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_in_every_state(state: str, base: Image, store: Path) -> None:
    with container(state, base) as made:  # type: ignore[arg-type]
        made.write_bytes("/mine", b"x")
        before = made.state
        assert kinds(top(store, made.commit("state"))) == ["f mine"]
        made.export(store / "state.tar")
        assert made.state == before
        if state == "running":
            assert made.exec(["cat", "/mine"]).stdout == b"x"
    assert "mine" in members((store / "state.tar").read_bytes())
    for refused in (lambda: made.commit("x"), lambda: made.export(store / "x.tar")):
        with pytest.raises(pc.StateError):
            refused()
    assert not (store / "x.tar").exists()


@pytest.mark.requires("pen")
def test_nothing_runs_while_it_is_taken(base: Image, store: Path) -> None:
    """Two files that are written one after the other are never seen apart; but for that they would be, soon."""
    script = "while :; do x=$((x+1)); echo $x > /a; echo $x > /b; done"
    with Container(["sh", "-c", script], image=base) as made:
        time.sleep(0.2)
        for _ in range(5):
            made.export(store / "moment.tar")
            with tarfile.open(store / "moment.tar") as opened:
                texts = [opened.extractfile(name).read() for name in ("a", "b")]  # type: ignore[union-attr]
            numbers = [int(text or b"0") for text in texts]
            assert numbers[0] - numbers[1] in (0, 1) or b"" in texts


def test_asyncio(base: Image, store: Path) -> None:
    async def main() -> None:
        async with aio.Container(SLEEP, image=base) as made:
            await made.write_bytes("/mine", b"x")
            image = await made.commit("aio")
            await made.export(store / "aio.tar")
            assert kinds(top(store, image)) == ["f mine"]
            await made.exec(["sh", "-c", "head -c 50000000 /dev/urandom > /big"])
            ended = asyncio.create_task(made.commit("cancelled"))
            await asyncio.sleep(0.1)
            ended.cancel()
            begun = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await ended
            assert time.monotonic() - begun < patience(1)

    asyncio.run(main())
    assert "mine" in members((store / "aio.tar").read_bytes())
    with pytest.raises(pc.ImageNotFound):
        Image.get("cancelled")


@pytest.mark.requires("root")
def test_a_full_disk(base: Image, store: Path) -> None:
    """The blobs' file system is full: nothing is half done, and the next one works."""
    with ran(base, "head -c 3000000 /dev/urandom > /data/big") as made:
        before = Image.all()
        small, partial = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"], store / "partial"
        subprocess.run([*small, partial], check=True)
        try:
            with pytest.raises(pc.NoSpaceError):
                made.commit("big")
            assert [path for path in partial.iterdir() if path.suffix == ".tmp"] == []
        finally:
            subprocess.run(["umount", partial], check=True)
        assert Image.all() == before
        with pytest.raises(pc.NoSpaceError):
            export_to_a_full_one(made, store)
        assert "big" in str(made.commit("big").reference)


def export_to_a_full_one(made: Container, store: Path) -> None:
    place = store / "full"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        made.export(place / "x.tar")
    finally:
        left = list(place.iterdir())
        subprocess.run(["umount", place], check=True)
        assert left == []


def test_host_has_no_layers(store: Path) -> None:
    with Container(SLEEP) as made:
        with pytest.raises(pc.NotSupported, match=r"Image\.host\(\)"):
            made.commit("x")
        for bad in ("UPPER", "a:b:c", "x@sha256:" + "0" * 64):
            with pytest.raises(pc.InvalidReference):
                made.commit(bad)
        with pytest.raises(TypeError, match="reference"):
            made.commit(None)  # type: ignore[arg-type]


def test_a_store_that_nobody_else_enters(base: Image, store: Path) -> None:
    old = os.umask(0)
    try:
        with ran(base, "touch /x") as made:
            made.commit("x")
    finally:
        os.umask(old)
    for path in [store, *store.glob("*"), *store.glob("images/**/*"), *store.glob("partial/*")]:
        assert path.stat().st_mode & 0o077 == 0 or (path.is_file() and path.parent.stat().st_mode & 0o077 == 0), path


def test_a_layer_without_an_image(base: Image, store: Path) -> None:
    """What a build makes of each step."""
    with ran(base, "touch /x") as made:
        digest, size, kind, diff_id = core().container_layer(made._native, str(store))
        data = blob(store, digest)
        assert (len(data), kind) == (size, "application/vnd.oci.image.layer.v1.tar+gzip")
        assert diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    with ran(base, "true") as made:
        assert core().container_layer(made._native, str(store)) is None
