"""SIGKILL at random moments with bounded layers on the disk: no loop device, mount or file is left, no room taken."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pen import Pen

import leaks
from programs.stores import loops, mounted

pytestmark = [
    pytest.mark.requires("root", "unified", "loop", "program:mkfs.ext4"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(1800),
]
KINDS = [
    "ext4",
    pytest.param("ext4-quota", marks=pytest.mark.requires("project-quota:ext4")),
    pytest.param("xfs-quota", marks=pytest.mark.requires("project-quota:xfs")),
]
# Starts and ends all the time, and writes; each thread its own.
BUSY = """
import itertools, os, sys, threading
import pycontainer as pc
image = sys.argv[1]
COMMANDS = ["true", "dd if=/dev/zero of=/x bs=64k count=99999", "sleep 9", "while :; do echo x > /f; rm /f; done"]
def work(number):
    for i in itertools.count(number):
        limits = pc.Limits(disk=f"{4 << i % 3}MiB", wall_time=0.05 * (1 + i % 4))
        pc.run(["sh", "-c", COMMANDS[i % 4]], image=image, upper="disk", limits=limits)
        if number == 0 and i == 0:
            print("begin", flush=True)
for n in range(3):
    threading.Thread(target=work, args=(n,)).start()
"""


@pytest.fixture
def store(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    """A file system of its own, on which the pen's store is."""
    with mounted(request.param, 600, scratch) as path:
        yield path


def behind(store: Path) -> list[str]:
    """Loop devices whose file lies in the store."""
    return [f"{name} {file}" for name, file in loops().items() if file.startswith(str(store))]


def mounts_of_loops() -> set[str]:
    return {row for row in leaks.mounts() if "/dev/loop" in row}


def assert_nothing_is_left(pen: Pen, store: Path, free: int, shown: set[str]) -> None:
    left = pen.left()
    deadline = time.monotonic() + leaks.SETTLE
    while behind(store) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (left, behind(store)) == ([], [])
    assert mounts_of_loops() == shown
    assert list(store.glob("uppers/*")) == []
    os.sync()
    assert free - os.statvfs(store).f_bfree < 256, "what was written is still in the store"


@contextlib.contextmanager
def busy(program: str, store: Path, rootfs: Path) -> Iterator[tuple[Pen, subprocess.Popen[str]]]:
    """A pen with an interpreter that has begun, and whose layers lie in `store`, which the fixture removes."""
    with Pen(store) as pen:
        child = pen.start(program, rootfs)
        assert child.stdout is not None
        assert child.stdout.readline() == "begin\n", child.communicate()
        deadline = time.monotonic() + leaks.SETTLE
        while not (there := behind(store) or list(store.glob("uppers/*"))) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert there, "its layers are elsewhere"
        yield pen, child


@pytest.mark.parametrize("store", KINDS, indirect=True)
@pytest.mark.parametrize("victim", ["interpreter", "keeper", "both"])
def test_whoever_is_killed_nothing_is_left(
    victim: str, store: Path, rootfs: Path, times: Callable[[int], range]
) -> None:
    free, shown = os.statvfs(store).f_bfree, mounts_of_loops()
    for _ in times(40):
        with busy(BUSY, store, rootfs) as (pen, child):
            keepers = [pid for pid in pen.processes() if pid != child.pid and is_keeper(pid)]
            time.sleep(random.uniform(0, 0.4))
            for pid in [*keepers * (victim != "interpreter"), *[child.pid] * (victim != "keeper")]:
                kill(pid)
            if victim == "keeper":  # its interpreter goes on with another one
                time.sleep(0.2)
                kill(child.pid)
            child.wait()
            child.communicate()
            if victim == "both":
                # Directories of a quota remain; the next engine of the store sweeps them.
                pen.run(
                    "import sys, pycontainer as pc\npc.run(['true'], image=sys.argv[1], upper='disk')",
                    rootfs,
                    timeout=60,
                )
            assert_nothing_is_left(pen, store, free, shown)


def is_keeper(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "pycontainer\n" and not children_in_namespace(pid)
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False


def children_in_namespace(pid: int) -> bool:
    """A PID 1 has a second pid, and is none of the keeper's kind."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith("NSpid:") and len(line.split()) > 2 for line in lines)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("store", ["ext4"], indirect=True)
def test_a_forked_copy_keeps_no_device(store: Path, rootfs: Path, times: Callable[[int], range]) -> None:
    """Forks of the interpreter in the middle of starts: copies that live on hold nothing."""
    program = (
        BUSY.replace("for n in range(3)", "for n in range(2)")
        + """
import time
copies = []
while len(copies) < 30:
    pid = os.fork()
    if pid == 0:
        os.close(1)
        time.sleep(20)
        os._exit(0)
    copies.append(pid)
    time.sleep(0.02)
print(*copies, flush=True)
time.sleep(60)
"""
    )
    for _ in times(5):
        with busy(program, store, rootfs) as (pen, child):
            assert child.stdout is not None
            copies = [int(word) for word in child.stdout.readline().split()]
            child.kill()
            child.wait()
            deadline = time.monotonic() + leaks.SETTLE
            while behind(store) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert behind(store) == []
            assert sum(Path(f"/proc/{pid}").exists() for pid in copies) == 30, "the control: they live"
            pen.empty()
            child.communicate()
