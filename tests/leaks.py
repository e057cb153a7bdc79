"""What a test may not leave behind: mounts, cgroups, processes of containers, children and fds of this process.

Reads /proc and /sys only; never ends, unmounts or removes anything, so that what leaked can still be looked at.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass, fields
from pathlib import Path

GROUP_PREFIX = "pycontainer"
PORTER = "pycontainer-net"
SETTLE = 2.0  # seconds: the promise is that after this nothing is left, however the end came


@dataclass(frozen=True)
class Snapshot:
    """Names of what exists now, each kind as a set of readable lines."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    contained: frozenset[str]
    porters: frozenset[str]
    children: frozenset[str]
    fds: frozenset[str]
    loops: frozenset[str]

    def beyond(self, before: Snapshot) -> list[str]:
        """What is here and was not there before, one line each."""
        rows = []
        for field in fields(self):
            new = getattr(self, field.name) - getattr(before, field.name)
            rows += [f"{field.name}: {row}" for row in sorted(new)]
        return rows


def take() -> Snapshot:
    return Snapshot(mounts(), cgroups(), contained(), porters(), children(), fds(), loops())


def mounts() -> frozenset[str]:
    """Without the ids of mounts, which the kernel reuses; the mount point and what lies there."""
    rows = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return frozenset(f"{row[4]} ({' '.join(row[row.index('-') + 1 :][:2])})" for row in rows)


def cgroups() -> frozenset[str]:
    """All of them, as root; a plain user makes none of root's, whose tests may run at the same time."""
    found: set[str] = set()
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found.update(f"{directory}/{name}" for name in names if name.startswith(GROUP_PREFIX))
    return frozenset(found) if os.geteuid() == 0 else frozenset(path for path in found if not is_of_root(path))


def is_of_root(path: str) -> bool:
    try:
        return os.stat(path).st_uid == 0
    except FileNotFoundError:
        return True


def contained() -> frozenset[str]:
    """Processes in a pid namespace below ours: status shows one more NSpid per level, even of an undumpable process.

    Without zombies that only init has yet to reap. The whole machine's: containers of others, started meanwhile, show.
    """
    found: set[str] = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            lines = Path(entry.path, "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        orphaned_zombie = status["State"].startswith("Z") and status["PPid"] == "1"
        if len(status.get("NSpid", "").split()) > 1 and not orphaned_zombie:
            found.add(f"pid {entry.name} {status['Name']}")  # its state is another one a moment later
    return frozenset(found)


def porters() -> frozenset[str]:
    """Processes that carry connections to published ports: in no pid namespace of a container's."""
    found: set[str] = set()
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            if entry.read_text() == f"{PORTER}\n":
                found.add(f"pid {entry.parent.name} {PORTER}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return frozenset(found)


def children() -> frozenset[str]:
    """Children of this process, zombies too; the kernel lists them for each thread that made one."""
    found: set[str] = set()
    for task in os.scandir("/proc/self/task"):
        try:
            found.update(Path(task.path, "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return frozenset(f"child {pid}" for pid in found)


def fds() -> frozenset[str]:
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"fd {name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return frozenset(found)


def loops() -> frozenset[str]:
    """Loop devices whose file is a writable layer: nameless, in a store. They are root's."""
    if os.geteuid() != 0:
        return frozenset()
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    found = [path.read_text().strip() for path in files if path.exists()]
    return frozenset(f"loop device of {file}" for file in found if "/uppers/" in file)


def left_since(before: Snapshot, settle: float = SETTLE) -> list[str]:
    """What is still left after `settle` seconds; at once where there is nothing."""
    gc.collect()
    deadline = time.monotonic() + settle
    while rows := take().beyond(before):
        if time.monotonic() > deadline:
            return rows
        time.sleep(0.02)
    return []
