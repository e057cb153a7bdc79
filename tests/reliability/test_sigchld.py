"""What the host does with SIGCHLD and with its own children is its business: every status is right on both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

PROGRAM = """
import asyncio, ctypes, json, multiprocessing, os, signal, subprocess, sys, threading, time
import pen
import pycontainer as pc
from pycontainer import _core

image, disposition, kind, count, with_us = sys.argv[1:4] + [int(sys.argv[4]), sys.argv[5] == "True"]
PR_SET_CHILD_SUBREAPER = 36
reaped, mine, stop = {}, set(), threading.Event()

def leave(status):
    sys.exit(status)

def reap():
    while not stop.is_set():
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid:
            reaped[pid] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.0005)

def by_subprocess():
    child = subprocess.Popen([sys.executable, "-S", "-c", "import os,sys; os._exit(int(sys.argv[1]))", "3"])
    mine.add(child.pid)
    return child.pid, child.wait()

async def in_loop():
    child = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
    mine.add(child.pid)
    return child.pid, await child.wait()

def by_multiprocessing():
    child = multiprocessing.get_context(kind).Process(target=leave, args=(3,))
    child.start()
    mine.add(child.pid)
    child.join(20)
    return child.pid, child.exitcode

def theirs():
    if kind == "asyncio":
        async def all_of_them():
            return [await in_loop() for _ in range(count)]
        return asyncio.run(all_of_them())
    return [(by_subprocess if kind == "subprocess" else by_multiprocessing)() for _ in range(count)]

def ours(wrong, ran):
    n = 0
    while n < 3 or not stop.is_set():
        n += 1
        r = pc.run(["sh", "-c", f"exit {n % 5}"], image=image)
        if r.returncode != n % 5:
            wrong.append(str(r))
    ran.append(n)

if __name__ == "__main__":
    calls = []
    if disposition == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif disposition == "handler":
        signal.signal(signal.SIGCHLD, lambda *_: calls.append(1))
    elif disposition == "loop":
        threading.Thread(target=reap, daemon=True).start()
    elif disposition == "subreaper":
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
    wrong, ran = [], []
    runner = threading.Thread(target=ours, args=(wrong, ran))
    if with_us:
        runner.start()
    seen = theirs()
    time.sleep(0.05)
    stop.set()
    if with_us:
        runner.join()
    helpers = set()
    if kind in ("spawn", "forkserver"):
        from multiprocessing import forkserver, resource_tracker
        helpers = {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid}
    keeper = _core.keeper_pid()
    print(json.dumps({
        "wrong": wrong, "ran": ran[0] if ran else 0,
        "statuses": [status for _, status in seen],
        "in one of both": [reaped.get(pid, status) for pid, status in seen],
        "strangers": len(set(reaped) - mine - helpers),
        "signal": str(signal.getsignal(signal.SIGCHLD) if disposition != "handler" else len(calls) > 0),
        "keeper is ours to reap": keeper is not None and keeper[0] in pen.children(os.getpid()),
    }))
    sys.stdout.flush()
    if disposition in ("ignored", "loop"):
        os._exit(0)  # multiprocessing's own exit waits for children whose status nobody kept
"""
DISPOSITIONS = ["default", "ignored", "handler", "loop", "subreaper"]
KINDS = ["subprocess", "fork", "spawn", "forkserver", "asyncio"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A file: multiprocessing's spawn and forkserver import the main module again."""
    path = tmp_path / "sigchld_host.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.requires("pen")
@pytest.mark.leaks_by_design
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_every_status_is_right_on_both_sides(
    pen: Pen,
    rootfs: Path,
    program: Path,
    disposition: str,
    kind: str,
    times: Callable[[int], range],
    tell: Callable[[str], None],
) -> None:
    count = len(times(50))
    launch = f"import runpy, sys; sys.argv[0] = {str(program)!r}; runpy.run_path({str(program)!r}, run_name='__main__')"
    if kind in ("spawn", "forkserver"):
        launch = f"import os, sys; os.execv(sys.executable, [sys.executable, {str(program)!r}, *sys.argv[1:]])"
    seen, control = (
        json.loads(pen.run(launch, rootfs, disposition, kind, count, with_us, timeout=120)) for with_us in (True, False)
    )
    tell(f"{count} children, {seen['ran']} containers")
    assert seen["wrong"] == []
    assert seen["ran"] >= 3
    assert seen["strangers"] == 0
    assert seen["signal"] == control["signal"]
    if disposition == "loop":  # the loop or the module got it, whoever came first; a lost one reads 0, 255 or None
        assert seen["in one of both"] == [3] * count
    else:
        assert seen["statuses"] == control["statuses"]
    if disposition in ("default", "handler", "subreaper"):
        assert seen["statuses"] == [3] * count
    if disposition != "subreaper":
        assert not seen["keeper is ours to reap"]
    assert not pen.left()


SUBREAPER = """
import ctypes, os, signal, sys, time
import pycontainer as pc
from pycontainer import _core
assert ctypes.CDLL(None).prctl(36, 1) == 0
for _ in range(3):
    pc.run(["true"], image=sys.argv[1])
    old = _core.keeper_pid()[0]
    os.kill(old, signal.SIGKILL)
    while _core.keeper_pid():
        time.sleep(0.01)
    pc.run(["true"], image=sys.argv[1])
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    assert str(old) not in children, (old, children)
"""


@pytest.mark.requires("pen")
@pytest.mark.leaks_by_design
def test_a_subreaper_is_not_left_with_the_zombie_of_a_keeper(pen: Pen, rootfs: Path) -> None:
    pen.run(SUBREAPER, rootfs, timeout=60)
    assert not pen.left()
