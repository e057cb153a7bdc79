"""commit() and export(): what a container has made as a layer, an image, a tar; read by others too."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Image, Mount, aio
from pycontainer._native import core
from states import SLEEP, STATES, container

pytestmark = pytest.mark.requires("userns")

Members = dict[str, tarfile.TarInfo]


@pytest.fixture(autouse=True)
def store(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
    monkeypatch.setenv("PYCONTAINER_STORE", str(path))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.fixture
def base(rootfs: Path) -> Image:
    """An image of one layer, the small root file system with a few more files."""
    script = """
    mkdir -p /data/replaced /data/dir /data/kept; echo old > /data/replaced/old; echo same > /data/replaced/same
    echo x > /data/file; echo x > /data/gone; echo x > /data/dir/x; echo x > /data/mode; echo x > /data/kept/far
    """
    with Container(["sh", "-c", script], image=rootfs) as made:
        assert made.wait(timeout=patience(10)) == 0, made.logs()
        return made.commit("base:1")


def ran(image: Any, script: str, **options: Any) -> Container:
    """One that has run this script to its end."""
    made = Container(["sh", "-ec", script], image=image, **options).start()
    assert made.wait(timeout=patience(20)) == 0, made.logs()
    return made


def blob(store: Path, digest: str) -> bytes:
    data = (store / "images/blobs" / digest.replace(":", "/")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest.partition(":")[2]
    return data


def top(store: Path, image: Image) -> bytes:
    """The tar of its highest layer."""
    return gzip.decompress(blob(store, json.loads(blob(store, str(image.digest)))["layers"][-1]["digest"]))


def members(tar: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {member.name: member for member in opened.getmembers()}


def kinds(tar: bytes) -> list[str]:
    letters = {b"0": "f", b"1": "h", b"2": "l", b"3": "c", b"5": "d", b"6": "p"}
    return [f"{letters[member.type]} {name}" for name, member in members(tar).items()]


# ---- what is in a layer --------------------------------------------------------------------------------------------

CHANGES = """
cd /data; echo more >> file; rm gone; chmod 4711 mode; rm -r dir; echo file > dir
rm -r replaced; mkdir replaced; echo new > replaced/same; echo new > replaced/new
ln file hard; ln -s nowhere link; mkfifo fifo; mkdir -p deep/er; echo x > deep/er/x; chmod 1777 deep
"""


def test_a_layer_holds_the_changes_and_nothing_else(base: Image, store: Path, tmp_path: Path) -> None:
    mounts = [Mount.tmpfs("/srv/deep/er"), Mount.bind(tmp_path, "/mnt/x", read_only=True)]
    with ran(base, CHANGES, mounts=mounts) as made:
        image = made.commit("changed")
    tar = top(store, image)
    assert kinds(tar) == [
        "d data", "d data/deep", "d data/deep/er", "f data/deep/er/x", "f data/dir", "p data/fifo", "f data/file",
        "f data/.wh.gone", "h data/hard", "l data/link", "f data/mode", "d data/replaced",
        "f data/replaced/.wh..wh..opq", "f data/replaced/new", "f data/replaced/same",
    ]  # fmt: skip
    found = members(tar)
    assert (found["data/mode"].mode, found["data/deep"].mode) == (0o4711, 0o1777)
    assert (found["data/hard"].linkname, found["data/link"].linkname) == ("data/file", "nowhere")
    assert image.layers[:-1] == base.layers
    assert image.layers[-1] == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    image.verify()


def test_the_image_is_what_the_container_has_seen(base: Image) -> None:
    """From both ends: what the next container of it sees is what this one saw."""
    tell = "cd /data; find . | sort | xargs ls -ld; cat file dir replaced/*"
    with ran(base, CHANGES + tell) as made:
        seen = made.logs()
        image = made.commit("changed")
    # The number of names of a directory is the file system's own matter.
    cells = [[line.split()[:1] + line.split()[2:] for line in text.decode().splitlines()] for text in (seen, logs(image, tell))]
    assert cells[0] == cells[1]
    assert b"gone" not in seen


def logs(image: Image, script: str) -> bytes:
    return pc.run(["sh", "-c", script], image=image, check=True, timeout=patience(20)).stdout


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
    assert logs(image, "cd /data; ls . replaced") == b".:\ndir\nkept\nmode\nreplaced\n\nreplaced:\n"
    assert len(image.layers) == 5


def test_attributes_owners_and_capabilities(base: Image, store: Path) -> None:
    with ran(base, "cd /data; touch plain; chown 12:34 plain; chown 65000:65000 mode", limits=pc.Limits()) as made:
        found = members(top(store, made.commit("owners")))
    assert (found["data/plain"].uid, found["data/plain"].gid) == (12, 34)
    assert (found["data/mode"].uid, found["data/mode"].gid) == (65000, 65000)
    assert not any(member.uname or member.gname for member in found.values())


@pytest.mark.requires("root", "kernel>=6.6")
def test_user_attributes_and_file_capabilities(store: Path) -> None:
    """Set by a program inside; Image.host() has one that can, and a layer of its own."""
    code = """import os, struct
