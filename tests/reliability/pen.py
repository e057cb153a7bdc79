"""A pen for interpreters under test: what they start is found again, whatever became of it. Ends only what is inside.

Each pen is a group of the unified hierarchy: keeper, PID 1 and commands stay in it or below it. With cgroup v2 alone
the interpreter is in a leaf of it, and the containers' groups are made beside that. Writable layers on the disk go to
a store of the pen's own. A group of version 1 carries its keeper's pid and start time, so one without an owner is seen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import leaks
import ranges
import requirements

SETTLE = leaks.SETTLE
HERE = Path(__file__).parent


def place() -> Path:
    """The group in which pens are made: the top one as root, else the one that was delegated to this user."""
    own = requirements.own_group()
    return requirements.mounts_of("cgroup2")[0][0] if os.geteuid() == 0 or own is None else own.parent


def hand_on(group: Path) -> None:
    """Give the children of `group` all controllers that it has."""
    words = (group / "cgroup.controllers").read_text().split()
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{word}" for word in words))


# What a program of a test begins with: an engine that has run something; argv is the image and the test's own words.
PRELUDE = """
import os, signal, sys, threading, time
import pycontainer as pc
from limited import limited
from pycontainer import _core
image, *words = sys.argv[1:]
assert pc.run(["true"], image=image).returncode == 0
keeper = _core.keeper_pid()
"""


class Pen:
    """`store` is where layers on the disk are made, and stays; without one the pen has its own."""

    def __init__(self, store: Path | None = None) -> None:
        # Another run of the tests may have this process's number, in a pid namespace of its own.
        self.group = place() / f"pycontainer-pen-{os.urandom(8).hex()}"
        self.stays = store is not None
        self.store = store or Path(tempfile.mkdtemp(prefix="pycontainer-pen-", dir=requirements.scratch()))
        self.group.mkdir()
        self.leaf, self.variables = self.group, {"PYCONTAINER_ROOT": str(self.store)}
        if requirements.cgroup2() is None:
            self.leaf = self.group / "host"
            self.leaf.mkdir()
            hand_on(self.group.parent)  # named by PYCONTAINER_CGROUP, it has to have what its groups are to get
            self.variables["PYCONTAINER_CGROUP"] = str(self.group)

    def __enter__(self) -> Pen:
        return self

    def __exit__(self, *exc: object) -> None:
        self.empty()
        if not self.stays:
            ranges.remove(self.store)
        for directory in reversed(self.groups()):
            directory.rmdir()

    def groups(self) -> list[Path]:
        """The pen's and all below it, outer ones first. They come and go meanwhile, which rglob() does not bear."""
        return [Path(directory) for directory, _, _ in os.walk(self.group)]

    def start(self, program: str, *args: object, **options: object) -> subprocess.Popen[str]:
        """An interpreter that runs the text `program`, in the pen before its first instruction."""
        enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.leaf)]
        command = [*enter, sys.executable, "-X", "faulthandler", "-c", program, *map(str, args)]
        environment = {**os.environ, **self.variables, "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(HERE), str(HERE.parent), environment.get("PYTHONPATH")])
        )
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE, **options}
        return subprocess.Popen(command, text=True, env=environment, **given)  # type: ignore[call-overload,no-any-return]

    def run(self, program: str, *args: object, timeout: float, **options: object) -> str:
        """Its output; an error or a hang fails with what it said, and with the stacks of its threads."""
        child = self.start(program, *args, **options)
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            time.sleep(1)
            self.empty()
            out, err = child.communicate()
            raise AssertionError(f"no end after {timeout} s; it said:\n{out[-2000:]}\n{err[-6000:]}") from None
        assert child.returncode == 0, f"ended with {child.returncode}:\n{out[-2000:]}\n{err[-6000:]}"
        return out

    def tried(self, program: str, rootfs: Path, *args: object, timeout: float = 60) -> str:
        """`run` of a program that follows PRELUDE; afterwards nothing of it is left here."""
        out = self.run(PRELUDE + program, rootfs, *args, timeout=timeout)
        assert not self.left()
        return out

    def processes(self) -> set[int]:
        """Live ones; a zombie waits for its parent, which `zombies` looks at."""
        return processes_below(self.group)

    def rows(self, expected: set[int] = frozenset()) -> list[str]:  # type: ignore[assignment]
        """What is left here, one line each: processes, groups, writable layers."""
        others = {pid for pid in self.processes() - expected if not is_steward(pid, expected)}
        rows = [f"process {pid} {name(pid)}" for pid in others]
        rows += [f"group {path}" for path in self.groups()[1:] if path.name.startswith("pycontainer-")]
        rows += [f"group {path}" for path in orphaned_groups()]
        rows += [f"layer {path}" for path in self.store.glob("uppers/*")]
        return rows

    def left(self, expected: set[int] = frozenset(), settle: float = SETTLE) -> list[str]:  # type: ignore[assignment]
        """`rows` after `settle` seconds; at once where there are none."""
        deadline = time.monotonic() + settle
        while rows := self.rows(expected):
            if time.monotonic() > deadline:
                return rows
            time.sleep(0.01)
        return []

    def empty(self) -> None:
        for _ in range(100):
            if not (pids := self.processes()):
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)


def is_steward(pid: int, keepers: set[int]) -> bool:
    """It lives as long as its keeper, of a plain user (rust/keeper/steward.rs)."""
    return any(name(pid) == f"pycontainer-own of parent {keeper}" for keeper in keepers)


def processes_below(place: Path) -> set[int]:
    """Live ones of a group and those below it, which come and go meanwhile."""
    found: set[int] = set()
    for group, _, _ in os.walk(place):
        try:
            found.update(int(line) for line in Path(group, "cgroup.procs").read_text().split())
        except OSError:
            continue
    return {pid for pid in found if state(pid) not in ("Z", "X", None)}


def own() -> Path:
    """The group of the pen that this process is in."""
    group = requirements.own_group()
    assert group is not None
    return group.parent if group.name == "host" else group


def status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def state(pid: int) -> str | None:
    return status(pid).get("State", " ")[0].strip() or None


def name(pid: int) -> str:
    return f"{status(pid).get('Name')} of parent {status(pid).get('PPid')}"


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def contained(keeper: int) -> list[int]:
    """Its children that are in a pid namespace of their own: first processes of containers, alive or not yet reaped.

    A child that waits for version 1's attach (decision 011) is none: it may outlive by some milliseconds the container
    for which it was made, where that one is killed before it joins its groups.
    """
    return [pid for pid in children(keeper) if len(status(pid).get("NSpid", "").split()) > 1]


def childless(keeper: int, seconds: float = 1) -> bool:
    """Has it no child of any kind, now or within that time."""
    deadline = time.monotonic() + seconds
    while children(keeper) and time.monotonic() < deadline:
        time.sleep(0.005)
    return not children(keeper)


def start_time(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def orphaned_groups() -> Iterator[str]:
    """Groups of containers whose keeper does not live: of any hierarchy, of any engine of this machine."""
    for path in leaks.cgroups():
        words = path.rpartition("/")[2].split("-")
        if len(words) == 4 and words[1].isdigit() and words[2].isdigit() and start_time(int(words[1])) != int(words[2]):
            yield path
