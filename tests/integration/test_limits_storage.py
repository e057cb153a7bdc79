"""disk, upper, io, io_weight: where writing stops, how fast a disk answers, and what is removed afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import requirements
import worlds
from probing import PROGRAM
from programs.loads import MIB, Load, schedulers
from pycontainer import IoLimit, Limits, Reason

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.vm
# A plain user's layer can lie in memory only from 6.6.
in_memory = pytest.mark.requires("tmpfs-upper")


def written(result: pc.Result[bytes]) -> int:
    count, error = result.stdout.split()
    assert error == b"ENOSPC"
    return int(count)


@in_memory
@pytest.mark.parameter("limits.disk")
@pytest.mark.parametrize("path", ["/x", "/tmp/x", "/var/tmp/x"])
def test_the_layer_is_full_at_the_limit(load: Load, path: str) -> None:
    result = load("fill", path, limits=Limits(disk="8MiB"))
    assert 7.9 * MIB <= written(result) <= 8 * MIB
    assert (result.reason, result.usage.disk_full) == (Reason.EXITED, True)
    assert result.usage.disk is not None
    assert 7.9 * MIB <= result.usage.disk <= 8 * MIB
    assert result.enforced["disk"].state == "held"


@in_memory
def test_empty_files_are_bounded_too(load: Load) -> None:
    script = "i=0; while true > /tmp/$i; do i=$((i+1)); done 2>/dev/null; echo $i"
    result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(disk="4MiB", wall_time=60))
    assert result.reason is Reason.EXITED
    assert 500 <= int(result.stdout) <= 1024
    assert result.usage.disk_full is True


@in_memory
def test_what_was_not_filled_is_not_full(load: Load) -> None:
    result = pc.run(["sh", "-c", "/bin/load flood 1 1000000 > /tmp/x"], image=load.root, limits=Limits(disk="8MiB"))
    assert result.usage.disk_full is False
    assert result.usage.disk is not None
    assert 1_000_000 <= result.usage.disk <= 1_100_000


@in_memory
@pytest.mark.requires("controller:memory")
def test_the_layer_takes_at_most_half_of_the_memory(load: Load) -> None:
    result = load("fill", "/x", limits=Limits(memory="32MiB", disk="64MiB"))
    assert 15.5 * MIB <= written(result) <= 16 * MIB
    assert result.reason is Reason.EXITED


@in_memory
@pytest.mark.parameter("limits.disk")
@pytest.mark.requires("memory_mib>=1500")
def test_max_lifts_the_256_mib_that_nobody_said(load: Load) -> None:
    script = "dd if=/dev/zero of=/x bs=1M count=300 2>/dev/null && echo fits"
    assert pc.run(["sh", "-c", script], image=load.root).stdout == b""
    lifted = pc.run(["sh", "-c", script], image=load.root, limits=Limits(disk="max"))
    assert lifted.stdout == b"fits\n"
    assert lifted.enforced["disk"].by == "lifted, as asked"


def test_where_the_layer_lies_if_nobody_said_is_told(load: Load) -> None:
    """In memory; a plain user's below 6.6 on the disk, and it is as writable there, root's own files too."""
    too_old = requirements.missing("tmpfs-upper")
    result = pc.run(["sh", "-c", "rm -r /etc; mkdir /etc; echo new > /etc/x; cat /etc/x"], image=load.root)
    assert result.stdout == b"new\n"
    row = result.enforced["upper"]
    if too_old is None:
        assert (row.state, row.by) == ("held", "tmpfs")
    else:
        assert (row.state, row.by, row.fix) == ("degraded", "a directory in the store", "Linux 6.6")
        assert uppers_left() == []
        with pytest.raises(pc.NotSupported, match=r"disk.*6\.6"):
            load("exit", 0, limits=Limits(disk="8MiB"))


@pytest.mark.parameter("run.upper")
def test_a_layer_on_the_disk_works_and_is_removed(load: Load) -> None:
    script = (
        "mkdir -p /var/a/b && echo kept > /var/a/b/c && chmod 0 /var/a/b && rm /bin/vi && ls /bin/vi; cat /var/a/b/c"
    )
    result = pc.run(["sh", "-c", script], image=load.root, upper="disk")
    assert result.stdout == b"kept\n"
    assert (load.root / "bin/vi").is_symlink()
    assert not (load.root / "var/a").exists()
    assert result.enforced["upper"].by == "a directory in the store"
    assert uppers_left() == []


def test_a_layer_on_the_disk_is_removed_after_a_kill_too(load: Load) -> None:
    result = pc.run(["sh", "-c", "mkdir /d; sleep 60"], image=load.root, upper="disk", limits=Limits(wall_time=0.3))
    assert result.reason is Reason.TIMEOUT
    assert uppers_left() == []


def uppers_left() -> list[str]:
    """Directories of layers of this process's keeper: named as its groups, anywhere a store can lie."""
    homes = [Path("/var/lib/pycontainer/uppers"), Path.home() / ".local/share/pycontainer/uppers"]
    homes += [Path(os.environ[name]) / "uppers" for name in ("PYCONTAINER_ROOT",) if name in os.environ]
    homes += [Path(os.environ[name]) / "pycontainer/uppers" for name in ("XDG_DATA_HOME",) if name in os.environ]
    return [str(path) for home in homes if os.access(home, os.R_OK) for path in home.iterdir()]