os.makedirs('/var/x'); open('/var/x/f', 'w').close()
os.setxattr('/var/x/f', 'user.a=b', b'\\0v'); os.setxattr('/var/x', 'user.of', b'dir')
os.setxattr('/var/x/f', 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
os.setxattr('/var/x/f', 'user.overlay.opaque', b'y')
"""
    with Container(["python3", "-c", code], image=Image.host()) as made:
        assert made.wait(timeout=patience(20)) == 0, made.logs()
        made.export(store / "host.tar")
    found = members((store / "host.tar").read_bytes())
    headers = found["var/x/f"].pax_headers
    assert headers["SCHILY.xattr.user.a%3Db"] == "\0v"
    assert found["var/x"].pax_headers == {"SCHILY.xattr.user.of": "dir"}
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape")[:5] == b"\1\0\0\2\0"
    assert not [key for key in headers if "overlay" in key]


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
    assert logs(image, "cd /data; tail -c 4 holes; head -c 10 holes | od -c | head -1; du -k holes").split(b"\n")[0] == b"end"


def test_a_name_that_a_layer_cannot_hold(base: Image, store: Path) -> None:
    with ran(base, "touch /data/.wh.x") as made:
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


@pytest.mark.requires("cgroup2-freezer")
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
    import asyncio

    async def main() -> None:
        async with aio.Container(SLEEP, image=base) as made:
            await made.write_bytes("/mine", b"x")
            image = await made.commit("aio")
            await made.export(store / "aio.tar")
            assert kinds(top(store, image)) == ["f mine"]

    asyncio.run(main())
    assert "mine" in members((store / "aio.tar").read_bytes())


# ---- export ----------------------------------------------------------------------------------------------------------


def test_an_export_is_a_root_file_system(rootfs: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    mounts = [Mount.bind(tmp_path, "/mnt", read_only=True), Mount.bind(tmp_path / "secret", "/etc/bound", read_only=True)]
    with ran(rootfs, "echo x > /x; touch /dev/shm/y", mounts=mounts) as made:
        made.export(store / "root.tar")
    tar = (store / "root.tar").read_bytes()
    found = members(tar)
    assert found["."].isdir() and found["x"].size == 2
    assert {"proc", "sys", "dev", "mnt", "bin/busybox"} <= found.keys()
    assert not [name for name in found if name.startswith(("proc/", "sys/", "dev/", "mnt/"))]
    assert (found["etc/bound"].size, b"of the host" in tar) == (0, False)
    assert pc.run(["cat", "/x"], image=Image.from_archive(store / "root.tar")).stdout == b"x\n"


def test_where_an_export_goes(rootfs: Path, store: Path) -> None:
    there = store / "there.tar"
    there.write_text("kept")
    before = sorted(store.iterdir())
    with ran(rootfs, "true") as made:
        for path, number in ((store, "EISDIR"), (store / "missing/x.tar", "ENOENT"), (f"{there}/", "EISDIR")):
            with pytest.raises(pc.SetupError) as caught:
                made.export(path)
            assert errno_name(caught.value) == number
            assert str(caught.value.filename).rstrip("/").startswith(str(path).rstrip("/"))
        assert (there.read_text(), sorted(store.iterdir())) == ("kept", before)
        made.export(there)
        assert tarfile.is_tarfile(there)
        with pytest.raises(ValueError, match="path"):
            made.export("")


def errno_name(error: OSError) -> str:
    import errno

    return errno.errorcode[error.errno or 0]


def test_a_signal_ends_it_and_leaves_nothing(rootfs: Path, store: Path) -> None:
    class Enough(Exception): ...

    def enough(*_: object) -> None:
        raise Enough

    with ran(rootfs, "dd if=/dev/urandom of=/big bs=1000000 count=60", limits=pc.Limits(disk="80MiB")) as made:
        before = sorted(store.rglob("*"))
        old = signal.signal(signal.SIGALRM, enough)
        try:
            for what in (lambda: made.commit("x"), lambda: made.export(store / "x.tar")):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(Enough):
                    what()
        finally:
            signal.signal(signal.SIGALRM, old)
        assert [path for path in store.rglob("*") if path not in before and path.is_file() and path.stat().st_size > 100] == []
        assert made.read_bytes("/big", max_size="max")[:1]


def test_host_has_no_layers(store: Path) -> None:
    with Container(SLEEP) as made:
        with pytest.raises(pc.NotSupported, match=r"Image\.host\(\)"):
            made.commit("x")
        for bad in ("UPPER", "a:b:c", "x@sha256:" + "0" * 64):
            with pytest.raises(pc.InvalidReference):
                made.commit(bad)
        with pytest.raises(TypeError, match="reference"):
            made.commit(None)  # type: ignore[arg-type]


# ---- other readers ---------------------------------------------------------------------------------------------------


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    groups: dict[int, str] = {}
    for path in sorted([root, *root.rglob("*")]):
        seen = path.lstat()
        name = str(path.relative_to(root))
        data = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
        target = os.readlink(path) if path.is_symlink() else ""
        group = groups.setdefault(seen.st_ino, name)
        time_of = 0 if stat.S_ISDIR(seen.st_mode) else int(seen.st_mtime)
        found[name] = (stat.filemode(seen.st_mode), target, seen.st_uid, seen.st_gid, time_of, group, data)
    return found


@pytest.mark.requires("root", "umoci")
def test_umoci_and_tar_unpack_the_same(base: Image, store: Path, scratch: Path) -> None:
    """What both make of the image is what export() says that it is."""
    work = Path(tempfile.mkdtemp(prefix="readers-", dir=scratch))
    long = "/data/" + "n" * 150
    script = f"{CHANGES}; touch {long}; chown 12:34 {long}; truncate -s 2000000 holes; echo end >> holes"
    with ran(base, script) as made:
        image = made.commit("readers")
        made.export(work / "root.tar")
    image.save(work / "oci.tar")
    (work / "layout").mkdir()
    subprocess.run(["tar", "-xf", work / "oci.tar", "-C", work / "layout"], check=True)
    tag = json.loads((work / "layout/index.json").read_text())["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
    subprocess.run(["umoci", "unpack", "--image", f"{work}/layout:{tag}", work / "bundle"], check=True, capture_output=True)
    (work / "tar").mkdir()
    subprocess.run(["tar", "--numeric-owner", "--xattrs", "-xpf", work / "root.tar", "-C", work / "tar"], check=True)
    trees = [tree(work / "bundle/rootfs"), tree(work / "tar")]
    # What the engine provides is in the root, and not in the image.
    for found in trees:
        for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf", "proc", "sys", "dev"):
            found.pop(name, None)
    assert trees[0] == trees[1]
    shutil.rmtree(work)


# ---- attacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_links_that_come_and_go_lead_nowhere(
    frozen: bool, base: Image, store: Path, scratch: Path, times: Callable[[int], range], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2023-0778: a file that becomes a link to the host's while it is read. Also where nothing can be stopped."""
    canary = Path(tempfile.mkdtemp(prefix="canary-", dir=scratch)) / "canary"
    canary.write_text("c4n4ry" * 100)
    canary.parent.chmod(0o755)
    if not frozen:
        monkeypatch.setattr(Container, "_still", lambda *_: contextlib.nullcontext())
    script = f"""
    mkdir /v /w; ln -s {canary.parent} /w/d; ln -s {canary} /w/f; mkfifo /w/p
    while :; do mkdir /v/d; echo x > /v/d/canary; echo y > /v/f; mv /v/d /v/e; cp -P /w/d /v/d; rm /v/f; cp -P /w/f /v/f
    rm -r /v/f /v/d /v/e; mkfifo /v/f; rm /v/f; done
    """
    with Container(["sh", "-c", script], image=base) as made:
        for _ in times(60):
            # A name may be of another kind at each of several looks: said, and nothing is left half done.
            with contextlib.suppress(pc.SetupError):
                assert b"c4n4ry" not in top(store, made.commit("raced"))
            with contextlib.suppress(pc.SetupError):
                made.export(store / "raced.tar")
                assert b"c4n4ry" not in (store / "raced.tar").read_bytes()
        assert made.poll() is None


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
