"""SIGKILL at random moments, of interpreter, keeper and PID 1: in two seconds nothing is left, the next run works."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pen import PRELUDE, Pen, children

from pace import patience

pytestmark = [
    pytest.mark.requires("pen"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]

# Four threads that never stop; each its own kind of container.
BUSY = """
import itertools, os, sys, threading
import pycontainer as pc
from limited import limited
image = sys.argv[1]
KINDS = [
    {},
    limited(memory="64MiB", pids=50, cpus=1),
    {"upper": "disk"},
    {"pid1": True, **limited(pids=50)},
]
ENDLESS = ["sh", "-c", "while :; do echo x > /f; rm /f; done"]
COMMANDS = [["true"], ["sh", "-c", "sleep 0.05"], ["sh", "-c", "sleep 9 & sleep 9"], ENDLESS]
print("begin", flush=True)

def work(number):
    for i in itertools.count(number):
        try:
            pc.run(COMMANDS[i % 4], image=image, timeout=0.1 if i % 4 == 3 else 0.5, **KINDS[number])
        except pc.TimeoutExpired:
            pass

def start():
    threads = [threading.Thread(target=work, args=(n,), daemon=daemon) for n in range(4)]
    for thread in threads:
        thread.start()
    return threads

daemon = True
"""

ENDINGS = {
    "_exit": "os._exit(3)",
    "SIGSEGV": "import ctypes; ctypes.string_at(0)",
    "SIGABRT": "os.abort()",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(6)', 'afterwards'])",
    "exit": "sys.exit(0)",
    "exception": "raise SystemError('the end')",
    "SIGTERM": "os.kill(os.getpid(), 15); time.sleep(9)",
}
IN_VM = {"exec", "exit"}


@pytest.mark.vm
def test_killing_the_interpreter(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    rounds, longest = times(300), 0.0
    for i in rounds:
        child = pen.start(BUSY + "start()\nthreading.Event().wait()", rootfs)
        assert child.stdout is not None
        assert child.stdout.readline() == "begin\n"
        time.sleep(random.uniform(0, patience(0.5)))
        child.kill()
        child.wait()
        begin = time.monotonic()
        left = pen.left()
        longest = max(longest, time.monotonic() - begin)
        assert not left, (i, left)
        child.communicate()
    tell(f"{len(rounds)} kills, all gone after at most {longest:.2f} s")


@pytest.mark.parametrize("ending", [pytest.param(e, marks=pytest.mark.vm) if e in IN_VM else e for e in ENDINGS])
def test_other_ends_of_the_interpreter(
    pen: Pen, rootfs: Path, ending: str, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    rounds = times(20)
    for i in rounds:
        last = f"import time\nstart()\ntime.sleep({random.uniform(0.05, patience(0.6))})\n{ENDINGS[ending]}"
        child = pen.start(BUSY + last, rootfs)
        if ending == "exec":
            deadline = time.monotonic() + patience(5)
            while not cmdline(child.pid).endswith(b"\0afterwards\0"):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert not pen.left({child.pid}), i
            child.kill()
        _, err = child.communicate(timeout=patience(30))
        assert not (left := pen.left()), (i, left)
        assert "Rust" not in err, err
        assert "panicked" not in err, err
        expected = {"_exit": 3, "SIGSEGV": -11, "SIGABRT": -6, "exec": -9, "exit": 0, "exception": 1, "SIGTERM": -15}
        assert child.returncode == expected[ending], err
    tell(f"{len(rounds)} ends")


# One line comes in for each round; the answer tells what became of the calls in flight.
SERVED = """
import os, sys, threading, time
import pycontainer as pc
from pycontainer import _core
from limited import limited
image = sys.argv[1]
ARGV = ["sh", "-c", "sleep 0.2; exit 7"]
# A change of ids clears the signal of the keeper's death, and what goes into the background has none. Both would
# outlive the test's patience.
KINDS = [
    ({}, ARGV), (limited(memory="64MiB", pids=50, cpus=1), ARGV), ({"upper": "disk"}, ARGV),
    ({"pid1": True}, ARGV), ({"tty": True}, ARGV), ({"input": b"x" * 300_000}, ARGV),
    ({"pid1": True}, ["busybox", "su", "worker", "-c", "sleep 4; exit 7"]),
    ({"namespaces": {"pid": "host"}}, ["sh", "-c", "sleep 4 >/dev/null 2>&1 & sleep 0.2; exit 7"]),
]
def one(kind, argv, answers):
    try:
        r = pc.run(argv, image=image, **kind)
        answers.append(f"{r.returncode} {r.reason}")
    except pc.SetupError as error:
        answers.append("keeper" if "keeper" in str(error) else f"setup {error}")
    except BaseException as error:
        answers.append(repr(error))
