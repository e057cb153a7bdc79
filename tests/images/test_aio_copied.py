"""Roots that are copies, on asyncio: they are made and removed in a thread, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
from drivers import VARIABLE, uppers
from pace import patience
from pycontainer import aio

BEAT = 0.002
SIZE = 100 << 20
FILES = 3000

pytestmark = pytest.mark.usefixtures("leaves_no_copy")


@pytest.fixture
def big(layout: layouts.Layout, base: bytes, monkeypatch: pytest.MonkeyPatch) -> pc.Image:
    """Some 100 MB and some thousand files, of which a union is there."""
    monkeypatch.setenv(VARIABLE, "vfs")
    many = {f"many/{number}": b"x" for number in range(FILES)}
    layout.image("big:1", [base, layouts.tar({"big": os.urandom(SIZE), **many})], compress=False)
    image = pc.Image.load(layout.path)[0]
    pc.run(["true"], image=image)
    return image


class Heart:
    """A task that beats while others are waited for."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def _beat(self) -> None:
        while True:
            self.times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(BEAT)

    async def beats_during(self, work: Awaitable[object]) -> tuple[int, float]:
        """How often it beat, and the longest time without, as a part of the whole."""
        loop = asyncio.get_running_loop()
        beating = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        begun = loop.time()
        await work
        ended = loop.time()
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        moments = [begun, *(moment for moment in self.times if begun <= moment <= ended), ended]
        longest = max(later - earlier for earlier, later in pairwise(moments))
        return len(moments) - 2, longest / (ended - begun)


async def no_thread_left() -> None:
    """One that has told what came of it has a few instructions left."""
    async with asyncio.timeout(patience(5)):
        while threading.active_count() > 1:
            await asyncio.sleep(BEAT)


def test_the_loop_goes_on_while_a_root_is_copied_and_removed(big: pc.Image, store: Path) -> None:
    async def main() -> None:
        made = aio.Container(["sleep", "1000"], image=big)
        count, longest = await Heart().beats_during(made.start())
        assert count >= 8, (count, longest)
        assert longest < 0.6, (count, longest)
        assert len(uppers(store)) == 1
        await no_thread_left()
        count, _ = await Heart().beats_during(made.close())
        assert count >= 2
        assert uppers(store) == []

    asyncio.run(main())


def test_so_it_does_for_a_run_and_for_files_before_the_start(big: pc.Image) -> None:
    async def main() -> None:
        count, longest = await Heart().beats_during(aio.run(["true"], image=big))
        assert (count >= 8, longest < 0.6) == (True, True), (count, longest)
        async with asyncio.timeout(patience(60)):
            made = aio.Container(["cat", "/new"], image=big)
            count, longest = await Heart().beats_during(made.write_bytes("/new", b"new"))
            assert (count >= 8, longest < 0.6) == (True, True), (count, longest)
            result = await made.run()
            assert (result.stdout, [line.path for line in await made.diff()]) == (b"new", ["/new"])
            await made.close()

    asyncio.run(main())


@pytest.mark.parametrize("what", ["start", "run", "write_bytes"])
def test_a_cancelled_copy_leaves_nothing(what: str, big: pc.Image, store: Path) -> None:
    async def main() -> None:
        made = aio.Container(["sleep", "1000"], image=big, name="cancelled")
        work = {
            "start": made.start,
            "run": lambda: aio.run(["sleep", "1000"], image=big),
            "write_bytes": lambda: made.write_bytes("/x", b"x"),
        }
        task: asyncio.Future[object] = asyncio.ensure_future(work[what]())
        while not list(store.glob("uppers/*/upper")):
            assert not task.done()
            await asyncio.sleep(BEAT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert uppers(store) == []
        await no_thread_left()
        await made.start()  # once more, to the end
        assert made.state == "RUNNING"
        await made.close()

    asyncio.run(main())


def test_of_two_tasks_one_starts_it_and_who_wants_at_its_files_waits(big: pc.Image, store: Path) -> None:
    async def main() -> None:
        made = aio.Container(["sleep", "1000"], image=big)
        held, first, second = await asyncio.gather(
            made.write_bytes("/x", b"x"), made.start(), made.start(), return_exceptions=True
        )
        assert (held, first) == (None, made)
        assert isinstance(second, pc.StateError)
        assert len(uppers(store)) == 1
        assert await made.read_bytes("/x") == b"x"
        await made.close()

    asyncio.run(main())


def test_one_that_is_closed_while_it_is_copied_never_runs(big: pc.Image, store: Path) -> None:
    async def main() -> None:
        made = aio.Container(["sleep", "1000"], image=big)
        starting = asyncio.create_task(made.start())
        while not list(store.glob("uppers/*/upper")):
            await asyncio.sleep(BEAT)
        await made.close()
        with pytest.raises(pc.StateError):
            await starting
        assert uppers(store) == []

    asyncio.run(main())
