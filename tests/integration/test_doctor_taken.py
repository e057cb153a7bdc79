"""doctor(): guarantees that no group and no namespace holds, each taken away; and what nothing can take away."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

import pycontainer as pc
import worlds
from pycontainer import _doctor
from worlds import PlainUser

pytestmark = pytest.mark.requires("userns")

EPERM = 1
SET_NO_NEW_PRIVS = (0, 38)  # prctl's first word
# personality(2): the kernel says that it is 2.6.x, and the engine believes it (arch/x86/entry, override_release).
OLD_KERNEL = "import ctypes; ctypes.CDLL(None).personality(0x0020000)\n"
# What is our own doing, in our own processes: a machine where it does not work has no keeper, and no container starts.
NOTHING_TAKES_AWAY = {
    "wall_time": "a deadline of the keeper's poll; the kill is the one that ends every container",
    "output": "the reader in this process counts what it has read",
}
# Rows whose machine is in test_doctor.py or here.
TAKEN = {
    *(f"namespace:{kind}" for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")),
    "user_namespace", "keeper", "system_calls", "seccomp", "capabilities", "root", "landlock", "terminal",
    "masked_paths", "idmapped_mounts", "subuid", "cap_sys_resource", "cgroup", "memory", "memory_high", "oom_group",
    "cpus", "cpu_weight", "cpuset", "pids", "io", "kill", "freeze", "pressure",
    "no_new_privileges", "upper", "disk", "rlimits", "oom_score_adj", "cpu_time", "swap", "io_weight",
}  # fmt: skip


@pytest.fixture(scope="module")
def healthy() -> pc.Report:
    return pc.doctor()


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name]["state"] != after[name]["state"]}


def test_every_row_has_a_machine_where_it_changes_or_a_reason() -> None:
    assert set(_doctor._all_names()) == TAKEN | set(NOTHING_TAKES_AWAY)
    assert not TAKEN & set(NOTHING_TAKES_AWAY)


def test_no_new_privileges(healthy: pc.Report) -> None:
    """A container that cannot promise it does not start: the cause is its step's, in every row."""
    assert healthy["no_new_privileges"].state == "held"
    row = worlds.filtered("prctl", EPERM, SET_NO_NEW_PRIVS)["no_new_privileges"]
    assert row["state"] == "missing"
    if os.geteuid() == 0:  # a plain user's outer filter needs no_new_privs itself
        assert "set no_new_privs: this process runs under a seccomp filter" in row["why"]


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


@pytest.mark.requires("root", "plain-user", "kernel>=6.6")
def test_upper_where_the_store_cannot_be_written_either(plain_user: PlainUser) -> None:
    store = "import os; os.environ['PYCONTAINER_STORE'] = '/proc/store'\n"
    assert worlds.report(plain_user(store + worlds.DOCTOR))["upper"]["state"] == "held", "nobody needs it"
    row = worlds.report(plain_user(store + OLD_KERNEL + worlds.DOCTOR))["upper"]
    assert row["state"] == "missing"
    assert "/proc/store" in row["why"]


def test_disk_where_the_shell_that_fills_it_may_not(healthy: pc.Report) -> None:
    """RLIMIT_FSIZE ends the probe before the layer is full: what was tried and not seen is not held."""
    assert healthy["disk"].state == "held"
    code = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (250_000, 250_000))\n{worlds.DOCTOR}"
    seen = worlds.report(worlds.python(code))
    assert changed(healthy.to_dict(), seen) == {"disk"}
    assert seen["disk"]["why"] == "tried and not kept: status -25, signaled"  # SIGXFSZ


@pytest.mark.requires("root", "cap:SYS_RESOURCE")
def test_oom_score_adj_below_what_a_privileged_process_set() -> None:
    """With the capability 1000 becomes the least (oom_score_adj_min), and without it nobody gets below again."""
    raise_it = "open('/proc/self/oom_score_adj', 'w').write('1000')\n"
    drop = "import os, ctypes; ctypes.CDLL(None).prctl(24, 24, 0, 0, 0)\n"  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE
    words = worlds.python(worlds.DOCTOR)
    row = worlds.report(worlds.python(f"{raise_it}{drop}os.execv({words[0]!r}, {words!r})"))["oom_score_adj"]
    assert row["state"] == "missing"
    assert "CAP_SYS_RESOURCE" in row["why"] + row["fix"]


@pytest.mark.requires("seams")
@pytest.mark.parametrize("name", ["oom_score_adj", "rlimits"])
def test_a_limit_that_was_not_set_is_noticed(healthy: pc.Report, name: str) -> None:
    """The engine's own step left out: doctor looks at what came of it."""
    assert healthy[name].state == "held"
    seen = worlds.report(worlds.python(worlds.DOCTOR), env={**os.environ, "PYCONTAINER_SEAM": name})
    assert changed(healthy.to_dict(), seen) == {name}
    assert "tried and not kept" in seen[name]["why"]


@pytest.mark.requires("root", "hybrid")
def test_cpu_time_without_a_clock_of_the_tree(healthy: pc.Report) -> None:
    assert healthy["cpu_time"].state == "held"
    seen = worlds.private(
        "umount /sys/fs/cgroup/unified; umount /sys/fs/cgroup/cpuacct /sys/fs/cgroup/cpu,cpuacct || :"
    )
    assert seen["cpu_time"]["state"] in ("missing", "degraded")
    assert seen["cpu_time"]["why"]


@pytest.mark.requires("root", "cgroup1:memory")
def test_swap_without_accounting_on_a_machine_that_swaps(tmp_path: Any) -> None:
    """Version 1 without memsw: without swap there is nothing to bound, with swap there is nothing that could."""
    if os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        assert pc.doctor()["swap"].state == "held"
        return
    fake = tmp_path / "swaps"
    fake.write_text("Filename Type Size Used Priority\n/swap file 1024 0 -2\n")
    row = worlds.private(f"mount --bind {fake} /proc/swaps")["swap"]
    assert row["state"] == "missing"
    assert "swap" in row["why"]


@pytest.mark.requires("root", "hybrid")
def test_io_weight_is_what_the_disk_s_scheduler_says(healthy: pc.Report) -> None:
    """Version 1 divides a disk by weight under bfq only: the machine itself decides."""
    done = subprocess.run(["sh", "-c", "cat /sys/block/*/queue/scheduler"], check=False, capture_output=True, text=True)
    assert (healthy["io_weight"].state == "held") == ("[bfq]" in done.stdout)
    assert bool(healthy["io_weight"].why) == (healthy["io_weight"].state != "held")
