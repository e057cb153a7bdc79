"""The careless peer of the races: it looks at a name and then uses the name again, as each of the advisories' did.

Runs as a child in a mount namespace of its own, with nothing of the engine, against the same swapper; what it changes
on this machine lies in the directory that the test gives it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# d is swapped with a link to `outside`. Each step says, once it is done, whether it was led astray.
LOOP = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
share, outside = sys.argv[1:3]
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
def mount(source, target, kind, flags):
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), target)
def mounted(below):
    rows = [line.split() for line in open("/proc/self/mountinfo")]
    return {row[4]: row[5].split(",")[0] for row in rows if row[4].startswith(below + "/")}
def undo(below):
    for path in mounted(below):
        libc.umount2(path.encode(), 2)

def over():  # a mount point that has to be made, and what is to lie there
    os.makedirs(f"{share}/d/x/made", exist_ok=True)
    mount("none", f"{share}/d/x", "tmpfs", 0)
    return bool(mounted(outside)) or os.path.exists(f"{outside}/x/made")

def read_only():  # a bind onto itself and its remount, by the name both times; y is a mount point there too
    mount("none", f"{outside}/y", "tmpfs", 0)
    mount(f"{share}/d/y", f"{share}/d/y", "", MS_BIND)
    mount("none", f"{share}/d/y", "", MS_REMOUNT | MS_BIND | MS_RDONLY)
    return "rw" in mounted(share).values()

def mask():  # an empty directory over what is to be hidden
    mount("none", f"{share}/d/x", "tmpfs", MS_RDONLY)
    return not mounted(share)

def source():  # what was looked at is not what is bound
    mount(f"{share}/d", "/mnt", "", MS_BIND)
    return os.path.exists("/mnt/secret")

def write():  # a setting, into what was seen to be the real directory
    with open(f"{share}/d/x/setting", "w") as file:
        file.write("led astray")
    return os.path.exists(f"{outside}/x/setting")

until, rounds, step = time.monotonic() + 60, 0, globals()[sys.argv[3]]
while time.monotonic() < until:
    rounds += 1
    try:
        if not os.path.islink(f"{share}/d") and step():
            print(rounds)
            sys.exit()
    except OSError:
        pass
    undo(share); undo(outside); libc.umount2(b"/mnt", 2)
sys.exit(f"{step.__name__}: not led astray in {rounds} rounds")
"""


def led_astray(step: str, share: Path, outside: Path) -> int:
    """After how many rounds; an AssertionError where it never was: then the swapper is no attacker."""
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    argv = [*namespace, sys.executable, "-c", LOOP, str(share), str(outside), step]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
