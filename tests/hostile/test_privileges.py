"""Capabilities, set-id files and file capabilities: what a command holds, and that it can gain nothing by executing a
file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import inside, shell

DEFAULT = 0x800405FB
STATUS = "cat /proc/self/status"


def status(done: Any) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)


def masks(found: dict[str, str]) -> dict[str, int]:
    return {name: int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


@pytest.mark.parametrize(
    ("capabilities", "bits"),
    [
        (pc.DEFAULT_CAPABILITIES, DEFAULT),
        ((), 0),
        (["NET_RAW"], 1 << 13),
        (pc.DEFAULT_CAPABILITIES - {"CHOWN"}, DEFAULT & ~1),
    ],
)
@pytest.mark.parametrize("user", [0, pytest.param(1000, marks=pytest.mark.requires("ids"))])
def test_cve_2022_29162_no_inheritable_capabilities(rootfs: Path, user: int, capabilities: Any, bits: int) -> None:
    """Also CVE-2022-24769, -27649, -27650, -27651, -27652; and CVE-2025-27612: exactly what was said, never more."""
    held = masks(status(shell(rootfs, STATUS, user=user, security=pc.Security(capabilities=capabilities), check=True)))
    effective = bits if user == 0 else 0
    assert held == {"CapInh": 0, "CapAmb": 0, "CapBnd": bits, "CapPrm": effective, "CapEff": effective}


@pytest.mark.requires("root", "program:setcap")
@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize(
    "text", ["cap_net_raw+i", "cap_net_raw+ei", "cap_sys_admin+ei", "cap_sys_admin,cap_net_raw+eip"]
)
def test_cve_2022_29162_executing_a_file_with_capabilities(
    fresh_rootfs: Path, text: str, no_new_privileges: bool
) -> None:
    """A program in a layer with file capabilities, executed by root and by another user: nothing beyond the bounding
    set.
    """
    program = fresh_rootfs / "bin/busybox-with-capabilities"
    shutil.copy(fresh_rootfs / "bin/busybox", program)
    subprocess.run(["setcap", text, str(program)], check=True)
    for user in (0, 1000):
        try:
            done = pc.run(
                ["/bin/busybox-with-capabilities", "cat", "/proc/self/status"], image=fresh_rootfs, text=True,
                    user=user,
                security=pc.Security(no_new_privileges=no_new_privileges), check=True,
            )  # fmt: skip
        except pc.CommandNotExecutable:  # the kernel refuses an effective file capability beyond the bounding set
            continue
        held = masks(status(done))
        assert held["CapPrm"] & ~DEFAULT == 0
        assert held["CapInh"] == held["CapAmb"] == 0
        if user:
            assert held["CapPrm"] == 0, "a user other than root gained capabilities from a file"


@pytest.mark.requires("root", "program:setcap", "program:setpriv")
def test_control_of_cve_2022_29162_an_inheritable_set_is_what_it_takes(fresh_rootfs: Path) -> None:
    program = fresh_rootfs / "bin/busybox-with-capabilities"
    shutil.copy(fresh_rootfs / "bin/busybox", program)
    subprocess.run(["setcap", "cap_net_raw+ei", str(program)], check=True)
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+net_raw"]
    done = subprocess.run([*argv, str(program), "cat", "/proc/self/status"], capture_output=True, text=True, check=True)
    assert masks(status(done))["CapEff"] == 1 << 13


@pytest.mark.requires("root")
def test_cve_2021_3493_set_id_files_of_a_layer(fresh_rootfs: Path) -> None:
    """Also CVE-2023-0386: a set-user-ID root program in an image gives nothing under no_new_privs, and the mount is
    nosuid.

    The control is the same file with no_new_privileges=False: there it works, for container root, who is nobody
    outside.
    """
    program = fresh_rootfs / "bin/busybox-set-id"
    shutil.copy(fresh_rootfs / "bin/busybox", program)
    program.chmod(0o6755)
    options: dict[str, Any] = {"image": fresh_rootfs, "text": True, "user": 1000, "check": True}
    argv = ["/bin/busybox-set-id", "cat", "/proc/self/status"]
    assert status(pc.run(argv, **options))["Uid"].split() == ["1000"] * 4
    free = status(pc.run(argv, **options, security=pc.Security(no_new_privileges=False)))
    assert free["Uid"].split()[1] in ("0", "1000")  # busybox itself may drop what it was given
    shown = inside("tell(os.statvfs('/').f_flag)", security=pc.Security(no_new_privileges=True))
    assert shown & os.ST_NOSUID
    assert shown & 4, "nodev"


def test_cve_2022_29162_status_as_the_kernel_says_it(rootfs: Path) -> None:
    found = status(shell(rootfs, STATUS, check=True))
    assert (found["NoNewPrivs"], found["Seccomp"], found["Seccomp_filters"]) == ("1", "2", "1")


def test_cve_2025_27612_capabilities_cannot_be_raised() -> None:
    """capset to everything, ambient raises, securebits: the bounding set is the end."""
    answers = inside("""
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xffffffff] * 6)
        answers = {'capset': call(126, ctypes.addressof(header), ctypes.addressof(sets))}
        for capability in (12, 13, 21, 27):
            answers[f'ambient {capability}'] = call(157, 47, 2, capability, 0, 0)
        answers['no_new_privs off'] = call(157, 38, 0, 0, 0, 0)
        answers['bounding'] = [n for n in range(41) if call(157, 23, n, 0, 0, 0) == 1]
        tell(answers)
    """)
    assert answers.pop("bounding") == [bit for bit in range(41) if DEFAULT >> bit & 1]
    assert all(answer in (-1, -22) for answer in answers.values()), answers
