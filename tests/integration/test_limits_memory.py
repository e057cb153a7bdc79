"""memory, swap, memory_high, oom_group, oom_score_adj: what dies, when, and what the verdict says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import groups
import pycontainer as pc
import requirements
from programs.loads import MIB, Load
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.vm
memory_group = pytest.mark.requires("controller:memory")


def last_number(result: pc.Result[bytes]) -> int:
    return int(result.stdout.split()[-1]) if result.stdout else 0


@memory_group
@pytest.mark.parameter("limits.memory")
@pytest.mark.parametrize("mib", [16, 64])
def test_the_hog_dies_at_about_the_limit(load: Load, mib: int) -> None:
    result = load("hog", 4 * mib, limits=Limits(memory=mib * MIB))
    assert (result.reason, result.returncode) == (Reason.MEMORY, -9)
    assert 0.8 * mib <= last_number(result) <= mib
    assert result.usage.memory_peak is not None
    assert 0.9 * mib * MIB <= result.usage.memory_peak <= mib * MIB
    assert result.enforced["memory"].state == "held"


@memory_group
def test_what_fits_runs_to_its_end(load: Load) -> None:
    result = load("hog", 24, limits=Limits(memory="32MiB"))
    assert (result.reason, result.returncode, last_number(result)) == (Reason.EXITED, 0, 24)


@memory_group
def test_two_processes_share_the_limit(load: Load) -> None:
    each = "/bin/load hold 20 1 > /dev/null & /bin/load hold 20 1 > /dev/null & wait $!; wait"
    result = pc.run(["sh", "-c", each], image=load.root, limits=Limits(memory="32MiB"))
    assert result.reason is Reason.MEMORY


@memory_group
def test_files_in_memory_count(load: Load) -> None:
    result = load("fill", "/dev/shm/x", limits=Limits(memory="24MiB"))
    assert result.reason is Reason.MEMORY


@memory_group
@pytest.mark.parameter("limits.memory")
def test_max_lifts_it(load: Load) -> None:
    limits = Limits(memory="16MiB") | Limits(memory="max")
    assert last_number(load("hog", 48, limits=limits)) == 48


@memory_group
@pytest.mark.parameter("run.check")
def test_check_raises_with_peak_and_limit(load: Load) -> None:
    with pytest.raises(pc.LimitExceeded, match=r"memory limit: peak 1[0-9.]+ MiB of 16 MiB") as caught:
        load("hog", 64, limits=Limits(memory="16MiB"), check=True)
    assert caught.value.reason is Reason.MEMORY
    assert caught.value.result.usage.oom_kills


# ---- swap and memory_high ----------------------------------------------------------------------------------------


@memory_group
@pytest.mark.parameter("limits.swap")
def test_without_swap_the_limit_is_the_memory_alone(load: Load) -> None:
    """With swap=0 a hog dies at its memory limit, whether the machine swaps or not; `enforced` says who holds it."""
    result = load("hog", 48, limits=Limits(memory="16MiB", swap=0))
    assert result.reason is Reason.MEMORY
    assert last_number(result) <= 16
    row = result.enforced["swap"]
    assert (row.state, bool(row.by)) == ("held", True)


@pytest.mark.requires("no-swap")
def test_no_swap_at_all_needs_no_group(load: Load) -> None:
    assert load("exit", 0, limits=Limits(swap=0)).enforced["swap"].state == "held"


@pytest.fixture
def swap_file(scratch: Path) -> Iterator[None]:
    """A machine without swap gets some for the moment of the test."""
    path = scratch / "swap"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 64 * MIB)
    path.chmod(0o600)
    subprocess.run(["mkswap", "-q", str(path)], check=True)
    subprocess.run(["swapon", str(path)], check=True)
    yield
    subprocess.run(["swapoff", str(path)], check=True)
    path.unlink()


@pytest.mark.requires("root", "cgroup2:memory", "swap", "program:mkswap")
@pytest.mark.usefixtures("swap_file")
@pytest.mark.parameter("limits.swap")
def test_swap_comes_on_top_of_memory(load: Load) -> None:
    assert load("hog", 40, limits=Limits(memory="16MiB", swap=0)).reason is Reason.MEMORY
    assert last_number(load("hog", 40, limits=Limits(memory="16MiB", swap="40MiB"))) == 40


@pytest.mark.requires("cgroup2:memory")
@pytest.mark.parameter("limits.memory_high")
def test_above_memory_high_it_crawls_and_is_not_killed(load: Load) -> None:
    """Without swap nothing can be reclaimed, so the kernel makes it sleep more and more at each step beyond."""
    result = load("hog", 192, limits=Limits(memory_high="16MiB", memory="256MiB", wall_time=4))
    assert result.reason is Reason.TIMEOUT
    assert 12 <= last_number(result) < 192
    assert result.usage.oom_kills == 0


@pytest.mark.requires("cgroup1:memory")
@pytest.mark.refuses("limits.memory_high")
def test_cgroup_v1_has_no_memory_high_and_says_the_cure(load: Load) -> None:
    with pytest.raises(pc.NotSupported, match=r"memory_high.*unified_cgroup_hierarchy"):
        load("exit", 0, limits=Limits(memory_high="32MiB"))
    degraded = load("exit", 0, limits=Limits(memory_high="32MiB"), degrade=["memory_high"])
    assert degraded.enforced["memory_high"].state == "missing"
    lifted = load("exit", 0, limits=Limits(memory_high="max"))
    assert lifted.enforced["memory_high"].state == "held"


# ---- who dies ----------------------------------------------------------------------------------------------------


@memory_group
@pytest.mark.parameter("limits.oom_group")
def test_the_tree_dies_as_one(load: Load) -> None:
    for limits in (Limits(memory="24MiB"), Limits(memory="24MiB", oom_group=True)):
        result = load("child_hog", 64, 20, limits=limits)
        assert (result.reason, result.returncode) == (Reason.MEMORY, -9)
        assert result.enforced["oom_group"].state == "held"
        assert result.usage.wall is None or result.usage.wall < 15


@memory_group
@pytest.mark.parameter("limits.oom_group")
def test_without_oom_group_only_the_hog_dies(load: Load) -> None:
    result = load("child_hog", 64, 0.1, limits=Limits(memory="24MiB", oom_group=False))
    assert (result.reason, result.returncode, result.stdout) == (Reason.EXITED, 7, b"child -9\n")
    assert result.usage.oom_kills == 1


@memory_group
def test_a_command_that_kills_itself_is_no_verdict_on_memory(load: Load) -> None:
    result = load("kill9", limits=Limits(memory="24MiB"))
    assert (result.reason, result.returncode, result.usage.oom_kills) == (Reason.SIGNALED, -9, 0)


@pytest.mark.parameter("limits.oom_score_adj")
def test_oom_score_adj_reaches_every_process(load: Load) -> None:
    """Seen from outside in /proc of the host's: of PID 1 and of the command."""
    with pytest.raises(pc.TimeoutExpired) as caught:
        load("spin", 2, 60, limits=Limits(oom_score_adj=321), timeout=0.5, stdout=pc.DEVNULL)
    assert caught.value.result.enforced["oom_score_adj"].state == "held"
    script = "cat /proc/1/oom_score_adj /proc/self/oom_score_adj"
    seen = pc.run(["sh", "-c", script], image=load.root, limits=Limits(oom_score_adj=321)).stdout
    assert seen.split() == [b"321", b"321"]


