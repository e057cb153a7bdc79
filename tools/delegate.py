"""Runs a command as a plain user inside a cgroup that was delegated to that user, as systemd's Delegate=yes does it.

    delegate.py USER [NAME=VALUE...] -- COMMAND...

For root. The group is user.slice/user-UID.slice/tests of the unified hierarchy, which on a hybrid machine has no
controllers; the command sits in its group `leaf`, since a group with processes cannot hand controllers on. The
environment is USER's own and each NAME=VALUE. Afterwards the groups that it made are removed, as far as they are empty.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
HANDED_OVER = ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")  # cgroups(7), "delegation"


def hierarchy() -> Path:
    """Where the unified hierarchy is mounted: on /sys/fs/cgroup, or on a hybrid machine below it."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return Path(next(row[1] for row in rows if row[2] == "cgroup2"))


def own_group(top: Path) -> Path:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return top / next(line[3:].lstrip("/") for line in lines if line.startswith("0::"))


def enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def hand_on(group: Path) -> None:
    """Give the children of `group` the controllers that it has."""
    have = (group / "cgroup.controllers").read_text().split()
    words = " ".join(f"+{name}" for name in CONTROLLERS if name in have)
    (group / "cgroup.subtree_control").write_text(words)


@contextlib.contextmanager
def delegated_group(top: Path, uid: int, gid: int) -> Iterator[Path]:
    """The user's group and, as the user's own, its `leaf`, which it yields."""
    group = top / "user.slice" / f"user-{uid}.slice" / "tests"
    leaf = group / "leaf"
    made = [path for path in (group.parent.parent, group.parent, group, leaf) if not path.exists()]
    try:
        for parent in (top, group.parent.parent, group.parent):
            parent.mkdir(exist_ok=True)
            hand_on(parent)
        for owned in (group, leaf):
            owned.mkdir(exist_ok=True)
            for name in HANDED_OVER:
                os.chown(owned / name, uid, gid)
        yield leaf
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()


def main(argv: list[str]) -> int:
    split = argv.index("--")
    (name, *settings), command = argv[:split], argv[split + 1 :]
    entry = pwd.getpwnam(name)
    environ = {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    environ |= dict(setting.split("=", 1) for setting in settings)
    groups = os.getgrouplist(name, entry.pw_gid)
    top = hierarchy()
    before = own_group(top)
    with delegated_group(top, entry.pw_uid, entry.pw_gid) as leaf:
        enter(leaf)
        try:
            child = subprocess.Popen(command, env=environ, user=entry.pw_uid, group=entry.pw_gid, extra_groups=groups)
        finally:
            # Not while it runs: cpuset moves no task of root's for a user who turns controllers on (EPERM).
            enter(before)
        with child:
            code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if "--" not in sys.argv[2:]:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
