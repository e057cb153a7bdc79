"""Bombs: the host goes on, the verdict is right, and two seconds later nothing is left. `leaks` watches the last."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import pycontainer as pc
from programs.loads import Heartbeat, Load
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]
Times = Callable[[int], range]
# A bomb takes its processors: this machine's other users may be late by so much, and not stopped.
LATE = 3.0


def survived(heartbeat: Heartbeat) -> None:
    heartbeat.wait_for_a_beat(10)
    assert heartbeat.beats > 0
    assert heartbeat.latest < LATE, f"the host was {heartbeat.latest:.1f} s late"


@pytest.mark.requires("controller:pids")
@pytest.mark.timeout(300)
def test_fork_bomb(load: Load, heartbeat: Heartbeat, times: Times) -> None:
    for _ in times(50):
        result = load("fork_bomb", limits=Limits(pids=64, wall_time=0.3))
        assert (result.reason, result.returncode) == (Reason.TIMEOUT, -9)
        assert result.usage.pids_peak in (64, None)
        assert result.usage.pids_denied
    survived(heartbeat)


@pytest.mark.timeout(600)
def test_fork_bomb_under_the_bound_that_nobody_said(load: Load, heartbeat: Heartbeat, times: Times) -> None:
    for _ in times(50):
        result = load("fork_bomb", limits=Limits(wall_time=0.3))
        assert result.reason is Reason.TIMEOUT
    survived(heartbeat)
    # The machine's tasks are not used up, and neither are this user's.
    subprocess.run([sys.executable, "-c", "pass"], check=True)


@pytest.mark.requires("controller:memory")
@pytest.mark.timeout(600)
def test_memory_bomb(load: Load, heartbeat: Heartbeat, times: Times) -> None:
    for _ in times(50):
        result = load("memory_bomb", limits=Limits(memory="64MiB", wall_time=60))
        assert (result.reason, result.returncode) == (Reason.MEMORY, -9)
        assert result.usage.memory_peak is not None
        assert result.usage.memory_peak <= 64 << 20
    survived(heartbeat)


@pytest.mark.requires("controller:memory")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("path", "reasons"), [("/dev/shm/x", {Reason.MEMORY}), ("/tmp/x", {Reason.EXITED}), ("/run/x", {Reason.EXITED})]
)
def test_tmpfs_bomb(load: Load, heartbeat: Heartbeat, times: Times, path: str, reasons: set[Reason]) -> None:
    """/dev/shm is larger than the limit, so that ends it; the layer holds half of the memory, and is full before."""
    for _ in times(50):
        result = load("fill", path, limits=Limits(memory="40MiB", wall_time=60))
        assert result.reason in reasons
        if result.reason is Reason.EXITED:
            assert result.usage.disk_full is True
    survived(heartbeat)


@pytest.mark.timeout(300)
def test_tmpfs_bomb_without_any_limit(load: Load, heartbeat: Heartbeat, times: Times) -> None:
    """All that can be written: the layer (256 MiB) and /dev/shm (64 MiB), each with its own bound."""
    for _ in times(5):
        for path, most in (("/tmp/x", 256 << 20), ("/dev/shm/x", 64 << 20), ("/dev/x", 64 << 20)):
            words = load("fill", path, limits=Limits(wall_time=60)).stdout.split()
            assert words == [b"open", words[-1]] or int(words[0]) <= most, (path, words)
    survived(heartbeat)


@pytest.mark.timeout(300)
def test_output_flood(load: Load, heartbeat: Heartbeat, times: Times) -> None:
    script = "/bin/load flood 2 1000000000000 & exec /bin/load flood 1 1000000000000"
    for _ in times(50):
        result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(output="64KiB"))
        assert (result.reason, result.returncode) == (Reason.OUTPUT, -9)
        assert max(len(result.stdout), len(result.stderr)) == 65536
    survived(heartbeat)


ORPHANS: dict[str, Any] = {"end with the command": {}, "end with a kill": {"limits": Limits(wall_time=0.2)}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ORPHANS)
def test_orphans(load: Load, heartbeat: Heartbeat, times: Times, how: str) -> None:
    """Double-forked, in sessions of their own: they go with the container, and hold no pipe of ours open."""
    after = "" if not ORPHANS[how] else "; sleep 60"
    for _ in times(50):
        result = pc.run(["sh", "-c", f"/bin/load orphans 30{after}"], image=load.root, **ORPHANS[how])
        assert result.reason is (Reason.TIMEOUT if ORPHANS[how] else Reason.EXITED)
    survived(heartbeat)
