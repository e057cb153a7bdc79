"""Two containers share a directory: one swaps a part of it with a link to /, the other is started meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pycontainer as pc
from hostile.attacks import shell

# renameat2(RENAME_EXCHANGE) as fast as it goes, until the file `stop` is there.
SWAP = """
import ctypes, os
libc = ctypes.CDLL(None)
os.chdir('/share')
os.makedirs('d/x', exist_ok=True)
os.symlink('TARGET', 'link')
rounds = 0
while not os.path.exists('stop'):
    for _ in range(100):
        libc.syscall(316, -100, b'd', -100, b'link', 2)
    rounds += 100
print(rounds)
"""


@pytest.fixture(scope="module", autouse=True)
def two_ranges(rootfs: Path) -> None:
    """Two containers at once before the first snapshot: the engine keeps the claims of its id ranges for the
    next ones.
    """
    threads = [
        threading.Thread(target=pc.run, args=(["/bin/sleep", "0.3"],), kwargs={"image": rootfs}) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def swapping(shared: Path, target: str) -> Iterator[list[int]]:
    """Container A at work; yields a list that has its number of swaps afterwards."""
    rounds: list[int] = []
    mounts = [pc.Mount.bind(shared, "/share")]

    def attack() -> None:
        code = SWAP.replace("TARGET", target)
        done = pc.run(["python3", "-c", code], mounts=mounts, text=True, timeout=90, check=True)
        rounds.append(int(done.stdout))

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        yield rounds
    finally:
        (shared / "stop").touch()
        attacker.join()
        (shared / "stop").unlink()


def starts(root: Path, count: range, seconds: float = 0, **options: object) -> dict[str, int]:
    """Container B, again and again, for at least so long: how often it ran, and how often the start was refused."""
    seen = {"ran": 0, "refused": 0}
    until = time.monotonic() + seconds
    while sum(seen.values()) < len(count) or time.monotonic() < until:
        try:
            done = shell(root, "cat /share/d/x/ptmx /share/d/x/file /share/link/x/file /ptmx 2>/dev/null", **options)
            assert "secret" not in done.stdout
            assert "do not touch" not in done.stdout
            seen["ran"] += 1
        except pc.SetupError as error:
            if error.errno not in (2, 11, 17, 20, 40, 61):
                raise
            seen["refused"] += 1
    return seen


@pytest.mark.parametrize("target", ["/", "/proc/1/root", "../../../../../../../../..", "/proc/self/cwd/../.."])
def test_cve_2021_30465_mount_target_is_swapped(
    rootfs: Path, shared: Path, canary: Path, times: Callable[[int], range], target: str
) -> None:
    """Also CVE-2024-45310 and CVE-2015-1335. A tmpfs at /share/d/x, and below it one whose mount point is made: the
    canary and the mount table of the host stay as they are. The swaps are counted, so that a race that did not run
    is a failure.
    """
    before = Path("/proc/self/mountinfo").read_text()
    share = pc.Mount.bind(shared, "/share")
    with swapping(shared, target) as rounds:
        seen = starts(rootfs, times(30), 2, mounts=[share, pc.Mount.tmpfs("/share/d/x")])
        more = starts(rootfs, times(30), 2, mounts=[share, pc.Mount.tmpfs("/share/d/x/made")])
    assert rounds[0] >= 1000
    assert seen["ran"] + more["ran"] > 0
    assert Path("/proc/self/mountinfo").read_text() == before


def test_ghsa_3q8j_pf29_vwv8_read_only_path_is_swapped(
    rootfs: Path, shared: Path, times: Callable[[int], range]
) -> None:
    """A read-only path and a mask in the shared directory: either they hold when the command runs, or it does
    not run.
    """
    security = pc.Security(masked_paths=["/share/d/x"], readonly_paths=["/share/d"])
    share = pc.Mount.bind(shared, "/share")
    (shared / "d/x").mkdir(parents=True)
    with swapping(shared, "/") as rounds:
        seen = starts(rootfs, times(30), 4, mounts=[share], security=security)
    assert rounds[0] >= 1000
    assert sum(seen.values()) >= 3


def test_cve_2026_34078_source_is_swapped(
    rootfs: Path, scratch: Path, canary: Path, times: Callable[[int], range]
) -> None:
    """A source that another process swaps with a link to the canary: looked at once, and the keeper refuses another
    object (ESTALE). The canary may be what the name said at that moment, but never by a second look: what is mounted
    is what was judged.
    """
    import os
    import tempfile

    place = Path(tempfile.mkdtemp(dir=scratch))
    (place / "d").mkdir()
    (place / "link").symlink_to(canary)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, two in (("d", "t"), ("link", "d"), ("t", "link")):
                os.rename(place / one, place / two)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in times(60):
            try:
                shell(
                    rootfs,
                    "echo x >/place/file; rm -f /place/ptmx; mkdir /place/new",
                    mounts=[pc.Mount.bind(place / "d", "/place", read_only=True)],
                )
            except pc.SetupError as error:
                if error.errno not in (2, 116):
                    raise
    finally:
        stop.set()
        swapper.join()
