"""pycontainer.aio: the same answers as without, in one thread; a cancellation leaves nothing."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

import leaks
import pycontainer as pc
from pace import patience
from pycontainer import PIPE, Limits, Reason, aio

pytestmark = pytest.mark.requires("userns")
SLEEP = ["sleep", "8000"]
MANY = 64


def go(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, patience(60)), debug=True)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def inside(pid: int) -> int:
    """How many processes live in the pid namespace of this one, as this machine sees them."""
    return sum(1 for entry in Path("/proc").iterdir() if entry.name.isdigit() and same(entry.name, pid))


async def come_to(count: int, pid: int) -> bool:
    """Who started what was cut off is reaped a moment after its last word."""
    deadline = time.monotonic() + leaks.SETTLE
    while inside(pid) != count and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return inside(pid) == count


def same(entry: str, pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{entry}/ns/pid") == os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return False


@pytest.mark.vm
def test_run_answers_as_run_does(rootfs: Path) -> None:
    async def main() -> None:
        script = "cat; echo err >&2; exit 3"
        result = await aio.run(["sh", "-c", script], image=rootfs, input=b"in\n")
        assert (result.returncode, result.stdout, result.stderr) == (3, b"in\n", b"err\n")
        assert result.reason is Reason.EXITED
        assert result.enforced["seccomp"].state == "held"
        text = await aio.run(["echo", "ä"], image=rootfs, text=True)
        assert text.stdout == "ä\n"
        big = await aio.run(["cat"], image=rootfs, input=b"x" * 3_000_000)
        assert len(big.stdout) == 3_000_000

    go(main())


def test_run_raises_as_run_does(rootfs: Path) -> None:
    async def main() -> None:
        with pytest.raises(pc.TimeoutExpired) as expired:
            await aio.run(["sh", "-c", "echo begun; sleep 8000"], image=rootfs, timeout=0.5)
        assert expired.value.stdout == b"begun\n"
        assert expired.value.result is not None
        assert expired.value.result.reason is Reason.TIMEOUT
        with pytest.raises(pc.CommandNotFound):
            await aio.run(["no-such-command"], image=rootfs)
        with pytest.raises(pc.CalledProcessError):
            await aio.run(["false"], image=rootfs, check=True)
        with pytest.raises(ValueError, match="stdin and input"):
            await aio.run(["true"], image=rootfs, input=b"", stdin=PIPE)
        flood = await aio.run(["yes"], image=rootfs, limits=Limits(output="64KiB"))
        assert (flood.reason, len(flood.stdout), flood.truncated) == (Reason.OUTPUT, 64 << 10, ("stdout",))

    go(main())


def test_a_container_lives_in_the_loop(rootfs: Path) -> None:
    async def main() -> None:
        before = threads()
        async with aio.Container(["sh", "-c", "echo out; echo err >&2; sleep 8000"], image=rootfs, name="it") as c:
            assert (c.state, c.name) == ("RUNNING", "it")
            seen = []
            async for line in c.lines(timeout=patience(10)):
                seen.append(line)
                if len(seen) == 2:
                    break
            assert sorted(seen) == [("stderr", b"err\n"), ("stdout", b"out\n")]
            assert (await c.exec(["cat"], input=b"x")).stdout == b"x"
            with pytest.raises(pc.TimeoutExpired):
                await c.exec(SLEEP, timeout=0.2)
            with pytest.raises(pc.TimeoutExpired):
                await c.wait(timeout=0.1)
            with pytest.raises(pc.CommandNotFound):
                await c.exec(["no-such-command"])
            assert threads() == before
            await c.stop(grace=patience(5))
            assert (c.state, c.returncode) == ("EXITED", -15)
        assert c.state == "REMOVED"
        assert c.logs() == b"out\nerr\n"

    go(main())


def test_a_process_has_streams(rootfs: Path) -> None:
    async def main() -> None:
        async with aio.Container(SLEEP, image=rootfs) as c:
            async with await c.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
                process.stdin.write(b"one\n")
                assert await process.stdout.readline() == b"one\n"
                assert await process.communicate(b"two\n") == (b"two\n", b"")
                assert process.returncode == await process.wait() == 0
            async with await c.popen(SLEEP) as process:
                assert process.poll() is None
            assert process.returncode == -9

    go(main())


MANY_PROGRAM = f"""
import asyncio, os
from pycontainer import aio

async def main():
    before, alive, all_there = len(os.listdir("/proc/self/task")), set(), asyncio.Event()

    async def one():
        async with aio.Container(["sleep", "8000"], image=IMAGE) as c:
            alive.add((await c.exec(["readlink", "/proc/self/ns/pid"])).stdout)
            if len(alive) == {MANY}:
                all_there.set()
            await all_there.wait()
            assert (await c.exec(["echo", c.id], text=True)).stdout == c.id + chr(10)
            tasks.add(len(os.listdir("/proc/self/task")))

    tasks = set()
    async with asyncio.TaskGroup() as group:
        for _ in range({MANY}):
            group.create_task(one())
    print(len(alive), before, sorted(tasks))

