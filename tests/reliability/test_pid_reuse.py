"""Numbers of processes that somebody else has by now, forced with clone3 (set_tid): no signal reaches a stranger."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pen import PRELUDE, Pen, children

from programs.compiled import compiled

pytestmark = [
    pytest.mark.requires("pen", "root", "program:cc"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(1800),
]
SOURCE = Path(__file__).parents[1] / "programs/stranger.c"


class Strangers:
    """The other side of stranger.c, for a test and for the programs under test."""

    def __init__(self, program: object) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([str(program)], text=True, **pipes)  # type: ignore[call-overload]

    def ask(self, *words: object) -> str:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline().strip())

    def take(self, *pids: int) -> None:
        assert (said := self.ask("take", *pids)) == "taken", said

    def unharmed(self, *pids: int) -> None:
        """No signal came to any of them; then they are gone."""
        seen = self.ask("seen")
        assert seen == ",".join(f"{pid} alive 0" for pid in pids), seen
        self.ask("leave")

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def program(scratch: Path) -> Path:
    return compiled(SOURCE, scratch / "stranger")


@pytest.fixture
def strangers(program: Path) -> Iterator[Strangers]:
    made = Strangers(program)
    yield made
    made.close()


# `spent` are the calls on a handle whose process is gone. Each comes back or is refused, and none is for anybody else.
PROGRAM = (
    PRELUDE
    + """
import random, select
from test_pid_reuse import Strangers
import pen
strangers = Strangers(words[0])
calls = {}

def gone(*pids):
    pidfds = [os.pidfd_open(pid) for pid in pids]
    def wait():
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 20)[0]
            os.close(pidfd)
    return wait

def parent(pid):
    return int(pen.status(pid)["PPid"])

def spent(handle, names):
    names = list(names)
    random.shuffle(names)
    for name in names:
        try:
            CALLS[name](handle)
            said = "done"
        except (pc.StateError, pc.NotSupported):
            said = "refused"
        except pc.SetupError as error:
            assert "keeper of this interpreter's containers died" in str(error), error
            said = "refused"
        calls[name, said] = calls.get((name, said), 0) + 1

OF_PROCESS = ["poll", "wait", "terminate", "p.kill", "send_signal", "send_signal 9"]
OF_FOUND = [*OF_PROCESS, "stop", "stop 0", "exec", "popen", "state"]
OF_CONTAINER = [*OF_FOUND, "pause", "resume", "stats", "update", "write_bytes", "wait_for"]
CALLS = {
    "poll": lambda h: h.poll(), "wait": lambda h: h.wait(timeout=20), "terminate": lambda h: h.terminate(),
    "p.kill": lambda h: h.kill(), "send_signal": lambda h: h.send_signal("USR1"),
    "send_signal 9": lambda h: h.send_signal(9), "stop": lambda h: h.stop(grace=0.01),
    "stop 0": lambda h: h.stop(grace=0), "exec": lambda h: h.exec(["true"]), "popen": lambda h: h.popen(["true"]),
    "state": lambda h: h.state, "pause": lambda h: h.pause(), "resume": lambda h: h.resume(),
    "stats": lambda h: h.stats(), "update": lambda h: h.update(pc.Limits(wall_time=7000)),
    "write_bytes": lambda h: h.write_bytes("/tmp/x", b"x"),
    "close": lambda h: h.close(),
    "wait_for": lambda h: h.wait_for(pc.wait.file("/tmp/x"), timeout=0),
}
KINDS = [{}, limited(memory="64MiB", pids=20), {"tty": True}, {"namespaces": {"pid": "host"}}, {"pid1": True}]
"""
)

CONTAINERS = """
for i in range(int(words[1])):
    c = pc.Container(["sleep", "8000"], image=image, **KINDS[i % len(KINDS)]).start()
    found, unasked = pc.Container.get(c.id), [one for one in pc.Container.all() if one.id == c.id][0]
    numbers = [c.pid] if c.pid in pen.children(keeper[0]) else [c.pid, parent(c.pid)]
    ended = gone(*numbers)
    os.kill(c.pid, 9)  # nobody's handle has a part in this
    if i % 2:
        c.wait()  # else the handle does not know yet
    ended()
    strangers.take(*numbers)
    for handle, names in ((found, OF_FOUND), (unasked, OF_FOUND), (c, OF_CONTAINER)):
        spent(handle, names)
        handle.close()
    strangers.unharmed(*numbers)
strangers.close()
assert _core.keeper_pid() == keeper
print(sum(calls.values()), "calls;", sum(n for (_, said), n in calls.items() if said == "refused"), "refused")
"""


def test_of_ended_containers(
    pen: Pen, rootfs: Path, program: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(500))
    tell(f"{count} containers, {pen.run(PROGRAM + CONTAINERS, rootfs, program, count, timeout=900).strip()}")
    assert not pen.left()


COMMANDS = """
with pc.Container(["sleep", "8000"], image=image) as c:
    found, first = pc.Container.get(c.id), parent(c.pid)
    for i in range(int(words[1])):
        p = (found if i % 3 == 2 else c).popen(["sleep", "8000"])
        numbers = [p.pid, parent(p.pid)]
        assert numbers[1] != first
        ended = gone(*numbers)
        os.kill(p.pid, 9)
        if i % 2:
            p.wait()
        ended()
        strangers.take(*numbers)
        spent(p, OF_PROCESS)
        with p:
            pass
        strangers.unharmed(*numbers)
    found.close()
