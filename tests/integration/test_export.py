"""export(): the whole root of a container as a tar, and who reads it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import pycontainer as pc
from pycontainer import Image, Mount
from tars import CHANGES, members, ran

pytestmark = pytest.mark.requires("userns")


def test_an_export_is_a_root_file_system(rootfs: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    mounts = [
        Mount.bind(tmp_path, "/mnt", read_only=True),
        Mount.bind(tmp_path / "secret", "/etc/bound", read_only=True),
    ]
    with ran(rootfs, "echo x > /x; touch /dev/shm/y", mounts=mounts) as made:
        made.export(store / "root.tar")
    tar = (store / "root.tar").read_bytes()
    found = members(tar)
    assert (found["."].type, found["x"].size) == (b"5", 2)
    assert {"proc", "sys", "dev", "mnt", "bin/busybox"} <= found.keys()
    assert not [name for name in found if name.startswith(("proc/", "sys/", "dev/", "mnt/"))]
    assert (found["etc/bound"].size, b"of the host" in tar) == (0, False)
    assert pc.run(["cat", "/x"], image=Image.from_archive(store / "root.tar")).stdout == b"x\n"


def test_where_an_export_goes(rootfs: Path, store: Path) -> None:
    there = store / "there.tar"
    there.write_text("kept")
    with ran(rootfs, "true") as made:
        before = sorted(store.iterdir())
        for path, number in ((store, "EISDIR"), (store / "missing/x.tar", "ENOENT"), (f"{there}/", "EISDIR")):
            with pytest.raises(pc.SetupError) as caught:
                made.export(path)
            assert errno.errorcode[caught.value.errno or 0] == number
            assert str(caught.value.filename).rstrip("/").startswith(str(path).rstrip("/"))
        assert (there.read_text(), sorted(store.iterdir())) == ("kept", before)
        made.export(there)
        assert tarfile.is_tarfile(there)
        with pytest.raises(ValueError, match="path"):
            made.export("")


@pytest.mark.requires("layer-size")
def test_a_signal_ends_it_and_leaves_nothing(rootfs: Path, store: Path) -> None:
    class Enough(Exception): ...

    def enough(*_: object) -> None:
        raise Enough

    with ran(rootfs, "dd if=/dev/urandom of=/big bs=1000000 count=60", limits=pc.Limits(disk="80MiB")) as made:
        before = sorted(store.rglob("*"))
        old = signal.signal(signal.SIGALRM, enough)
        try:
            for what in (lambda: made.commit("x"), lambda: made.export(store / "x.tar")):
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                with pytest.raises(Enough):
                    what()
        finally:
            signal.signal(signal.SIGALRM, old)
        assert [
            path for path in store.rglob("*") if path not in before and path.is_file() and path.stat().st_size > 100
        ] == []
        assert made.read_bytes("/big", max_size="max")[:1]


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


def umoci(image: Path, work: Path) -> Path:
    (work / "layout").mkdir()
    subprocess.run(["tar", "-xf", image, "-C", work / "layout"], check=True)
    named = json.loads((work / "layout/index.json").read_text())["manifests"][0]["annotations"]
    tagged = f"{work}/layout:{named['org.opencontainers.image.ref.name']}"
    subprocess.run(["umoci", "unpack", "--image", tagged, work / "bundle"], check=True, capture_output=True)
    return work / "bundle/rootfs"


def podman(image: Path, work: Path) -> Path:
    # It takes no longer path than 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-") as runroot:
        words = ["podman", "--root", work / "podman", "--runroot", runroot, "--storage-driver", "vfs"]
        words += ["--cgroup-manager", "cgroupfs"]
        loaded = subprocess.run([*words, "load", "-i", image], check=False, capture_output=True)
        assert loaded.returncode == 0, loaded.stderr
        mounted = subprocess.run([*words, "image", "mount", "readers"], check=True, capture_output=True, text=True)
    return Path(mounted.stdout.strip())


@pytest.mark.requires("root")
@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(umoci, marks=pytest.mark.requires("program:umoci")),
        pytest.param(podman, marks=pytest.mark.requires("program:podman")),
    ],
)
def test_others_make_the_same_of_it(
    reader: Callable[[Path, Path], Path], base: Image, store: Path, scratch: Path
) -> None:
    """What they make of the image is what GNU tar makes of the container's root."""
    work = Path(tempfile.mkdtemp(prefix="readers-", dir=scratch))
    long = "/data/" + "n" * 150
    script = f"{CHANGES}touch {long}; chown 12:34 {long}; truncate -s 2000000 holes; echo end >> holes"
    with ran(base, script) as made:
        image = made.commit("readers")
        made.export(work / "root.tar")
    image.save(work / "oci.tar")
    (work / "tar").mkdir()
    subprocess.run(["tar", "--numeric-owner", "--xattrs", "-xpf", work / "root.tar", "-C", work / "tar"], check=True)
    trees = [tree(reader(work / "oci.tar", work)), tree(work / "tar")]
    # What the engine provides is in the root, and not in the image.
    for found in trees:
        for name in (".", "etc/hosts", "etc/hostname", "etc/resolv.conf", "proc", "sys", "dev"):
            found.pop(name, None)
    assert trees[0] == trees[1]
    shutil.rmtree(work)
