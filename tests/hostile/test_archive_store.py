"""The store of unpacked archives: shared by processes, whole after kills and damage, and closed to others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pycontainer as pc
from hostile.unpacking import Unpack, leftovers
from rawtar import FILE, archive, entry

UNPACK = "import sys, pycontainer as pc; print(pc.Image.from_archive(sys.argv[1])._directory)"


def start(path: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", UNPACK, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(pc.__file__).parent.parent), *sys.path])}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


def big(path: Path, size: int = 32 << 20) -> Path:
    files = [entry(FILE, b"f%d" % i, data=os.urandom(1 << 20)) for i in range(size >> 20)]
    path.write_bytes(archive(*files))
    return path


def test_processes_and_threads_share_one_unpacking(arena: Path) -> None:
    path = big(arena / "big.tar")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(pc.Image.from_archive(path)._directory)) for _ in range(4)]
    processes = [start(path) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [process.communicate()[0].strip() for process in processes]
    assert len(set(found)) == 1
    assert len(os.listdir(found[0])) == 32
    assert len(os.listdir(arena / "store/archives")) == 1


def test_what_a_killed_process_leaves_is_swept(arena: Path, unpack: Unpack, times: Callable[[int], range]) -> None:
    path = big(arena / "big.tar", 64 << 20)
    killed = 0
    for _ in times(10):
        process = start(path)
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if (arena / "store/archives").exists() and any(name.endswith(".tmp") for name in leftovers(arena)):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
        if any(name.endswith(".tmp") for name in leftovers(arena)):
            assert unpack(archive(entry(FILE, b"f", data=os.urandom(9))))  # another archive's unpacking sweeps
            assert leftovers(arena) == []
    assert killed
    assert len(os.listdir(pc.Image.from_archive(path)._directory)) == 64


def test_what_is_damaged_is_never_used(unpack: Unpack, arena: Path) -> None:
    data = archive(entry(FILE, b"f", data=b"whole"))
    root = unpack(data)
    record = root.parent / "complete"
    text = record.read_text()
    for damage in ("", text[:-4], text.replace("sha256:", "sha256:0"), text.replace("archive 2", "archive 0")):
        (root / "f").write_bytes(b"damaged")
        record.write_text(damage)
        assert (unpack(data) / "f").read_bytes() == b"whole"
        assert record.read_text() == text
    shutil.rmtree(root)
    assert (unpack(data) / "f").read_bytes() == b"whole"
    assert leftovers(arena) == []


def test_the_store_is_private(unpack: Unpack, arena: Path) -> None:
    """CVE-2021-41091 and its kind: nobody else gets to set-id files in the store."""
    old = os.umask(0)
    try:
        root = unpack(archive(entry(FILE, b"f", mode=0o4755)))
    finally:
        os.umask(old)
    for path in (root.parent, root.parent.parent, root.parent.parent.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert root.stat().st_mode & 0o7777 == 0o755
