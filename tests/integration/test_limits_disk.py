"""limits.disk with upper="disk": a project quota where the store's file system has one, else a loop file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from leaks import mounts
from programs.loads import MIB, Load
from programs.stores import in_store, loops, mounted
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]
pytestmark = [pytest.mark.vm, pytest.mark.requires("root")]
MEANS = [
    pytest.param("ext4", "loop file", marks=pytest.mark.requires("loop", "program:mkfs.ext4")),
    pytest.param("ext4-quota", "project quota", marks=pytest.mark.requires("loop", "project-quota:ext4")),
    pytest.param("xfs-quota", "project quota", marks=pytest.mark.requires("loop", "project-quota:xfs")),
]
# What the kernel says where there is no more: a quota of ext4 has a word of its own.
WORDS = {"ext4": "ENOSPC", "ext4-quota": "EDQUOT", "xfs-quota": "ENOSPC"}


@pytest.fixture
def store(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    """A store of 600 MiB on the file system that the test's parameter names."""
    with mounted(request.param, 600, scratch) as path:
        yield path


FILL = """
for size in (4, 16, 100):
    limits = Limits(disk=size << 20)
    tell(facts(pc.run(["/bin/load", "fill", "/x"], image=root, upper="disk", limits=limits)))
"""


@pytest.mark.parametrize(("store", "by"), MEANS, indirect=["store"])
def test_the_layer_is_full_at_the_limit(request: pytest.FixtureRequest, load: Load, store: Path, by: str) -> None:
    word = WORDS[request.node.callspec.params["store"]]
    for size, seen in zip((4, 16, 100), in_store(store, FILL, load.root), strict=True):
        count, error = seen["out"].split()
        assert 0.9 <= int(count) / (size * MIB) <= 1.1, seen
        assert error == word
        assert (seen["reason"], seen["state"], seen["by"]) == ("exited", "held", by)
        assert seen["full"] is True
        assert int(count) <= seen["disk"] <= int(count) + 128 * 1024


@pytest.mark.parametrize(("store", "by"), MEANS, indirect=["store"])
def test_what_was_removed_can_be_written_again(load: Load, store: Path, by: str) -> None:
    """Ten times the limit in all; and what is left at the end is little, and not full.

    XFS gives the room of a removed file back a moment later, so the container waits for it, at most 20 s.
    """
    program = """
script = '''
for i in 1 2 3 4 5 6 7 8 9 10; do dd if=/dev/zero of=/x bs=1M count=12 2>/dev/null && rm /x || echo $i; done
used() { busybox df -kP / | busybox tail -n 1 | { read _ _ kib _; echo $kib; }; }
i=0; while [ $(used) -ge 1024 ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i+1)); done
'''
tell(facts(pc.run(["sh", "-c", script], image=root, upper="disk", limits=Limits(disk="16MiB"))))
"""
    (seen,) = in_store(store, program, load.root)
    assert (seen["out"], seen["full"], seen["by"]) == ("", False, by)
    assert seen["disk"] < MIB


@pytest.mark.parametrize(("store", "by"), MEANS, indirect=["store"])
def test_empty_files_are_bounded_too(load: Load, store: Path, by: str) -> None:
    program = """
script = "i=0; while true > /tmp/$i; do i=$((i+1)); done 2>/dev/null; echo $i"
tell(facts(pc.run(["sh", "-c", script], image=root, upper="disk", limits=Limits(disk="2MiB", wall_time=100))))
"""
    (seen,) = in_store(store, program, load.root)
    assert seen["reason"] == "exited"
    assert 250 <= int(seen["out"]) <= 1024
    assert (seen["full"], seen["by"]) == (True, by)


WORKS = """
script = '''set -e
echo kept > /tmp/a; ln /tmp/a /tmp/b; mv /tmp/b /var/b; cat /var/b
rm /bin/vi; rm -rf /etc; mkdir /etc; test ! -e /bin/vi; ls /etc; chmod 700 /bin; mv /bin/load /bin/moved
mkfifo /tmp/f; ln -s a /tmp/l; cat /tmp/l; sync'''
tell(facts(pc.run(["sh", "-c", script], image=root, upper="disk", limits=Limits(disk="4MiB"), check=True)))
"""


@pytest.mark.parametrize(("store", "by"), MEANS, indirect=["store"])
def test_it_is_a_copy_on_write_view_as_any_other(load: Load, store: Path, by: str) -> None:
    before = sorted((path.lstat().st_ino, str(path)) for path in load.root.rglob("*"))
    (seen,) = in_store(store, WORKS, load.root)
    assert (seen["out"], seen["by"]) == ("kept\nkept\n", by)
    assert sorted((path.lstat().st_ino, str(path)) for path in load.root.rglob("*")) == before


