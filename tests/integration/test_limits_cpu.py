"""cpus, cpu_weight, cpuset, cpu_time, wall_time, timeout: rates, places and ends, by a clock outside."""

from __future__ import annotations

import os
import threading
import time

import pytest

import pycontainer as pc
from programs.loads import Load
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]
pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("two_at_once")]
cpu_group = pytest.mark.requires("controller:cpu")
clock_group = pytest.mark.requires("controller:memory")  # the tree's clock needs a group of ours, of any controller


@cpu_group
@pytest.mark.parameter("limits.cpus")
def test_the_rate_holds_within_a_tenth(load: Load) -> None:
    begun = time.monotonic()
    result = load("spin", 1, 1.0, limits=Limits(cpus=0.4))
    outside = 1.0 / (time.monotonic() - begun)
    assert result.returncode == 0
    assert outside <= 0.44, "more than the rate"
    rates = [0.0]
    while rates[-1] < 0.36 and len(rates) < 6:  # others on a busy machine can only make it less
        rates.append(float(load("rate", 2.5, limits=Limits(cpus=0.4)).stdout))
    assert 0.36 <= max(rates) <= 0.44


@cpu_group
def test_the_rate_is_the_whole_tree_s(load: Load) -> None:
    begun = time.monotonic()
    load("spin", 3, 0.2, limits=Limits(cpus=0.4))
    assert time.monotonic() - begun >= 0.9 * 0.6 / 0.4


@cpu_group
@pytest.mark.parameter("limits.cpus")
def test_max_lifts_the_rate(load: Load) -> None:
    result = load("rate", 1, limits=Limits(cpus=0.1) | Limits(cpus="max"))
    assert float(result.stdout) > 0.2


@pytest.mark.requires("controller:cpu", "controller:cpuset")
@pytest.mark.parameter("limits.cpu_weight")
def test_two_loops_on_one_processor_share_it_by_weight(load: Load, lateness: float) -> None:
    got: dict[int, float] = {}

    def run(weight: int) -> None:
        got[weight] = float(load("rate", 3, moment, limits=Limits(cpu_weight=weight, cpuset=[cpu])).stdout)

    cpu = min(os.sched_getaffinity(0))
    moment = time.time() + 0.5 + 20 * lateness
    threads = [threading.Thread(target=run, args=(weight,)) for weight in (50, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Others on this machine take from both alike.
    assert 3 <= got[200] / got[50] <= 5, got


@pytest.mark.requires("controller:cpuset")
@pytest.mark.parameter("limits.cpuset")
def test_it_may_run_and_runs_on_these_processors_only(load: Load) -> None:
    for cpu in sorted(os.sched_getaffinity(0)):
        result = load("affinity", limits=Limits(cpuset=[cpu]))
        assert result.stdout.split() == [str(cpu).encode()] * 2
    everywhere = load("affinity").stdout.splitlines()[0].split()
    assert len(everywhere) == len(os.sched_getaffinity(0))


@pytest.mark.requires("controller:cpuset", "cpus>=2")
def test_the_command_cannot_leave_its_processors(load: Load) -> None:
    """taskset to another processor is refused or has no effect: four spinners get one processor's worth of time."""
    cpu = min(os.sched_getaffinity(0))
    begun = time.monotonic()
    load("spin_everywhere", 0.4, limits=Limits(cpuset=[cpu]))
    assert time.monotonic() - begun >= 0.75 * 0.4 * (os.cpu_count() or 1)


def spent_while_ending(lateness: float) -> float:
    """What all processors can spend between the keeper's look and the end; an end is at most as long as a whole run."""
    return lateness * (os.cpu_count() or 1)


# ---- budgets -----------------------------------------------------------------------------------------------------


@clock_group
@pytest.mark.parameter("limits.cpu_time")
@pytest.mark.parametrize("processes", [1, 5])
def test_the_whole_tree_dies_when_its_sum_reaches_the_budget(load: Load, processes: int, lateness: float) -> None:
    result = load("spin", processes, 60, limits=Limits(cpu_time=1.0))
    assert (result.reason, result.returncode) == (Reason.CPU_TIME, -9)
    assert result.usage.cpu is not None
    assert 0.99 <= result.usage.cpu <= 1.03 + spent_while_ending(lateness)
    assert result.enforced["cpu_time"].state == "held"


@clock_group
@pytest.mark.requires("cpus>=2")
def test_the_budget_counts_every_processor_even_if_the_host_is_pinned_to_one(load: Load, lateness: float) -> None:
    """The keeper looks again when all processors together could have spent what is left; an affinity is no bound."""
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(affinity)})
    try:
        result = load("spin_everywhere", 60, limits=Limits(cpu_time=1.0))
    finally:
        os.sched_setaffinity(0, affinity)
    assert result.reason is Reason.CPU_TIME
    assert result.usage.cpu is not None
    assert result.usage.cpu <= 1.03 + spent_while_ending(lateness)


