"""Which ids of this machine a container's ids are: several ranges, small ranges, one id. As root and as a user."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import house
import pycontainer as pc
import ranges
import worlds
from pycontainer import IdMap, Mount, Security
from pycontainer._spec import _user_namespace

RANGES = (IdMap(0, 3_000_000, 1), IdMap(1, 3_100_000, 999), IdMap(1000, 4_000_000, 10))
parameter = pytest.mark.parameter("security.user_namespace")


def lines(text: str) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in text.splitlines()]


@pytest.fixture
def shared(scratch: Path) -> Iterator[Path]:
    """A directory that everyone may write to."""
    path = Path(tempfile.mkdtemp(prefix="shared-", dir=scratch))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


# ---- several ranges ----------------------------------------------------------------------------------------------


@parameter
@pytest.mark.requires("root")
def test_several_ranges_of_root_are_the_map_of_processes_and_layers(fresh_rootfs: Path) -> None:
    for name, owner in (("zero", 0), ("middle", 999), ("thousand", 1009), ("above", 1010)):
        (fresh_rootfs / name).touch()
        os.chown(fresh_rootfs / name, owner, owner)
    script = "cat /proc/self/uid_map /proc/self/gid_map; stat -c '%u %g' /zero /middle /thousand /above; id -u"
    security = Security(user_namespace=RANGES)
    done = pc.run(["sh", "-c", script], image=fresh_rootfs, user="1009", security=security, text=True, check=True)
    maps = [[line.inside, line.outside, line.count] for line in RANGES]
    owners = [[0, 0], [999, 999], [1009, 1009], [65534, 65534]]
    assert lines(done.stdout) == [*maps, *maps, *owners, [1009]]
    row = done.enforced["user_namespace"]
    assert (row.state, row.by) == ("held", "1 id from 3000000, 999 ids from 3100000, 10 ids from 4000000")
    assert [row.name for row in done.enforced.values() if row.state != "held"] == []


@pytest.mark.requires("root")
def test_what_root_inside_makes_belongs_to_its_id_outside(rootfs: Path, shared: Path) -> None:
    os.chown(shared, 4_000_005, 4_000_005)
    security = Security(user_namespace=[IdMap(5, 4_000_005, 1), IdMap(0, 3_000_000, 2)])
    mounts = [Mount.bind(shared, "/shared")]
    pc.run(["sh", "-c", "echo x > /shared/made"], image=rootfs, security=security, mounts=mounts, check=True)
    assert (shared / "made").stat().st_uid == 4_000_005, "a writable bind maps the container's root to its owner"
    done = pc.run(["sh", "-c", "stat -c %u / /tmp /proc/self/."], image=rootfs, security=security, text=True)
    assert done.stdout.split() == ["0", "0", "0"]


@pytest.mark.requires("root")
def test_an_id_without_a_line_is_nobody_inside(rootfs: Path) -> None:
    with pytest.raises(pc.NotSupported, match=r"user.*no id in the container's user namespace"):
        pc.run(["true"], image=rootfs, user="2000", security=Security(user_namespace=RANGES))
    # No group 5: the terminal has another one, and is there.
    few = Security(user_namespace=[IdMap(0, 3_000_000, 1), IdMap(7, 3_000_007, 1)])
    done = pc.run(["sh", "-c", "tty; cat /proc/sys/net/ipv4/ping_group_range"], image=rootfs, security=few, tty=True)
    assert done.stdout.split() == [b"/dev/pts/0", b"0", b"7"]


@pytest.mark.requires("root")
def test_with_sys_admin_too_the_ids_are_the_same(rootfs: Path) -> None:
    """The command then sits in one more user namespace, whose lines may not span two of its parent's."""
    admin = Security(user_namespace=RANGES, capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
    done = pc.run(["cat", "/proc/self/uid_map"], image=rootfs, security=admin, text=True, check=True)
    assert lines(done.stdout) == [[line.inside, line.inside, line.count] for line in RANGES]


@pytest.mark.requires("root")
def test_the_same_image_is_seen_by_each_container_with_its_own_ids(fresh_rootfs: Path) -> None:
    """Layers are kept for the next container, which may have other ids for the same root."""
    (fresh_rootfs / "thousand").touch()
    os.chown(fresh_rootfs / "thousand", 1000, 1000)

    def owner(*ranges: IdMap) -> bytes:
        security = Security(user_namespace=ranges) if ranges else Security()
        return pc.run(["stat", "-c", "%u", "/thousand"], image=fresh_rootfs, security=security, check=True).stdout

    base = IdMap(0, 3_000_000, 1)
    seen = [owner(base), owner(base, IdMap(1000, 5_000_000, 1)), owner(base), owner(IdMap(0, 3_000_000, 1001)), owner()]
    assert seen == [b"65534\n", b"1000\n", b"65534\n", b"1000\n", b"1000\n"]


@pytest.mark.refuses("security.user_namespace")
@pytest.mark.requires("root")
def test_too_many_ranges_for_one_write_are_refused_by_name(rootfs: Path) -> None:
    many = [IdMap(n, 4_000_000_000 + n, 1) for n in range(340)]
    with pytest.raises(ValueError, match=r"user_namespace: 340 lines of \d+ bytes; .* 4095 bytes"):
        pc.run(["true"], image=rootfs, security=Security(user_namespace=many))


def subordinate() -> int:
    name = pwd.getpwuid(os.getuid()).pw_name
    for line in Path("/etc/subuid").read_text().splitlines():
        owner, first, _ = line.split(":")
        if owner in (name, str(os.getuid())):
            return int(first)
    raise LookupError(name)


@parameter
@pytest.mark.requires("user", "subuid")
def test_several_ranges_of_a_plain_user(rootfs: Path, shared: Path) -> None:
    first = subordinate()
    own = [IdMap(100, os.getuid(), 1)] if os.getuid() == os.getgid() else []
    security = Security(user_namespace=[IdMap(0, first, 50), IdMap(60, first + 1000, 40), *own])
    script = "cat /proc/self/uid_map; echo > /shared/root; id -u"
    mounts = [Mount.bind(shared, "/shared")]
    done = pc.run(["sh", "-c", script], image=rootfs, security=security, mounts=mounts, text=True, check=True)
    # In the numbers of the user's own namespace: 0 is he, 1 the first of his range.
    assert lines(done.stdout) == [[0, 1, 50], [60, 1001, 40], *[[100, 0, 1] for _ in own], [0]]
    assert (shared / "root").stat().st_uid == first
    pc.run(["touch", "/shared/other"], image=rootfs, security=security, mounts=mounts, user="61", check=True)
    assert (shared / "other").stat().st_uid == first + 1001
    assert done.enforced["user_namespace"].by == f"this user's, {90 + len(own)} ids"
    assert done.enforced["pids"].state == "held"


@pytest.mark.refuses("security.user_namespace")
@pytest.mark.requires("user")
@pytest.mark.parametrize("maps", [[IdMap(0, 0, 1)], [IdMap(0, 999_999, 1)], [IdMap(1, 50, 5)]])
def test_a_plain_user_has_no_ids_of_others(rootfs: Path, maps: list[IdMap]) -> None:
    if maps[0].inside:
        maps = [IdMap(0, os.getuid(), 1), *maps]
    refused = maps[-1].outside if os.getuid() == os.getgid() else r"\d+"
    with pytest.raises(
        pc.NotSupported, match=f"user_namespace: id {refused} is neither this user's own nor in a range"
    ):
        pc.run(["true"], image=rootfs, security=Security(user_namespace=maps))


@pytest.mark.requires("user", "subuid")
def test_a_plain_user_s_layer_on_the_disk_is_his_own(rootfs: Path) -> None:
    own = IdMap(0, os.getuid(), 1) if os.getuid() == os.getgid() else None
    if own is not None:
        pc.run(["touch", "/x"], image=rootfs, security=Security(user_namespace=own), upper="disk", check=True)
    other = Security(user_namespace=IdMap(0, subordinate(), 5))
    with pytest.raises(pc.NotSupported, match="user_namespace: a writable layer on the disk belongs to this user"):
        pc.run(["true"], image=rootfs, security=other, upper="disk")
    # This machine's programs belong to nobody inside anyway.
    assert pc.run(["id", "-u"], security=other, check=True).stdout == b"0\n"


def test_what_crosses_is_the_lines() -> None:
    assert _user_namespace(Security()) is None
    assert _user_namespace(Security(user_namespace="host")) == []
    assert _user_namespace(Security(user_namespace=RANGES[0])) == [(0, 3_000_000, 1)]
    assert _user_namespace(Security(user_namespace=RANGES)) == [(m.inside, m.outside, m.count) for m in RANGES]


# ---- few ids -----------------------------------------------------------------------------------------------------

LOOK = """
import json, pycontainer as pc
script = "cat /proc/sys/net/ipv4/ping_group_range /proc/self/gid_map; ulimit -n"
def look(**said):
    done = pc.run(["/bin/bash", "-c", script], text=True, limits=pc.Limits(rlimits={"nofile": (10, 10)}), **said)
    worse = {row.name: row.why for row in done.enforced.values() if row.state != "held"}
    return {"code": done.returncode, "said": done.stdout.split(), "worse": worse, "pids": done.enforced["pids"].by}
print(json.dumps([look(), look(pid1=True)]))
"""


# With one id: what is refused, and which rlimit bounds the tasks of `pids` and `rlimits` together.
ASK = """
import json, pycontainer as pc
def ask(**said):
    try:
        return pc.run(["/usr/bin/id", "-G"], text=True, check=True, **said).stdout.split()
    except pc.NotSupported as error:
        return [error.requirement, error.cause, error.fix]
def tasks(pids, nproc):
    limits = pc.Limits(pids=pids, rlimits={"nproc": nproc})
    done = pc.run(["/bin/grep", "processes", "/proc/self/limits"], text=True, check=True, limits=limits)
    return done.stdout.split()[2:4]
print(json.dumps({
    "asked": [ask(groups=[2000]), ask(groups=["nogroup"]), ask(groups=[0, 2000]), ask(user="0:5"), ask(user=7)],
    "taken": [ask(groups=[0]), ask(groups=["root"]), ask()],
    "tasks": [tasks(64, 4000), tasks(64, 9), tasks(2000, 30)],
}))
"""


@pytest.fixture
def few_ids(scratch: Path) -> Iterator[Callable[..., Any]]:
    """What LOOK (or other code) prints as a plain user whose /etc/subuid and /etc/subgid have that text."""
    interpreter = house.python_for_user()
    assert interpreter, "requires plain-user"
    place = worlds.readable_copy(Path(tempfile.mkdtemp(dir=scratch)))
    place.chmod(0o755)

    def look(text: str, code: str = LOOK) -> Any:
        return ranges.told(place, text, worlds.python(code, interpreter, str(place)))

    yield look
    shutil.rmtree(place)


@pytest.mark.requires("root", "plain-user", "program:newuidmap")
def test_a_range_of_ten_ids(few_ids: Callable[..., Any]) -> None:
    for seen in few_ids(f"{house.USER}:200000:10\n"):
        assert seen["said"] == ["0", "10", "0", "0", "1", "1", "1", "10", "10"]
        assert (seen["code"], seen["worse"]) == (0, {})


@pytest.mark.requires("root", "plain-user", "program:newuidmap")
def test_a_range_below_the_user_s_own_id(few_ids: Callable[..., Any]) -> None:
    """The kernel compares groups as the host has them: then only the first can be said."""
    own = pwd.getpwnam(house.USER).pw_gid
    for seen in few_ids(f"{house.USER}:{own - 500}:400\n"):
        assert seen["said"][:2] == ["0", "0"]
        assert (seen["code"], seen["worse"]) == (0, {})


@pytest.mark.requires("root", "plain-user")
def test_one_id(few_ids: Callable[..., Any]) -> None:
    """With pid1=True the bound on tasks is not that of a PID 1 of ours: it is read when the command runs."""
    for seen in few_ids(""):
        assert seen["said"] == ["0", "0", "0", "0", "1", "10"]
        assert (seen["code"], seen["worse"]) == (0, {})


@pytest.mark.requires("root", "plain-user")
def test_groups_and_users_beyond_one_id_are_refused_by_name(few_ids: Callable[..., Any]) -> None:
    """setgroups(2) is not for a namespace with one id: what was written is refused, not left out."""
    seen = few_ids("", ASK)
    begins = ["groups[0], 2000,", "groups[0], nogroup,", "groups[1], 2000,", "5", "7"]
    for (requirement, cause, fix), name, begin in zip(
        seen["asked"], ["groups", "groups", "groups", "group", "user"], begins, strict=True
    ):
        assert (requirement, cause.startswith(f"{begin} has no id")) == (name, True)
        assert "one id, 0" in cause
        assert fix.startswith("give this user a range in /etc/subuid")
    for groups in seen["taken"]:
        assert groups[0] == "0", "root's own is the one that there is"


@pytest.mark.requires("root", "plain-user")
def test_of_two_limits_of_tasks_the_stronger_holds(few_ids: Callable[..., Any]) -> None:
    """With one id an rlimit is what holds `pids`; our own PID 1 is one more."""
    assert few_ids("", ASK)["tasks"] == [["65", "65"], ["9", "9"], ["30", "30"]]
