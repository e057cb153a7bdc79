"""The rows of `Result.enforced` are read from the kernel: with one step left out, its row says so, and no other.

A build with the feature `test-seams` obeys PYCONTAINER_SEAM. Each run is in an interpreter of its own, with its keeper.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc

pytestmark = pytest.mark.requires("seams")

SCRIPT = """
import json, sys
import pycontainer as pc
said = json.loads(sys.argv[2])
limits, security = pc.Limits(**said.pop("limits", {})), pc.Security(**said.pop("security", {}))
mounts = [pc.Mount.bind(path, path, read_only=True) for path in said.pop("binds", [])]
result = pc.run(["/bin/true"], image=sys.argv[1], limits=limits, security=security, mounts=mounts, **said)
print(json.dumps({name: [row.state, row.by, row.why] for name, row in result.enforced.items()}))
"""
# Each limit that the kernel holds without a control group.
LIMITS = {"disk": "1MiB", "oom_score_adj": 500, "rlimits": {"nofile": [64, 64], "core": 0}}
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
    seam("disk", limits=LIMITS, needs=("tmpfs-upper",)),
    seam("oom_score_adj", limits=LIMITS),
    seam("rlimits", limits=LIMITS),
]
# What `enforced` tells and no seam can leave out, and why.
NO_SEAM = {
    "namespace:mnt": "without it the root would be mounted over the keeper's own: no container, and the engine broken",
    "namespace:user, user_namespace of a plain user": "that is where he has his capabilities: no step works without",
    "cpuset": "version 1 lets no task into a group without processors (ENOSPC): nothing starts",
    "wall_time, cpu_time, output": "held by the keeper's clock and the reader: what they do is the verdict itself",
    "devices": "no row: what is there is the whole list (tests/hostile/test_devices.py)",
}


def rows(image: Path, seams: str = "", **said: Any) -> dict[str, list[str]]:
    environ = {**os.environ, "PYTHONPATH": str(Path(pc.__file__).parents[1]), "PYCONTAINER_SEAM": seams}
    argv = [sys.executable, "-c", SCRIPT, str(image), json.dumps(said)]
    done = subprocess.run(argv, check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> set[str]:
    """A row that comes and is held is none: what shares the host's pid namespace gets a group for its end."""
    return {name for name in before | after if before.get(name, ["held"])[0] != after.get(name, ["missing"])[0]}


@pytest.mark.parametrize(("row", "step", "also", "said"), SEAMS)
def test_a_step_that_was_left_out_shows_in_its_row_only(
    rootfs: Path, row: str, step: str, also: frozenset[str], said: dict[str, Any]
) -> None:
    before, after = rows(rootfs, **said), rows(rootfs, step, **said)
    assert before[row][0] == "held"
    assert changed(before, after) == {row} | also
    for name in {row} | also:
        state, by, why = after[name]
        assert (state, by) == ("missing", ""), name
        assert why, name


def test_a_layer_that_is_not_where_it_was_asked_for_is_degraded(rootfs: Path) -> None:
    before, after = rows(rootfs), rows(rootfs, "upper")
    assert before["upper"][:2] == ["held", "tmpfs"]
    assert after["upper"][:2] == ["degraded", "a directory in the store"]
    assert changed(before, after) == {"upper"}


@pytest.mark.requires("root", "idmap")
def test_a_read_only_bind_that_is_not_mapped_is_degraded(rootfs: Path, scratch: Path) -> None:
    said = {"binds": [str(scratch)]}
    before, after = rows(rootfs, **said), rows(rootfs, "idmapped_mounts", **said)
    assert before["idmapped_mounts"] == ["held", "mount_setattr", ""]
    assert after["idmapped_mounts"][0] == "degraded"
    assert "cannot be idmapped" in after["idmapped_mounts"][2]
    assert changed(before, after) == {"idmapped_mounts"}
    assert "idmapped_mounts" not in rows(rootfs, "idmapped_mounts"), "an image or a writable bind is mapped or refused"


@pytest.mark.requires("root", "loop")
def test_a_layer_on_the_disk_that_nothing_bounds_shows_in_its_row(rootfs: Path) -> None:
    said = {"upper": "disk", "limits": {"disk": "1MiB"}}
    before, after = rows(rootfs, **said), rows(rootfs, "disk", **said)
    assert before["disk"][:2] in (["held", "loop file"], ["held", "project quota"])
    assert after["disk"][0] == "missing"
    assert "bytes" in after["disk"][2]
    assert changed(before, after) == {"disk"}


def test_every_row_of_a_run_is_told_or_explained(rootfs: Path) -> None:
    """A new row of `enforced` finds its seam, or its reason, here."""
    explained = {name.strip() for names in NO_SEAM for name in names.partition(" of ")[0].split(",")}
    told = {name for case in SEAMS for name in (case.values[0], *case.values[2])} | {"upper", "idmapped_mounts"}
    assert set(rows(rootfs, limits=LIMITS, binds=[str(rootfs)])) <= told | explained


# ---- control groups ----------------------------------------------------------------------------------------------

OF_GROUPS = {"memory": "256MiB", "cpus": 0.5, "cpu_weight": 50, "pids": 20}


@pytest.mark.requires("root")
@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(limit, marks=pytest.mark.requires(f"controller:{controller}"))
        for limit, controller in [
            ("memory", "memory"), ("cpus", "cpu"), ("cpu_weight", "cpu"), ("pids", "pids")
        ]
    ],
)  # fmt: skip
def test_a_file_that_was_not_written_shows_in_its_limit_only(rootfs: Path, limit: str) -> None:
    said = {"limits": {limit: OF_GROUPS[limit]}}
    before, after = rows(rootfs, **said), rows(rootfs, f"file:{limit}", **said)
    assert before[limit][0] == "held"
    assert changed(before, after) == {limit}
    state, _, why = after[limit]
    assert state == "missing"
    assert ", not " in why


@pytest.mark.requires("root", "controller:memory")
def test_a_group_that_was_not_joined_shows(rootfs: Path) -> None:
    said = {"limits": {"memory": "256MiB"}}
    before, after = rows(rootfs, **said), rows(rootfs, "cgroup", **said)
    assert (before["cgroup"][0], before["memory"][0]) == ("held", "held")
    assert changed(before, after) == {"cgroup"}


def test_an_unknown_seam_changes_nothing(rootfs: Path) -> None:
    assert not changed(rows(rootfs), rows(rootfs, "nothing-of-this-name"))
