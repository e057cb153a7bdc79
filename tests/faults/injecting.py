"""An interpreter under test, and strace on it or its keeper: which system calls a run makes, and errors put into them.

Needs the pen; ends only what it started.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pen import Pen, state, status

# It talks by readv and writev, which the engine does not use: an injected error hits the engine, not the conversation.
PROGRAM = """
import os, sys
import pycontainer as pc
from limited import limited
from pycontainer import _core
image, talk, bare = sys.argv[1], int(sys.argv[2]), ["sh", "-c", "echo out; exit 4"]
KINDS = {
    "plain": {}, "limited": limited(memory="64MiB", pids=20, cpus=1, cpu_time=5), "disk": {"upper": "disk"},
    "files": {"files": {"/in/f": b"x"}, "input": b"y" * 9000, "hostname": "h"}, "terminal": {"tty": True},
    "ports": {"ports": {80: 0, "80/udp": 0}},
    "late": {"args": ["sleep", "9"], "limits": pc.Limits(wall_time=0.1)},
    "late, alone": {"args": ["sleep", "9"], "limits": pc.Limits(wall_time=0.1), "pid1": True},
}
def answer(kind):
    try:
        r = pc.run(**{"args": bare, "image": image, **KINDS[kind]})
    except (pc.Error, OSError, MemoryError) as error:
        return f"typed {type(error).__name__}: {error}"
    except BaseException as error:
        return f"UNTYPED {error!r}"
    if r.reason is pc.Reason.TIMEOUT if kind.startswith("late") else r.returncode == 4 and r.stdout.split() == [b"out"]:
        return "right"
    return "killed" if r.returncode < 0 else f"WRONG {r}"
room = bytearray(100)
while length := os.readv(talk, [room]):
    said = answer(room[:length].decode())
    os.writev(talk, [f"{(_core.keeper_pid() or [0])[0]} {said}"[:900].encode()])
"""
KINDS = ["plain", "limited", "disk", "files", "terminal", "ports", "late", "late, alone"]
PATIENCE = 20  # seconds
# A line of strace: the thread, the call as it is made. What follows on a line of its own is the rest of an earlier one.
MADE = re.compile(r"(?:\[pid +)?(\d+)\]? +(\w+)\(")


class Host:
    """The interpreter under test, and the conversation with it."""

    def __init__(self, pen: Pen, rootfs: Path) -> None:
        self.talk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child = pen.start(PROGRAM, rootfs, theirs.fileno(), pass_fds=[theirs.fileno()])
        theirs.close()
        self.talk.settimeout(PATIENCE)
        self.keeper = 0

    def run(self, kind: str) -> str:
        self.talk.send(kind.encode())
        keeper, _, answer = self.talk.recv(1000).decode().partition(" ")
        if not keeper:
            raise AssertionError(f"the host ended: {self.child.communicate()}")
        self.keeper = int(keeper)
        return answer

    def end(self) -> None:
        self.talk.close()
        _, err = self.child.communicate(timeout=PATIENCE)
        assert self.child.returncode == 0, err

    def pid(self, target: str) -> int:
        return self.child.pid if target == "host" else self.keeper


@dataclass
class Trace:
    """What strace wrote; complete after the block."""

    lines: list[str] = field(default_factory=list)

    def hits(self) -> int:
        return sum("(INJECTED)" in line for line in self.lines)

    def most(self) -> Counter[str]:
        """How often each call was made, by the thread that made it most often: strace's `when` counts so."""
        rows = Counter(made.groups() for made in map(MADE.match, self.lines) if made)
        most: Counter[str] = Counter()
        for (_, call), count in rows.items():
            most[call] = max(most[call], count)
        return most


@contextmanager
def traced(pid: int, *words: str) -> Iterator[Trace]:
    """strace with these words on a process and whatever it starts, each of their threads by itself."""
    trace = Trace()
    with tempfile.TemporaryFile() as output:
        # The thread's number stands before each line, also where there is but one.
        command = ["strace", "-f", "-qq", "-s", "0", *words, "-o", f"/dev/fd/{output.fileno()}", "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, pass_fds=[output.fileno()]) as tracer:
            try:
                wait_for_tracer(pid, tracer)
                yield trace
            finally:
                end(tracer)
        output.seek(0)
        trace.lines += output.read().decode(errors="replace").splitlines()


def end(tracer: subprocess.Popen[bytes]) -> None:
    """It lets go of all that it traces, one after another: of a dying PID 1 never, whose traced child it would have to
    reap first. SIGKILL cuts that knot; whoever traces looks before that nothing is left.
    """
    tracer.terminate()
    try:
        tracer.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        tracer.kill()
        raise


def injected(pid: int, call: str, error: str, when: int) -> AbstractContextManager[Trace]:
    """That error instead of each thread's call number `when`."""
    return traced(pid, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}")


def wait_for_tracer(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    while status(pid).get("TracerPid") != str(tracer.pid):
        if tracer.poll() is not None:
            # Attaching woke it, and the first call that it made was one that it cannot do without.
            assert state(pid) in ("Z", "X", None), tracer.communicate()
            return
        os.sched_yield()
