"""Engines that share a store and groups, and that cannot see each other's keepers: each leaves alone what is alive."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
import worlds

pytestmark = [pytest.mark.requires("root", "controller:memory"), pytest.mark.vm]
# Where the first process of an engine's pid namespace, and so its keeper, always has the same pid.
PIDS = ["unshare", "-pf", "--mount-proc"]
TIME = ["unshare", "-Tf", "--boottime", "86400"]
HERE: list[str] = []

# It writes into its layer, waits for a line, reads, and writes again.
LIVES = """
import sys
import pycontainer as pc
argv = ["sh", "-c", "echo kept > /file; echo up; read line; cat /file; echo more > /more; cat /more"]
given = {"upper": "disk", "limits": pc.Limits(memory="64MiB"), "stdin": 0, "stdout": 1, "image": sys.argv[1]}
print(pc.run(argv, **given).reason)
"""
# Its container has said that it is up; `end` takes place then, in another thread.
ENDS = LIVES.replace('"stdout": 1', '"stdout": outer').replace(
    "given =",
    """import os, signal, threading, time
from pycontainer import _core
inner, outer = os.pipe()
threading.Thread(target=lambda: (os.read(inner, 3), end()), daemon=True).start()
given =""",
)
RUNS = """
import sys
import pycontainer as pc
print(pc.run(["true"], image=sys.argv[1], upper="disk", limits=pc.Limits(memory="64MiB")).reason)
"""


@pytest.fixture
def store(scratch: Path) -> dict[str, str]:
    """The environment of engines that have one store of their own."""
    return {**os.environ, "PYCONTAINER_ROOT": str(scratch / "shared-store"), "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    ("first", "second"),
    [(HERE, PIDS), (PIDS, HERE), (PIDS, PIDS), (HERE, TIME), (TIME, HERE)],
    ids=["pids-below", "pids-above", "pids-beside", "time-below", "time-above"],
)
def test_what_lives_stays_where_another_engine_begins_and_ends(
    rootfs: Path, store: dict[str, str], first: list[str], second: list[str]
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    argv = [*first, *worlds.python(LIVES), str(rootfs)]
    with subprocess.Popen(argv, text=True, env=store, **pipes) as lives:  # type: ignore[call-overload]
        assert lives.stdout.readline() == "up\n", lives.communicate()
        other = [*second, *worlds.python(RUNS), str(rootfs)]
        done = subprocess.run(other, check=True, capture_output=True, text=True, env=store)
        assert done.stdout == "exited\n"
        out, err = lives.communicate("on\n", timeout=60)
    assert out == "kept\nmore\nexited\n", err
    assert gone(store)


def left(store: dict[str, str]) -> list[Path]:
    return list(Path(store["PYCONTAINER_ROOT"]).glob("uppers/*"))


def gone(store: dict[str, str]) -> bool:
    """A keeper removes what it has a moment after its host's end."""
    deadline = time.monotonic() + leaks.SETTLE
    while left(store) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not left(store)


@pytest.fixture
def silence() -> Iterator[int]:
    """A stdin on which nothing comes: what waits for a line lives until it is killed."""
    read, write = os.pipe()
    yield read
    os.close(read)
    os.close(write)


def test_what_is_dead_is_swept_by_an_engine_of_another_namespace(
    rootfs: Path, store: dict[str, str], silence: int
) -> None:
    """Both died at once in there; nobody holds the lock."""
    code = f"""
def end():
    os.kill(_core.keeper_pid()[0], signal.SIGSTOP)
    os._exit(0)
{ENDS}"""
    argv = [*PIDS, "--kill-child", *worlds.python(code), str(rootfs)]
    subprocess.run(argv, check=False, capture_output=True, env=store, stdin=silence)
    assert left(store), "nothing was left to sweep"
    subprocess.run([*worlds.python(RUNS), str(rootfs)], check=True, env=store, capture_output=True)
    assert gone(store)


def test_a_forked_copy_of_what_is_dead_holds_no_lock(rootfs: Path, store: dict[str, str], silence: int) -> None:
    """Host and keeper died at once, with groups and a layer on the disk of a container; a copy of the host lives. (The
    watch over leaks looks for the groups.)
    """
    code = f"""
def end():
    copy = os.fork()
    if copy == 0:
        os.close(1)
        os.close(2)
        time.sleep(60)
        os._exit(0)
    print(copy, flush=True)
    os.kill(_core.keeper_pid()[0], signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
{ENDS}"""
    argv = [*worlds.python(code), str(rootfs)]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True, env=store, stdin=silence)
    copy = int(done.stdout)
    try:
        assert left(store), "nothing was left to sweep"
        subprocess.run([*worlds.python(RUNS), str(rootfs)], check=True, env=store, capture_output=True)
        assert gone(store)
    finally:
        os.kill(copy, signal.SIGKILL)