pc.run(["true"], image=image)
for line in sys.stdin:
    answers = []
    threads = [threading.Thread(target=one, args=(*kind, answers)) for kind in KINDS]
    print(_core.keeper_pid()[0], flush=True)
    for t in threads: t.start()
    for t in threads: t.join()
    print("; ".join(answers), flush=True)
    sys.stdin.readline()
    r = pc.run(["sh", "-c", "echo alive"], image=image)
    print(r.stdout.decode(), end="", flush=True)
"""


class Served:
    """The other side of `SERVED`."""

    def __init__(self, pen: Pen, rootfs: Path) -> None:
        self.pen, self.child = pen, pen.start(SERVED, rootfs)

    def say(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write("go\n")
        self.child.stdin.flush()

    def hear(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, self.child.communicate()[1]
        return line.strip()

    def end(self) -> None:
        _, err = self.child.communicate(timeout=patience(30))
        assert self.child.returncode == 0, err


@pytest.mark.vm
def test_killing_the_keeper(pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]) -> None:
    rounds, served, seen = times(300), Served(pen, rootfs), {"keeper": 0, "7 exited": 0}
    for i in rounds:
        served.say()
        keeper = int(served.hear())
        time.sleep(random.uniform(0, patience(0.08)))
        os.kill(keeper, signal.SIGKILL)
        for answer in served.hear().split("; "):
            assert answer in seen, (i, answer)
            seen[answer] += 1
        assert not (left := pen.left({served.child.pid} | restarted(served, keeper))), (i, left)
        served.say()
        assert served.hear() == "alive"
    served.end()
    tell(f"{len(rounds)} kills; calls in flight: {seen}")
    assert seen["keeper"] > len(rounds)
    assert not pen.left()


def restarted(served: Served, old: int) -> set[int]:
    """A call that began after the death has a new keeper already."""
    return {
        pid
        for pid in served.pen.processes()
        if pid != old and b"pycontainer-keeper" in cmdline(pid) and children(pid) == []
    }


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.vm
def test_killing_pid_1(pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]) -> None:
    rounds, served, seen = times(100), Served(pen, rootfs), {"killed": 0, "7 exited": 0, "setup": 0}
    for i in rounds:
        served.say()
        keeper = int(served.hear())
        deadline = time.monotonic() + random.uniform(0.005, patience(0.15))
        while time.monotonic() < deadline:
            for pid in children(keeper):
                kill(pid)
        for answer in served.hear().split("; "):
            kind = "killed" if answer == "-9 signaled" else answer.split()[0] if answer.startswith("setup") else answer
            assert kind in seen, (i, answer)
            seen[kind] += 1
        assert not (left := pen.left({served.child.pid, keeper})), (i, left)
        served.say()
        assert served.hear() == "alive"
        assert keeper in pen.processes()
    served.end()
    tell(f"{len(rounds)} rounds: {seen}")
    assert seen["killed"] + seen["setup"] > len(rounds)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


SHED_AND_STAY = """
print(keeper[0], flush=True)
pc.run(["busybox", "su", "worker", "-c", "echo up; exec sleep 60"], image=image, pid1=True, stdout=1)
"""


def test_killing_the_interpreter_and_the_keeper_of_a_command_that_shed_its_signal(pen: Pen, rootfs: Path) -> None:
    """Nobody is left to end it but the next engine, which finds its group."""
    child = pen.start(PRELUDE + SHED_AND_STAY, rootfs)
    assert child.stdout is not None
    keeper = int(child.stdout.readline())
    assert child.stdout.readline() == "up\n"
    os.kill(keeper, signal.SIGSTOP)  # so that it cannot do what it does when its host dies
    child.kill()
    child.wait()
    os.kill(keeper, signal.SIGKILL)
    time.sleep(0.5)
    assert [name for pid in pen.processes() if (name := cmdline(pid)).startswith(b"sleep")], "there is nothing to end"
    pen.run(PRELUDE, rootfs, timeout=60)
    assert not pen.left()
    child.communicate()


# The interpreter is gone, and the process waits in an exit handler of the C library until its stdin is closed.
OUTLIVED = """
import ctypes, sys, threading, time
import pycontainer as pc
image = sys.argv[1]
running = threading.Thread(target=pc.run, args=(["sleep", "60"],), kwargs={"image": image}, daemon=True)
running.start()
time.sleep(1)
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.getchar, None, None)
"""


def test_a_daemon_thread_that_waits_when_its_interpreter_is_gone(pen: Pen, rootfs: Path) -> None:
    """It looks for signals now and then, but asks no interpreter: only a main thread has handlers to run."""
    child = pen.start(OUTLIVED, rootfs)
    time.sleep(patience(5))  # a second until the end, then two of its looks
    assert child.poll() is None, child.communicate()
    _, err = child.communicate("\n", timeout=patience(30))
    assert child.returncode == 0, err
    assert not pen.left()


# Its keeper is stopped while a container runs, or before one starts; ENDING is how the run is to end.
STOPPED = """
import os, signal, sys, threading, time
import pycontainer as pc
from pycontainer import _core
image = sys.argv[1]
pc.run(["true"], image=image)
keeper = _core.keeper_pid()
def stop():
    os.kill(keeper[0], signal.SIGSTOP)
    while not stopped():  # kill(2) does not wait for it
        time.sleep(0.001)
