"""A thousand containers at one moment, by threads and in one TaskGroup: each answers, in a pid namespace of its own."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

BEGIN = """
import asyncio, os, resource, sys, threading, time
import pycontainer as pc
from pycontainer import aio

image, count = sys.argv[1], int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
ASK = ["readlink", "/proc/self/ns/pid"]

def spaces():
    # The namespaces that have a process now; those of the machine's other processes are not among them.
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.add(os.readlink(f"/proc/{name}/ns/pid_for_children"))
        except OSError:
            pass
    return found
"""
THREADS = """
containers = [pc.Container(["sleep", "1000"], image=image) for _ in range(count)]
def each(work):
    # 32 at a time: what lives at one moment are the containers.
    left = list(containers)
    def some():
        while left:
            try:
                one = left.pop()
            except IndexError:
                return
            work(one)
    threads = [threading.Thread(target=some) for _ in range(32)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

each(lambda c: c.start())
answers = set()
each(lambda c: answers.add(c.exec(ASK, text=True).stdout.strip()))
live, tasks = len(answers & spaces()), 0
begun = time.monotonic()
each(lambda c: c.close())
print(live, len(answers), tasks, round(time.monotonic() - begun, 2), len(answers & spaces()))
"""
ASYNCIO = """
async def main():
    answers, all_live, go = set(), 0, asyncio.Event()
    starting = asyncio.Semaphore(32)

    async def one():
        nonlocal all_live
        container = aio.Container(["sleep", "1000"], image=image)
        async with starting:
            await container.start()
        async with container:
            async with starting:
                answers.add((await container.exec(ASK, text=True)).stdout.strip())
            all_live += 1
            await go.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
        while all_live < count:
            await asyncio.sleep(0.05)
        live, tasks = len(answers & spaces()), len(os.listdir("/proc/self/task"))
        begun = time.monotonic()
        go.set()
    print(live, len(answers), tasks, round(time.monotonic() - begun, 2), len(answers & spaces()))

asyncio.run(main())
"""


@pytest.mark.requires("pen", "nofile>=4096")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("code", "tasks"), [(THREADS, "0"), (ASYNCIO, "1")], ids=["threads", "asyncio"])
def test_all_live_at_one_moment(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None], code: str, tasks: str
) -> None:
    count = len(times(1000))
    live, answered, threads, seconds, left = pen.run(BEGIN + code, rootfs, count, timeout=600).split()
    assert (live, answered, threads, left) == (str(count), str(count), tasks, "0")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    tell(f"{live} live with RLIMIT_NOFILE {most}, ended in {seconds} s")
    assert not pen.left()
