"""doctor(): guarantees that no group and no namespace holds, each taken away; and what nothing can take away."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import worlds
from worlds import PlainUser

pytestmark = pytest.mark.requires("userns")

EPERM = 1
SET_NO_NEW_PRIVS = (0, 38)  # prctl's first word
# personality(2): the kernel says that it is 2.6.x, and the engine believes it (arch/x86/entry, override_release).
OLD_KERNEL = "import ctypes; ctypes.CDLL(None).personality(0x0020000)\n"
takes = pytest.mark.takes


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name]["state"] != after[name]["state"]}


@takes("no_new_privileges")
def test_no_new_privileges(healthy: pc.Report) -> None:
    """A container that cannot promise it does not start: the cause is its step's, in every row."""
    assert healthy["no_new_privileges"].state == "held"
    row = worlds.filtered("prctl", EPERM, SET_NO_NEW_PRIVS)["no_new_privileges"]
    assert row["state"] == "missing"
    if os.geteuid() == 0:  # a plain user's outer filter needs no_new_privs itself
        assert "set no_new_privs: this process runs under a seccomp filter" in row["why"]


@takes("rlimits")
@pytest.mark.requires("root")
@pytest.mark.parametrize("most", [48, 63])
def test_rlimits(healthy: pc.Report, most: int) -> None:
    """The hard limit of this process is everybody's in it."""
    assert healthy["rlimits"].state == "held"
    code = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({most}, {most}))\n{worlds.DOCTOR}"
    seen = worlds.report(worlds.python(code))
    assert changed(healthy.to_dict(), seen) == {"rlimits"}
    assert f"this process's hard limit is {most}" in seen["rlimits"]["why"]
    assert "ulimit -H" in seen["rlimits"]["fix"]


@takes("upper", "disk")
@pytest.mark.requires("root", "plain-user", "kernel>=6.6")
def test_upper_and_disk_of_a_plain_user_on_an_old_kernel(plain_user: PlainUser) -> None:
    before = worlds.report(plain_user(worlds.DOCTOR))
    assert (before["upper"]["state"], before["disk"]["state"]) == ("held", "held")
    seen = worlds.report(plain_user(OLD_KERNEL + worlds.DOCTOR))
    assert changed(before, seen) == {"upper", "disk"}
    assert (seen["upper"]["state"], seen["upper"]["by"]) == ("degraded", "a directory in the store")
    assert "a rootless tmpfs layer needs Linux 6.6" in seen["upper"]["why"]
    assert seen["disk"]["state"] == "missing"
    assert "a plain user's in-memory layer needs Linux 6.6" in seen["disk"]["why"]


@takes("upper")
@pytest.mark.requires("root", "plain-user", "kernel>=6.6")
def test_upper_where_the_store_cannot_be_written_either(plain_user: PlainUser) -> None:
    store = "import os; os.environ['PYCONTAINER_ROOT'] = '/proc/store'\n"
    assert worlds.report(plain_user(store + worlds.DOCTOR))["upper"]["state"] == "held", "nobody needs it"
    row = worlds.report(plain_user(store + OLD_KERNEL + worlds.DOCTOR))["upper"]
    assert row["state"] == "missing"
    assert "/proc/store" in row["why"]


@takes("disk")
def test_disk_where_the_shell_that_fills_it_may_not(healthy: pc.Report) -> None:
    """RLIMIT_FSIZE ends the probe before the layer is full: what was tried and not seen is not held."""
    assert healthy["disk"].state == "held"
    code = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (250_000, 250_000))\n{worlds.DOCTOR}"
    seen = worlds.report(worlds.python(code))
    assert changed(healthy.to_dict(), seen) == {"disk"}
    assert seen["disk"]["why"] == "tried and not kept: status -25, signaled"  # SIGXFSZ


@takes("oom_score_adj", "cap_sys_resource", cause="no_sys_resource")
@pytest.mark.requires("root", "cap:SYS_RESOURCE")
@pytest.mark.vm
def test_oom_score_adj_below_what_a_privileged_process_set() -> None:
    """With the capability 1000 becomes the least (oom_score_adj_min), and without it nobody gets below again."""
    raise_it = "open('/proc/self/oom_score_adj', 'w').write('1000')\n"
    drop = "import os, ctypes; ctypes.CDLL(None).prctl(24, 24, 0, 0, 0)\n"  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE
    words = worlds.python(worlds.DOCTOR)
    seen = worlds.report(worlds.python(f"{raise_it}{drop}os.execv({words[0]!r}, {words!r})"))
    for name in ("oom_score_adj", "cap_sys_resource"):
        assert seen[name]["state"] == "missing", name
        assert "CAP_SYS_RESOURCE" in seen[name]["why"] + seen[name]["fix"], name


