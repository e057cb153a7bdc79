"""Two containers share a directory: one swaps a part of it with a link to /, the other is started meanwhile."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pycontainer as pc
from hostile.attacks import RENAMEAT2, links_out, shell
from hostile.careless import led_astray

pytestmark = pytest.mark.timeout(900)

SWAPS = 100_000  # per race; --quick: a tenth
STARTS = 30  # at least, of either outcome
PATIENCE = 300  # seconds
MARKER = "below the mask"
SWAPPED = 61  # ENODATA: what was covered is not what is there

# renameat2(RENAME_EXCHANGE) as fast as it goes, until there were enough and the file `stop` is there.
SWAP = """
import ctypes, os
libc = ctypes.CDLL(None)
os.chdir('/share')
for name in ('x', 'y', 'directory'):
    os.makedirs(f'd/{name}', exist_ok=True)
os.symlink('TARGET', 'link')
count = os.open('count', os.O_WRONLY | os.O_CREAT, 0o644)
rounds = 0
while rounds < GOAL or not os.path.exists('stop'):
    for _ in range(100):
        if libc.syscall(NUMBER, -100, b'd', -100, b'link', 2):
            raise SystemError('no swap')
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
    """Container A at work from the first swap on, with its number of swaps afterwards."""
    swaps = Swaps(shared, goal)
    mounts = [pc.Mount.bind(shared, "/share")]

    def attack() -> None:
        code = SWAP.replace("TARGET", target).replace("GOAL", str(goal)).replace("NUMBER", str(RENAMEAT2))
        done = pc.run(["python3", "-c", code], mounts=mounts, text=True, timeout=300, check=True)
        swaps.total = int(done.stdout)

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        while not swaps.count.exists():
            assert attacker.is_alive(), "the attacker did not begin"
            time.sleep(0.001)
        yield swaps
    finally:
        (shared / "stop").touch()
        attacker.join()
        (shared / "stop").unlink()
        swaps.count.unlink(missing_ok=True)
        (shared / "link").unlink(missing_ok=True)


@pytest.fixture
def outside(scratch: Path) -> Path:
    """Where the link leads a careless peer to; it has what the swapped directory has, and may be changed."""
    path = Path(tempfile.mkdtemp(prefix="outside-", dir=scratch))
    for name in "xy":
        (path / name).mkdir()
    (path / "secret").write_text("secret of the host\n")
    return path


