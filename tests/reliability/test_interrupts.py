"""Ctrl-C and time limits at random moments: the exception comes at once, the container is gone, nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

pytestmark = [
    pytest.mark.requires("pen"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]

INTERRUPTED = """
import os, random, signal, sys, time
import pen
import pycontainer as pc
from limited import limited
from pycontainer import _core
image, count = sys.argv[1], int(sys.argv[2])
KINDS = [
    {}, limited(memory="64MiB", pids=20), {"upper": "disk"}, {"tty": True}, {"input": b"x" * 200_000},
    {"pid1": True},
]
pc.run(["true"], image=image)
keeper = _core.keeper_pid()
fds = len(os.listdir("/proc/self/fd"))
slowest = 0.0
def strike(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, strike)
for i in range(count):
    # Half of them in the first three milliseconds, where pipes, groups and the message are made.
    delay = random.uniform(0.0001, 0.003 if i % 2 else 0.05)
    struck = time.monotonic() + delay
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        r = pc.run(["sleep", "60"], image=image, **KINDS[i % len(KINDS)])
        raise SystemError(f"it ended by itself: {r}")
    except KeyboardInterrupt:
        slowest = max(slowest, time.monotonic() - struck)
    # Nothing of it lives when the exception is here: the keeper has buried it.
    assert pen.contained(keeper[0]) == [], i
    assert _core.keeper_pid() == keeper
assert pen.childless(keeper[0])
assert len(os.listdir("/proc/self/fd")) <= fds + 2, os.listdir("/proc/self/fd")
print(slowest)
"""


def test_a_thousand_interrupts(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(1000))
    slowest = float(pen.run(INTERRUPTED, rootfs, count, timeout=1200))
    tell(f"{count} interrupts, the slowest {slowest:.3f} s after the signal")
    assert slowest < 5
    assert not pen.left()


TICKING = """
import signal, sys, time
import pycontainer as pc
from pycontainer import _core
image, looks, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pc.run(["true"], image=image)
keeper = _core.keeper_pid()
ticks = [0]
def tick(*_):
    ticks[0] += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
for _ in range(looks):
    assert _core.keeper_pid() == keeper
for i in range(runs):
    assert pc.run(["sh", "-c", "echo $0", str(i)], image=image).stdout == b"%d\\n" % i
    assert _core.keeper_pid() == keeper
signal.setitimer(signal.ITIMER_REAL, 0)
assert ticks[0] > 100, ticks
print(ticks[0])
"""


def test_a_profilers_timer_is_no_death_of_the_keeper(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    """A poll that does not wait fails with EINTR all the same: a keeper that lived was given up for it."""
    runs = len(times(1000))
    ticks = int(pen.run(TICKING, rootfs, 200_000, runs, timeout=600))
    tell(f"{ticks} ticks, {runs} runs")
    assert not pen.left()


TIMED = """
import os, random, sys, time
import pen
import pycontainer as pc
from limited import limited
from pycontainer import _core
image, count = sys.argv[1], int(sys.argv[2])
KINDS = [{}, limited(memory="64MiB", pids=20), {"upper": "disk"}, {"tty": True}, {"pid1": True}]
pc.run(["true"], image=image)
keeper, late = _core.keeper_pid(), 0.0
for i in range(count):
    timeout = random.choice([random.uniform(1e-9, 1e-4), random.uniform(1e-4, 0.02)])
    begin = time.monotonic()
    try:
        r = pc.run(["sh", "-c", "sleep 60 & sleep 60"], image=image, timeout=timeout, **KINDS[i % len(KINDS)])
        raise SystemError(f"it ended by itself: {r}")
    except pc.TimeoutExpired as error:
        late = max(late, time.monotonic() - begin - timeout)
        assert error.result.reason == pc.Reason.TIMEOUT, error.result
    assert pen.contained(keeper[0]) == [], i
assert _core.keeper_pid() == keeper
assert pen.childless(keeper[0])
print(late)
"""


def test_a_thousand_timeouts(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(1000))
    late = float(pen.run(TIMED, rootfs, count, timeout=1200))
    tell(f"{count} timeouts, the latest {late:.3f} s after its time")
    assert late < 5
    assert not pen.left()


SESSION = """
import os, sys
import pycontainer as pc
from pycontainer import _core
image = sys.argv[1]
pc.run(["true"], image=image)
keeper = _core.keeper_pid()
print(keeper[0], flush=True)
try:
    pc.run(["sleep", "60"], image=image)
except KeyboardInterrupt:
    assert _core.keeper_pid() == keeper
    assert pc.run(["sh", "-c", "echo after"], image=image).stdout == b"after\\n"
    assert _core.keeper_pid() == keeper
    sys.exit(0)
sys.exit(1)
"""


def test_ctrl_c_of_the_whole_process_group_leaves_the_keeper(pen: Pen, rootfs: Path) -> None:
    child = pen.start(SESSION, rootfs, start_new_session=True)
    assert child.stdout is not None
    keeper = int(child.stdout.readline())
    assert os.getsid(keeper) == keeper
    time.sleep(0.3)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
    assert not pen.left()
