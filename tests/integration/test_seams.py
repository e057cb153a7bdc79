"""The rows of `Result.enforced` are read from the kernel: with one step left out, its row says so, and no other.

A build with the feature `test-seams` obeys PYCONTAINER_SEAM, which is read anew for each run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from programs.loads import schedulers

pytest_plugins = ["programs.loads"]
pytestmark = [pytest.mark.requires("seams"), pytest.mark.vm]

SCRIPT = """
import json, os, sys
import pycontainer as pc
for line in sys.stdin:
    seams, said = json.loads(line)
    os.environ["PYCONTAINER_SEAM"] = seams
    limits, security = said.pop("limits", {}), pc.Security(**said.pop("security", {}))
    if "io" in limits:
        limits["io"] = {disk: pc.IoLimit(**rates) for disk, rates in limits["io"].items()}
    said["mounts"] = [pc.Mount.bind(path, path, read_only=True) for path in said.pop("binds", [])]
    try:
        result = pc.run(["/bin/true"], image=sys.argv[1], limits=pc.Limits(**limits), security=security, **said)
    except pc.Error as error:
        print(json.dumps({"error": repr(error)}), flush=True)
    else:
        print(json.dumps({name: [row.state, row.by, row.why] for name, row in result.enforced.items()}), flush=True)
"""
Rows = dict[str, list[str]]


class Runs:
    """runs(seams, **what run is given) is `enforced`; all in one interpreter of its own, with its keeper."""

    def __init__(self, image: Path) -> None:
        environ = {**os.environ, "PYTHONPATH": str(Path(pc.__file__).parents[1])}
        argv = [sys.executable, "-c", SCRIPT, str(image)]
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        self.child = subprocess.Popen(argv, env=environ, text=True, **pipes)

    def __call__(self, seams: str = "", **said: Any) -> Rows:
        assert self.child.stdin
        assert self.child.stdout
        print(json.dumps([seams, said]), file=self.child.stdin, flush=True)
        line = self.child.stdout.readline()
        assert line, self.child.communicate()[1]
        rows = json.loads(line)
        assert "error" not in rows, rows["error"]
        return rows

    def end(self) -> None:
        _, err = self.child.communicate(timeout=60)
        assert self.child.returncode == 0, err


@pytest.fixture(scope="module")
def runs(rootfs: Path) -> Iterator[Runs]:
    made = Runs(rootfs)
    made()  # its keeper lives as long as it does: no leak of the first test
    yield made
    made.end()


# Each limit that the kernel holds without a control group.
LIMITS = {"oom_score_adj": 500, "rlimits": {"nofile": [64, 64], "core": 0}}
# Landlock would refuse to execute anything beneath the old root: the road breaks one step later, and starts nothing.
WITHOUT_LANDLOCK = {"security": {"landlock": False}}


def seam(
    step: str, row: str = "", *, needs: tuple[str, ...] = (), also: frozenset[str] = frozenset(), **said: Any
) -> Any:
    """A step, the row that tells of it, those that the kernel ties to it, and what has to be asked for."""
    return pytest.param(row or step, step, also, said, id=step, marks=pytest.mark.requires(*needs) if needs else ())


SEAMS = [
    seam("seccomp"),
    # Without no_new_privs the filter is loaded earlier, and holds all the same; the mount keeps its nosuid.
    seam("no_new_privileges"),
    seam("landlock", needs=("landlock>=2",)),
    seam("capabilities"),
    seam("masked_paths"),
    seam("readonly_paths", "masked_paths"),
    seam("namespace:cgroup"),
    seam("namespace:ipc"),
    seam("namespace:net"),
    seam("namespace:pid"),
    seam("namespace:time"),
    seam("namespace:uts"),
    # The namespace is there, and root in it is root outside.
    seam("user_namespace", needs=("root",)),
    # Without one root inside is root outside, and nothing is left that bounds its tasks.
    seam("namespace:user", needs=("root",), also=frozenset({"user_namespace", "pids"})),
    seam("pids"),
    seam("pivot_root", "root", **WITHOUT_LANDLOCK),
    seam("detach_old_root", "root"),
    seam("read_only", "root", read_only=True),
    seam("disk", limits={"disk": "1MiB", **LIMITS}, needs=("tmpfs-upper",)),
    seam("oom_score_adj", limits=LIMITS),
    seam("rlimits", limits=LIMITS),
]
# What `enforced` tells and no seam can leave out, there or anywhere, and why.
NO_SEAM = {
    "namespace:mnt": "without it the root would be mounted over the keeper's own: no container, and the engine broken",
    "namespace:user, user_namespace of a plain user": "that is where he has his capabilities: no step works without",
    "cpuset of version 1": "it lets no task into a group without processors (ENOSPC): nothing starts",
    "oom_group of version 1": "the keeper's event, which the kernel shows nobody: what it does is a test of limits",
    "memory_high, io, io_weight of version 1": "it has none, or no disk here is divided: missing or degraded as it is",
    "wall_time, cpu_time, output": "held by the keeper's clock and the reader: what they do is the verdict itself",
    "devices": "no row: what is there is the whole list (tests/hostile/test_devices.py)",
}


def changed(before: Rows, after: Rows) -> set[str]:
    """A row that comes and is held is none: what shares the host's pid namespace gets a group for its end."""
    return {name for name in before | after if before.get(name, ["held"])[0] != after.get(name, ["missing"])[0]}


