"""Groups of version 1 are made while the container is under way, where no attach has to be waited for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import worlds

pytestmark = pytest.mark.requires("root", "cgroup1:memory", "cgroup1:pids")

# One thread may make no directory any more; the other's runs keep the kernel from waiting for a grace period.
REFUSED = """
import sys, threading, time
import pycontainer as pc
import worlds
image, limits, failed, done = sys.argv[1], pc.Limits(memory="64MiB", pids=20), [], threading.Event()
def good():
    while not done.is_set():
        assert pc.run(["true"], image=image, limits=limits).returncode == 0
def refused():
    worlds.install("mkdirat", 28)
    for _ in range(30):
        began = time.monotonic()
        try:
            pc.run(["true"], image=image, limits=limits)
        except pc.SetupError as error:
            failed.append((error.errno, error.step, time.monotonic() - began))
assert pc.run(["true"], image=image, limits=limits).returncode == 0
threads = [threading.Thread(target=call) for call in (good, refused)]
for thread in threads: thread.start()
threads[1].join(); done.set(); threads[0].join()
assert len(failed) == 30
assert {what[:2] for what in failed} == {(28, "make the group")}, failed
print(sorted(what[2] for what in failed)[15])
"""


def test_one_that_cannot_be_made_is_the_error_and_ends_the_container(rootfs: Path) -> None:
    done = subprocess.run([*worlds.python(REFUSED), str(rootfs)], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 0.4, "PID 1 waited for groups until it was killed"


# It ends before it joins, and what the host has sent by then is never read.
BROKEN = """
import sys, threading
import pycontainer as pc
image, limits, done, seen = sys.argv[1], pc.Limits(memory="64MiB", pids=20), threading.Event(), []
def others():
    while not done.is_set():
        pc.run(["true"], image=image, limits=limits, check=True)
thread = threading.Thread(target=others)
pc.run(["true"], image=image, limits=limits, check=True)
thread.start()
for mount in (pc.Mount.tmpfs("/bin/true/x"), pc.Mount.overlay("/sys/kernel", "/mnt")) * 50:
    try:
        pc.run(["true"], image=image, limits=limits, mounts=[mount])
    except pc.Error as error:
        seen.append(str(error).partition(": ")[0])
done.set()
thread.join()
assert seen == ["mount on /bin/true/x", "idmapped mounts"] * 50, set(seen)
"""


def test_a_set_up_that_fails_is_told_with_its_own_error(rootfs: Path) -> None:
    """Of PID 1's, and of the keeper's, who answers before the groups are there."""
    subprocess.run([*worlds.python(BROKEN), str(rootfs)], check=True)


# The main thread's are looked at; the others' runs keep the kernel from waiting for a grace period.
RUNS = """
import sys, threading
import pycontainer as pc
limits, done = pc.Limits(memory="64MiB", pids=20, cpus=1), threading.Event()
def others():
    while not done.is_set():
        pc.run(["true"], image=sys.argv[1], limits=limits, check=True)
threads = [threading.Thread(target=others) for _ in range(3)]
pc.run(["true"], image=sys.argv[1], limits=limits, check=True)
for thread in threads: thread.start()
for _ in range(30):
    result = pc.run(["true"], image=sys.argv[1], limits=limits, check=True)
    assert {row.state for row in result.enforced.values()} == {"held"}, result.enforced
done.set()
for thread in threads: thread.join()
"""


@pytest.mark.requires("program:strace", "ptrace")
def test_the_plan_is_sent_before_they_are_there(rootfs: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = ["strace", "-o", str(trace), "-s", "4", "-e", "trace=sendmsg,mkdirat"]  # without -f: of the main thread
    code = f"import sys; sys.path.insert(0, {worlds.package_path()!r})\n{RUNS}"
    subprocess.run([*strace, sys.executable, "-c", code, str(rootfs)], check=True, timeout=120)
    # By the first byte of what is sent: 2 is a plan, 9 (a tab) what the keeper is to watch.
    kinds = [re.search(r'(mkdirat)|iov_base="\\(?:00)?([2t])', line) for line in trace.read_text().splitlines()]
    order = "".join(kind[2] or "m" for kind in kinds if kind)
    early, late = order.count("mmm2"), order.count("2mmmt")
    assert early + late == 31, order
    assert late, order
