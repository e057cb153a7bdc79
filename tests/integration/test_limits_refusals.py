"""Each field of Limits with a value that this machine cannot hold, or that another call refuses: refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import requirements
from programs.loads import Load
from pycontainer import IoLimit, Limits, NetworkLimit

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.vm
NAN, MORE_THAN_ANY = float("nan"), 1 << 60

# Refused by this machine, when the container would be made.


def refused(load: Load, error: type[Exception], match: str, **fields: Any) -> None:
    mark = load.root / "var"
    before = sorted(path.name for path in mark.iterdir())
    with pytest.raises(error, match=match):
        load("exit", 0, limits=Limits(**fields))
    assert sorted(path.name for path in mark.iterdir()) == before


@pytest.mark.requires("controller:memory", "controller:cpu", "controller:cpuset")
@pytest.mark.refuses("limits.memory", "limits.memory_high", "limits.cpus", "limits.cpuset")
@pytest.mark.parametrize(
    ("match", "fields"),
    [
        ("^memory: .* more than this machine has", {"memory": MORE_THAN_ANY}),
        ("^memory_high: .* more than this machine has", {"memory_high": MORE_THAN_ANY}),
        (r"^cpus: .* more than this machine has", {"cpus": 8000}),
        ("^cpuset: no processor 8000 here", {"cpuset": [0, 8000]}),
    ],
)
def test_more_than_the_machine_has(load: Load, match: str, fields: dict[str, Any]) -> None:
    refused(load, ValueError, match, **fields)


@pytest.mark.requires("controller:io")
@pytest.mark.refuses("limits.io")
def test_io_without_a_disk_or_without_a_rate(load: Load, tmp_path: Path) -> None:
    refused(load, pc.SetupError, "limits.io: find the device", io={str(tmp_path / "none"): IoLimit(read_bps=1)})
    refused(load, ValueError, "^io: nothing is said", io={"8:0": IoLimit()})
    with pytest.raises(pc.SetupError, match="no such disk"):
        load("exit", 0, limits=Limits(io={"4000:77": IoLimit(read_bps=1)}), degrade=["io"])


@pytest.mark.refuses("limits.oom_score_adj")
def test_oom_score_adj_below_our_own_needs_a_capability(load: Load) -> None:
    if requirements.missing("cap:SYS_RESOURCE") is None and os.geteuid() == 0:
        assert load("exit", 0, limits=Limits(oom_score_adj=-1000)).returncode == 0
        return
    refused(load, pc.NotSupported, "oom_score_adj.*CAP_SYS_RESOURCE", oom_score_adj=-1000)
    degraded = load("exit", 0, limits=Limits(oom_score_adj=-1000), degrade=["oom_score_adj"])
    assert degraded.enforced["oom_score_adj"].state == "missing"


REAL_TIME = """
import sys
import pycontainer as pc
try:
    print(pc.run(["true"], image=sys.argv[1], limits=pc.Limits(cpus=1)).returncode)
except pc.SetupError as error:
    print(error)
"""


@pytest.mark.requires("root", "controller:cpu", "program:chrt")
def test_a_real_time_caller_is_told_why_a_group_does_not_take_it(rootfs: Path) -> None:
    """Of version 1 with CONFIG_RT_GROUP_SCHED: a cpu group without real-time budget; others take it."""
    argv = ["chrt", "-f", "1", sys.executable, "-c", REAL_TIME, str(rootfs)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n" or "takes no real-time process" in done.stdout


@pytest.mark.refuses("limits.network")
@pytest.mark.parameter("limits.network")
def test_a_network_s_rate_is_not_built_yet_and_never_ignored(load: Load) -> None:
    refused(load, pc.NotSupported, "limits.network", network=NetworkLimit(rate="1MiB"))


# ---- where there is no group to hold it --------------------------------------------------------------------------

GROUPED: dict[str, tuple[str, Any]] = {
    "memory": ("memory", "64MiB"),
    "cpus": ("cpu", 0.5),
    "cpu_weight": ("cpu", 50),
    "cpuset": ("cpuset", [0]),
    "cpu_time": ("memory", 5),
    "oom_group": ("memory", True),
}


@pytest.mark.parametrize("name", sorted(GROUPED))
def test_it_is_held_or_refused_with_the_cure_and_degraded_by_permission_only(load: Load, name: str) -> None:
    controller, value = GROUPED[name]
    limits = Limits(**{name: value})
    lacking = requirements.missing(f"controller:{controller}")
    if lacking is None or (name == "cpu_time" and os.geteuid() == 0):
        assert load("exit", 0, limits=limits).enforced[name].state == "held"
        return
    with pytest.raises(pc.NotSupported, match=name) as caught:
        load("exit", 0, limits=limits)
    assert caught.value.requirement == name
    assert caught.value.cause
    assert caught.value.fix
    row = load("exit", 0, limits=limits, degrade=[name]).enforced[name]
    assert row.state in ("degraded", "missing")
    assert row.why


@pytest.mark.parametrize(
    "name", ["memory", "swap", "memory_high", "cpus", "pids", "disk", "output", "wall_time", "cpu_time"]
)
def test_max_is_held_everywhere(load: Load, name: str) -> None:
    """A limit that is lifted needs nothing of the machine."""
    result = load("exit", 0, limits=Limits(**{name: "max"}))
    assert result.returncode == 0
    assert name not in result.enforced or result.enforced[name].state == "held"


@pytest.mark.refuses("run.degrade")
def test_degrade_takes_names_of_limits_only(load: Load) -> None:
    for names, error in ((["memories"], ValueError), ("memory", TypeError), (["seccomp"], ValueError)):
        with pytest.raises(error, match="degrade"):
            load("exit", 0, degrade=names)


@pytest.mark.parametrize("value", [{"memory": 1}, 5, "64MiB"])
@pytest.mark.refuses("run.limits")
def test_limits_is_a_limits(load: Load, value: Any) -> None:
    with pytest.raises(TypeError, match="limits must be Limits"):
        load("exit", 0, limits=value)


@pytest.mark.refuses("run.timeout")
@pytest.mark.parametrize(("value", "error"), [("1", TypeError), (True, TypeError), (NAN, ValueError)])
def test_timeout_is_seconds(load: Load, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        load("exit", 0, timeout=value)
