"""Usage against measures of our own: our clock, memory that was touched, tasks that were started; else None."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from programs.loads import MIB, Load
from pycontainer import Limits, Reason, Usage

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.vm


def some(value: Any) -> Any:
    assert value is not None
    return value


def test_wall_is_the_command_s_time(load: Load) -> None:
    begun = time.monotonic()
    wall = some(load("sleep", 0.5).usage.wall)
    outside = time.monotonic() - begun
    assert 0.5 <= wall <= outside
    assert wall < 0.5 + max(0.1, (outside - 0.5))


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(memory="64MiB"), Limits(cpu_time=20)], ids=["-", "memory", "clock"]
)
def test_cpu_is_what_the_tree_burned(load: Load, limits: Limits, lateness: float) -> None:
    degrade = ["memory", "cpu_time", "oom_group"]
    usage = load("spin", 3, 0.3, limits=limits, degrade=degrade).usage
    assert 0.85 <= some(usage.cpu) <= 1.1 + 3 * lateness
    assert some(usage.cpu) == pytest.approx(some(usage.cpu_user) + some(usage.cpu_system), abs=0.02)
    assert some(usage.cpu_user) > 0.5


def test_user_and_system_time_are_told_apart(load: Load) -> None:
    writes = load("flood", 1, 400 * MIB, stdout=pc.DEVNULL).usage
    copies = pc.run(["dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=3000"], image=load.root).usage
    burns = load("spin", 1, 0.3).usage
    assert some(copies.cpu_system) > some(copies.cpu_user)
    assert some(burns.cpu_user) > some(burns.cpu_system)
    assert writes.cpu is not None


@pytest.mark.parametrize("how", ["wall_time", "output"])
def test_a_killed_tree_s_use_is_told_or_unknown_but_never_wrong(load: Load, how: str) -> None:
    """Without a group the processes that died with PID 1 are in nobody's rusage, unless they were reaped before."""
    script = "/bin/load spin 1 0.3; sleep 0.2; /bin/load flood 1 100000; sleep 60"
    limits = Limits(wall_time=3) if how == "wall_time" else Limits(output=10)
    result = pc.run(["sh", "-c", script], image=load.root, limits=limits)
    assert result.reason in (Reason.TIMEOUT, Reason.OUTPUT)
    assert result.usage.cpu is None or result.usage.cpu >= 0.28
    assert result.usage.wall is None or result.usage.wall >= 0.5
    assert result.usage.memory_peak is None or result.usage.memory_peak > 100_000


@pytest.mark.requires("controller:memory")
@pytest.mark.parametrize("mib", [8, 40])
def test_memory_peak_is_what_was_touched(load: Load, mib: int) -> None:
    peak = some(load("hog", mib, limits=Limits(memory="128MiB")).usage.memory_peak)
    assert mib * MIB <= peak <= (mib + 6) * MIB


@pytest.mark.requires("controller:memory")
@pytest.mark.parametrize("path", ["/tmp/x", "/dev/shm/x"])
def test_memory_peak_has_the_files_that_lie_in_memory(load: Load, path: str) -> None:
    script = f"dd if=/dev/zero of={path} bs=1M count=20 2>/dev/null; rm {path}"
    usage = pc.run(["sh", "-c", script], image=load.root, limits=Limits(memory="128MiB")).usage
    assert 20 * MIB <= some(usage.memory_peak) <= 27 * MIB


def test_without_a_group_memory_peak_is_the_largest_process_s(load: Load) -> None:
    peak = load("hog", 30).usage.memory_peak
    assert peak is None or 30 * MIB <= peak <= 36 * MIB


@pytest.mark.requires("controller:pids")
@pytest.mark.parametrize("count", [1, 17])
def test_pids_peak_counts_the_container_s_own_tasks(load: Load, count: int) -> None:
    words = ("exit", 0) if count == 1 else ("orphans", count - 1)
    usage = load(*words, limits=Limits(pids=200)).usage
    assert usage.pids_denied == 0
    if usage.pids_peak is not None:  # Linux 6.1
        assert count <= usage.pids_peak < 2 * count  # each orphan has had a parent


@pytest.mark.requires("tmpfs-upper")
def test_disk_is_what_lies_in_the_layer_at_the_end(load: Load) -> None:
    keeps = "dd if=/dev/zero of=/x bs=1M count=10 2>/dev/null; dd if=/dev/zero of=/y bs=1M count=9 2>/dev/null; rm /y"
    usage = pc.run(["sh", "-c", keeps], image=load.root).usage
    assert 10 * MIB <= some(usage.disk) <= 10.2 * MIB
    assert usage.disk_full is False
    assert some(load("exit", 0).usage.disk) < MIB


def test_a_layer_on_the_disk_is_not_measured(load: Load) -> None:
    usage = load("exit", 0, upper="disk").usage
    assert (usage.disk, usage.disk_full) == (None, None)


@pytest.mark.requires("cgroup2:io", "disk")
def test_io_is_what_went_to_the_disk(load: Load, scratch: Path) -> None:
    limits = Limits(io={str(scratch): pc.IoLimit(write_bps="1GiB")})
    usage = load("exit", 0, limits=limits).usage
    assert usage.io_read is not None
    assert usage.io_write is not None


def test_what_nobody_counted_is_none(load: Load) -> None:
    usage = load("exit", 0).usage
    assert (usage.oom_kills, usage.pids_peak, usage.pids_denied, usage.io_read, usage.io_write) == (None,) * 5
    assert Usage(**{name: getattr(usage, name) for name in Usage.__slots__}) == usage


@pytest.mark.requires("controller:memory")
def test_no_kill_is_zero_where_it_is_counted(load: Load) -> None:
    assert load("exit", 0, limits=Limits(memory="32MiB")).usage.oom_kills == 0


@pytest.mark.requires("cgroup2:memory", "path:/proc/pressure/memory")
def test_pressure_is_stalled_time(load: Load) -> None:
    usage = load("spin", 8, 0.2, limits=Limits(cpus=0.5, memory="64MiB")).usage
    assert usage.pressure is not None
    assert some(usage.pressure.cpu_some) > 0.1


@pytest.mark.requires("controller:memory")
@pytest.mark.parametrize("size", [8 * MIB, 24 * MIB])
def test_files_given_to_a_container_are_charged_to_it(load: Load, size: int) -> None:
    """They are written by its set-up, which by then has joined its groups."""
    limits = Limits(memory="64MiB", oom_group=False)
    usage = pc.run(["true"], image=load.root, limits=limits, files={"/big": b"x" * size}).usage
    assert size <= some(usage.memory_peak) < size + 16 * MIB