asyncio.run(main())
"""


def test_lines_come_of_pipes_and_of_the_log(rootfs: Path) -> None:
    script = ["sh", "-c", "echo one; echo err >&2; sleep 0.2; printf two"]
    wanted = {("stdout", b"one\n"), ("stderr", b"err\n"), ("stdout", b"two")}

    async def main() -> None:
        async with aio.Container(SLEEP, image=rootfs) as c:
            async with await c.popen(script, stdout=PIPE, stderr=PIPE) as process:
                assert {item async for item in process.lines()} == wanted
                assert await process.wait() == 0
            async with await c.popen(["sh", "-c", "echo x; sleep 100"], stdout=PIPE, text=True) as process:
                lines = process.lines(timeout=0.5)
                assert await anext(lines) == ("stdout", "x\n")
                with pytest.raises(pc.TimeoutExpired):
                    await anext(lines)
            # A log whose streams have ended has no more lines, though its container runs on.
            closes = ["sh", "-c", "echo last; exec >&- 2>&-; sleep 1000"]
            async with aio.Container(closes, image=rootfs) as other:
                assert [item async for item in other.lines(timeout=patience(10))] == [("stdout", b"last\n")]
                assert other.poll() is None
        for streams in ({}, {"stdout": PIPE}, {"stdout": PIPE, "stderr": PIPE}):
            async with aio.Container(script, image=rootfs, **streams) as c:
                assert {item async for item in c.lines(timeout=patience(10))} == wanted

    go(main())


def test_many_live_at_one_time_in_one_thread(rootfs: Path) -> None:
    """Each in a pid namespace of its own, all answering."""
    code = f"IMAGE = {str(rootfs)!r}\n{MANY_PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=patience(60)
    )
    assert (done.stdout.strip(), done.stderr) == (f"{MANY} 1 [1]", "")


def test_what_lives_is_looked_at_changed_and_found(rootfs: Path, tmp_path: Path) -> None:
    async def main() -> None:
        c = aio.Container(SLEEP, image=rootfs)
        await c.write_bytes("/tmp/before", b"the start")
        async with c:
            assert await c.read_bytes("/tmp/before") == b"the start"
            (tmp_path / "tree").mkdir()
            (tmp_path / "tree/file").write_bytes(b"x")
            await c.copy_in(tmp_path / "tree", "/copied")
            await c.copy_out("/copied", tmp_path / "back")
            assert (tmp_path / "back/file").read_bytes() == b"x"
            assert "/copied/file" in [change.path for change in await c.diff()]
            assert (await c.stats()).cpu is not None
            assert (await c.update(Limits(wall_time=7000))).wall_time == c.limits.wall_time == 7000
            assert c.namespaces()["pid"] != int(os.readlink("/proc/self/ns/pid")[5:-1])
            seen = [now async for now, _ in zip_async(c.monitor(0.01), range(3))]
            assert len(seen) == 3
            found = aio.Container.get(c.id)
            assert c.id in [one.id for one in aio.Container.all()]
            async with found:
                assert (await found.exec(["echo", "x"])).stdout == b"x\n"
            assert c.state == "RUNNING"  # who found it does not own it
            waits = asyncio.ensure_future(collected(c.monitor(0.01)))
            await asyncio.sleep(0.1)
            await c.kill()
            assert await waits

    go(main())


async def collected(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def zip_async(items: AsyncIterator[Any], others: Iterable[Any]) -> AsyncIterator[tuple[Any, Any]]:
    for other in others:
        yield await anext(items), other


@pytest.mark.requires("pen")
def test_one_that_is_paused_is_stopped_at_once(rootfs: Path) -> None:
    async def main() -> None:
        async with aio.Container(SLEEP, image=rootfs) as c:
            await c.pause()
            assert c.state == "PAUSED"
            await c.resume()
            await c.pause()
            await c.stop(grace=patience(20))
            assert (c.state, c.returncode) == ("EXITED", -15)

    go(main())


def test_a_start_with_pipes_is_cancelled_at_any_moment(rootfs: Path) -> None:
    """Also between the command's start and the moment at which its pipes are in the loop: nobody has it yet."""

    async def main() -> None:
        async with aio.Container(SLEEP, image=rootfs) as c:
            for begin in (
                lambda: aio.Container(SLEEP, image=rootfs, stdin=PIPE, stdout=PIPE, stderr=PIPE).start(),
                lambda: c.popen(SLEEP, stdin=PIPE, stdout=PIPE, stderr=PIPE),
            ):
                for turns in range(60):  # one step of the loop further each time
                    task = asyncio.ensure_future(begin())
                    for _ in range(turns):
                        await asyncio.sleep(0 if turns < 30 else 0.0002)
                    if task.done():
                        made = task.result()
                        await (made.close() if isinstance(made, aio.Container) else made.kill())
                        continue
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
            if os.geteuid() == 0:
                assert await come_to(2, c.pid)

    go(main())


@pytest.mark.parametrize("what", ["run", "start", "exec", "wait"])
def test_a_cancellation_at_any_moment_leaves_nothing(rootfs: Path, what: str) -> None:
    """The watch for leaks looks afterwards."""

    async def begin(c: aio.Container) -> None:
        if what == "run":
            await aio.run(["sh", "-c", "sleep 8000 & sleep 8000"], image=rootfs)
        elif what == "start":
            async with aio.Container(SLEEP, image=rootfs):
                await asyncio.sleep(8000)
        elif what == "exec":
            await c.exec(["sh", "-c", "setsid sleep 8000 & sleep 8000"])
        else:
            await c.wait()

    async def main() -> None:
        moments = random.Random(7)
        async with aio.Container(SLEEP, image=rootfs) as c:
            for _ in range(40):
                task = asyncio.ensure_future(begin(c))
                await asyncio.sleep(moments.choice([0, 0.0005, 0.001, 0.002, 0.004, 0.02]))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert c.state == "RUNNING"
            if os.geteuid() == 0:
                assert await come_to(2, c.pid)

    go(main())
