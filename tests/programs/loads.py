"""A pytest plugin for the tests of limits: load.c compiled once, an image with it, a watch on the host, its disks."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from programs.compiled import compiled

SOURCE = Path(__file__).with_name("load.c")
MIB = 1 << 20


class Load:
    """load(word, ..., **parameters of run) is the Result of that word of load.c in a container."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: object, **parameters: Any) -> pc.Result[bytes]:
        return pc.run(["/bin/load", *map(str, words)], image=self.root, **parameters)


@pytest.fixture(scope="session")
def load(rootfs: Path, scratch: Path) -> Load:
    root = shutil.copytree(rootfs, scratch / "load-root", symlinks=True)
    compiled(SOURCE, root / "bin/load")
    return Load(root)


@pytest.fixture
def lateness(load: Load) -> float:
    """Seconds that a start and an end take here: a few thousandths, or twenty times that in an emulated kernel."""
    times = []
    for _ in range(3):
        begun = time.monotonic()
        load("exit", 0)
        times.append(time.monotonic() - begun)
    return min(times)


@pytest.fixture(scope="module")
def two_at_once(load: Load) -> None:
    """The engine keeps a range of ids for each container that ran beside another: taken before leaks are looked for."""
    threads = [threading.Thread(target=load, args=("sleep", 0.5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Heartbeat:
    """How late a thread of this process ever woke up, and whether the host could still fork and allocate."""

    INTERVAL = 0.05

    def __init__(self) -> None:
        self.latest = 0.0
        self.beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        while not self._ended.is_set():
            due = time.monotonic() + self.INTERVAL
            time.sleep(self.INTERVAL)
            bytearray(MIB)
            pid = os.posix_spawn("/bin/true", ["true"], {})
            os.waitpid(pid, 0)
            self.latest = max(self.latest, time.monotonic() - due)
            self.beats += 1

    def wait_for_a_beat(self, seconds: float) -> None:
        """A load that was over sooner than one interval is followed by one: the host still forks and allocates."""
        until = time.monotonic() + seconds
        while not self.beats and time.monotonic() < until:
            time.sleep(self.INTERVAL / 5)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def heartbeat() -> Iterator[Heartbeat]:
    with Heartbeat() as beating:
        yield beating


def schedulers() -> list[Path]:
    """Of the disks that are hardware and not a drive with a medium."""
    disks = [path for path in Path("/sys/block").iterdir() if (path / "device").exists()]
    return [path / "queue/scheduler" for path in disks if (path / "removable").read_text().strip() == "0"]


@pytest.fixture
def bfq() -> Iterator[None]:
    """Every disk of an emulated machine under the scheduler that knows weights, for the moment of the test."""
    before = {file: file.read_text().split("[")[1].split("]")[0] for file in schedulers()}
    for file in before:
        file.write_text("bfq")
    yield
    for file, name in before.items():
        file.write_text(name)
