"""doctor(): the rows of a healthy machine, and for each guarantee a machine where it was taken away."""

from __future__ import annotations

import io
import os
import pickle
import shlex
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import worlds
from pycontainer import _causes, _doctor
from pycontainer._native import core

EPERM, ENOSYS, EOPNOTSUPP = 1, 38, 95
TIOCGPTPEER = 0x5441
OF_A_RUN = _doctor.OF_A_RUN
takes = pytest.mark.takes


# ---- the report --------------------------------------------------------------------------------------------------


@pytest.mark.requires("userns")
@pytest.mark.vm
def test_it_has_a_row_for_every_guarantee_of_a_run(healthy: pc.Report) -> None:
    limits = pc.Limits(wall_time=20, output="1MiB", disk="1MiB", oom_score_adj=500)
    result = pc.run(["/bin/true"], limits=limits, degrade=["disk"])  # of a layer in memory: a plain user's from 6.6
    assert set(result.enforced) <= set(healthy)
    assert all(isinstance(row, pc.Guarantee) and row.name == name for name, row in healthy.items())
    for name in OF_A_RUN:
        assert healthy[name].state == result.enforced[name].state, name


@pytest.mark.requires("userns")
@pytest.mark.vm
def test_every_row_says_what_holds_it_or_why_it_is_not_held(healthy: pc.Report) -> None:
    for name, row in healthy.items():
        if row.state != "missing":
            assert row.by, name
        if row.state != "held":
            assert row.why, name
            assert row.fix, name


def test_a_report_prints_pickles_and_is_json(healthy: pc.Report) -> None:
    out = io.StringIO()
    healthy.print(out)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[: len(healthy)]] == list(healthy)
    assert len({line.index(row.state) for line, row in zip(lines, healthy.values(), strict=False)}) == 1
    for row in healthy.values():
        assert row.fix in out.getvalue()
    again = pickle.loads(pickle.dumps(healthy))
    assert dict(again) == dict(healthy)
    assert isinstance(again, pc.Report)
    assert healthy.to_dict()["seccomp"].keys() == {"state", "by", "why", "fix"}
    assert repr(healthy).startswith("<Report: ")


def test_the_native_side_tells_the_same_causes() -> None:
    assert {name: (why, fix) for name, why, fix in core().causes()} == _causes.NATIVE


def test_an_error_and_doctor_tell_the_same_story() -> None:
    """The cause of the NotSupported that run() raises is the row's."""
    code = (
        "import worlds; worlds.install('clone3', 38)\nimport pycontainer as pc, json\n"
        "row = pc.doctor()['user_namespace']\n"
        "try: pc.run(['/bin/true'])\nexcept pc.NotSupported as error: print(json.dumps({'x': "
        "{'same': str((error.cause, error.fix) == (row.why, row.fix))}}))"
    )
    assert worlds.report(worlds.python(code)) == {"x": {"same": "True"}}


def test_a_machine_without_the_native_module_is_a_report() -> None:
    code = f"sys.modules['pycontainer._core'] = None\n{worlds.DOCTOR}"
    seen = worlds.report(worlds.python(code))
    assert seen.keys() == set(_doctor._all_names())
    assert {row["state"] for row in seen.values()} == {"missing"}
    assert "pip install pycontainer-engine" in seen["seccomp"]["fix"]


# ---- behind an outer filter --------------------------------------------------------------------------------------


def refused(call: str, errno: int, name: str, cause: str, step: str = "", argument: Any = None) -> Any:
    """A call that is answered by an errno, the row that changes, the cause, and what that is said of."""
    why, marks = step + _causes.CAUSES[cause][0], takes(name, cause=cause)
    return pytest.param(call, errno, argument, name, why, id=f"{call}-{errno}-{name}", marks=marks)