@pytest.mark.requires("overlay-userns")  # the peer of a plain user mounts in a user namespace of its own
@pytest.mark.parametrize("step", ["over", "mask", "read_only", "write"])
def test_control_of_the_races_a_careless_peer_is_led_astray(
    shared: Path, outside: Path, step: str, times: Callable[[int], range], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of CVE-2021-30465, CVE-2024-45310, GHSA-3q8j and, for what is written, CVE-2025-52881: the same swapper, and
    somebody who looks at the name and then uses the name.
    """
    with swapping(shared, str(outside), len(times(SWAPS))):
        rounds = led_astray(step, shared, outside)
    with capsys.disabled():
        print(f"\n  {step}: led astray in round {rounds}", end=" ")


LOOK = "cat /share/d/x/file /share/d/y/file /share/link/x/file /d/x/file /ptmx 2>/dev/null"
WRITE = "echo changed >/share/d/y/file; echo changed >/share/link/y/file; echo new >/share/d/y/new"


def starts(root: Path, swaps: Swaps, enough: Callable[[dict[str, int]], bool], **options: object) -> dict[str, int]:
    """Container B, again and again, until there were swaps enough: how often it ran, how often it was refused, and
    how often of these because the last look found a path uncovered.
    """
    seen = {"ran": 0, "refused": 0, "looked": 0}
    until = time.monotonic() + PATIENCE
    while sum(seen.values()) < STARTS or not swaps.enough() or not enough(seen):
        assert time.monotonic() < until, f"the attacker does not get on: {seen}"
        try:
            done = shell(root, f"{LOOK}; ({WRITE}) 2>/dev/null; true", **options)
            assert "secret" not in done.stdout
            assert "do not touch" not in done.stdout
            assert MARKER not in done.stdout
            seen["ran"] += 1
        except pc.SetupError as error:
            if error.errno not in (2, 11, 17, 20, 40, SWAPPED):
                raise
            seen["looked" if error.errno == SWAPPED else "refused"] += 1
    return seen


@pytest.mark.parametrize("way", ["absolute", "relative", "root of PID 1", "working directory", "root"])
def test_cve_2021_30465_mount_target_is_swapped(
    rootfs: Path, shared: Path, canary: Path, times: Callable[[int], range], way: str
) -> None:
    """Also CVE-2024-45310 and CVE-2015-1335. A tmpfs over a directory that the canary has too, and below it one whose
    mount point is made: the canary and the mount table of the host stay as they are. The swaps are counted, so that a
    race that did not run is a failure; the control above shows that a careless peer loses it.
    """
    before = Path("/proc/self/mountinfo").read_text()
    share = pc.Mount.bind(shared, "/share")
    ran = 0
    for place in ("/share/d/directory", "/share/d/directory/made"):
        with swapping(shared, links_out(canary)[way], len(times(SWAPS))) as swaps:
            ran += starts(rootfs, swaps, lambda seen: seen["ran"] > 0, mounts=[share, pc.Mount.tmpfs(place)])["ran"]
        assert swaps.total >= swaps.goal
    assert ran > 0
    assert Path("/proc/self/mountinfo").read_text() == before


COVERED = pc.Security(masked_paths=["/share/d/x"], readonly_paths=["/share/d/y"])


def below(shared: Path) -> dict[Path, str]:
    """Something to be read below the mask, and something to be changed in what is read-only."""
    content = {shared / "d/x/file": f"{MARKER}\n", shared / "d/y/file": "unchanged\n"}
    for path, text in content.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own_all(shared)
    return content


def own_all(shared: Path) -> None:
    """By the container's root: only the mounts are in its way."""
    for path in shared.rglob("*") if os.geteuid() == 0 else ():
        os.chown(path, 1000, 1000)


def test_ghsa_3q8j_pf29_vwv8_read_only_path_is_swapped(
    rootfs: Path, shared: Path, times: Callable[[int], range]
) -> None:
    """A read-only path and a mask in the shared directory, swapped with a link that leads nowhere: where the command
    runs, each was resolved in the directory, once, and lies on what was found there. Under no name, however often they
    change, is anything below them read or written.
    """
    content = below(shared)
    share = pc.Mount.bind(shared, "/share")
    control = shell(rootfs, "cat /share/d/x/file; echo changed >/share/d/y/file", mounts=[share], check=True)
    assert control.stdout == f"{MARKER}\n"
    assert (shared / "d/y/file").read_text() == "changed\n"
    below(shared)
    with swapping(shared, "d", len(times(SWAPS))) as swaps:
        enough = lambda seen: seen["ran"] > 9 and seen["refused"] > 0  # noqa: E731
        starts(rootfs, swaps, enough, mounts=[share], security=COVERED)
    assert swaps.total >= swaps.goal
    assert {path: path.read_text() for path in content} == content
    assert not list(shared.rglob("new"))


def test_ghsa_3q8j_pf29_vwv8_what_was_covered_is_looked_at_again(
    fresh_rootfs: Path, shared: Path, times: Callable[[int], range]
) -> None:
    """The link leads to a directory of the image that can be covered as well: a swap between the covering and the
    look ends the start, and comes by itself within these. (What is swapped after the look is a name, not the cover.)
    """
    share = pc.Mount.bind(shared, "/share")
    for name in "xy":
        (fresh_rootfs / name).mkdir()
    with swapping(shared, "/", len(times(SWAPS))) as swaps:
        seen = starts(
            fresh_rootfs, swaps, lambda seen: seen["looked"] > 0 and seen["ran"] > 0, mounts=[share], security=COVERED
        )
    assert seen["looked"] > 0, seen


SEAM = {"masked_paths": ["/seam/one/x"], "readonly_paths": ["/seam/one/y"]}
STEAL = "cat /seam/one/x/file; echo changed >/seam/one/y/file; true"


@pytest.fixture
def two_of_them(shared: Path) -> Path:
    """/seam/one, which is covered, and /seam/two, which then takes its name: only that one has content."""
    below(shared)
    (shared / "d").rename(shared / "two")
    for name in "xy":
        (shared / "one" / name).mkdir(parents=True)
    own_all(shared)
    return shared


@pytest.mark.requires("seams")
@pytest.mark.parametrize("kind", SEAM)
def test_ghsa_3q8j_pf29_vwv8_swapped_between_covering_and_looking(
    rootfs: Path, two_of_them: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same at the one moment that counts, by a seam: it never starts, and the error names the path."""
    mounts = [pc.Mount.bind(two_of_them, "/seam")]
    security = pc.Security(**{"masked_paths": [], "readonly_paths": [], kind: SEAM[kind]})
    shell(rootfs, "true", mounts=mounts, security=security, check=True)
    monkeypatch.setenv("PYCONTAINER_SEAM", "swap_covered")
    with pytest.raises(pc.SetupError) as caught:
        shell(rootfs, "true", mounts=mounts, security=security)
    assert caught.value.errno == SWAPPED
    assert SEAM[kind][0] in str(caught.value)


@pytest.mark.requires("seams")
@pytest.mark.parametrize("kind", SEAM)
def test_control_of_ghsa_3q8j_pf29_vwv8_without_the_look(
    rootfs: Path, two_of_them: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the other half left out nothing is looked at, and the command has what the covered name means now."""
    other = next(name for name in SEAM if name != kind)
    monkeypatch.setenv("PYCONTAINER_SEAM", f"swap_covered,{other}")
    mounts = [pc.Mount.bind(two_of_them, "/seam")]
    done = shell(rootfs, STEAL, mounts=mounts, security=pc.Security(**SEAM))
    assert MARKER in done.stdout
    assert (two_of_them / "one/y/file").read_text() == "changed\n"


def test_cve_2026_34078_source_is_swapped(
    rootfs: Path, scratch: Path, canary: Path, times: Callable[[int], range]
) -> None:
    """A source that another process swaps with a link to the canary: looked at once, and the keeper refuses another
    object (ESTALE). The canary may be what the name said at that moment, but never by a second look: what is mounted
    is what was judged. The control is the next test.
    """
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


@pytest.mark.requires("overlay-userns")
def test_control_of_cve_2026_34078_a_careless_peer_binds_another(
    shared: Path, outside: Path, times: Callable[[int], range]
) -> None:
    """What it looked at was a directory, and what it bound is where the link leads."""
    with swapping(shared, str(outside), len(times(SWAPS))):
        assert led_astray("source", shared, outside) > 0
