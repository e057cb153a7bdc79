"""No service manager and no message bus is asked for anything: control groups are directories that the engine makes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import worlds

pytestmark = pytest.mark.requires("program:strace", "ptrace")

EVIL = "x\nExecStart=/bin/evil\n[Service]\nDelegate=yes"
RUN = f"""
import os, sys
import pycontainer as pc
limits = pc.Limits(memory="64MiB", pids=20, cpus=1)
degrade = ("memory", "pids", "cpus") if os.geteuid() else ()
env = {{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/evil", "NAME": {EVIL!r}}}
words = {{"limits": limits, "degrade": degrade, "env": env, "hostname": "evil.service"}}
pc.run(["sh", "-c", "true", {EVIL!r}], image=sys.argv[1], **words)
pc.run(["true"], image=sys.argv[1], upper="disk", tty=True)
"""
CALLS = "connect,bind,sendto,sendmsg,open,openat,openat2,mkdir,mkdirat,execve,execveat"
# nscd: newuidmap's C library, about a name of this user's.
ASKED = re.compile(r"sun_path=(?!\"/var/run/nscd/)|systemd|dbus|/run/user/\d+/bus|busctl", re.IGNORECASE)
# How groups and layers are named: by the keeper's pid and start time, its pid namespace, and a number.
GROUP = re.compile(r"pycontainer(-\d+-\d+-\d+\.\d+)?")


def traced(place: Path, code: str, *words: str) -> list[str]:
    trace = place / "trace"
    argv = ["strace", "-f", "-s", "300", "-o", str(trace), "-e", f"trace={CALLS}", sys.executable, "-c", code, *words]
    # A bus of this user's that could be asked: only its name is here, for the engine to be tempted.
    names = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={place}/bus", "NOTIFY_SOCKET": f"{place}/notify"}
    subprocess.run(argv, check=True, capture_output=True, timeout=60, env={**os.environ, **names})
    return trace.read_text().splitlines()


def test_cve_2024_3154_no_unit_and_so_no_property(fresh_rootfs: Path, tmp_path: Path) -> None:
    """CRI-O's annotations became properties of a systemd unit (ExecStart among them). There is no unit here: under a
    trace no socket with a name is connected to, no service manager's file is opened, no program of it is started, and
    what the caller says in names and values is in no name of a group.
    """
    code = f"import sys; sys.path.insert(0, {worlds.package_path()!r})\n{RUN}"
    lines = traced(tmp_path, code, str(fresh_rootfs))
    assert len(lines) > 100
    own = [line for line in lines if "execve(" not in line]  # the command's own words and variables are no request
    assert [line for line in own if ASKED.search(line)] == []
    made = [match[1] for line in lines if (match := re.search(r'mkdir(?:at)?\(.*?"([^"]*)"', line))]
    groups = {name.rpartition("/")[2] for name in made if name.rpartition("/")[2].startswith("pycontainer-")}
    assert groups, "a layer on the disk is named so too"
    assert {name for name in groups if not GROUP.fullmatch(name)} == set()
    # What goes to the keeper has these words, as words.
    named = re.compile(r"\b(connect|bind|open\w*|mkdir\w*)\(.*evil")
    assert [line for line in lines if named.search(line)] == []


def test_control_of_cve_2024_3154_a_request_shows_in_the_trace(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(tmp_path / "bus"))
        bus.listen()
        code = "import os, socket; socket.socket(socket.AF_UNIX).connect(os.environ['DBUS_SESSION_BUS_ADDRESS'][10:])"
        lines = traced(tmp_path, code)
    assert [line for line in lines if ASKED.search(line)]
