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
limits = pc.Limits(**json.loads(sys.argv[2]))
result = pc.run(["/bin/true"], image=sys.argv[1], limits=limits)
print(json.dumps({name: [row.state, row.by, row.why] for name, row in result.enforced.items()}))
"""
# What else must change when a step is left out: the kernel ties these together.
CONSEQUENCES = {
    # Without no_new_privs the filter is loaded earlier, and holds all the same; the mount keeps its nosuid.
    "no_new_privileges": set(),
}
SEAMS = [
    "seccomp",
    "no_new_privileges",
    "landlock",
    "capabilities",
    "masked_paths",
    "namespace:cgroup",
    "namespace:time",
    "pids",
]


def rows(image: Path, seam: str = "", **limits: Any) -> dict[str, list[str]]:
    environ = {**os.environ, "PYTHONPATH": str(Path(pc.__file__).parents[1]), "PYCONTAINER_SEAM": seam}
    argv = [sys.executable, "-c", SCRIPT, str(image), json.dumps(limits)]
    done = subprocess.run(argv, check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(rootfs: Path) -> dict[str, list[str]]:
    return rows(rootfs)


def states(found: dict[str, list[str]]) -> dict[str, str]:
    return {name: state for name, (state, _, _) in found.items()}


@pytest.mark.parametrize("seam", SEAMS)
def test_a_step_that_was_left_out_shows_in_its_row_only(rootfs: Path, whole: dict[str, list[str]], seam: str) -> None:
    before, after = states(whole), states(rows(rootfs, seam))
    assert before[seam] == "held"
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {seam} | CONSEQUENCES.get(seam, set())
    assert after[seam] == "missing"


def test_a_row_that_is_missing_says_why(rootfs: Path) -> None:
    for seam in SEAMS:
        state, by, why = rows(rootfs, seam)[seam]
        assert (state, by) == ("missing", "")
        assert why


@pytest.mark.requires("root", "cgroup1:memory")
def test_a_group_that_was_not_joined_shows(rootfs: Path) -> None:
    limits = {"memory": "256MiB"}
    before, after = states(rows(rootfs, **limits)), states(rows(rootfs, "cgroup", **limits))
    assert (before["cgroup"], before["memory"]) == ("held", "held")
    assert after["cgroup"] == "missing"
    assert {name for name in before if before[name] != after.get(name)} <= {"cgroup", "memory", "swap", "oom_group"}


def test_an_unknown_seam_changes_nothing(rootfs: Path, whole: dict[str, list[str]]) -> None:
    assert states(rows(rootfs, "nothing-of-this-name")) == states(whole)
