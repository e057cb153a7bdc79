"""Containers of other processes, measured: their owner's numbers, read at each look by the visitor's own rights."""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import requirements
import worlds
from pace import patience, until
from programs.loads import MIB, Load
from pycontainer import Container, Limits, StateError, aio

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.requires("userns")
memory_group = pytest.mark.requires("controller:memory", "pen")
ATTACH, MEASURE, MEASURED = 23, 25, 23
SLEEP = ["sleep", "100"]
# It holds what it is told to hold, whenever it hears so.
OWNER = """
import sys
from pycontainer import Container, Limits
limits = Limits(memory=sys.argv[2]) if sys.argv[2] else Limits()
with Container(["/bin/load", "hold", "64", "100"], image=sys.argv[1], limits=limits) as container:
    for _, line in container.lines():
        if int(line) == 64:
            break
    print(container.id, flush=True)
    for line in sys.stdin:
        now = container.stats()
        print(now.memory, now.pids, now.cpu, flush=True)
"""


class Owner:
    """Another process that has a container, and tells what it sees of it."""

    def __init__(self, load: Load, memory: str = "") -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([*worlds.python(OWNER), str(load.root), memory], text=True, **pipes)  # type: ignore[call-overload]
        self.id = self.process.stdout.readline().strip()

    def sees(self) -> tuple[int, int, float]:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        memory, pids, cpu = self.process.stdout.readline().split()
        return int(memory), int(pids), float(cpu)

    def end(self) -> None:
        self.process.communicate(timeout=patience(30))


@pytest.fixture
def owner(load: Load) -> Iterator[Owner]:
    made = Owner(load)
    yield made
    made.end()


@pytest.mark.vm
@pytest.mark.parametrize("memory", ["", pytest.param("256MiB", marks=memory_group)])
def test_the_numbers_are_the_owner_s(load: Load, memory: str) -> None:
    owner = Owner(load, memory)
    try:
        with Container.get(owner.id) as found:
            now, seen = found.stats(), owner.sees()
            assert now.memory is not None
            assert abs(now.memory - seen[0]) < 2 * MIB
            assert now.memory > 62 * MIB
            assert now.breakdown.anon is not None
            assert 62 * MIB < now.breakdown.anon <= now.memory
            assert (now.pids, seen[1]) == (1, 1)
            assert now.cpu is not None
            assert 0 <= now.cpu <= seen[2]
            assert (now.memory_peak is not None) == bool(memory) or requirements.missing("cgroup2:memory") is None
    finally:
        owner.end()


def test_each_look_reads_the_kernel(load: Load) -> None:
    with Container(["sh", "-c", "read x; exec /bin/load hold 64 100"], image=load.root, stdin=pc.PIPE) as container:
        found = Container.get(container.id)
        before = found.stats()
        container.stdin.write(b"\n")
        container.stdin.flush()
        until(lambda: (found.stats().memory or 0) > 62 * MIB)
        time.sleep(0.1)
        after = found.stats()
        assert before.memory is not None
        assert after.memory is not None
        assert 60 * MIB < after.memory - before.memory < 72 * MIB


@memory_group
def test_a_group_that_is_made_later_is_seen(load: Load) -> None:
    """On version 1 a container without a memory limit has no memory group."""
    with Container(["/bin/load", "hold", "64", "100"], image=load.root) as container:
        next(line for _, line in container.lines(timeout=patience(20)) if int(line) == 64)
        found = Container.get(container.id)
        first = found.stats()
        container.update(Limits(memory="256MiB"))
        now, own = found.stats(), container.stats()
        assert own.memory is not None
        assert now.memory is not None
        assert abs(own.memory - now.memory) < 2 * MIB  # with what the late group does not count
        assert (own.memory_peak is None) == (now.memory_peak is None)
        assert first.memory is not None
        assert abs(first.memory - now.memory) < 8 * MIB
        # Those who come later hear of the limit.
        assert Container.get(container.id).limits.memory == 256 * MIB


def test_monitor_ends_with_it(load: Load) -> None:
    with Container(["sleep", "1"], image=load.root) as container:
        seen = list(Container.get(container.id).monitor(interval=0.1))
        assert 5 <= len(seen) <= 11
        assert all(one.pids in (0, 1) for one in seen)
        assert container.wait(timeout=patience(5)) == 0


def test_one_that_has_ended_is_not_measured(load: Load) -> None:
    with Container(SLEEP, image=load.root) as container:
        found = Container.get(container.id)
        container.kill()
        container.wait(timeout=patience(5))
        until(lambda: found.state == "EXITED")  # its owner hears of it first
        for look in (found.stats, lambda: found.pressure("cpu", some=0.1), found.monitor):
            with pytest.raises(StateError, match="EXITED"):
                look()
        assert found.state == "EXITED"
    with Container(SLEEP, image=load.root) as container:
        found = Container.get(container.id)
        found.close()
        with pytest.raises(StateError, match="REMOVED"):
            found.stats()
        assert container.stats().pids == 1


def test_its_end_is_never_a_number(load: Load) -> None:
    """Each look while it ends is numbers of a live one, or StateError."""
    for _ in range(5):
        with Container(SLEEP, image=load.root) as container:
            found = Container.get(container.id)
            assert found.stats().pids == 1
            container.kill()
            looks = []
            try:
                while True:
                    looks.append(found.stats())
            except StateError:
                pass
            assert all(look.cpu is not None and look.memory is not None for look in looks)