# ---- the limit above: of a group that holds this interpreter's containers -----------------------------------------

ABOVE = """
import json, os, sys, threading, time
root, above, v1 = sys.argv[1:]
if v1 == "1":
    open(above + "/cgroup.procs", "w").write(str(os.getpid()))
else:
    os.environ["PYCONTAINER_CGROUP"] = above
import pycontainer as pc
open("/proc/self/oom_score_adj", "w").write("0")

def run(name, words, score):
    limits = pc.Limits(memory="1GiB", oom_score_adj=score, wall_time=60)
    results[name] = pc.run(["/bin/load", *words], image=root, limits=limits)

results = {}
pc.run(["/bin/load", "exit", "0"], image=root, limits=pc.Limits(memory="1GiB"))
small = [threading.Thread(target=run, args=each) for each in
         [("marked", ["hold", "8", "50"], 1000), ("bystander", ["hold", "8", "4"], 0)]]
for thread in small:
    thread.start()
time.sleep(1.5)
run("hog", ["hog", "200"], 0)
for thread in small:
    thread.join()
print(json.dumps({name: [r.reason, r.returncode, r.usage.oom_kills] for name, r in results.items()}))
"""


@pytest.fixture
def above() -> Iterator[tuple[Path, bool]]:
    """A memory group of 128 MiB, and whether it is one of version 1."""
    v1 = requirements.missing("cgroup1:memory") is None
    if v1:
        own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line)
        place = next(path for path, options in requirements.mounts_of("cgroup") if "memory" in options.split(","))
        group = place / own.split(":")[2].lstrip("/") / f"limits-test-{os.getpid()}"
    else:
        place = requirements.mounts_of("cgroup2")[0][0]
        (place / "cgroup.subtree_control").write_text("+memory")
        group = place / f"limits-test-{os.getpid()}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(128 * MIB))
    yield group, v1
    groups.remove(group)


@pytest.mark.requires("root", "controller:memory")
def test_a_limit_above_takes_the_marked_one_first_and_no_bystander(load: Load, above: tuple[Path, bool]) -> None:
    """The container with the highest oom_score_adj dies, then the hog, both by HOST_MEMORY; the third is left alone.

    Version 1 tells every group below the one that ran out: a keeper that believed the event would kill all three.
    """
    group, v1 = above
    argv = [sys.executable, "-c", ABOVE, str(load.root), str(group), str(int(v1))]
    search = os.pathsep.join([str(Path(pc.__file__).parent.parent), *sys.path])
    environ = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=110, env=environ)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen["marked"][:2] == ["host_memory", -9]
    assert seen["hog"][:2] == ["host_memory", -9]
    assert seen["bystander"] == ["exited", 0, 0]
