"""doctor(): what a plain user needs of a machine, and what an outer container leaves; each of it taken away."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import worlds
from pycontainer import _causes
from worlds import PlainUser

EPERM = 1
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
takes = pytest.mark.takes

# ---- what the machine gives this user ----------------------------------------------------------------------------


@pytest.mark.requires("root", "userns", "plain-user", "program:newuidmap")
def test_a_plain_user_has_a_range(plain_user: PlainUser) -> None:
    seen = worlds.report(plain_user(worlds.DOCTOR))
    assert seen["subuid"]["state"] == "held"
    assert seen["subuid"]["by"] == "newuidmap, 65537 ids"


@pytest.mark.requires("root", "userns", "plain-user", "program:newuidmap")
@pytest.mark.parametrize(
    ("change", "why", "fix"),
    [
        pytest.param(
            "mount --bind /dev/null $(command -v newuidmap)", "newuidmap and newgidmap are not installed", "uidmap",
            marks=takes("subuid", cause="no_newuidmap"),
        ),
        pytest.param(
            "mount --bind /dev/null /etc/subuid", "no range in /etc/subuid", "--add-subuids",
            marks=takes("subuid", cause="no_subuid_range"),
        ),
        pytest.param(
            "mount --bind /bin/false $(command -v newuidmap)", "newuidmap cannot use this user's range", "set-user-ID",
            marks=takes("subuid", cause="newuidmap_failed"),
        ),
    ],
)  # fmt: skip
def test_what_takes_the_range_is_named(plain_user: PlainUser, change: str, why: str, fix: str) -> None:
    seen = worlds.private(change, plain_user(worlds.DOCTOR))
    assert seen["subuid"]["state"] == "degraded"
    assert why in seen["subuid"]["why"]
    assert fix in seen["subuid"]["fix"]
    # One id is enough for a container.
    assert seen["user_namespace"]["state"] == "held"
    assert seen["user_namespace"]["by"].endswith("1 id")


# ---- settings that keep plain users out of user namespaces -------------------------------------------------------

SETTINGS = [
    pytest.param("unprivileged_userns_clone", "0", marks=takes("user_namespace", cause="userns_sysctl")),
    pytest.param("apparmor_restrict_unprivileged_userns", "1", marks=takes("user_namespace", cause="userns_apparmor")),
]
# A kernel that has such a setting says EPERM where it is asked for real; one that has not is made to say it.
REFUSED = f"import worlds; worlds.install('unshare', {EPERM}, (0, {CLONE_NEWUSER | CLONE_NEWNS}))\n"


@pytest.fixture
def settings(scratch: Path) -> Iterator[Callable[[str, str], str]]:
    """The shell line that makes /proc/sys/kernel show one setting, as this kernel need not have it."""
    place = Path(tempfile.mkdtemp(prefix="settings-", dir=scratch))
    place.chmod(0o755)

    def line(name: str, value: str) -> str:
        (place / name).write_text(f"{value}\n")
        return f"mount --bind {place} /proc/sys/kernel"

    yield line
    shutil.rmtree(place)


@pytest.mark.requires("root", "userns", "plain-user")
@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_a_setting_that_refuses_user_namespaces_is_named(
    plain_user: PlainUser, settings: Callable[[str, str], str], name: str, value: str
) -> None:
    row = worlds.private(settings(name, value), plain_user(REFUSED + worlds.DOCTOR))["user_namespace"]
    assert row["state"] == "missing"
    assert f"kernel.{name} is {value}" in row["why"]
    assert f"sysctl -w kernel.{name}={1 - int(value)}" in row["fix"]
    # The other value is no reason: then what is named is the filter, which is what refused it here.
    row = worlds.private(settings(name, str(1 - int(value))), plain_user(REFUSED + worlds.DOCTOR))["user_namespace"]
    assert _causes.CAUSES["outer_filter"][0] in row["why"]


SYSCTL = Path("/proc/sys/kernel/unprivileged_userns_clone")


@takes("user_namespace", cause="userns_sysctl")
@pytest.mark.requires("root", "plain-user", "emulated", f"path:{SYSCTL}")
def test_debian_s_own_setting(plain_user: PlainUser) -> None:
    """The kernel's own refusal, which is no filter's; of a machine that is ours to change."""
    doctor = plain_user(worlds.DOCTOR)
    assert worlds.report(doctor)["user_namespace"]["state"] == "held"
    before = SYSCTL.read_text()
    SYSCTL.write_text("0")
    try:
        seen = worlds.report(doctor)
    finally:
        SYSCTL.write_text(before)
    row = seen["user_namespace"]
    assert (row["state"], row["why"]) == ("missing", "sysctl kernel.unprivileged_userns_clone is 0")
    assert row["fix"] == "sysctl -w kernel.unprivileged_userns_clone=1"
    assert seen["system_calls"]["state"] == "held"


# ---- inside a container ------------------------------------------------------------------------------------------


def nested(**parameters: Any) -> dict[str, dict[str, str]]:
    """What doctor() says in a container of our own."""
    path = worlds.package_path()
    mounts = [pc.Mount.bind(path, path, read_only=True)]
    done = pc.run(worlds.python(worlds.DOCTOR, "python3", path), mounts=mounts, text=True, timeout=100, **parameters)
    assert done.returncode == 0, done.stderr
    return worlds.seen(json.loads(done.stdout.splitlines()[-1]))


# Root inside is a plain user of this machine, whose layer in memory needs the newer kernel.
@takes("user_namespace", "keeper", "seccomp", cause="nested")
@pytest.mark.requires("userns", "kernel>=6.6")
def test_inside_a_container_it_says_so_and_the_cure_is_one_for_all_walls() -> None:
    why, fix = _causes.CAUSES["nested"]
    seen = nested()
    for name in ("user_namespace", "keeper", "seccomp"):
        assert seen[name]["state"] == "missing"
        assert seen[name]["why"] == f"{_causes.CAUSES['clone3_enosys'][0]}; {why}"
        assert seen[name]["fix"] == fix
    seen = nested(security=eval(fix.partition("security=")[2], {"Security": pc.Security}))
    for name in ("user_namespace", "keeper", "seccomp"):
        assert seen[name]["state"] == "held", seen[name]


@takes("masked_paths", cause="masked_proc")
@pytest.mark.requires("userns", "kernel>=6.6")
def test_inside_a_container_without_the_filter_the_next_wall_is_named() -> None:
    seen = nested(security=pc.Security(seccomp="unconfined", landlock=False))
    assert seen["masked_paths"]["state"] == "missing"
    assert "partly masked, as in another container" in seen["masked_paths"]["why"]
