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

pytestmark = pytest.mark.timeout(900)

SWAPS = 100_000  # per race; --quick: a tenth
STARTS = 30  # at least, of either outcome
PATIENCE = 300  # seconds

# renameat2(RENAME_EXCHANGE) as fast as it goes, until there were enough and the file `stop` is there.
SWAP = """
import ctypes, os
libc = ctypes.CDLL(None)
os.chdir('/share')
os.makedirs('d/x', exist_ok=True)
os.symlink('TARGET', 'link')
count = os.open('count', os.O_WRONLY | os.O_CREAT, 0o644)
rounds = 0
while rounds < GOAL or not os.path.exists('stop'):
    for _ in range(100):
        libc.syscall(316, -100, b'd', -100, b'link', 2)
    rounds += 100
    os.pwrite(count, b'%d' % rounds, 0)
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


class Swaps:
    """Container A's: how many there shall be while B is started, how many there have been."""

    def __init__(self, shared: Path, goal: int) -> None:
        self.goal, self.total, self.count = goal, 0, shared / "count"

    def enough(self) -> bool:
        return self.count.exists() and int(self.count.read_text() or 0) >= self.goal


@contextmanager
def swapping(shared: Path, target: str, goal: int) -> Iterator[Swaps]:
    """Container A at work, with its number of swaps afterwards."""
    swaps = Swaps(shared, goal)
    mounts = [pc.Mount.bind(shared, "/share")]

    def attack() -> None:
        code = SWAP.replace("TARGET", target).replace("GOAL", str(goal))
        done = pc.run(["python3", "-c", code], mounts=mounts, text=True, timeout=300, check=True)
        swaps.total = int(done.stdout)

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        yield swaps
    finally:
        (shared / "stop").touch()
        attacker.join()
        (shared / "stop").unlink()
        swaps.count.unlink(missing_ok=True)


def starts(root: Path, swaps: Swaps, **options: object) -> dict[str, int]:
    """Container B, again and again, until there were swaps enough: how often it ran, how often it was refused."""
    seen = {"ran": 0, "refused": 0}
    until = time.monotonic() + PATIENCE
    while sum(seen.values()) < STARTS or not swaps.enough():
        assert time.monotonic() < until, "the attacker does not get on"
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
    ran = 0
    for place in ("/share/d/x", "/share/d/x/made"):
        with swapping(shared, target, len(times(SWAPS))) as swaps:
            ran += starts(rootfs, swaps, mounts=[share, pc.Mount.tmpfs(place)])["ran"]
        assert swaps.total >= swaps.goal
        (shared / "link").unlink()
    assert ran > 0
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
    with swapping(shared, "/", len(times(SWAPS))) as swaps:
        seen = starts(rootfs, swaps, mounts=[share], security=security)
    assert swaps.total >= swaps.goal
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
    swaps, goal = [0], len(times(SWAPS))

    def swap() -> None:
        while swaps[0] < goal or not stop.is_set():
            for one, two in (("d", "t"), ("link", "d"), ("t", "link")):
                os.rename(place / one, place / two)
            swaps[0] += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        tries = len(times(60))
        while tries > 0 or swaps[0] < goal:
            tries -= 1
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
