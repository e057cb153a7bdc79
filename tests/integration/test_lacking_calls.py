"""A kernel that lacks a system call of the road: the error names it, and the first that has it, or who refuses it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import worlds

pytestmark = pytest.mark.requires("userns")

ENOSYS = 38
# (call, the first kernel that has it): taken away one at a time.
CALLS = {
    "openat2": "5.6", "open_tree": "5.2", "move_mount": "5.2", "fsopen": "5.2", "fsconfig": "5.2", "fsmount": "5.2",
    "mount_setattr": "5.12", "close_range": "5.9", "clone3": "5.3", "pidfd_open": "5.3", "execveat": "3.19",
    "memfd_create": "3.17", "seccomp": "3.17",
}  # fmt: skip
# As a plain user idmapped mounts are not needed, but read-only ones are made with the same call.
RUN = """
import json, worlds
worlds.install({call!r}, {errno})
import pycontainer as pc
def run(image):
    try:
        return ["ran", pc.run(["/bin/true"], image=image).returncode, "", ""]
    except pc.Error as error:
        return [type(error).__name__, str(error), getattr(error, "fix", ""), getattr(error, "errno", 0)]
print(json.dumps([run({image!r}), run(None)]))
"""
# personality(2): the kernel says that it is 2.6.x (UNAME26), as one would that lacks the call.
OLD_KERNEL = "import ctypes; ctypes.CDLL(None).personality(0x0020000)\n"


def came_of(call: str, image: Path, before: str = "") -> list[list[str]]:
    code = before + RUN.format(call=call, errno=ENOSYS, image=str(image))
    seen = worlds.report(worlds.python(code))
    assert all(kind in ("SetupError", "NotSupported") for kind, *_ in seen), seen
    return seen  # type: ignore[return-value]


@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_call_that_a_filter_takes_away_is_named(rootfs: Path, call: str) -> None:
    """This kernel has it: so it is the filter, whose errno says otherwise."""
    for _kind, text, fix, _errno in came_of(call, rootfs):
        assert f"{call} answers ENOSYS" in text
        assert "an outer seccomp filter" in text or "under a seccomp filter" in text
        assert "seccomp=unconfined" in fix + text


@pytest.mark.parametrize("call", sorted(set(CALLS) - {"clone3"}))
def test_a_call_that_the_kernel_is_too_old_for_is_named_with_the_first_that_has_it(rootfs: Path, call: str) -> None:
    """clone3 has words of its own, which say both."""
    first = CALLS[call]
    for _kind, text, fix, _errno in came_of(call, rootfs, OLD_KERNEL):
        assert f"{call} needs Linux {first}, and this is 2.6." in text
        assert f"Linux {first} or later" in fix + text


def test_control_nothing_is_lacking(rootfs: Path) -> None:
    """A call that no road has is taken away, and both images run: by the old name of the kernel too."""
    for before in ("", OLD_KERNEL):
        code = before + RUN.format(call="memfd_create", errno=ENOSYS, image=str(rootfs))
        code = code.replace("worlds.install(", "(lambda *_: 0)(")
        assert [kind for kind, *_ in worlds.report(worlds.python(code))] == ["ran", "ran"], os.uname()