@clock_group
@pytest.mark.parameter("limits.cpu_time")
def test_who_sleeps_spends_nothing(load: Load) -> None:
    result = load("sleep", 1, limits=Limits(cpu_time=0.3))
    assert (result.reason, result.returncode) == (Reason.EXITED, 0)


@clock_group
def test_the_budget_is_not_spent_by_handling_signals(load: Load) -> None:
    script = "trap '' XCPU TERM INT; while :; do :; done"
    result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(cpu_time=0.3))
    assert (result.reason, result.returncode) == (Reason.CPU_TIME, -9)


@clock_group
def test_check_names_the_cpu_budget(load: Load) -> None:
    with pytest.raises(pc.LimitExceeded) as caught:
        load("spin", 1, 60, limits=Limits(cpu_time=0.3), check=True)
    used = caught.value.result.usage.cpu
    assert f"cpu_time limit: {used:.1f} s of 0.3 s" in str(caught.value)
    assert used >= 0.3


@pytest.mark.requires("user")
def test_without_a_group_rlimit_cpu_is_a_degraded_budget(load: Load) -> None:
    result = load("spin", 1, 60, limits=Limits(cpu_time=1, wall_time=30), degrade=["cpu_time"])
    assert result.reason is Reason.CPU_TIME
    assert result.enforced["cpu_time"].state in ("held", "degraded")


@pytest.mark.parameter("limits.wall_time")
@pytest.mark.parametrize("words", [("sleep", 60), ("spin", 2, 60)])
def test_wall_time_ends_the_run_and_raises_nothing(load: Load, words: tuple[object, ...]) -> None:
    begun = time.monotonic()
    result = load(*words, limits=Limits(wall_time=0.7))
    assert (result.reason, result.returncode) == (Reason.TIMEOUT, -9)
    assert 0.7 <= time.monotonic() - begun <= 6
    assert result.usage.wall is not None
    assert 0.7 <= result.usage.wall <= 1.5
    with pytest.raises(pc.LimitExceeded, match=r"time limit: 0\.[2-9] s of 0\.2 s"):
        load(*words, limits=Limits(wall_time=0.2), check=True)


@pytest.mark.parameter("limits.wall_time")
def test_the_clock_starts_with_the_command_and_max_lifts_it(load: Load) -> None:
    for limits in (Limits(wall_time=30), Limits(wall_time=0.1) | Limits(wall_time="max")):
        assert load("sleep", 0.4, limits=limits).reason is Reason.EXITED


@pytest.mark.parameter("run.timeout")
def test_timeout_kills_the_tree_and_raises_with_what_there_is(load: Load) -> None:
    script = "echo begun; setsid sleep 60 & sleep 60; echo never"
    begun = time.monotonic()
    with pytest.raises(pc.TimeoutExpired) as caught:
        pc.run(["sh", "-c", script], image=load.root, timeout=0.7)
    assert 0.7 <= time.monotonic() - begun <= 6
    assert (caught.value.output, caught.value.timeout) == (b"begun\n", 0.7)
    assert caught.value.result.reason is Reason.TIMEOUT
    assert caught.value.result.returncode == -9


@pytest.mark.parameter("run.timeout")
def test_the_shorter_of_timeout_and_wall_time_speaks(load: Load) -> None:
    assert load("sleep", 60, timeout=50, limits=Limits(wall_time=0.2)).reason is Reason.TIMEOUT
    with pytest.raises(pc.TimeoutExpired):
        load("sleep", 60, timeout=0.2, limits=Limits(wall_time=50))
    with pytest.raises(pc.TimeoutExpired):
        load("exit", 0, timeout=0)
