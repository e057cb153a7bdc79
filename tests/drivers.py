"""Storage drivers: an image with something of everything, and what is looked at in containers on it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import layouts
import requirements

VARIABLE = "PYCONTAINER_STORAGE_DRIVER"
DRIVERS = ["overlay", "fuse-overlayfs", "vfs"]  # those that are on every file system


def there() -> list[str]:
    """Those that this machine has."""
    return [driver for driver in DRIVERS if driver != "fuse-overlayfs" or requirements.fuse_overlayfs() is None]


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info


UPPER = layouts.tar({
    "bin/.wh.true": b"",  # of the layer below
    "opt/": None, "opt/a": b"a", "opt/b": b"b", "opt/gone/": None, "opt/gone/x": b"x",
    "opt/old/": None, "opt/old/x": b"x", "opt/link": "a",
    "opt/hard": member("opt/hard", tarfile.LNKTYPE, linkname="opt/b"),
    "opt/suid": member("opt/suid", mode=0o4755, uid=7, gid=8),
    "opt/dir": member("opt/dir", tarfile.DIRTYPE, mode=0o750, uid=1000, gid=1000),
    "opt/attributes": member("opt/attributes", pax_headers={"SCHILY.xattr.user.x": "value"}),
    "opt/fifo": member("opt/fifo", tarfile.FIFOTYPE, mode=0o600),
})  # fmt: skip
TOP = layouts.tar({"opt/top": b"top", "opt/old/": None, "opt/old/.wh..wh..opq": b"", "opt/old/new": b"new"})

LOOK = """cd /opt; ls -lnR . | grep -v ^total; cat a b top old/new link; test -e /bin/true && echo WRONG
test b -ef hard && echo same; id -u; cat /etc/hostname"""

# Times are told apart by whole seconds: what changes is later than the reference, whatever the machine's speed.
CHANGES = """touch /ref; while touch /now; [ $(stat -c %Y /now) -le $(stat -c %Y /ref) ]; do sleep 0.1; done
cd /opt; echo more >> a; chmod 600 attributes; mkdir /d; echo y > /d/f; ln attributes c; mv top moved
rm -r gone old; mkdir old; echo o > old/o; rm link; ln -s b link; mkdir dir/in; rm -f suid; : > empty
find / -xdev -newer /ref -exec touch -h -d @1700000000 {} + 2> /dev/null; rm /now /ref; touch -d @1700000000 /; """


def uppers(store: Path) -> list[str]:
    return os.listdir(store / "uppers") if (store / "uppers").exists() else []