@pytest.mark.requires("pen")
def test_one_that_is_paused_is_measured(load: Load) -> None:
    with Container(["sh", "-c", "while :; do :; done"], image=load.root) as container:
        found = Container.get(container.id)
        container.pause()
        first = found.stats()
        time.sleep(0.1)
        assert found.stats().cpu == first.cpu
        assert first.pids == 1


def test_a_command_that_is_pid_1_is_counted(load: Load) -> None:
    with Container(SLEEP, image=load.root, pid1=True) as container:
        assert Container.get(container.id).stats().pids == container.stats().pids == 1


@pytest.mark.requires("pen", "kernel>=6.5")
def test_a_shortage_is_seen_from_outside(load: Load) -> None:
    words = "for i in 1 2 3 4 5 6 7 8; do /bin/load spin 1 100 & done; wait"
    with Container(["sh", "-c", words], image=load.root) as container:
        found = Container.get(container.id)
        with found.pressure("cpu", some=0.1) as trigger:
            poll = select.poll()
            poll.register(trigger, select.POLLPRI)
            assert poll.poll(patience(20) * 1000)


def test_on_asyncio(load: Load) -> None:
    async def looks(id: str) -> list[Any]:
        found = aio.Container.get(id)
        seen = [await found.stats()]
        async for one in found.monitor(0.05):
            seen.append(one)
            if len(seen) == 4:
                break
        await found.close()
        return seen

    with Container(SLEEP, image=load.root) as container:
        assert [one.pids for one in asyncio.run(looks(container.id))] == [1] * 4


def test_nothing_is_kept_between_two_looks(load: Load) -> None:
    with Container(SLEEP, image=load.root) as container:
        found = Container.get(container.id)
        found.stats()
        before = os.listdir("/proc/self/fd")
        for _ in range(50):
            found.stats()
        assert os.listdir("/proc/self/fd") == before


def test_other_limits_and_pauses_are_its_owner_s(load: Load) -> None:
    with Container(SLEEP, image=load.root) as container:
        found = Container.get(container.id)
        for call in (lambda: found.update(Limits(cpus=0.5)), found.pause, found.resume):
            with pytest.raises(StateError, match="does not own the container"):
                call()


def test_a_forked_copy_measures_nothing(load: Load) -> None:
    with Container(SLEEP, image=load.root) as container:
        found = Container.get(container.id)
        child = os.fork()
        if child == 0:
            try:
                found.stats()
            except StateError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert found.stats().pids == 1


# ---- what a visitor is handed ------------------------------------------------------------------------------------


def handed(container: Container) -> list[int]:
    """The descriptors that the keeper gives to who wants to measure."""
    home, number = Path(container._record).parent, container._native.address()[1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(patience(20))
        line.connect(str(home / "socket"))
        line.send(bytes([ATTACH]) + number.to_bytes(8, "little"))
        message, attached, _, _ = socket.recv_fds(line, 100, 8)
        assert message[:5] == bytes([21, 0, 0, 0, 0])
        for fd in attached:
            os.close(fd)
        line.send(bytes([MEASURE]))
        message, fds, _, _ = socket.recv_fds(line, 100, 32)
        assert message[0] == MEASURED
        assert len(message) == 9 + len(fds)
        return list(array.array("i", fds))


WRITES = """
import json, os, sys
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
said = {}
for fd in map(int, sys.argv[2:]):
    for name in os.listdir(f"/proc/self/fd/{fd}"):
        try:
            os.close(os.open(name, os.O_WRONLY, dir_fd=fd))
            said[name] = 0
        except OSError as error:
            said[name] = error.errno
print(json.dumps(said))
"""


@pytest.mark.requires("pen")
def test_it_is_handed_the_names_of_this_container_s_groups_and_no_right(load: Load) -> None:
    with Container(SLEEP, image=load.root, limits=Limits(pids=20)) as container, Container(SLEEP, image=load.root):
        lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        own = {line.rpartition("/")[2] for line in lines} - {""}
        fds = handed(container)
        try:
            assert fds
            for fd in fds:
                assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
                assert os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) in own
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.listdir(fd)
            if requirements.missing("root") is None:
                words = [*worlds.python(WRITES), "65534", *map(str, fds)]
                said = subprocess.run(words, check=True, capture_output=True, text=True, pass_fds=fds).stdout
                found = json.loads(said)
                assert "cgroup.procs" in found
                assert set(found.values()) == {13}  # EACCES: who looks has no other rights than his own
        finally:
            for fd in fds:
                os.close(fd)


def test_a_record_of_another_version_is_left_alone(load: Load) -> None:
    with Container(SLEEP, image=load.root, name="other-version") as container, Container(SLEEP, image=load.root) as own:
        record = Path(container._record)
        text = record.read_text()
        for change in ({"basis": {"\0bytes": ""}}, {"spec": {}}, {"limits": {"no_such_limit": 1}}):
            record.write_text(json.dumps(json.loads(text) | change))
            assert [found.id for found in Container.all() if found.id in (container.id, own.id)] == [own.id]
            for word in (container.id, "other-version"):
                with pytest.raises(StateError, match="another version"):
                    Container.get(word)
        record.write_text(text)
        assert Container.get("other-version").stats().pids == 1
