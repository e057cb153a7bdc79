"""Thousands of runs, one after another: everything that they take comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

# 256 containers touch every path once: the caches of allocators, of imports, of the keeper.
PROGRAM = """
import gc, json, os, sys, time
import leaks, pen
import pycontainer as pc
from limited import limited
from pycontainer import _core

image, count = sys.argv[1], int(sys.argv[2])
with_groups = limited(memory="64MiB", pids=64, cpus=1)

def one(i):
    options = dict(with_groups) if i % 8 == 1 else {"upper": "disk"} if i % 16 == 2 else {}
    if i % 16 == 4:
        options["input"] = b"x" * 100_000
    if i % 64 == 5:
        options["tty"] = True
    command = "tty" if "tty" in options else "cat | wc -c"
    r = pc.run(["sh", "-c", f"{command}; exit {i % 7}"], image=image, **options)
    assert r.returncode == i % 7, (i, r)
    if "tty" not in options:
        assert int(r.stdout) == len(options.get("input", b"")), (i, r)

# What is the keeper's only root can look into: a plain user is told the sums, of memory and (Linux 6.2) descriptors.
def rss(pid):
    own = os.geteuid() == 0 or pid == os.getpid()
    file, field = ("smaps_rollup", "Rss:") if own else ("status", "VmRSS:")
    return sum(int(l.split()[1]) for l in open(f"/proc/{pid}/{file}") if l.startswith(field)) * 1024

def descriptors(pid):
    directory = f"/proc/{pid}/fd"
    return os.stat(directory).st_size if os.geteuid() else len(os.listdir(directory))

def keys():
    # Of the ids that this interpreter has claimed, by their lock files: other engines have keys too.
    links = [row.partition(" -> ")[2] for row in leaks.fds()]
    bases = [int(link.rpartition("/")[2], 16) for link in links if "/pycontainer/ids/" in link]
    rows = [line.split() for line in open("/proc/key-users")]
    users = {int(row[0].rstrip(":")): int(row[2].split("/")[0]) for row in rows}
    ours = sum(count for uid, count in users.items() if any(base <= uid < base + 65536 for base in bases))
    return ours, users.get(os.getuid(), 0)

def census():
    keeper, start = _core.keeper_pid()
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "keeper fds": descriptors(keeper),
        "threads": len(os.listdir("/proc/self/task")),
        "mounts": sorted(row for row in leaks.mounts() if "pycontainer" in row or "overlay" in row),
        "groups": sum(f"pycontainer-{keeper}-{start}-" in path for path in leaks.cgroups()),
        "children": sorted(leaks.children()),
        "children of the keeper": len(pen.children(keeper)),
        "layers": len(os.listdir(os.environ["PYCONTAINER_ROOT"] + "/uppers")),
        "keys of containers": keys()[0],
        "keeper": keeper,
    }, {"interpreter": rss(os.getpid()), "keeper": rss(keeper)}

def settled(wanted, seconds):
    deadline = time.monotonic() + seconds
    while True:
        gc.collect()
        seen, memory = census()
        if wanted is None or seen == wanted or time.monotonic() > deadline:
            return seen, memory
        time.sleep(0.1)

for i in range(256):
    one(i)
time.sleep(2.5)  # the keeper lets go of cached layers when it idles for a second
before, memory_before = settled(None, 0)
own_keys = keys()[1]
begin = time.monotonic()
for i in range(count):
    one(i)
seconds = time.monotonic() - begin
time.sleep(1.5)
after, memory_after = settled(before, 20)
assert keys()[1] < own_keys + 50, "session keyrings of this user pile up"
print(json.dumps([before, after, memory_before, memory_after, seconds]))
"""

DRIFT = 2 << 20


@pytest.mark.requires("pen")
@pytest.mark.leaks_by_design
@pytest.mark.timeout(3600)
def test_ten_thousand_runs_leave_everything_as_it_was(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(10_000))
    before, after, memory_before, memory_after, seconds = json.loads(pen.run(PROGRAM, rootfs, count, timeout=3000))
    drift = {who: memory_after[who] - memory_before[who] for who in memory_before}
    tell(f"{count} runs in {seconds:.0f} s, RSS {drift} bytes, {after}")
    assert after == before
    assert max(drift.values()) < DRIFT, drift
    assert not pen.left()
