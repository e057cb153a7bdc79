"""namespaces={"pid": ...}: no namespace ends with the first process there, and all the same nothing of it stays."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import leaks
import pycontainer as pc
import worlds

# What a daemon does: a session of its own, no stream of its parent's.
DAEMON = "setsid sh -c 'while :; do sleep 60; done' {marker} >/dev/null 2>&1 </dev/null &"
ENDINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "by-itself": ("exit 0", {}, "exited"),
    "by-a-signal": ("kill -9 $$", {}, "signaled"),
    "by-its-time": ("sleep 60", {"limits": pc.Limits(wall_time=0.5)}, "timeout"),
    "by-its-output": ("exec yes", {"limits": pc.Limits(output=1000)}, "output"),
}


def with_marker(marker: str) -> list[int]:
    """Live processes that have it among their arguments."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and marker.encode() in Path(entry.path, "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.requires("pen")
@pytest.mark.vm
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_a_container_leaves_among_the_host_s_processes_ends_with_it(rootfs: Path, ending: str) -> None:
    last, given, reason = ENDINGS[ending]
    marker = f"left-{os.getpid()}-{ending}"
    script = f"{DAEMON.format(marker=marker)} sleep 0.2; {last}"
    done = pc.run(["sh", "-c", script], image=rootfs, namespaces={"pid": "host"}, **given)
    assert done.reason == reason
    deadline = time.monotonic() + leaks.SETTLE
    while (left := with_marker(marker)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


REFUSED = """
import os
import pycontainer as pc
for place in ("host", os.getpid()):
    try:
        print(pc.run(["true"], namespaces={"pid": place}))
    except pc.NotSupported as error:
        print(f"{error.requirement}: {error.cause}; {error.fix}")
"""
ONLY_SO = "namespaces['pid']: only cgroup.kill ends all of its processes, and"


@pytest.mark.requires("root", "hybrid")
def test_where_no_group_could_end_it_it_is_refused_with_the_cure() -> None:
    command = shlex.join(worlds.python(REFUSED))
    script = f"umount /sys/fs/cgroup/unified; exec {command}"
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    cause = f"{ONLY_SO} no cgroup2 file system is mounted here; mount -t cgroup2 none /sys/fs/cgroup"
    assert done.stdout.splitlines() == [cause, cause]


@pytest.mark.requires("user", "hybrid")
def test_a_plain_user_without_a_group_is_refused_with_the_cure() -> None:
    with pytest.raises(pc.NotSupported) as caught:
        pc.run(["true"], namespaces={"pid": "host"})
    assert str(caught.value).startswith(ONLY_SO)
    assert "Delegate=yes" in caught.value.fix


@pytest.mark.requires("pen")
def test_sys_admin_beside_it_is_refused_with_the_cure(rootfs: Path) -> None:
    """What locks the masks beneath it could not be set up: a shared /proc is read-only."""
    admin = pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"}
    with pytest.raises(pc.NotSupported, match=r"namespaces\['pid'\].*CAP_SYS_ADMIN.*user_namespace=\"host\""):
        pc.run(["true"], image=rootfs, namespaces={"pid": "host"}, security=pc.Security(capabilities=admin))


@pytest.mark.requires("root", "pen")
def test_its_cure_helps(rootfs: Path) -> None:
    security = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"}, user_namespace="host")
    assert pc.run(["true"], image=rootfs, namespaces={"pid": "host"}, security=security).returncode == 0