@pytest.mark.requires("user")
@pytest.mark.refuses("limits.disk")
@pytest.mark.parameter("run.degrade")
def test_a_plain_user_s_layer_on_the_disk_is_refused_a_bound_or_degraded(load: Load) -> None:
    limits = Limits(disk="8MiB")
    with pytest.raises(pc.NotSupported, match=r"disk.*only root.*project quota.*run as root"):
        load("exit", 0, limits=limits, upper="disk")
    degraded = load("exit", 0, limits=limits, upper="disk", degrade=["disk"])
    assert degraded.enforced["disk"].state == "missing"
    assert load("exit", 0, limits=Limits(disk="max"), upper="disk").reason is Reason.EXITED


# ---- io ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(scratch: Path) -> Iterator[Path]:
    """A file system of its own on a loop device, with a file of 8 MiB in it; its owner is a plain user."""
    image = scratch / "io.img"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "root_owner=1000:1000", str(image)], check=True)
    with tempfile.TemporaryDirectory(dir=scratch) as mounted:
        subprocess.run(["mount", "-o", "loop", str(image), mounted], check=True)
        try:
            path = Path(mounted)
            path.chmod(0o777)
            (path / "file").write_bytes(os.urandom(8 * MIB))
            (path / "file").chmod(0o666)
            os.chown(path / "file", 1000, 1000)
            os.sync()
            yield path
        finally:
            subprocess.run(["umount", mounted], check=True)
    image.unlink()


def seconds(load: Load, disk: Path, way: str, limit: IoLimit) -> float:
    """The time of 2 MiB around the page cache; on version 1 `io` is held badly, and only by permission."""
    result = load(
        "direct", way, "/data/file", 2 * MIB,
        mounts=[pc.Mount.bind(disk, "/data")], limits=Limits(io={str(disk): limit}), degrade=["io"],
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert result.enforced["io"].state in ("held", "degraded")
    return float(result.stdout)


@pytest.mark.requires("root", "loop", "controller:io", "program:mkfs.ext4")
@pytest.mark.parameter("limits.io")
def test_a_disk_answers_at_the_rate(load: Load, disk: Path) -> None:
    for way, limit in (
        ("read", IoLimit(read_bps="1MiB")),
        ("write", IoLimit(write_bps="1MiB")),
        ("read", IoLimit(read_iops=16)),
        ("write", IoLimit(write_iops=16)),
    ):
        assert 1.5 <= seconds(load, disk, way, limit) <= 4, (way, limit)
    other = IoLimit(write_bps="1MiB", read_bps="max")
    assert seconds(load, disk, "read", other) < 1.5


@pytest.mark.requires("root", "loop", "cgroup2:io", "program:mkfs.ext4")
@pytest.mark.parameter("limits.io")
def test_version_2_holds_buffered_writes_too_and_counts_them(load: Load, disk: Path) -> None:
    """They go to the disk later, by a kernel thread, and are the container's all the same: sync from outside waits."""

    def write(name: str, **parameters: Any) -> tuple[pc.Result[bytes], float]:
        begun = time.monotonic()
        script = f"dd if=/dev/zero of=/data/{name} bs=64k count=32 2>/dev/null; sync -f /data/{name}"
        result = pc.run(["sh", "-c", script], image=load.root, mounts=[pc.Mount.bind(disk, "/data")], **parameters)
        return result, time.monotonic() - begun

    os.sync()
    assert write("free")[1] < 1.5
    result, took = write("held", limits=Limits(io={str(disk): IoLimit(write_bps="1MiB")}))
    assert 1.5 <= took <= 6
    assert (result.reason, result.enforced["io"].state) == (Reason.EXITED, "held")
    assert result.usage.io_write is not None
    assert 2 * MIB <= result.usage.io_write <= 2.5 * MIB


@pytest.mark.requires("root", "cgroup1:blkio")
@pytest.mark.refuses("limits.io")
def test_version_1_does_not_hold_io_and_says_so(load: Load) -> None:
    device = Path("/sys/dev/block").iterdir().__next__().name
    with pytest.raises(pc.NotSupported, match=r"io.*buffered writes pass.*unified_cgroup_hierarchy"):
        load("exit", 0, limits=Limits(io={device: IoLimit(read_bps="1MiB")}))


@pytest.mark.requires("controller:io")
@pytest.mark.refuses("limits.io_weight")
def test_io_weight_is_refused_where_a_disk_is_not_divided_by_weight(load: Load) -> None:
    files = schedulers()
    if files and all("[bfq]" in file.read_text() for file in files):
        assert load("exit", 0, limits=Limits(io_weight=10)).enforced["io_weight"].state == "held"
        return
    with pytest.raises(pc.NotSupported, match=r"io_weight.*bfq"):
        load("exit", 0, limits=Limits(io_weight=10))
    assert load("exit", 0, limits=Limits(io_weight=10), degrade=["io_weight"]).enforced["io_weight"].state == "missing"


IN_A_NEW_INTERPRETER = """
import json, sys
import pycontainer as pc
program, image, limits = sys.argv[1:]
path = "/sys/fs/cgroup/io.bfq.weight"
r = pc.run([program, f"path={path}"], image=image, limits=pc.Limits(**json.loads(limits)), text=True)
print(r.enforced["io_weight"].state, json.loads(r.stdout)["paths"][path]["content"])
"""


@pytest.mark.requires("root", "cgroup2:io", "scheduler:bfq")
@pytest.mark.usefixtures("bfq")
@pytest.mark.parameter("limits.io_weight")
def test_io_weight_is_held_where_bfq_divides_every_disk(probe_root: Path) -> None:
    """The engine looks at the disks when it starts, so it is a new one; the container reads its group's weight."""
    command = [*worlds.python(IN_A_NEW_INTERPRETER), PROGRAM, str(probe_root), json.dumps({"io_weight": 10})]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["held", "default", "10"]