@pytest.mark.parametrize(("row", "step", "also", "said"), SEAMS)
def test_a_step_that_was_left_out_shows_in_its_row_only(
    runs: Runs, row: str, step: str, also: frozenset[str], said: dict[str, Any]
) -> None:
    before, after = runs(**said), runs(step, **said)
    assert before[row][0] == "held"
    assert changed(before, after) == {row} | also
    for name in {row} | also:
        state, by, why = after[name]
        assert (state, by) == ("missing", ""), name
        assert why, name


@pytest.mark.requires("tmpfs-upper")
def test_a_layer_that_is_not_where_it_was_asked_for_is_degraded(runs: Runs) -> None:
    before, after = runs(), runs("upper")
    assert before["upper"][:2] == ["held", "tmpfs"]
    assert after["upper"][:2] == ["degraded", "a directory in the store"]
    assert changed(before, after) == {"upper"}


@pytest.mark.requires("root", "idmap")
def test_a_read_only_bind_that_is_not_mapped_is_degraded(runs: Runs, scratch: Path) -> None:
    said = {"binds": [str(scratch)]}
    before, after = runs(**said), runs("idmapped_mounts", **said)
    assert before["idmapped_mounts"] == ["held", "mount_setattr", ""]
    assert after["idmapped_mounts"][0] == "degraded"
    assert "cannot be idmapped" in after["idmapped_mounts"][2]
    assert changed(before, after) == {"idmapped_mounts"}
    assert "idmapped_mounts" not in runs("idmapped_mounts"), "an image or a writable bind is mapped or refused"


@pytest.mark.requires("root", "loop")
def test_a_layer_on_the_disk_that_nothing_bounds_shows_in_its_row(runs: Runs) -> None:
    said = {"upper": "disk", "limits": {"disk": "1MiB"}}
    before, after = runs(**said), runs("disk", **said)
    assert before["disk"][:2] in (["held", "loop file"], ["held", "project quota"])
    assert after["disk"][0] == "missing"
    assert "bytes" in after["disk"][2]
    assert changed(before, after) == {"disk"}


def test_an_unknown_seam_changes_nothing(runs: Runs) -> None:
    assert not changed(runs(), runs("nothing-of-this-name"))


# ---- control groups ----------------------------------------------------------------------------------------------

DISKS = sorted((scheduler.parents[1] / "dev").read_text().strip() for scheduler in schedulers())
IO = {(DISKS or ["8:0"])[0]: {"read_bps": 1 << 30}}


