"""What is told of a run that was killed, or whose command is PID 1: the same rows, and the whole tree's use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from programs.loads import Load
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]
pytestmark = [pytest.mark.requires("userns"), pytest.mark.vm]
memory_group = pytest.mark.requires("controller:memory")

ASKED = Limits(wall_time=20, output="1MiB", rlimits={"core": 0, "nofile": (64, 64)}, oom_score_adj=500)


def rows(result: pc.Result[Any]) -> dict[str, str]:
    return {name: row.state for name, row in result.enforced.items()}


# ---- killed runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "limits", "reason"),
    [
        pytest.param(["sleep", 60], Limits(wall_time=0.2), Reason.TIMEOUT, id="wall_time"),
        pytest.param(["spin", 2, 60], Limits(cpu_time=0.2), Reason.CPU_TIME, id="cpu_time", marks=memory_group),
        pytest.param(["hog", 64], Limits(memory="16MiB"), Reason.MEMORY, id="memory", marks=memory_group),
        pytest.param(["child_hog", 64, 30], Limits(memory="16MiB"), Reason.MEMORY, id="tree", marks=memory_group),
        pytest.param(["flood", 1, 1 << 40], Limits(output="64KiB"), Reason.OUTPUT, id="output"),
        pytest.param(["kill9"], Limits(), Reason.SIGNALED, id="by itself"),
    ],
)
def test_a_killed_run_has_the_rows_of_one_that_ended(
    load: Load, times: Callable[[int], range], words: list[object], limits: Limits, reason: Reason
) -> None:
    """They are sent when the command starts: whoever kills PID 1 takes no word of them."""
    whole = rows(load("exit", 0, limits=ASKED | limits))
    assert whole.keys() >= {"seccomp", "root", "namespace:pid", "rlimits"}
    for _ in times(10):
        result = load(*words, limits=ASKED | limits)
        assert result.reason is reason
        assert rows(result) == whole


def test_a_timeout_s_exception_has_them_too(load: Load) -> None:
    whole = rows(load("exit", 0))
    with pytest.raises(pc.TimeoutExpired) as raised:
        load("sleep", 60, timeout=0.2)
    assert raised.value.result is not None
    assert rows(raised.value.result) == whole


@memory_group
@pytest.mark.parametrize("words", [["hog", 64], ["child_hog", 64, 30], ["fill", "/dev/shm/x"]])
def test_a_memory_limit_without_swap_is_the_container_s_own(
    load: Load, times: Callable[[int], range], words: list[object]
) -> None:
    """Version 1 counts memory and swap in a second counter that fills at the same moment: still the container's own."""
    for _ in times(10):
        result = load(*words, limits=Limits(memory="16MiB", swap=0))
        assert result.reason is Reason.MEMORY
        assert result.enforced["swap"].state == "held"


# ---- the command as PID 1 ----------------------------------------------------------------------------------------


def rows_but_its_group(result: pc.Result[Any]) -> dict[str, str]:
    """A command that is PID 1 has a group unasked, where there can be one: it ends it when its keeper is dead."""
    found = rows(result)
    assert found.pop("cgroup", "held") == "held"
    return found


@pytest.mark.parametrize("words", [["exit", 0], ["sleep", 0.2]], ids=["gone at once", "stays"])
def test_pid_1_itself_has_the_same_rows(load: Load, times: Callable[[int], range], words: list[object]) -> None:
    """It may have ended before the keeper looks at it: what it cannot show then it has told before exec."""
    beside = load(*words, limits=ASKED)
    for _ in times(20):
        itself = load(*words, limits=ASKED, pid1=True)
        assert rows_but_its_group(itself) == rows(beside)
        assert itself.enforced["capabilities"].by == beside.enforced["capabilities"].by


def test_pid_1_that_is_killed_has_them_too(load: Load) -> None:
    result = load("sleep", 60, limits=ASKED | Limits(wall_time=0.2), pid1=True)
    assert result.reason is Reason.TIMEOUT
    assert rows_but_its_group(result) == rows(load("exit", 0, limits=ASKED))


# ---- what the tree used ------------------------------------------------------------------------------------------

# Its parent has gone, so only PID 1 can reap it.
ORPHAN = "(/bin/load spin 1 {seconds} &) ; "


def spent_alone(load: Load, seconds: float) -> float:
    """Processor time that one spinner gets here in as many seconds, whatever else this machine does."""
    begun = time.monotonic()
    load("spin", 1, seconds)
    return seconds * seconds / max(seconds, time.monotonic() - begun)


@pytest.mark.parametrize("how", ["ended before", "still there"])
@pytest.mark.parametrize("end", ["exit", "wall_time", "output", "kill"])
def test_the_time_of_orphans_is_the_tree_s(load: Load, how: str, end: str) -> None:
    """Without a group: PID 1 ends everything, reaps it, and only then ends itself."""
    script = ORPHAN.format(seconds=0.4 if how == "ended before" else 60) + "sleep 1; "
    limits = {"wall_time": Limits(wall_time=1.2), "output": Limits(output=10)}.get(end, Limits())
    script += {"exit": "exit 0", "wall_time": "sleep 60", "output": "/bin/load flood 1 100000", "kill": "kill -9 $$"}[
        end
    ]
    result = pc.run(["sh", "-c", script], image=load.root, limits=limits, timeout=60)
    assert result.usage.cpu is not None
    assert result.usage.cpu >= 0.6 * spent_alone(load, 0.4)


@pytest.mark.parametrize("end", ["exit 0", "sleep 60"])
def test_the_memory_of_orphans_is_the_tree_s(load: Load, end: str) -> None:
    script = f"(/bin/load hold 30 60 >/dev/null &) ; sleep {patience(1)}; {end}"
    result = pc.run(["sh", "-c", script], image=load.root, limits=Limits(wall_time=1.5 * patience(1)))
    assert result.usage.memory_peak is not None
    assert result.usage.memory_peak >= 30 << 20