FILTERS = [
    refused("clone3", ENOSYS, "user_namespace", "clone3_enosys"),
    refused("clone3", EPERM, "user_namespace", "clone3_eperm"),
    refused("clone3", ENOSYS, "keeper", "clone3_enosys"),
    refused("clone3", EPERM, "namespace:pid", "clone3_eperm"),
    refused("openat2", ENOSYS, "system_calls", "outer_filter", "openat2 answers ENOSYS: "),
    refused("setns", EPERM, "system_calls", "outer_filter", "setns answers EPERM: "),
    refused("unshare", EPERM, "system_calls", "outer_filter", "unshare answers EPERM: "),
    refused("seccomp", EPERM, "seccomp", "outer_filter", "load the seccomp filter: "),
    refused("capset", EPERM, "capabilities", "outer_filter"),
    refused("pivot_root", EPERM, "root", "outer_filter", "pivot_root: "),
    refused("landlock_create_ruleset", ENOSYS, "landlock", "landlock_filtered"),
    refused("landlock_create_ruleset", EOPNOTSUPP, "landlock", "landlock_off"),
    refused("landlock_create_ruleset", 0, "landlock", "no_landlock"),  # "ABI 0": an errno of 0 is an answer
    refused("ioctl", EPERM, "terminal", "outer_filter", argument=(1, TIOCGPTPEER)),
]


@pytest.mark.requires("userns")
@pytest.mark.parametrize(("call", "errno", "argument", "name", "why"), FILTERS)
def test_a_refused_call_is_named(
    healthy: pc.Report, call: str, errno: int, argument: tuple[int, int] | None, name: str, why: str
) -> None:
    assert healthy[name].state == "held"
    row = worlds.filtered(call, errno, argument)[name]
    assert row["state"] == "missing"
    assert why in row["why"]
    assert row["fix"]


@pytest.mark.requires("userns")
@pytest.mark.parametrize(
    ("call", "errno", "argument", "name"),
    [
        ("landlock_create_ruleset", EOPNOTSUPP, None, "landlock"),
        ("ioctl", EPERM, (1, TIOCGPTPEER), "terminal"),
    ],
)
def test_no_other_row_changes(
    healthy: pc.Report, call: str, errno: int, argument: tuple[int, int] | None, name: str
) -> None:
    seen = worlds.filtered(call, errno, argument)
    changed = {row for row in healthy if seen[row]["state"] != healthy[row].state}
    # A plain user loads a filter under no_new_privs, which takes newuidmap's privilege.
    if os.geteuid() and healthy["subuid"].by.startswith("newuidmap"):
        assert "newuidmap cannot use" in seen["subuid"]["why"]
        changed -= {"subuid"}
    assert changed == {name}


@takes("user_namespace", cause="unshare_refused")
@pytest.mark.requires("userns", "user")
def test_a_plain_user_whose_unshare_is_refused_is_told_so() -> None:
    row = worlds.filtered("unshare", EPERM)["user_namespace"]
    assert row["state"] == "missing"
    assert "an outer seccomp filter refuses unshare" in row["why"]


# ---- namespaces --------------------------------------------------------------------------------------------------


@pytest.mark.requires("root", "userns")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=takes(f"namespace:{kind}", cause=f"max_{kind}_namespaces"))
        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    ],
)
def test_a_kind_of_namespace_of_which_there_may_be_none(kind: str) -> None:
    row = worlds.without(kind)[f"namespace:{kind}"]
    assert row["state"] == "missing"
    assert f"sysctl user.max_{kind}_namespaces is 0" in row["why"]
    assert row["fix"] == f"sysctl -w user.max_{kind}_namespaces=10000"


@pytest.mark.requires("root", "userns")
def test_root_of_another_user_namespace_is_a_plain_user(healthy: pc.Report) -> None:
    """As in a rootless outer container: no device nodes, no idmapped mounts, one id; containers start all the same."""
    seen = worlds.report(worlds.python(f"{worlds.FULL_USER_NAMESPACE}\n{worlds.DOCTOR}"))
    assert {name for name in OF_A_RUN if seen[name]["state"] != "held"} == set()
    assert seen["subuid"]["state"] == "degraded"
    seen = worlds.report(["unshare", "-Urm", *worlds.python(worlds.DOCTOR)])
    assert {name for name in OF_A_RUN if seen[name]["state"] != "held"} == set()


@takes("user_namespace", cause="chroot")
@pytest.mark.requires("root", "userns")
def test_a_chroot_is_named(scratch: Path) -> None:
    place = scratch / "chroot"
    place.mkdir(exist_ok=True)
    inner = shlex.join(worlds.python(worlds.DOCTOR))
    seen = worlds.private(f"mount --rbind / {place}", ["chroot", str(place), "sh", "-c", f"exec {inner}"])
    assert seen["user_namespace"]["state"] == "missing"
    assert "this process is in a chroot" in seen["user_namespace"]["why"]


