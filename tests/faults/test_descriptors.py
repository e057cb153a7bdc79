"""No descriptor free: a typed error, nothing left, and the next run with room works."""

from __future__ import annotations

from pathlib import Path

import pytest
from pen import Pen

pytestmark = [pytest.mark.requires("pen"), pytest.mark.leaks_by_design, pytest.mark.timeout(300)]

# Free numbers are counted, not the limit alone: the kernel refuses the first number at or above the soft limit.
PROGRAM = """
import os, resource, sys, time
import pycontainer as pc
from limited import limited
from pycontainer import _core
image, warm = sys.argv[1], sys.argv[2] == "warm"
KINDS = {
    "plain": {}, "limited": limited(memory="64MiB", pids=20, cpus=1), "disk": {"upper": "disk"},
    "terminal": {"tty": True}, "files": {"files": {"/in/f": b"x"}, "input": b"y"},
}
_core.seccomp_program(0, False)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
counts = {}
def run(kind):
    r = pc.run(["sh", "-c", "echo out; exit 4"], image=image, **KINDS[kind])
    assert r.returncode == 4 and r.stdout.split() == [b"out"], r
if warm:
    for kind in KINDS:
        run(kind)
for kind in KINDS:
    for k in range(33):
        used = sorted(int(name) for name in os.listdir("/proc/self/fd"))
        before = len(used)
        filler = []
        while True:  # no holes below the highest number
            fd = os.dup(0)
            filler.append(fd)
            if fd > used[-1]:
                break
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1 + k, hard))
        try:
            run(kind)
            outcome = "right"
        except (pc.Error, OSError) as error:
            outcome = "typed"
            text = str(error)
            assert text and "Success" not in text, repr(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filler:
            os.close(fd)
        counts[outcome] = counts.get(outcome, 0) + 1
        mark = f"-{(_core.keeper_pid() or [0])[0]}-"
        tops = [f"/sys/fs/cgroup/{name}" for name in os.listdir("/sys/fs/cgroup")]
        groups = [name for top in tops if os.path.isdir(top) for name in os.listdir(top) if mark in name]
        assert not groups, (kind, k, outcome, groups)
        store = os.environ["PYCONTAINER_ROOT"] + "/uppers"
        deadline = time.monotonic() + 2  # what this process has no descriptors to remove is removed by the keeper
        while os.path.isdir(store) and os.listdir(store):
            assert time.monotonic() < deadline, (kind, k, outcome)
            time.sleep(0.01)
    run(kind)
print(counts)
assert counts.get("typed", 0) > 20 and counts.get("right", 0) > 5, counts
"""


@pytest.mark.parametrize("engine", ["warm", "cold"])
def test_every_number_of_free_descriptors(
    pen: Pen, rootfs: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = pen.run(PROGRAM, rootfs, engine, timeout=240)
    with capsys.disabled():
        print(f"\n  {engine}: {counts.strip()}", end=" ")
    assert not pen.left()


# The keeper takes the host's hard limit: where it is low, cached layers must not eat it up.
SMALL_KEEPER = """
import resource, shutil, sys
import pycontainer as pc
image = sys.argv[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
for i in range(40):
    try:
        r = pc.run(["true"], image=image, mounts=[pc.Mount.bind(f"{sys.argv[2]}/{i}", "/mnt", read_only=True)])
        assert r.returncode == 0, r
    except OSError as error:
        raise SystemExit(f"{i}: {error}")
"""


def test_a_keeper_with_few_descriptors_lets_go_of_its_cache(pen: Pen, rootfs: Path, tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / str(i)).mkdir()
    pen.run(SMALL_KEEPER, rootfs, tmp_path, timeout=60)
    assert not pen.left()


# Containers one after another fill the cache of a keeper with few descriptors; the last finds none left half-way.
AGAIN = """
import os, resource, sys
import pycontainer as pc
image, disk = sys.argv[1], sys.argv[2] or None
seen = {}
for limit in range(24, 64):
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        answer = 0
        try:
            for i in range(8):
                pc.run(["true"], image=image)
            pc.run(["true"], image=image, upper="disk", limits=pc.Limits(disk=disk))
        except OSError as error:
            answer = error.errno
            if answer != 24:
                print(limit, error, file=sys.stderr)
        os._exit(answer)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    seen[status] = seen.get(status, 0) + 1
print(seen)
assert set(seen) == {0, 24}, seen
"""


@pytest.mark.requires("loop")
@pytest.mark.parametrize("disk", ["", "8MiB"], ids=["directory", "bounded"])
def test_a_second_attempt_takes_the_layer_as_the_first_one_left_it(pen: Pen, rootfs: Path, disk: str) -> None:
    pen.run(AGAIN, rootfs, disk, timeout=240)
    assert not pen.left()


def test_a_terminal_that_finds_no_descriptor_is_an_error(pen: Pen, rootfs: Path) -> None:
    program = """
import os, resource, sys, threading
import pycontainer as pc
image = sys.argv[1]
pc.run(["true"], image=image)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
seen = set()
for k in range(12):
    top = max(int(n) for n in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + k, hard))
    try:
        r = pc.run(["sh", "-c", "echo out"], image=image, tty=True)
        assert r.stdout == b"out\\r\\n", r
        seen.add("right")
    except (pc.Error, OSError) as error:
        seen.add("typed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert "typed" in seen
"""
    pen.run(program, rootfs, timeout=60)
    assert not pen.left()
