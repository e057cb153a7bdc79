"""The verdict table: small programs, what ended each, 50 of 50 right; the order of causes; the caller's own Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import pycontainer as pc
from programs.loads import MIB, Load
from pycontainer import Limits, Reason, Result

pytest_plugins = ["programs.loads"]
pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

Facts = Callable[[Result[bytes]], bool]


def nothing_special(result: Result[bytes]) -> bool:
    return not result.usage.oom_kills and not result.usage.disk_full and result.truncated == ()


def row(
    name: str,
    words: list[object],
    reason: Reason,
    returncodes: int | set[int],
    facts: Facts = nothing_special,
    *,
    needs: tuple[str, ...] = (),
    **limits: Any,
) -> Any:
    codes = {returncodes} if isinstance(returncodes, int) else returncodes
    return pytest.param(words, Limits(**limits), reason, codes, facts, id=name, marks=pytest.mark.requires(*needs))


MEMORY, PIDS = ("controller:memory",), ("controller:pids",)
TABLE = [
    row("exit-0", ["exit", 0], Reason.EXITED, 0),
    row("exit-3", ["exit", 3], Reason.EXITED, 3),
    row("exit-137-is-no-signal", ["exit", 137], Reason.EXITED, 137),
    row("abort", ["abort"], Reason.SIGNALED, -6),
    row("segv", ["segv"], Reason.SIGNALED, -11),
    row("kill-9-by-itself", ["kill9"], Reason.SIGNALED, -9),
    row("kill-9-by-itself-with-a-memory-limit", ["kill9"], Reason.SIGNALED, -9, memory="16MiB", needs=MEMORY),
    row("sleep", ["sleep", 60], Reason.TIMEOUT, -9, lambda r: 0.2 <= r.usage.wall < 5, wall_time=0.2),
    row(
        "spin", ["spin", 2, 60], Reason.CPU_TIME, -9, lambda r: 0.19 <= r.usage.cpu <= 0.7,
        cpu_time=0.2, wall_time=30, needs=MEMORY,
    ),
    row(
        "fork-bomb", ["fork_bomb"], Reason.TIMEOUT, -9, lambda r: r.usage.pids_denied > 0,
        pids=32, wall_time=1, needs=PIDS,
    ),
    row("one-task-too-many", ["tasks", "process"], Reason.EXITED, 0, lambda r: r.stdout == b"32 EAGAIN\n", pids=32),
    row(
        "oom-of-the-command", ["hog", 64], Reason.MEMORY, -9,
        lambda r: r.usage.oom_kills > 0 and r.usage.memory_peak <= 16 * MIB, memory="16MiB", needs=MEMORY,
    ),
    row(
        "oom-of-a-child-only", ["child_hog", 64, 0], Reason.EXITED, 7,
        lambda r: r.usage.oom_kills == 1 and r.stdout == b"child -9\n", memory="16MiB", oom_group=False, needs=MEMORY,
    ),
    row(
        "oom-of-a-child-takes-the-tree", ["child_hog", 64, 30], Reason.MEMORY, -9,
        lambda r: r.usage.oom_kills > 0, memory="16MiB", needs=MEMORY,
    ),
    row(
        "output-flood", ["flood", 1, 1 << 40], Reason.OUTPUT, -9,
        lambda r: len(r.stdout) == 65536 and r.truncated == ("stdout",), output="64KiB",
    ),
    row(
        "output-a-little-too-much", ["flood", 2, 65537], Reason.OUTPUT, {0, -9},
        lambda r: len(r.stderr) == 65536 and r.truncated == ("stderr",), output="64KiB",
    ),
    row(
        "output-truncated", ["flood", 1, MIB], Reason.EXITED, 0,
        lambda r: len(r.stdout) == 65536 and r.truncated == ("stdout",), output="64KiB", output_mode="truncate",
    ),
    row(
        "disk-full", ["fill", "/x"], Reason.EXITED, 0,
        lambda r: r.usage.disk_full and r.stdout.endswith(b"ENOSPC\n"), disk="4MiB", needs=("tmpfs-upper",),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "limits", "reason", "codes", "facts"), TABLE)
def test_the_verdict_is_right_every_time(
    load: Load,
    times: Callable[[int], range],
    words: list[object],
    limits: Limits,
    reason: Reason,
    codes: set[int],
    facts: Facts,
) -> None:
    wrong = []
    for _ in times(50):
        result = load(*words, limits=limits)
        if result.reason is not reason or result.returncode not in codes or not facts(result):
            wrong.append((result.reason.name, result.returncode, result.usage))
    assert not wrong, f"{len(wrong)} of {len(times(50))} wrong: {wrong[:3]}"


# ---- the caller --------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_run_and_is_raised(load: Load, times: Callable[[int], range]) -> None:
    for _ in times(50):
        begun = time.monotonic()
        timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                pc.run(["sh", "-c", "trap '' INT; /bin/load orphans 3; sleep 60"], image=load.root)
        finally:
            timer.join()
        assert time.monotonic() - begun < 10


def test_an_exception_of_a_signal_handler_is_raised_as_itself(load: Load) -> None:
    class Alarm(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Alarm):
            load("sleep", 60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- several causes: the first in time counts --------------------------------------------------------------------


def test_an_exit_before_the_timeout_is_an_exit(load: Load) -> None:
    assert load("sleep", 0.1, limits=Limits(wall_time=5, output=0)).reason is Reason.EXITED


@pytest.mark.requires("controller:memory")
def test_memory_before_time_and_time_before_memory(load: Load) -> None:
    both = Limits(memory="16MiB", wall_time=20)
    assert load("hog", 64, limits=both).reason is Reason.MEMORY
    waits = pc.run(["sh", "-c", "sleep 5; /bin/load hog 64"], image=load.root, limits=both.replace(wall_time=0.2))
    assert waits.reason is Reason.TIMEOUT


@pytest.mark.requires("controller:memory")
def test_output_before_memory(load: Load) -> None:
    script = "/bin/load flood 1 100000; sleep 1; /bin/load hog 64"
    result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(memory="16MiB", output=1000))
    assert result.reason is Reason.OUTPUT