# ---- file systems ------------------------------------------------------------------------------------------------


@pytest.mark.requires("root", "userns")
@pytest.mark.parametrize(
    ("change", "why", "fix"),
    [
        pytest.param(
            "mount --bind /dev/null /proc/cpuinfo",
            "mount proc on /proc: the kernel refuses a fresh /proc", "unmask=ALL",
            marks=takes("masked_paths", cause="masked_proc"),
        ),
        pytest.param(
            "mount -t tmpfs none /sys/kernel",
            "mount sysfs on /sys: the kernel refuses a fresh /sys", "remount,rw /sys",
            marks=takes("masked_paths", cause="masked_sys"),
        ),
    ],
)  # fmt: skip
def test_a_masked_kernel_file_system_is_named(change: str, why: str, fix: str) -> None:
    row = worlds.private(change)["masked_paths"]
    assert row["state"] == "missing"
    assert row["why"].startswith(why)
    assert fix in row["fix"]


@takes("idmapped_mounts", cause="no_idmap")
@pytest.mark.requires("root", "userns", "idmap")
def test_a_file_system_that_cannot_be_idmapped_is_named(healthy: pc.Report) -> None:
    assert healthy["idmapped_mounts"].state == "held"
    make = "mount -t tmpfs none /mnt; mkdir /mnt/l /mnt/u /mnt/w /mnt/m; export TMPDIR=/mnt/m; "
    seen = worlds.private(f"{make} mount -t overlay none -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m")
    assert seen["idmapped_mounts"]["state"] == "missing"
    assert "cannot be idmapped" in seen["idmapped_mounts"]["why"]
    assert {name for name in healthy if seen[name]["state"] != healthy[name].state} == {"idmapped_mounts"}


@takes("keeper", cause="memfd_noexec")
@pytest.mark.requires("root", "userns", "kernel>=6.3")
def test_memfds_that_cannot_be_executed_are_named() -> None:
    inner = shlex.join(worlds.python(worlds.DOCTOR))
    script = f"echo 2 > /proc/sys/vm/memfd_noexec; exec {inner}"
    row = worlds.report(["unshare", "-p", "-f", "--mount-proc", "sh", "-c", script])["keeper"]
    # The wheel carries the keeper as a file too; a build in the checkout does not.
    packaged = Path(pc.__file__).with_name("_bin").joinpath("pycontainer-keeper").exists()
    assert row["state"] == ("degraded" if packaged else "missing")
    assert "sysctl vm.memfd_noexec is 2" in row["why"]
    assert "vm.memfd_noexec=1" in row["fix"]


# ---- the decisions that no machine at hand can show --------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "call", "since", "why"),
    [
        ("5.1.9", "clone3", (5, 3), "clone3 needs Linux 5.3, and this is 5.1.9"),
        ("5.10.0-8-amd64", "mount_setattr", (5, 12), "mount_setattr needs Linux 5.12, and this is 5.10.0-8-amd64"),
        ("6.18.4", "mount_setattr", (5, 12), "mount_setattr answers ENOSYS: this process runs under a seccomp filter"),
    ],
)
def test_an_old_kernel_is_told_from_a_filter(
    monkeypatch: pytest.MonkeyPatch, release: str, call: str, since: tuple[int, int], why: str
) -> None:
    monkeypatch.setattr(_doctor.os, "uname", lambda: type("uname", (), {"release": release}))
    row = _doctor._system_calls({"calls": [(call, since, ENOSYS)], "root": True})
    assert row.state == "missing"
    assert row.why.startswith(why)


def test_a_plain_user_s_own_eperm_is_no_filter() -> None:
    calls = [("fsopen", (5, 2), EPERM), ("openat2", (5, 6), 7)]
    assert _doctor._system_calls({"calls": calls, "root": False}).state == "held"
    assert _doctor._system_calls({"calls": calls, "root": True}).state == "missing"
    assert _doctor._system_calls({"calls": [("openat2", (5, 6), -31)], "root": True}).why.startswith(
        "openat2 answers signal 31"
    )
