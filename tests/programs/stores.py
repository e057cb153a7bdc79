"""Stores on file systems of their own, made on loop devices, and interpreters that use them.

A keeper holds its store, so each test has one that ends before the file system is unmounted.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# (mkfs and its words, mount options)
KINDS = {
    "ext4": (["mkfs.ext4", "-q", "-F"], "loop"),
    "ext4-quota": (["mkfs.ext4", "-q", "-F", "-O", "project,quota", "-E", "quotatype=prjquota"], "loop,prjquota"),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], "loop"),
    "xfs": (["mkfs.xfs", "-q", "-f"], "loop"),
    "xfs-quota": (["mkfs.xfs", "-q", "-f"], "loop,prjquota"),
}
PRELUDE = """
import json, os, sys
import pycontainer as pc
from pycontainer import Limits
def tell(value):
    os.write(1, json.dumps(value).encode() + b"\\n")  # whole, of whichever thread
def facts(r):
    row = r.enforced["disk"]
    return {"out": r.stdout.decode(), "reason": r.reason, "disk": r.usage.disk, "full": r.usage.disk_full,
            "state": row.state, "by": row.by, "upper": r.enforced["upper"].by}
root = sys.argv[1]
"""


@contextlib.contextmanager
def mounted(kind: str, mib: int, scratch: Path) -> Iterator[Path]:
    """An empty file system of that kind, with a directory `store`; nothing of it is left."""
    (make, *words), options = KINDS[kind]
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        image, point = Path(directory, "image"), Path(directory, "mounted")
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(mib << 20)
        subprocess.run([make, *words, str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", options, str(image), str(point)], check=True, capture_output=True)
        try:
            (point / "store").mkdir(mode=0o700)
            yield point / "store"
        finally:
            unmount(point)


def unmount(point: Path, patience: float = 10) -> None:
    """The keeper of an interpreter that was killed needs a moment to let go."""
    deadline = time.monotonic() + patience
    while subprocess.run(["umount", str(point)], check=False, capture_output=True).returncode:
        if time.monotonic() > deadline:
            subprocess.run(["umount", "-l", str(point)], check=True)
            raise AssertionError(f"{point} is still in use")
        time.sleep(0.05)


def in_store(store: Path, program: str, *words: object, timeout: float = 120) -> list[Any]:
    """What an interpreter of its own tells, one value a line, with that store."""
    argv = [sys.executable, "-c", PRELUDE + program, *map(str, words)]
    environment = {**os.environ, "PYCONTAINER_ROOT": str(store)}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def loops() -> dict[str, str]:
    """Loop devices in use: {name: the file behind it}."""
    found = {}
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # gone meanwhile
            found[path.parts[3]] = path.read_text().strip()
    return found


def project_quota(kind: str) -> str | None:
    """Why limits of projects cannot be had on that file system, tried for real; None where they can."""
    try:
        with mounted(f"{kind}-quota", 400, Path(os.environ.get("PYCONTAINER_TEST_TMP", "/var/tmp"))):
            return None
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    except subprocess.CalledProcessError as error:
        return f"{error.cmd[0]}: {error.stderr.decode(errors='replace').strip() or error.returncode}"
