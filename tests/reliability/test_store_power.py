"""Power cuts under a store at work: the disk goes away without its journal's last transactions, and comes back.

EXT4_IOC_SHUTDOWN with NOLOGFLUSH: from that moment nothing reaches the disk, and what waited in memory is lost.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import storing
from pen import Pen

import pace
from programs import stores

pytestmark = [
    pytest.mark.requires("pen", "root", "loop", "program:mkfs.ext4"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]
# linux/fs/ext4/ext4.h and xfs_fs.h: _IOR('X', 125, __u32).
SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
CUTS = {False: {"ext4": 200, "xfs": 50}, True: {"ext4": 5, "xfs": 1}}  # by --quick


@dataclass
class Disk:
    """A file system in a file, whose power can be cut."""

    kind: str
    image: Path
    point: Path

    @property
    def store(self) -> Path:
        return self.point / "store"

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.point)], check=True, capture_output=True)

    def cut(self) -> None:
        point = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(point, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(point)

    def again(self) -> None:
        stores.unmount(self.point)
        self.mount()


# The kernel of an emulated machine has no xfs.
XFS = [pytest.param("xfs", marks=pytest.mark.requires("program:mkfs.xfs"))] if pace.PACE == 1 else []


@pytest.fixture(params=["ext4", *XFS])
def disk(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        made = Disk(request.param, Path(directory, "image"), Path(directory, "mounted"))
        made.point.mkdir()
        with made.image.open("wb") as file:
            file.truncate(400 << 20)
        force = {"ext4": "-F", "xfs": "-f"}[request.param]
        subprocess.run([f"mkfs.{request.param}", "-q", force, str(made.image)], check=True, capture_output=True)
        made.mount()
        made.store.mkdir(mode=0o700)
        os.sync()
        try:
            yield made
        finally:
            stores.unmount(made.point)


def test_a_power_cut_loses_no_more_than_the_operation_in_flight(
    disk: Disk, rootfs: Path, scratch: Path, pytestconfig: pytest.Config, tell: Callable[[str], None]
) -> None:
    flying: Counter[str] = Counter()
    ended, names = 0, dict[str, str]()
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        place = storing.material(Path(directory), rootfs)
        cuts = pace.repetitions(CUTS[pytestconfig.getoption("--quick")][disk.kind], quick=False)
        with storing.registry(place):
            for number in cuts:
                told = one_cut(disk, place, number, names)
                flying[told.flying or "between"] += 1
                ended += told.ended
                names = storing.listed(disk.store)
    tell(f"{len(cuts)} cuts, {ended} operations before them, in flight: {dict(flying)}")
    assert ended


def one_cut(disk: Disk, place: Path, number: int, names: dict[str, str]) -> storing.Told:
    told = storing.Told(dict(names))
    with Pen(disk.store) as pen:
        child = pen.start(storing.PROGRAM, place, number, 1000)
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == '["ready"]\n', child.communicate()
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(random.Random(number).uniform(0, 1.2))
        disk.cut()
        time.sleep(0.02)  # what an operation makes of a disk that is gone is no part of this
        pen.empty()
        out, _ = child.communicate()
    told.hear(out)
    disk.again()
    storing.assert_told(disk.store, told)
    storing.next_works(disk.store, place)
    storing.assert_sound(disk.store)
    assert storing.leftovers(disk.store) == [], f"after {told.flying!r}"
    return told
