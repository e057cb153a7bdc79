"""doctor() where all controllers are in the unified hierarchy: what each place in it gives, and what takes it away."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import groups
import house
import pycontainer as pc
import worlds
from programs.loads import schedulers

pytestmark = [pytest.mark.vm, pytest.mark.requires("cgroup2", "userns")]
BY_GROUP = {"memory", "memory_high", "oom_group", "cpus", "cpu_weight", "cpuset", "cpu_time", "io"}
TOP = Path("/sys/fs/cgroup")
pytest_plugins = ["programs.loads"]
takes = pytest.mark.takes
Reports = Callable[[Path], dict[str, dict[str, str]]]


@pytest.mark.requires("cgroup2:memory", "cgroup2:cpu", "cgroup2:cpuset", "cgroup2:io", "cgroup2:pids")
def test_a_group_that_we_may_fill_holds_every_limit() -> None:
    """As root one below the top, as a plain user the one that was delegated."""
    seen = pc.doctor()
    assert {name: seen[name].state for name in BY_GROUP} == dict.fromkeys(BY_GROUP, "held")
    assert {seen[name].by for name in BY_GROUP - {"cpu_time"}} == {"cgroup v2"}
    assert seen["pids"].by == "cgroup v2"
    for name in ("cgroup", "kill", "freeze"):
        assert seen[name].state == "held", name


@takes(*sorted(BY_GROUP - {"cpu_time"}))
@pytest.mark.requires("root")
def test_a_read_only_hierarchy_takes_its_limits_and_is_named() -> None:
    seen = worlds.private(f"mount -o remount,bind,ro {TOP}")
    for name in BY_GROUP - {"cpu_time"}:
        assert seen[name]["state"] == "missing", name
        assert "is mounted read-only" in seen[name]["why"], name
        assert "remount,rw" in seen[name]["fix"], name
    assert seen["pids"]["by"] == "the user namespace's own task limit"


@takes("swap")
@pytest.mark.requires("root", "swap")
def test_swap_that_nothing_bounds(tmp_path: Path) -> None:
    fake = tmp_path / "swaps"
    fake.write_text("Filename Type Size Used Priority\n/swap file 1024 0 -2\n")
    assert pc.doctor()["swap"].state == "held"
    row = worlds.private(f"mount --bind {fake} /proc/swaps; mount -o remount,bind,ro {TOP}")["swap"]
    assert row["state"] == "missing"
    assert "is mounted read-only" in row["why"]


@takes("io_weight")
@pytest.mark.requires("root", "cgroup2:io", "scheduler:bfq")
@pytest.mark.usefixtures("bfq")
def test_io_weight_where_one_disk_is_not_divided() -> None:
    """The fixture has put all of them under bfq, and gives each back what it had."""
    doctor = worlds.python(worlds.DOCTOR)
    assert worlds.report(doctor)["io_weight"]["state"] == "held"
    scheduler = schedulers()[0]
    scheduler.write_text("none")
    row = worlds.report(doctor)["io_weight"]
    assert row["state"] == "missing"
    assert row["why"] == f"nothing divides {scheduler.parents[1].name} by weight"
    assert "echo bfq" in row["fix"]


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of the plain user's own, which gives its children what the top has."""
    made = TOP / f"doctor-test-{os.getpid()}"
    made.mkdir()
    words = (TOP / "cgroup.controllers").read_text().split()
    (TOP / "cgroup.subtree_control").write_text(" ".join(f"+{word}" for word in words))
    for path in (made, *(made / name for name in ("cgroup.procs", "cgroup.subtree_control"))):
        os.chown(path, *house_user())
    yield made
    for below in made.iterdir():
        if below.is_dir():
            groups.remove(below)
    groups.remove(made)


def house_user() -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam(house.USER)
    return entry.pw_uid, entry.pw_gid


