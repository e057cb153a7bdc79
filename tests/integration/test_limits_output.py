"""output and output_mode: a cap per stream that ends the run or drops the rest, and what the host pays for a flood."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
from pathlib import Path

import pytest

import pycontainer as pc
from programs.loads import MIB, Load
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]


@pytest.mark.vm
@pytest.mark.parameter("limits.output")
@pytest.mark.parametrize(("fd", "stream"), [(1, "stdout"), (2, "stderr")])
def test_kill_ends_the_run_with_what_fits(load: Load, fd: int, stream: str) -> None:
    result = load("flood", fd, 1 << 40, limits=Limits(output="100KiB"))
    assert (result.reason, result.returncode, result.truncated) == (Reason.OUTPUT, -9, (stream,))
    assert len(getattr(result, stream)) == 100 * 1024
    assert result.enforced["output"].state == "held"
    with pytest.raises(pc.LimitExceeded, match="output limit: more than 100 KiB"):
        result.check_returncode()


@pytest.mark.parameter("limits.output_mode")
@pytest.mark.parametrize(("fd", "stream"), [(1, "stdout"), (2, "stderr")])
def test_truncate_lets_it_run_on(load: Load, fd: int, stream: str) -> None:
    result = load("flood", fd, 3 * MIB, limits=Limits(output=1000, output_mode="truncate"))
    assert (result.reason, result.returncode, result.truncated) == (Reason.EXITED, 0, (stream,))
    assert getattr(result, stream) == b"x" * 1000


def test_the_cap_is_each_stream_s_own(load: Load) -> None:
    script = "/bin/load flood 1 1000; /bin/load flood 2 1000"
    result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(output=1000))
    assert (result.reason, result.truncated, len(result.stdout), len(result.stderr)) == (Reason.EXITED, (), 1000, 1000)


@pytest.mark.parametrize("cap", [0, 1, 4096, 65536, MIB])
def test_what_is_just_enough_is_not_too_much(load: Load, cap: int) -> None:
    fits = load("flood", 1, cap, limits=Limits(output=cap))
    assert (fits.reason, len(fits.stdout), fits.truncated) == (Reason.EXITED, cap, ())


@pytest.mark.vm
def test_one_byte_too_many_is_too_much_however_fast_it_ended(load: Load) -> None:
    """The byte was written before the end, so the verdict never depends on whose signal came first."""
    for _ in range(30):
        over = load("flood", 1, 1001, limits=Limits(output=1000))
        assert (over.reason, len(over.stdout), over.truncated) == (Reason.OUTPUT, 1000, ("stdout",))


@pytest.mark.parameter("limits.output")
def test_max_lifts_it_and_other_streams_have_no_cap(load: Load) -> None:
    lifted = Limits(output=10) | Limits(output="max")
    assert len(load("flood", 1, 100_000, limits=lifted).stdout) == 100_000
    assert load("flood", 1, 100_000, limits=Limits(output=10), stdout=subprocess.DEVNULL).reason is Reason.EXITED


def test_with_one_pipe_for_both_the_cap_is_the_pipe_s(load: Load) -> None:
    script = "/bin/load flood 1 600; /bin/load flood 2 600"
    result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(output=1000), stderr=subprocess.STDOUT)
    assert (result.reason, len(result.stdout)) == (Reason.OUTPUT, 1000)


def resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


@pytest.mark.parametrize("mode", ["kill", "truncate"])
def test_the_host_does_not_grow_with_a_flood(load: Load, mode: str) -> None:
    """1 GiB for output=1 MiB: the most that this process ever held beyond its start is below 8 MiB."""
    load("flood", 1, 2 * MIB, limits=Limits(output="1MiB", output_mode=mode))
    gc.collect()
    before, peak, ended = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, resident())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = load("flood", 1, 1 << 30, limits=Limits(output="1MiB", output_mode=mode, wall_time=90))
    ended.set()
    watcher.join()
    assert result.reason is (Reason.OUTPUT if mode == "kill" else Reason.EXITED)
    assert len(result.stdout) == MIB
    assert peak - before < 8 * MIB
