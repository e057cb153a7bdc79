"""Between a clone of the host and exec the memory is the host's: nothing there allocates, locks or changes ids."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pycontainer

pytestmark = pytest.mark.requires("ptrace")

# The intermediate, which never execs, and the keeper before its execveat (rust/src/sys/host.rs).
INTERMEDIATE = ["clone3", "exit_group"]
KEEPER = {"setsid", "fcntl", "dup2", "dup3", "close_range", "execveat"}
SCRIPT = """
import threading, time
import pycontainer as pc
# Other threads that allocate and lock meanwhile: what a careless clone would trip over.
stop = threading.Event()
def busy():
    while not stop.is_set():
        [bytearray(100_000) for _ in range(50)]
        time.sleep(0)
threads = [threading.Thread(target=busy) for _ in range(2)]
[thread.start() for thread in threads]
try:
    assert pc.run(["/bin/true"]).returncode == 0
finally:
    stop.set()
"""
CALL = re.compile(r"^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)$")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str]]:
    """(pid, system call, the rest of its line) of a first run, all threads and clones, in order."""
    target = tmp_path_factory.mktemp("trace") / "calls"
    environ = {**os.environ, "PYTHONPATH": str(Path(pycontainer.__file__).parents[1])}
    subprocess.run(
        ["strace", "-f", "-o", str(target), sys.executable, "-c", SCRIPT], env=environ, check=True, timeout=100
    )
    found = (CALL.match(line) for line in target.read_text().splitlines())
    return [(int(m[1]), m[2] or f"{m[3]} resumed", m[4]) for m in found if m]


def clones(trace: list[tuple[int, str, str]]) -> tuple[int, int]:
    """The pids of the intermediate and of the keeper."""
    image = next(pid for pid, call, rest in trace if call == "execveat" and "AT_EMPTY_PATH" in rest)
    # The answer of a clone3 that was interrupted in the listing stands on its `resumed` line.
    parent = next(pid for pid, call, rest in trace if call.startswith("clone3") and rest.endswith(f"= {image}"))
    return parent, image


def until(trace: list[tuple[int, str, str]], pid: int, last: str) -> list[str]:
    """The calls that `pid` began, up to and with its first `last`."""
    own = [call for one, call, _ in trace if one == pid and not call.endswith(" resumed")]
    return own[: own.index(last) + 1]


def test_the_intermediate_only_clones_and_ends(trace: list[tuple[int, str, str]]) -> None:
    assert until(trace, clones(trace)[0], "exit_group") == INTERMEDIATE


def test_the_keeper_only_arranges_descriptors_before_exec(trace: list[tuple[int, str, str]]) -> None:
    """And opens one file of its own, which it cannot open once it is undumpable."""
    keeper = clones(trace)[1]
    calls = until(trace, keeper, "execveat")
    assert set(calls) <= KEEPER | {"openat"}, calls
    opened = [rest for one, call, rest in trace if one == keeper and call == "openat"][: calls.count("openat")]
    assert len(opened) == 1
    assert '"/proc/self/oom_score_adj"' in opened[0]
    assert calls[0] == "setsid"
    assert {"close_range", "execveat"} <= set(calls)


def test_the_clones_share_memory_and_give_no_signal(trace: list[tuple[int, str, str]]) -> None:
    intermediate, keeper = clones(trace)
    flags = {}
    for name, pid in (("intermediate", intermediate), ("keeper", keeper)):
        parent = next(one for one, call, rest in trace if call.startswith("clone3") and rest.endswith(f"= {pid}"))
        began = [rest for one, call, rest in trace if one == parent and call == "clone3" and "CLONE_THREAD" not in rest]
        flags[name] = began[-1]
        assert "CLONE_VM" in flags[name]
        assert "CLONE_CLEAR_SIGHAND" in flags[name], "no handler of the host's may run there"
        assert "exit_signal=0" in flags[name]
    assert "CLONE_FILES" in flags["intermediate"]
    assert "CLONE_FILES" not in flags["keeper"], "its table of descriptors is its own"


def test_no_other_process_is_made_by_the_host(trace: list[tuple[int, str, str]]) -> None:
    """Threads apart, which share its thread group: intermediates are the host's only children, reaped by name."""
    host = trace[0][0]
    threads = {host} | {int(rest.rsplit("= ", 1)[1]) for _, call, rest in trace if made_a_thread(call, rest)}
    made = [rest for pid, call, rest in trace if pid in threads and call in ("clone3", "clone", "fork", "vfork")]
    processes = [rest for rest in made if "CLONE_THREAD" not in rest]
    waits = [rest for pid, call, rest in trace if pid in threads and call == "wait4"]
    answers = [rest for pid, call, rest in trace if pid in threads and call.startswith("wait4") and "__WALL" in rest]
    by_pidfd = [rest for pid, call, rest in trace if pid in threads and call == "waitid"]
    assert all(rest.startswith("P_PIDFD") for rest in by_pidfd), "a keeper that ended is reaped by its pidfd alone"
    assert str(clones(trace)[0]) in [rest.split(",")[0] for rest in waits]
    assert all(int(rest.split(",")[0]) > 1 for rest in waits), "never waitpid(-1)"
    # One keeper; two where a tracer takes newuidmap's set-id bit away, and the second has one id only.
    assert 1 <= len(processes) == len(waits) <= 2
    assert len(answers) == len(waits), "on the line of the call, or of its return"


def made_a_thread(call: str, rest: str) -> bool:
    return call in ("clone3", "clone") and "CLONE_THREAD" in rest and re.search(r"= \d+$", rest) is not None
