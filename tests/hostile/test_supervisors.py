"""Supervisors of exec share PID 1's memory: nothing of theirs stays there; one that is killed takes nothing with it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Reason

# All but PID 1, the first command, itself and its own supervisor: it meets others before their clone, in it, after it.
KILLER = """
import os, signal
print("begun")
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, 2, os.getpid(), os.getppid()):
            try:
                os.kill(int(name), signal.SIGKILL)
            except OSError:
                pass
"""


def first_process(container: pc.Container) -> Path:
    """PID 1 in the host's /proc."""
    lines = Path(f"/proc/{container.pid}/status").read_text().splitlines()
    return Path("/proc", next(line.split()[1] for line in lines if line.startswith("PPid:")))


def memory(first: Path) -> int:
    """KiB that it has mapped for itself, without its stack; everybody may read it."""
    lines = (first / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))


def comes_back(first: Path, before: int) -> bool:
    """The last one may not have been reaped yet."""
    deadline = time.monotonic() + patience(5)
    while memory(first) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    return memory(first) <= before


def test_commands_leave_nothing_in_the_memory_of_pid_1(times: Callable[[int], range]) -> None:
    with pc.Container(["sleep", "1000"]) as container:
        first = first_process(container)
        for user in (None, "nobody"):
            assert container.exec(["true"], user=user).returncode == 0
        before = memory(first)
        long = ["x" * 1000] * 400  # a plan in a file, in a place that is larger than the usual one
        for round_ in times(2000):
            args = ["true", *long] if round_ % 10 == 0 else ["true"]
            assert container.exec(args, env={"N": str(round_)}).returncode == 0
        assert comes_back(first, before)


def test_many_at_one_time_are_given_back(times: Callable[[int], range]) -> None:
    with pc.Container(["sleep", "1000"]) as container:
        first = first_process(container)
        assert container.exec(["true"]).returncode == 0
        before = memory(first)
        for _ in times(10):
            with contextlib.ExitStack() as stack:
                # More than there are places: those beyond are on a copy.
                running = [stack.enter_context(container.popen(["cat"], stdin=pc.PIPE)) for _ in range(140)]
                for process in running:
                    process.stdin.close()
                assert [process.wait(60) for process in running] == [0] * 140
        assert container.exec(["true"]).returncode == 0
        assert comes_back(first, before)


def attempt(container: pc.Container) -> str:
    try:
        result = container.exec(["true"])
    except pc.SetupError:
        return "not started"
    if result.returncode == 0:
        return "ended"
    assert (result.returncode, result.reason) == (-9, Reason.KILLED)
    return "killed"


def test_one_that_is_killed_takes_nothing_with_it(times: Callable[[int], range]) -> None:
    with pc.Container(["sleep", "1000"]) as container:
        first = first_process(container)
        assert container.exec(["true"]).returncode == 0
        before = memory(first)
        with container.popen(["python3", "-uc", KILLER], stdout=pc.PIPE) as killer, ThreadPoolExecutor(16) as pool:
            assert killer.stdout.readline() == b"begun\n"
            seen, deadline = Counter[str](), time.monotonic() + patience(30)
            # Again where it had too little of the processors to meet anybody.
            while not seen["killed"] + seen["not started"] and time.monotonic() < deadline:
                seen.update(pool.map(lambda _: attempt(container), times(1000)))
        assert seen["killed"] + seen["not started"], f"nothing was hit: {seen}"
        for round_ in range(20):
            assert container.exec(["echo", str(round_)], text=True).stdout == f"{round_}\n"
        assert comes_back(first, before)
    print(f"\n  {dict(seen)}", end=" ")


TRACER = """
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
of = {int(pid): open(f"/proc/{pid}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()}
SEIZE, traced = 0x4206, next(pid for pid in of if of[pid] == "sleep\\x008000\\x00")
print(libc.ptrace(SEIZE, traced, 0, 0), flush=True)
time.sleep(8000)
"""


@pytest.mark.requires("ptrace")
def test_a_tracer_that_does_not_wait_holds_no_end_up() -> None:
    """What is traced stays a zombie until its tracer has waited for it."""
    security = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_PTRACE"}, seccomp="unconfined")
    with pc.Container(["sleep", "1000"], security=security) as container:
        process = container.popen(["sleep", "8000"])
        tracer = container.popen(["python3", "-c", TRACER], stdout=pc.PIPE)
        assert tracer.stdout.readline() == b"0\n"
        process.kill()
        assert process.wait(timeout=patience(20)) == -9
        assert tracer.wait(timeout=patience(5)) == -9
        assert container.exec(["true"]).returncode == 0
