"""Runs a command as a plain user inside a cgroup that was delegated to that user, as systemd's Delegate=yes does it.

    delegate.py USER [NAME=VALUE...] -- COMMAND...

For root, on a machine with cgroup2 alone. The group is user.slice/user-UID.slice/tests; the command sits in its group
`leaf`, since a group with processes cannot hand controllers on. The environment is USER's own and each NAME=VALUE.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
HANDED_OVER = ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")  # cgroups(7), "delegation"


def hand_on(group: Path) -> None:
    """Give the children of `group` the controllers that it has."""
    have = (group / "cgroup.controllers").read_text().split()
    words = " ".join(f"+{name}" for name in CONTROLLERS if name in have)
    (group / "cgroup.subtree_control").write_text(words)


def delegated_group(uid: int, gid: int) -> Path:
    """Make the user's group and, as the user's own, its `leaf`; returns the leaf."""
    group = CGROUP / "user.slice" / f"user-{uid}.slice" / "tests"
    for parent in (CGROUP, group.parent.parent, group.parent):
        parent.mkdir(exist_ok=True)
        hand_on(parent)
    group.mkdir(exist_ok=True)
    leaf = group / "leaf"
    leaf.mkdir(exist_ok=True)
    for owned in (group, leaf):
        for name in HANDED_OVER:
            os.chown(owned / name, uid, gid)
    return leaf


def main(argv: list[str]) -> None:
    split = argv.index("--")
    (name, *settings), command = argv[:split], argv[split + 1 :]
    entry = pwd.getpwnam(name)
    leaf = delegated_group(entry.pw_uid, entry.pw_gid)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))
    environ = {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    environ |= dict(setting.split("=", 1) for setting in settings)
    os.initgroups(name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.execvpe(command[0], command, environ)


if __name__ == "__main__":
    if "--" not in sys.argv[2:]:
        sys.exit(__doc__)
    main(sys.argv[1:])