@pytest.fixture
def as_user_in(scratch: Path) -> Iterator[Reports]:
    """doctor() of the plain user, with the interpreter in a group; his store is where layers can lie."""
    interpreter = house.python_for_user()
    assert interpreter is not None
    store = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
    os.chown(store, *house_user())
    user = ["setpriv", "--reuid", house.USER, "--regid", house.USER, "--init-groups", "env", "-i", "PATH=/usr/bin:/bin"]
    doctor = worlds.python(worlds.DOCTOR, interpreter, worlds.package_path())

    def report(group: Path) -> dict[str, dict[str, str]]:
        enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
        seen = worlds.report([*enter, *user, f"PYCONTAINER_ROOT={store}", *doctor], cwd="/")
        assert seen["user_namespace"]["state"] == "held", seen["user_namespace"]
        return seen

    yield report
    shutil.rmtree(store)


@pytest.mark.requires("root", "plain-user")
def test_a_plain_user_without_a_group_is_told_how_to_get_one(as_user_in: Reports) -> None:
    seen = as_user_in(TOP)
    for name in BY_GROUP - {"cpu_time"}:
        assert seen[name]["state"] == "missing", name
        assert "is not writable for uid" in seen[name]["why"], name
        assert "systemd-run --user --scope -p Delegate=yes" in seen[name]["fix"], name
    assert "unified_cgroup_hierarchy" not in seen["memory"]["fix"], "this machine has cgroup v2 already"
    assert seen["pids"]["by"] == "the user namespace's own task limit"


@pytest.mark.requires("root", "plain-user")
def test_a_plain_user_who_sits_in_his_own_group_is_told_to_sit_in_a_leaf(as_user_in: Reports, group: Path) -> None:
    """And from a leaf of it the same interpreter has every limit: the cure is tried here."""
    seen = as_user_in(group)
    assert seen["memory"]["state"] == "missing"
    assert "has this program in it, so it gives no controllers" in seen["memory"]["why"]
    assert "mkdir $g/host" in seen["memory"]["fix"]
    leaf = group / "host"
    leaf.mkdir()
    os.chown(leaf, *house_user())
    os.chown(leaf / "cgroup.procs", *house_user())
    seen = as_user_in(leaf)
    assert {name: seen[name]["state"] for name in BY_GROUP} == dict.fromkeys(BY_GROUP, "held")


@pytest.mark.requires("root", "plain-user")
def test_a_group_that_was_given_less_names_what_it_lacks(as_user_in: Reports, group: Path) -> None:
    """As systemd does by default: memory and pids only."""
    inner = group / "scope"
    leaf = inner / "host"
    (group / "cgroup.subtree_control").write_text("+memory +pids")
    leaf.mkdir(parents=True)
    for path in (inner, leaf):
        os.chown(path, *house_user())
        for name in ("cgroup.procs", "cgroup.subtree_control"):
            os.chown(path / name, *house_user())
    seen = as_user_in(leaf)
    groups.remove(leaf)
    groups.remove(inner)
    assert (seen["memory"]["state"], seen["pids"]["by"]) == ("held", "cgroup v2")
    for name in ("cpus", "cpuset", "io"):
        assert seen[name]["state"] == "missing", name
        assert "was not given this controller" in seen[name]["why"], name
        assert "Delegate=cpu cpuset io memory pids" in seen[name]["fix"], name


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("relative", "is not an absolute path"),
        ("/proc", "is no group of cgroup v2"),
        ("/sys/fs/cgroup/none", "No such file or directory"),
    ],
)
def test_a_group_that_was_named_is_used_or_refused_never_replaced(path: str, why: str) -> None:
    seen = worlds.report(worlds.python(worlds.DOCTOR), env={**os.environ, "PYCONTAINER_CGROUP": path})
    assert seen["memory"]["state"] == "missing"
    assert why in seen["memory"]["why"]
    assert "PYCONTAINER_CGROUP" in seen["memory"]["fix"]
