"""A process of the same uid beside us, which tries at every moment to get hold of one of the engine's own processes.

Traced would be worse than killed: what is seized acts with the rights and the descriptors of who was seized.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pycontainer as pc
import worlds
from hostile.test_engine_processes import keepers

PTRACE_SEIZE = 0x4206
PR_SET_DUMPABLE = 4
PF_EXITING = 0x4  # include/linux/sched.h
PROGRAM = 0x400000  # where the helper, a static program, lies
STAND_IN = "pycontainer-ids"
libc = ctypes.CDLL(None, use_errno=True)
pytestmark = pytest.mark.requires("user")


def seize(pid: int) -> int:
    """PTRACE_SEIZE by a process of the same uid: 0, or the error number. The tracer ends at once, and lets go
    by that.
    """
    tracer = os.fork()
    if not tracer:
        libc.ptrace.restype = ctypes.c_long
        failed = libc.ptrace(*[ctypes.c_long(value) for value in (PTRACE_SEIZE, pid, 0, 0)])
        os._exit(ctypes.get_errno() if failed else 0)
    return os.waitstatus_to_exitcode(os.waitpid(tracer, 0)[1])


def readable(pid: int) -> bool | None:
    """Whether process_vm_readv may look into it; None where there is none. It asks what PTRACE_ATTACH asks."""
    room = ctypes.create_string_buffer(8)
    local = (ctypes.c_uint64 * 2)(ctypes.addressof(room), 8)
    remote = (ctypes.c_uint64 * 2)(PROGRAM, 8)
    got = libc.process_vm_readv(pid, local, 1, remote, 1, 0)
    if got >= 0 or ctypes.get_errno() == errno.EFAULT:  # it may, and there is nothing at that place
        return True
    return None if ctypes.get_errno() == errno.ESRCH else False


def openable(pid: int) -> bool:
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    except OSError:
        return False
    return True


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_ending(pid: int) -> bool:
    """Past the start of do_exit() or gone. Its memory is given up there before all else, and with it what says that
    nobody may look into it (ptrace(2): the attribute is the memory's): a look that began before passes, at nothing.
    """
    try:
        flags = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]
    except OSError:
        return True
    return bool(int(flags) & PF_EXITING)


def fds(pid: int) -> list[str]:
    """What a process that could be looked into holds; [] where it has ended meanwhile."""
    try:
        return [os.readlink(entry.path).partition(":")[0] for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return []


class Neighbour:
    """In a process of its own: tries the pids that come next, again and again, and those of the engine that live."""

    def __init__(self) -> None:
        self.refused = 0
        self.won: list[tuple[str, str, list[str]]] = []

    def try_one(self, pid: int) -> None:
        may = readable(pid)
        if may is False:
            self.refused += 1
        elif may:
            held = fds(pid)
            # The name last: between two looks a process can only become a command.
            self.win("read", pid, held)
        if may is not None and openable(pid):
            self.win("open", pid, [])

    def win(self, how: str, pid: int, held: list[str]) -> None:
        """What it still holds when it is about to end is a win as any."""
        if held or not is_ending(pid):
            self.won.append((how, name(pid), held))

    def loop(self, stop: int) -> None:
        os.set_blocking(stop, False)
        rounds = 0
        while self.goes_on(stop):
            newest = int(Path("/proc/loadavg").read_text().split()[-1])
            for pid in range(newest - 3, newest + 4):
                self.try_one(pid)
            rounds += 1
            if rounds % 50 == 0:
                for pid in keepers():
                    self.try_one(pid)
                    if name(pid) == "pycontainer" and seize(pid) == 0:
                        self.won.append(("seize", name(pid), []))

    def goes_on(self, stop: int) -> bool:
        try:
            return os.read(stop, 1) != b""
        except BlockingIOError:
            return True


@contextmanager
def neighbour() -> Iterator[dict[str, list[tuple[str, str, list[str]]]]]:
    """One that tries as long as the block lasts; afterwards what it won is in the mapping."""
    stop, hold = os.pipe()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(hold)
        me = Neighbour()
        try:
            me.loop(stop)
        finally:
            with os.fdopen(write, "w") as out:
                json.dump({"won": me.won, "refused": me.refused}, out)
            os._exit(0)
    os.close(stop)
    os.close(write)
    report: dict[str, list[tuple[str, str, list[str]]]] = {}
    try:
        yield report
    finally:
        os.close(hold)
        with os.fdopen(read) as told:
            report |= json.load(told)
        os.waitpid(child, 0)


def of_the_engine(won: list[tuple[str, str, list[str]]]) -> list[tuple[str, str, list[str]]]:
    """What a neighbour may not have: the program of the keeper, under the name that exec or it itself gives, holding
    more than the one socket of who stands in while maps are written.
    """
    ours = [row for row in won if row[1].startswith("pycontainer") or row[1] in ("6", "memfd:pycontain")]
    return [row for row in ours if row[1] != STAND_IN or row[2] not in ([], ["socket"])]


def test_cve_2026_41163_no_start_opens_the_keeper_or_pid_1() -> None:
    """Also CVE-2016-8659. 250 starts under one keeper: at no moment is it, or the PID 1 of a container, dumpable."""
    pc.run(["/bin/true"], check=True)
    with neighbour() as report:
        for _ in range(250):
            pc.run(["/bin/true"], check=True)
    assert report["refused"] > 500, "it met the engine's processes"
    assert of_the_engine(report["won"]) == []


KEEPERS = f"""
import ctypes
libc = ctypes.CDLL(None)
assert libc.prctl({PR_SET_DUMPABLE}, 0, 0, 0, 0) == 0
import pycontainer as pc
for _ in range(3):
    pc.run(["/bin/true"], check=True)
"""


def test_cve_2026_41163_no_start_of_a_keeper_opens_it() -> None:
    """25 interpreters that are undumpable, each with a keeper of its own: it is never more open than they."""
    with neighbour() as report:
        for _ in range(25):
            subprocess.run(worlds.python(KEEPERS), check=True, capture_output=True)
    assert report["refused"] > 100, "it met the engine's processes"
    assert of_the_engine(report["won"]) == []


def test_cve_2026_41163_who_stands_in_knows_nothing() -> None:
    """The one process of ours that is dumpable while maps are written: one socket, and of its memory the program and
    the stack. It is looked at while it is there, in as many starts as that takes.
    """
    seen: list[tuple[list[str], list[str]]] = []
    stop = threading.Event()

    def start() -> None:
        while not stop.is_set():
            pc.run(["/bin/true"], check=True)

    starter = threading.Thread(target=start)
    starter.start()
    deadline = time.monotonic() + 60
    while len(seen) < 5 and time.monotonic() < deadline:
        for pid in keepers():
            if name(pid) != STAND_IN:
                continue
            try:
                lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            except OSError:
                continue
            if lines and (held := fds(pid)):
                seen.append((held, [line.split()[5] if len(line.split()) > 5 else "" for line in lines]))
    stop.set()
    starter.join()
    assert len(seen) >= 5
    for held, mapped in seen:
        assert held == ["socket"]
        assert "[stack]" in mapped
        # Beside it the program's own segments: its file, and the zeroed memory that follows.
        assert {path for path in mapped if path.startswith("/")} <= {"/memfd:pycontainer-keeper"}
        assert mapped.count("") <= 1, mapped


def test_control_of_cve_2026_41163_a_neighbour_may_trace() -> None:
    """This kernel has no Yama: a process of the same uid that is dumpable can be seized, read and opened."""
    child = os.fork()
    if not child:
        time.sleep(20)
        os._exit(0)
    try:
        assert seize(child) == 0
        assert readable(child)
        assert openable(child)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_control_of_cve_2026_41163_the_loop_catches_what_lives_for_a_moment() -> None:
    """The same neighbour against programs of this user that end at once."""
    with neighbour() as report:
        for _ in range(50):
            subprocess.run(["/bin/true"], check=True)
    assert {row[0] for row in report["won"]} >= {"read", "open"}
