"""SIGKILL at sampled system calls of a store at work: the operation is done or not, and the store is whole."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import storing
from pen import Pen

import pace
from faults.injecting import traced
from pycontainer import _core

pytestmark = [
    pytest.mark.requires("pen", "root", "program:strace", "ptrace"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(7200),
]
# How many kills of each; two with --quick.
KINDS = {"load": 600, "pull": 600, "commit": 600, "remove": 600, "build": 100, "run": 100, "tag": 100, "prune": 100}
# The interpreter's own, which says nothing of a store; futex and the like differ from run to run.
OTHERS = {
    "brk", "clock_nanosleep", "exit", "exit_group", "futex", "madvise", "mmap", "mprotect", "munmap", "restart_syscall",
    "rt_sigaction", "rt_sigprocmask", "rseq", "sched_yield", "set_robust_list", "sched_getaffinity", "getrandom",
    "poll",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(rootfs: Path, scratch: Path) -> Iterator[Path]:
    """What is loaded; and `store`, one with three images, one of them not unpacked."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        made = storing.material(Path(directory), rootfs, 60_000)
        for number in range(3):
            for _, digest in _core.image_load(str(made / "store"), str(made / f"layout{number}")):
                if number:
                    _core.image_layers(str(made / "store"), digest)
        (made / "changing").touch()
        with storing.registry(made, 60_000):
            yield made


class Case:
    """A copy of the store, and a program that is about to do one operation in it."""

    def __init__(self, place: Path, kind: str, seed: int) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=place)
        self.store = Path(self.directory.name, "store")
        if kind in ("load", "pull"):
            self.store.mkdir(0o700)
        else:
            subprocess.run(["cp", "-a", str(place / "store"), str(self.store)], check=True)
        self.told = storing.Told(storing.listed(self.store))
        self.pen = Pen(self.store)
        self.child = self.pen.start(storing.PROGRAM, place, seed, 1, kind)
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == '["ready"]\n', self.child.communicate()

    def go(self) -> None:
        out, err = self.child.communicate("\n", timeout=60)
        # A tracer that is told to end meanwhile waits for a PID 1 that waits for what the tracer holds.
        end = time.monotonic() + 20
        while self.pen.processes():
            assert time.monotonic() < end, f"what it started does not end: {self.pen.rows()}"
            time.sleep(0.005)
        self.told.hear(out)
        # Its keeper may have been killed in its stead: then it is an error of ours.
        has_keeper = self.told.flying in ("commit", "run")
        assert self.child.returncode in (0, -9) or (self.told.failed and has_keeper), out + err

    def end(self) -> None:
        self.pen.__exit__(None, None, None)
        self.directory.cleanup()


def calls_of(place: Path, kind: str) -> list[tuple[str, int]]:
    """(call, number) of all that one operation makes."""
    case = Case(place, kind, 0)
    with traced(case.child.pid) as trace:
        case.go()
    assert case.told.ended == 1
    case.pen.empty()
    case.end()
    most = trace.most()
    return [(call, when) for call in sorted(most.keys() - OTHERS) for when in range(1, most[call] + 1)]


def test_whatever_the_call_the_store_is_whole(
    place: Path, pytestconfig: pytest.Config, tell: Callable[[str], None]
) -> None:
    outcomes: Counter[str] = Counter()
    made = {kind: calls_of(place, kind) for kind in KINDS}
    is_quick = pytestconfig.getoption("--quick")
    kills = [(kind, n) for n in range(600) for kind in KINDS if n < (2 if is_quick else KINDS[kind])]
    for kind, number in kills[: len(pace.repetitions(len(kills), quick=False))]:
        chance = random.Random(f"{kind} {number}")  # the call first: most of all are the interpreter's looks at files
        call = chance.choice(sorted({call for call, _ in made[kind]}))
        when = chance.choice([when for other, when in made[kind] if other == call])
        outcomes[f"{kind} {one(place, kind, call, when)}"] += 1
    tell(f"{outcomes.total()} kills, of {sum(map(len, made.values()))} calls: {dict(sorted(outcomes.items()))}")
    assert sum(count for text, count in outcomes.items() if "killed" in text) > outcomes.total() // 2


def one(place: Path, kind: str, call: str, when: int) -> str:
    case, what = Case(place, kind, 0), f"{kind}, killed at {call} number {when}"
    try:
        with traced(case.child.pid, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"):
            case.go()
        case.pen.empty()
        storing.assert_told(case.store, case.told)
        storing.next_works(case.store, place)
        storing.assert_sound(case.store)
        assert storing.leftovers(case.store) == [], what
    except BaseException as error:
        error.add_note(what)
        raise
    finally:
        case.pen.empty()
        case.end()
    return "whole" if case.told.ended else "failed" if case.told.failed else "killed"