@pytest.mark.requires("seams")
@pytest.mark.parametrize("name", [pytest.param(name, marks=takes(name)) for name in ("oom_score_adj", "rlimits")])
def test_a_limit_that_was_not_set_is_noticed(healthy: pc.Report, name: str) -> None:
    """The engine's own step left out: doctor looks at what came of it."""
    assert healthy[name].state == "held"
    seen = worlds.report(worlds.python(worlds.DOCTOR), env={**os.environ, "PYCONTAINER_SEAM": name})
    assert changed(healthy.to_dict(), seen) == {name}
    assert "tried and not kept" in seen[name]["why"]


@takes("root", cause="no_overlay")
@pytest.mark.requires("root", "ptrace")
def test_a_kernel_without_overlay() -> None:
    """The keeper's third fsopen: after the skeleton of Image.host() and the writable layer comes the root."""
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsopen:error=ENODEV:when=3"]
    row = worlds.report([*inject, *worlds.python(worlds.DOCTOR)])["root"]
    assert (row["state"], row["why"]) == ("missing", "this kernel has no overlay file system")
    assert row["fix"] == "modprobe overlay"


@takes("storage")
def test_a_driver_that_copies_and_one_that_nobody_knows() -> None:
    def said(driver: str) -> dict[str, Any]:
        variable = {"PYCONTAINER_STORAGE_DRIVER": driver}
        row: dict[str, Any] = worlds.report(worlds.python(worlds.DOCTOR), env={**os.environ, **variable})["storage"]
        return row

    assert said("overlay")["state"] == "held"
    copies = said("vfs")
    assert (copies["state"], copies["by"][:7]) == ("degraded", "vfs on ")
    assert "PYCONTAINER_STORAGE_DRIVER says so" in copies["why"]
    assert said("aufs")["state"] == "missing"
    assert "is none of overlay, fuse-overlayfs, btrfs, vfs" in said("aufs")["why"]


@takes("storage", cause="no_fuse_program")
@pytest.mark.requires("seams")
def test_a_driver_whose_program_is_not_there() -> None:
    taken = {"PYCONTAINER_STORAGE_DRIVER": "fuse-overlayfs", "PYCONTAINER_SEAM": "fuse-overlayfs"}
    row = worlds.report(worlds.python(worlds.DOCTOR), env={**os.environ, **taken})["storage"]
    assert row["state"] == "missing"
    assert "fuse-overlayfs is in none of /usr/bin, /bin and /usr/local/bin" in row["why"]


@takes("storage", cause="no_fuse_device")
@pytest.mark.requires("root", "fuse-overlayfs")
def test_a_driver_whose_device_is_not_there(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that nobody can open is mounted over it."""
    monkeypatch.setenv("PYCONTAINER_STORAGE_DRIVER", "fuse-overlayfs")
    place = scratch / "nothing"
    with socket.socket(socket.AF_UNIX) as nothing:
        nothing.bind(str(place))
        row = worlds.private(f"mount --bind {place} /dev/fuse")["storage"]
    place.unlink()
    assert row["state"] == "missing"
    assert "this process cannot open /dev/fuse" in row["why"]


@takes("namespace:uts", cause="namespaces_full")
@pytest.mark.requires("root")
def test_no_room_for_one_more_namespace() -> None:
    """One may be, and there is one: no limit is 0, and yet the kernel says ENOSPC."""
    new_uts = "ctypes.CDLL(None).unshare(0x4000000)\nopen('/proc/sys/user/max_uts_namespaces', 'w').write('1')"
    row = worlds.report(worlds.python(f"{worlds.FULL_USER_NAMESPACE}\n{new_uts}\n{worlds.DOCTOR}"))["namespace:uts"]
    assert row["state"] == "missing"
    assert "no room for more namespaces" in row["why"]
    assert "user.max_*_namespaces" in row["fix"]
