"""doctor() where the controllers are in hierarchies of version 1: each of them taken away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import pycontainer as pc
import requirements
import worlds

takes = pytest.mark.takes
V1 = {
    "memory": {"memory", "oom_group", "cgroup"},
    "cpu": {"cpus", "cpu_weight"},
    "cpuset": {"cpuset"},
    "blkio": {"io"},
}


@pytest.mark.requires("root", "userns", "hybrid")
@pytest.mark.parametrize("controller", [pytest.param(name, marks=takes(*rows)) for name, rows in sorted(V1.items())])
def test_a_read_only_hierarchy_takes_its_limits_and_is_named(healthy: pc.Report, controller: str) -> None:
    place = f"/sys/fs/cgroup/{controller}"
    seen = worlds.private(f"mount -o remount,bind,ro {place}")
    changed = {name for name in healthy if seen[name]["state"] != healthy[name].state}
    changed -= {"swap"}  # held all the same where the machine has none
    assert changed == V1[controller]
    for name in V1[controller] - {"cgroup"}:
        assert "is mounted read-only" in seen[name]["why"], name
        assert "remount,rw" in seen[name]["fix"], name


@takes("memory")
@pytest.mark.requires("root", "userns", "hybrid")
def test_a_hierarchy_that_is_not_mounted() -> None:
    seen = worlds.private("umount /sys/fs/cgroup/pids")
    # The bound on tasks is the user namespace's own then.
    assert seen["pids"]["by"] == "the user namespace's own task limit"
    seen = worlds.private("umount /sys/fs/cgroup/memory")
    assert seen["memory"]["state"] == "missing"
    assert "memory" in seen["memory"]["why"]


@takes("kill", "freeze", "pressure")
@pytest.mark.requires("root", "userns", "hybrid")
def test_without_the_unified_hierarchy_there_is_no_kill_freeze_or_pressure(healthy: pc.Report) -> None:
    seen = worlds.private("umount /sys/fs/cgroup/unified")
    for name in ("kill", "freeze", "pressure"):
        assert healthy[name].state == "held"
        assert seen[name]["state"] == "missing"
        assert seen[name]["why"]


@takes(cause="hybrid")
@pytest.mark.requires("root", "userns", "hybrid")
def test_hybrid_groups_are_named(healthy: pc.Report) -> None:
    assert healthy["cgroup"].state == "degraded"
    assert "cgroup v1 (hybrid)" in healthy["cgroup"].why
    assert healthy["memory_high"].state == "missing"


@pytest.mark.requires("userns", "user", "hybrid")
def test_a_plain_user_without_groups_is_told_what_to_do(healthy: pc.Report) -> None:
    assert healthy["memory"].state == "missing"
    assert "is not writable for uid" in healthy["memory"].why
    assert "Delegate=yes" in healthy["memory"].fix


@takes("pids")
@pytest.mark.requires("root", "userns", "hybrid", "seams")
def test_pids_where_neither_a_group_nor_the_user_namespace_bounds_them() -> None:
    row = worlds.private("umount /sys/fs/cgroup/pids; export PYCONTAINER_SEAM=pids")["pids"]
    assert row["state"] == "missing"
    assert row["why"] == "no bound on tasks is in force"


@takes("cpu_time")
@pytest.mark.requires("root", "userns", "hybrid")
def test_cpu_time_without_a_clock_of_the_tree(healthy: pc.Report) -> None:
    assert healthy["cpu_time"].state == "held"
    seen = worlds.private(
        "umount /sys/fs/cgroup/unified; umount /sys/fs/cgroup/cpuacct /sys/fs/cgroup/cpu,cpuacct || :"
    )
    assert seen["cpu_time"]["state"] == "degraded"
    assert "no cgroup2 file system is mounted" in seen["cpu_time"]["why"]


@takes("swap")
@pytest.mark.requires("root", "userns", "cgroup1:memory")
def test_swap_that_nothing_bounds(tmp_path: Path) -> None:
    """Without swap there is nothing to bound, whatever the groups are; with swap there is nothing that could."""
    fake = tmp_path / "swaps"
    fake.write_text("Filename Type Size Used Priority\n/swap file 1024 0 -2\n")
    read_only = "mount -o remount,bind,ro /sys/fs/cgroup/memory"
    if requirements.missing("no-swap") is None:
        assert worlds.private(read_only)["swap"]["by"] == "no swap on this machine"
    row = worlds.private(f"mount --bind {fake} /proc/swaps; {read_only}")["swap"]
    assert row["state"] == "missing"
    assert "is mounted read-only" in row["why"]


@pytest.mark.requires("root", "userns", "hybrid")
def test_io_weight_is_what_the_disk_s_scheduler_says(healthy: pc.Report) -> None:
    """Version 1 divides a disk by weight under bfq only: the machine itself decides."""
    done = subprocess.run(["sh", "-c", "cat /sys/block/*/queue/scheduler"], check=False, capture_output=True, text=True)
    assert (healthy["io_weight"].state == "held") == ("[bfq]" in done.stdout)
    assert bool(healthy["io_weight"].why) == (healthy["io_weight"].state != "held")