def file(limit: str, *needs: str, **said: Any) -> Any:
    """A limit, and what has to be asked for; on either version of control groups, unless `needs` says one."""
    return pytest.param(limit, said, id=limit, marks=pytest.mark.requires(*needs))


FILES = [
    file("memory", "controller:memory", memory="256MiB"),
    file("swap", "controller:memory", "swap", memory="256MiB", swap="64MiB"),
    file("memory_high", "cgroup2:memory", memory_high="256MiB"),
    file("oom_group", "cgroup2:memory", memory="256MiB"),
    file("cpus", "controller:cpu", cpus=0.5),
    file("cpu_weight", "controller:cpu", cpu_weight=50),
    file("cpuset", "cgroup2:cpuset", cpuset=[0]),
    file("pids", "controller:pids", pids=20),
    file("io", "cgroup2:io", io=IO),
]


def left_out(runs: Runs, limit: str, said: dict[str, Any]) -> None:
    before, after = runs(limits=said), runs(f"file:{limit}", limits=said)
    assert before[limit][0] == "held"
    assert changed(before, after) == {limit}
    state, by, why = after[limit]
    assert (state, by) == ("missing", "")
    assert ", not " in why


@pytest.mark.parametrize(("limit", "said"), FILES)
def test_a_file_that_was_not_written_shows_in_its_limit_only(runs: Runs, limit: str, said: dict[str, Any]) -> None:
    left_out(runs, limit, said)


@pytest.mark.requires("root", "cgroup2:io", "scheduler:bfq")
@pytest.mark.usefixtures("bfq")
def test_a_weight_of_disks_that_was_not_written_shows_in_its_limit_only(rootfs: Path) -> None:
    """The engine looks at the disks when it starts, so it is a new one."""
    fresh = Runs(rootfs)
    left_out(fresh, "io_weight", {"io_weight": 10})
    fresh.end()


@pytest.mark.requires("controller:memory")
def test_a_group_that_was_not_joined_shows(runs: Runs) -> None:
    said = {"limits": {"memory": "256MiB"}}
    before, after = runs(**said), runs("cgroup", **said)
    assert (before["cgroup"][0], before["memory"][0]) == ("held", "held")
    assert changed(before, after) == {"cgroup"}


# ---- nothing is forgotten ----------------------------------------------------------------------------------------

# Every limit, so that each has its row on every machine: what cannot be held may be missing.
ALL = {
    **{"disk": "1MiB", "oom_score_adj": 500, "rlimits": {"nofile": [64, 64]}, "output": "1MiB", "wall_time": 60},
    **{"memory": "256MiB", "swap": "64MiB", "memory_high": "128MiB", "oom_group": True, "pids": 20, "cpus": 0.5},
    **{"cpu_weight": 50, "cpuset": [0], "cpu_time": 60, "io": IO, "io_weight": 10, "output_mode": "truncate"},
}
NOT_BUILT = {"network"}
WITHOUT_A_ROW = {"output_mode"}
DEGRADE = sorted(set(ALL) - {"output", "output_mode", "wall_time"})


def test_every_row_of_a_run_is_told_or_explained(runs: Runs, rootfs: Path) -> None:
    """A new row of `enforced`, a new limit too, finds its seam, or its reason, here."""
    assert set(ALL) == set(pc.Limits().__slots__) - NOT_BUILT
    # What holds for some machines only has its seam on the others.
    explained = {name.strip() for names in NO_SEAM if " of " not in names for name in names.split(",")}
    told = {name for case in SEAMS for name in (case.values[0], *case.values[2])} | {"upper", "cgroup", "io_weight"}
    told |= {case.values[0] for case in FILES} | {"idmapped_mounts"}
    seen = set(runs(limits=ALL, degrade=DEGRADE, binds=[str(rootfs)]))
    assert set(ALL) - WITHOUT_A_ROW <= seen
    assert seen <= told | explained
