"""Keeper and PID 1 stay closed where a process that changed its ids can be dumped (sysctl fs.suid_dumpable)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worlds

pytestmark = [pytest.mark.requires("root"), pytest.mark.vm]
SETTING = Path("/proc/sys/fs/suid_dumpable")


@pytest.fixture
def lets_dump() -> Iterator[None]:
    before = SETTING.read_text()
    SETTING.write_text("1")
    yield
    SETTING.write_text(before)


def code(marker: str, image: Path, **given: Any) -> str:
    argv = ["sh", "-c", "read line", marker]
    return f"import pycontainer as pc\npc.run({argv!r}, image={str(image)!r}, stdin=0, **{given!r})"


def with_marker(marker: str) -> int:
    """The command; the interpreter that runs it has the marker too, in another word."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if Path(f"/proc/{name}/cmdline").read_bytes().endswith(b"\0" + marker.encode() + b"\0"):
                    return int(name)
            except OSError:
                continue
        time.sleep(0.02)
    raise AssertionError("the command did not appear in /proc")


def parent(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))


def owners(argv: list[str], marker: str) -> list[int]:
    """Of a file in /proc of the command, its PID 1 and their keeper: its user's where it is dumpable, else root's."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as interpreter:
        command = with_marker(marker)
        time.sleep(0.1)  # PID 1 has its last change behind it when the command runs
        found = [os.stat(f"/proc/{pid}/environ").st_uid for pid in (command, parent(command), parent(parent(command)))]
        interpreter.communicate(b"\n", timeout=60)
    assert interpreter.returncode == 0
    return found


@pytest.mark.usefixtures("lets_dump")
def test_of_root(rootfs: Path) -> None:
    """The command's set-up takes its user's ids, in memory that is PID 1's."""
    marker = f"undumpable-{os.getpid()}-root"
    command, first, keeper = owners(worlds.python(code(marker, rootfs, user=1000)), marker)
    assert command > 0, "what the command is, the kernel says: dumpable"
    assert (first, keeper) == (0, 0)


@pytest.mark.usefixtures("lets_dump")
@pytest.mark.requires("plain-user")
@pytest.mark.parametrize("user", [0, 1000])
def test_of_a_plain_user(rootfs: Path, plain_user: worlds.PlainUser, user: int) -> None:
    marker = f"undumpable-{os.getpid()}-plain-{user}"
    command, first, keeper = owners(plain_user(code(marker, rootfs, user=user)), marker)
    assert command > 0
    assert (first, keeper) == (0, 0)