@pytest.mark.parametrize(("store", "by"), MEANS, indirect=["store"])
def test_two_do_not_take_from_each_other(load: Load, store: Path, by: str) -> None:
    program = """
import threading
def fill():
    tell(facts(pc.run(["/bin/load", "fill", "/x"], image=root, upper="disk", limits=Limits(disk="24MiB"))))
threads = [threading.Thread(target=fill) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    for seen in in_store(store, program, load.root):
        assert 0.9 <= int(seen["out"].split()[0]) / (24 * MIB) <= 1.1, seen
        assert seen["by"] == by


@pytest.mark.parametrize(("store", "by"), MEANS, indirect=["store"])
def test_nothing_is_left_of_it(load: Load, store: Path, by: str) -> None:
    program = """
for script in ("echo x > /x", "mkdir -p /d/e; chmod 0 /d; exit 3", "sleep 60"):
    limits = Limits(disk="8MiB", wall_time=0.5)
    tell(facts(pc.run(["sh", "-c", script], image=root, upper="disk", limits=limits)))
    tell(os.listdir(os.environ["PYCONTAINER_ROOT"] + "/uppers"))
"""
    free = os.statvfs(store).f_bfree
    told = in_store(store, program, load.root)
    assert [seen["by"] for seen in told[::2]] == [by] * 3
    assert told[4]["reason"] == "timeout"
    assert told[1::2] == [[]] * 3
    os.sync()
    assert free - os.statvfs(store).f_bfree < 64


@pytest.mark.requires("loop")
def test_while_it_runs_the_file_has_no_name_and_no_table_shows_the_mount(load: Load, scratch: Path) -> None:
    before = mounts()
    with mounted("ext4", 200, scratch) as store:
        program = """
import threading
r, w = os.pipe()
def run():
    pc.run(["sh", "-c", "echo up; sleep 2"], image=root, upper="disk", limits=Limits(disk="8MiB"), stdout=w)
thread = threading.Thread(target=run); thread.start()
os.read(r, 3)
import glob
shown = open("/proc/self/mountinfo").read().count("ext4 /dev/loop")
tell([sorted(os.listdir(os.environ["PYCONTAINER_ROOT"] + "/uppers")), shown])
tell([open(path).read().strip() for path in glob.glob("/sys/block/loop*/loop/backing_file")])
thread.join()
"""
        (names, seen_mounts), files = in_store(store, program, load.root)
        mine = [path for path in files if path.startswith(str(store))]
        assert names == []
        assert len(mine) == 1
        assert mine[0].endswith("(deleted)")
        assert seen_mounts == sum("/dev/loop" in row for row in mounts())
    assert mounts() == before
    assert [path for path in loops().values() if path.startswith(str(store))] == []


@pytest.mark.requires("loop", "program:mkfs.ext4")
def test_a_store_without_room_is_told_at_the_start(load: Load, scratch: Path) -> None:
    """The bytes are set aside: in a hole of a full store, what the container had written would be lost."""
    program = """
try:
    pc.run(["true"], image=root, upper="disk", limits=Limits(disk="1GiB"))
except pc.SetupError as error:
    tell([error.errno, str(error)])
tell(facts(pc.run(["/bin/load", "fill", "/x"], image=root, upper="disk", limits=Limits(disk="16MiB"))))
"""
    with mounted("ext4", 100, scratch) as store:
        (errno, text), seen = in_store(store, program, load.root)
        assert errno == 28
        assert "bytes aside in" in text
        assert 0.9 <= int(seen["out"].split()[0]) / (16 * MIB) <= 1.1


@pytest.mark.requires("loop")
@pytest.mark.parameter("limits.disk")
@pytest.mark.parameter("run.upper")
def test_in_the_store_of_this_process(load: Load) -> None:
    result = load("fill", "/x", limits=Limits(disk="8MiB"), upper="disk")
    count, error = result.stdout.split()
    assert 0.9 <= int(count) / (8 * MIB) <= 1.1
    assert error in (b"ENOSPC", b"EDQUOT")
    assert result.reason is Reason.EXITED
    assert result.enforced["disk"].by in ("project quota", "loop file")
    assert {row.name for row in result.enforced.values() if row.state != "held"} == set()
    lifted = load("exit", 0, limits=Limits(disk=math.inf), upper="disk")
    assert lifted.usage.disk is None
    assert lifted.enforced["disk"].by == "lifted, as asked"


@pytest.mark.requires("loop")
def test_of_this_machine_s_programs_too() -> None:
    script = "dd if=/dev/zero of=/tmp/x bs=64k 2>/dev/null; stat -c %s /tmp/x"
    result = pc.run(["sh", "-c", script], limits=Limits(disk="8MiB"), upper="disk")
    assert 0.9 <= int(result.stdout) / (8 * MIB) <= 1.1
    assert result.usage.disk_full is True


@pytest.mark.requires("loop")
def test_more_than_a_file_system_can_have_is_refused(load: Load) -> None:
    with pytest.raises((ValueError, pc.SetupError), match=r"disk|aside"):
        load("exit", 0, limits=Limits(disk=1 << 50), upper="disk")


@pytest.mark.requires("loop")
@pytest.mark.parametrize("disk", [4096, "64KiB", "1MiB"])
def test_the_smallest_ones_start(load: Load, disk: int | str) -> None:
    assert load("exit", 0, limits=Limits(disk=disk), upper="disk").returncode == 0