strangers.close()
print(sum(calls.values()), "calls")
"""


def test_of_ended_commands(
    pen: Pen, rootfs: Path, program: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(500))
    tell(f"{count} commands, {pen.run(PROGRAM + COMMANDS, rootfs, program, count, timeout=900).strip()}")
    assert not pen.left()


KEEPERS = """
def end_of_keeper():
    number = _core.keeper_pid()[0]
    ended = gone(number)
    os.kill(number, 9)
    ended()
    return number

for i in range(int(words[1])):
    c = pc.Container(["sleep", "8000"], image=image, **KINDS[i % 3]).start()
    p, found = c.popen(["sleep", "8000"]), pc.Container.get(c.id)
    numbers = sorted({c.pid, p.pid, parent(p.pid), parent(c.pid)} - {_core.keeper_pid()[0]})
    ended = gone(*numbers)
    numbers.append(end_of_keeper())
    ended()
    strangers.take(*numbers)
    assert c.id not in [one.id for one in pc.Container.all()]
    spent(p, set(OF_PROCESS) - {"wait"})
    spent(found, set(OF_FOUND) - {"wait"})
    spent(c, set(OF_CONTAINER) - {"wait"})
    spent(c, ["close"])
    assert c.state == "REMOVED"
    c.close()
    assert pc.run(["true"], image=image).returncode == 0  # by another keeper
    strangers.unharmed(*numbers)
strangers.close()
print(sum(calls.values()), "calls")
"""


def test_of_a_dead_keeper(
    pen: Pen, rootfs: Path, program: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(20))
    tell(f"{count} keepers, {pen.run(PROGRAM + KEEPERS, rootfs, program, count, timeout=900).strip()}")
    assert not pen.left()


OWNER = """
with pc.Container(["sleep", "8000"], image=image, name="left-behind") as c:
    print(keeper[0], c.pid, c.id, flush=True)
    sys.stdin.readline()
"""
LOOKER = """
def seen():
    try:
        pc.Container.get(words[1])
        by_id = True
    except pc.StateError:
        by_id = False
    try:
        pc.Container.get("left-behind")
        by_name = True
    except pc.StateError:
        by_name = False
    return by_id, by_name, words[1] in [one.id for one in pc.Container.all()]
assert seen() == (True, True, True)
found, unasked = pc.Container.get(words[1]), [one for one in pc.Container.all() if one.id == words[1]][0]
print("found", flush=True)
sys.stdin.readline()
assert seen() == (False, False, False), seen()
for handle in (found, unasked):
    spent(handle, set(OF_FOUND) - {"wait"})
    handle.close()
pc.Container(["true"], image=image, name="left-behind").start().close()  # the name is free
strangers.close()
print("not believed")
"""


def test_a_record_is_not_believed_for_the_number_of_its_keeper(
    pen: Pen, rootfs: Path, program: Path, strangers: Strangers, times: Callable[[int], range]
) -> None:
    """Interpreter and keeper are killed together, so that nobody withdraws what was written; others have their
    numbers before anybody looks.
    """
    for _ in times(10):
        owner = pen.start(PRELUDE + OWNER, rootfs)
        assert owner.stdout is not None
        keeper, command, id = owner.stdout.readline().split()
        numbers = [int(keeper), int(command), *children(int(keeper))]
        looker = pen.start(PROGRAM + LOOKER, rootfs, program, id)
        assert looker.stdout is not None
        assert looker.stdout.readline() == "found\n"
        os.kill(int(keeper), signal.SIGSTOP)
        owner.kill()
        owner.communicate()
        os.kill(int(keeper), signal.SIGKILL)
        strangers.take(owner.pid, *numbers)
        out, err = looker.communicate("\n", timeout=60)
        assert out == "not believed\n", err
        pen.run(PRELUDE, rootfs, timeout=60)  # the next engine sweeps what both have left
        strangers.unharmed(owner.pid, *numbers)
        assert not pen.left()


def test_control_a_number_reaches_who_has_it_now(strangers: Strangers) -> None:
    """The same number, used as a number: what is sent is counted, and what ends is seen."""
    with subprocess.Popen(["sleep", "8000"]) as process:
        process.kill()
    strangers.take(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGUSR1)
    until = time.monotonic() + 10
    while strangers.ask("seen") != f"{process.pid} alive 2":
        assert time.monotonic() < until, strangers.ask("seen")
    os.kill(process.pid, signal.SIGKILL)
    while not strangers.ask("seen").startswith(f"{process.pid} gone"):
        assert time.monotonic() < until
    strangers.ask("leave")