def later(seconds, call, *words):
    threading.Timer(seconds, call, words).start()
def stopped():
    return open(f"/proc/{keeper[0]}/stat").read().rsplit(")")[-1].split()[0] == "T"
began = time.monotonic()
try:
    if ENDING.startswith("answer"):
        stop()
        if ENDING == "answer-with-a-timer":  # of the host's, which interrupts each wait before it is over
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
        print("answer", pc.run(["true"]).returncode)
    else:
        later(0.5, stop)
        later(0.9, lambda: print(stopped(), flush=True))
        if ENDING == "interrupt":
            later(1.2, os.kill, os.getpid(), signal.SIGINT)
        pc.run(["sleep", "60"], image=image, timeout=1.2 if ENDING == "timeout" else None)
except pc.TimeoutExpired as error:
    print("timeout", error.result.reason)
except KeyboardInterrupt:
    print("interrupt")
print(time.monotonic() - began)
assert _core.keeper_pid() == keeper
assert pc.run(["true"], image=image).returncode == 0
"""


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("timeout", ["True", "timeout timeout"]),
        ("interrupt", ["True", "interrupt"]),
        ("answer", ["answer 0"]),
        ("answer-with-a-timer", ["answer 0"]),
    ],
)
def test_a_keeper_that_was_stopped_goes_on_when_it_is_late(
    pen: Pen, rootfs: Path, ending: str, said: list[str]
) -> None:
    child = pen.start(f"ENDING = {ending!r}\n" + STOPPED, rootfs)
    out, err = child.communicate(timeout=patience(60))
    assert child.returncode == 0, err
    *told, seconds = out.splitlines()
    assert told == said
    assert float(seconds) < patience(9)
    assert not pen.left()
