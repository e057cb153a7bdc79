"""Commands beside the first one, under attack: container root with all its capabilities goes for whoever starts them.

tests/programs/attack.c runs inside for as long as the commands come: it tries memory, descriptors, program, directories
and ptrace of each process that it sees, and of each that comes next, before it has become the command.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from programs.compiled import compiled
from pycontainer._native import core

pytestmark = [pytest.mark.requires("userns", "program:cc"), pytest.mark.timeout(1800)]
SOURCE = Path(__file__).parents[1] / "programs/attack.c"
SECRET = "of-this-interpreter-alone"
EVERY = frozenset(pc.DEFAULT_CAPABILITIES) | {
    "AUDIT_CONTROL", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "IPC_LOCK", "IPC_OWNER", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYSLOG", "SYS_BOOT",
    "SYS_CHROOT", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG",
}  # fmt: skip
KINDS = {"every capability": EVERY, "in a nested user namespace": EVERY | {"SYS_ADMIN"}}
# What the careless process has at this address, where nothing of it lies.
ADDRESS, BYTES = "600000000010", b"careless-process".hex()
# Of the ways that the loop tries, those that a process of another program cannot be safe from by itself.
WAYS = {
    "mem", "mem write", "maps", "environ", "fd", "fd open", "exe", "exe write", "cwd", "seize", "readv", "writev",
    "getfd",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(rootfs: Path, scratch: Path) -> Path:
    made = shutil.copytree(rootfs, scratch / "attack-root", symlinks=True)
    compiled(SOURCE, made / "bin/attack")
    return made


def engine_text() -> tuple[str, str]:
    """Where the engine's own program lies in its processes, and how it begins there. A plain user may not look."""
    keeper = core().keeper_pid()[0]
    try:
        rows = [line.split() for line in Path(f"/proc/{keeper}/maps").read_text().splitlines()]
        begin = next(row[0].partition("-")[0] for row in rows if "x" in row[1] and len(row) > 5 and "memfd" in row[5])
        with open(f"/proc/{keeper}/mem", "rb") as memory:
            memory.seek(int(begin, 16))
            return begin, memory.read(16).hex()
    except OSError:
        assert os.geteuid(), "root can look at the keeper"
        return "0", ""


class Attacked:
    """A container in which the loop runs."""

    def __init__(self, root: Path, capabilities: frozenset[str], address: str, text: str) -> None:
        security = pc.Security(capabilities=capabilities, seccomp="unconfined")
        self.container = pc.Container(["sleep", "8000"], image=root, security=security, limits=pc.Limits(pids=300))
        self.words = ["attack", "loop", address, text]

    def __enter__(self) -> Attacked:
        self.container.start()
        self.begin()
        return self

    def begin(self) -> None:
        self.loop = self.container.popen(self.words, stdout=pc.PIPE, text=True)
        assert self.loop.stdout.readline() == "ready\n"

    def said(self) -> Any:
        """What the loop told at its end."""
        self.container.exec(["touch", "/tmp/stop"], check=True)
        out, _ = self.loop.communicate(timeout=60)
        self.container.exec(["rm", "/tmp/stop"], check=True)
        assert self.loop.returncode == 0, self.loop.returncode
        return json.loads(out)

    def __exit__(self, *exc: object) -> None:
        self.container.close()


def use(container: pc.Container, i: int) -> None:
    """One command, and every tenth time something else."""
    # What is traced when it ends is late; nobody's status is changed by that.
    assert container.exec(["true" if i % 2 else "false"], timeout=60).returncode == (not i % 2), i
    if i % 10 == 0:
        assert container.exec(["attack", "own"], timeout=60, check=True).stdout == b"", i
    if i % 10 == 1:
        assert SECRET.encode() not in container.exec(["env"], timeout=60).stdout
    if i % 10 == 2:
        container.write_bytes("/tmp/data", b"x" * 5000)
        assert len(container.read_bytes("/tmp/data")) == 5000
    if i % 10 == 3:
        with container.popen(["sleep", "8000"]) as process:
            pass
        assert process.returncode == -9


def under_attack(attacked: Attacked, rounds: range) -> tuple[dict[str, int], dict[str, str]]:
    """So many rounds, and again where the loop had too little of the processors to look once a round (five minutes at
    most): what it looked at, and what it won.
    """
    seen, won, until = Counter[str](), dict[str, str](), time.monotonic() + patience(300)
    while True:
        for i in rounds:
            use(attacked.container, i)
        said = attacked.said()
        seen.update({"looks": said["looks"], "engines": said["engines"], **said["tried"]})
        won |= said["won"]
        if min(seen.values()) > len(rounds) or time.monotonic() > until:
            return seen, won
        attacked.begin()


@pytest.mark.parametrize("kind", KINDS)
def test_commands_under_attack(
    root: Path, kind: str, times: Callable[[int], range], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """CVE-2019-5736, CVE-2024-21626, CVE-2016-9962: nothing of the engine is won, and no command has what it was not
    given.
    """
    monkeypatch.setenv("SECRET", SECRET)
    rounds = times(2500)
    with Attacked(root, KINDS[kind], *engine_text()) as attacked:
        seen, won = under_attack(attacked, rounds)
        assert attacked.container.state == "RUNNING"
    with capsys.disabled():
        print(f"\n  {len(rounds)} rounds, {seen['looks']} looks, {seen['engines']} at processes of the engine", end=" ")
    assert min(seen.values()) > len(rounds), "the loop saw nobody"
    assert won == {}


def test_control_a_careless_process_is_won(root: Path) -> None:
    """The same loop against what the engine must not be: a dumpable process that has a descriptor and a program."""
    with Attacked(root, EVERY, ADDRESS, BYTES) as attacked:
        until, won = time.monotonic() + 60, set[str]()
        while not won >= WAYS and time.monotonic() < until:
            for _ in range(20):
                attacked.container.exec(["attack", "careless", ADDRESS, BYTES, "0.02"], timeout=60)
            won |= set(attacked.said()["won"])
            attacked.begin()
    assert won >= WAYS, WAYS - won


# Every process of the engine that the shell sees, but PID 1, gets the signal: who supervises commands, and nobody else.
SIGNAL_SUPERVISORS = """
for place in /proc/[0-9]*; do
    pid=${place#/proc/}
    [ "$pid" -gt 1 ] && [ "$pid" != "$1" ] && read -r name < $place/comm && case $name in
        pycontainer*) kill -$0 $pid && echo $pid ;;
    esac
done
"""


@pytest.mark.parametrize("name", ["STOP", "TERM", "KILL"])
def test_who_supervises_is_signalled_by_root_inside(root: Path, name: str) -> None:
    """It may be: it is a process of the container. What was started is ended in time all the same, and told."""
    with pc.Container(["sleep", "8000"], image=root) as container:
        with container.popen(["sleep", "8000"]) as process:
            # Of the command that sends them, the supervisor ends first or goes on: both are seen.
            with container.popen(["sh", "-c", f"sleep 0.1\n{SIGNAL_SUPERVISORS}", name], stdout=pc.PIPE) as attack:
                assert attack.communicate(timeout=20)[0].split()
            process.kill()
            assert process.wait(timeout=5) == -9
        begun = time.monotonic()
        with pytest.raises(pc.TimeoutExpired):
            container.exec(["sh", "-c", f"{SIGNAL_SUPERVISORS}\nsleep 8000", "STOP"], timeout=0.3)
        assert time.monotonic() - begun < 5
        assert container.exec(["sh", "-c", "exit 7"]).returncode == 7
