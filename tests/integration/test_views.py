"""namespaces={"mnt": ...}: the command among the mounts of this machine or of a process, where nothing is mounted."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pycontainer import Limits, Mount, Security

HOST = Security(user_namespace="host")
of_root = pytest.mark.requires("root")
MINE = "echo $$; cat /proc/self/uid_map; hostname; ls -A /sys/class/net 2>/dev/null || true"


def listed(text: str) -> list[tuple[str, ...]]:
    """Each mount's id, parent, place and flags; the root of a cgroup's depends on who reads."""
    rows = [line.split() for line in text.splitlines()]
    return [(row[0], row[1], row[4], row[5]) for row in rows]


def mounts(pid: int | str) -> list[tuple[str, ...]]:
    return listed(Path(f"/proc/{pid}/mountinfo").read_text())


def waiting(*unshare: str, script: str) -> subprocess.Popen[bytes]:
    """A process in namespaces of its own, after its script."""
    argv = ["unshare", *unshare, "sh", "-c", f"set -e; {script}; echo ready; exec sleep 60"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture
def other(scratch: Path) -> Iterator[tuple[int, Path]]:
    """(pid, file): a process with a mount namespace of its own, in which alone that file is."""
    place = Path(tempfile.mkdtemp(dir=scratch))
    script = f"mount -t tmpfs none {place}; echo there > {place}/file"
    with waiting("-m", "--propagation", "private", script=script) as process:
        yield process.pid, place / "file"
        process.kill()
    place.rmdir()


@of_root
@pytest.mark.parameter("run.namespaces")
def test_of_root_the_host_s_mounts_are_seen_and_not_changed(scratch: Path) -> None:
    (scratch / "seen").write_text("here\n")
    before = mounts("self")
    argv = ["sh", "-c", f"cat {scratch}/seen /proc/self/mountinfo"]
    done = pc.run(argv, namespaces={"mnt": "host"}, security=HOST, text=True, check=True)
    first, _, rest = done.stdout.partition("\n")
    assert (first, listed(rest)) == ("here", before)
    assert mounts("self") == before
    row = done.enforced["namespace:mnt"]
    assert (row.state, row.by) == ("held", "shared with the host, as asked")


@of_root
@pytest.mark.parameter("run.namespaces")
@pytest.mark.parametrize(
    "parameters",
    [{}, {"pid1": True}, {"user": "nobody"}, {"security": Security(user_namespace="host", landlock=False)}],
)
def test_of_root_the_mounts_of_a_process(other: tuple[int, Path], parameters: dict[str, Any]) -> None:
    pid, file = other
    before, own = mounts(pid), mounts("self")
    given = {"namespaces": {"mnt": pid}, "security": HOST} | parameters
    argv = ["sh", "-c", "cat ./file /proc/self/mountinfo"]
    done = pc.run(argv, cwd=file.parent, text=True, check=True, **given)
    first, _, rest = done.stdout.partition("\n")
    assert (first, listed(rest)) == ("there", before)
    assert (mounts(pid), mounts("self")) == (before, own)
    assert not file.exists()
    assert done.enforced["namespace:mnt"].by == f"that of process {pid}, as asked"


@of_root
def test_of_root_every_other_wall_stands_and_the_rows_say_which_do_not(other: tuple[int, Path]) -> None:
    pid, _ = other
    done = pc.run(["sh", "-c", MINE], namespaces={"mnt": pid}, security=HOST, text=True, check=True)
    assert done.stdout.split()[0] == "2", "a pid namespace of its own, and PID 1 is ours"
    assert "container" in done.stdout.split()
    rows = done.enforced
    missing = {name: row.why for name, row in rows.items() if row.state != "held"}
    assert set(missing) == {"root", "masked_paths", "upper", "pids"}
    assert missing["root"] == f"the mount namespace is that of process {pid}, as asked: there is no root of its own"
    assert rows["seccomp"].state == rows["capabilities"].state == rows["no_new_privileges"].state == "held"
    assert rows["namespace:pid"].state == rows["namespace:net"].state == "held"
    # Landlock forbids changes of mounts too, and capabilities beyond the default ones are not there.
    done = pc.run(["mount", "-t", "tmpfs", "none", "/mnt"], namespaces={"mnt": pid}, security=HOST)
    assert done.returncode != 0


@of_root
@pytest.mark.refuses("run.namespaces")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "/"),
        ("mounts", [Mount.tmpfs("/x")]),
        ("files", {"/x": b""}),
        ("read_only", True),
        ("upper", "disk"),
        ("tty", True),
        ("limits", Limits(disk="1MiB")),
        ("security", Security(user_namespace="host", devices=["/dev/null"])),
        ("security", Security(user_namespace="host", masked_paths=())),
        ("security", Security(user_namespace="host", readonly_paths=["/proc"])),
        ("security", Security.strict()),
    ],
)
def test_of_root_what_needs_a_mount_is_a_contradiction(name: str, value: Any) -> None:
    given = {"namespaces": {"mnt": "host"}, "security": HOST} | {name: value}
    word = "read_only" if name == "security" and value._read_only else name
    with pytest.raises(ValueError, match=rf"{word}.*: namespaces\['mnt'\]"):
        pc.run(["true"], **given)


@pytest.mark.refuses("run.namespaces")
def test_a_user_namespace_of_its_own_has_no_way_in() -> None:
    with pytest.raises(pc.NotSupported, match=r"namespaces\['mnt'\]: .*user_namespace='host'"):
        pc.run(["true"], namespaces={"mnt": "host"})
    with pytest.raises(pc.NotSupported, match=r"namespaces\['mnt'\]"):
        pc.run(["true"], namespaces={"mnt": os.getpid()})


@pytest.mark.requires("user")
def test_a_plain_user_has_no_view_of_others() -> None:
    with pytest.raises(pc.NotSupported, match="user_namespace"):
        pc.run(["true"], namespaces={"mnt": "host"}, security=HOST)


@of_root
@pytest.mark.refuses("run.namespaces")
def test_of_root_nobody_goes_where_another_s_root_decides_what_is_mounted() -> None:
    """A container's root could have put any program at /bin/true, and it would run with the ids of this machine."""
    with waiting("-U", "-r", "-m", script="true") as process:
        with pytest.raises(pc.NotSupported, match=r"namespaces\['mnt'\]: .*belongs to another user namespace"):
            pc.run(["true"], namespaces={"mnt": process.pid}, security=HOST)
        process.kill()
    with pytest.raises(pc.SetupError, match="open the namespace /proc/999999999/ns/mnt"):
        pc.run(["true"], namespaces={"mnt": 999_999_999}, security=HOST)
