"""What an asyncio Container says of itself, and what is done to one that lives: looks, other limits, its files.

What the kernel does at once is done at once, in the loop's own thread. Files that are copied hold the loop as long as
that takes; a pause until all tasks stand still. Images and tars of containers are made in a thread, as those of
_aio_images are, and so is a root that is a copy of its image (_aio_start).
"""

from __future__ import annotations

import asyncio
import contextlib

from pycontainer._aio_images import apart
from pycontainer._aio_start import set_up
from pycontainer._errors import StateError
from pycontainer._live import OWED
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import timedelta
    from typing import Literal

    from pycontainer._container import Container
    from pycontainer._files import Change
    from pycontainer._image import Image
    from pycontainer._limits import Limits
    from pycontainer._live import PressureTrigger
    from pycontainer._loop import Watch
    from pycontainer._result import Guarantee
    from pycontainer._stats import Stats
    from pycontainer._types import Arg


class Control:
    """Facts are plain; what can wait is awaited. Parameters and exceptions are `pycontainer.Container`'s."""

    _sync: Container
    _watch: Watch
    _turn: asyncio.Lock

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return self._sync.id

    @property
    def name(self) -> str:
        """As given, or the first 12 digits of the id."""
        return self._sync.name

    @property
    def image(self) -> Image:
        """What it runs on."""
        return self._sync.image

    @property
    def labels(self) -> dict[str, str]:
        """As given."""
        return self._sync.labels

    @property
    def state(self) -> str:
        """CREATED, RUNNING, PAUSED, EXITED or REMOVED."""
        return self._sync.state

    @property
    def limits(self) -> Limits:
        """The Limits that hold."""
        return self._sync.limits

    @property
    def enforced(self) -> Mapping[str, Guarantee]:
        """What was asked and what is never skipped, and how it is held."""
        return self._sync.enforced

    @property
    def ports(self) -> Mapping[int | str, tuple[str, int]]:
        """Where each published port is on this machine: ("127.0.0.1", 41235)."""
        return self._sync.ports

    def namespaces(self) -> dict[str, int]:
        """Return the inode of each of its namespaces, to be compared with /proc/self/ns."""
        return self._sync.namespaces()

    def pressure(
        self,
        resource: Literal["cpu", "memory", "io"],
        *,
        some: float | timedelta | None = None,
        full: float | timedelta | None = None,
        window: float | timedelta = 2,
    ) -> PressureTrigger:
        """Return a trigger for a shortage; its fileno() goes into the loop."""
        return self._sync.pressure(resource, some=some, full=full, window=window)

    async def stats(self) -> Stats:
        """Return what it uses at this moment."""
        return self._sync.stats()

    async def monitor(self, interval: float | timedelta = 0.05) -> AsyncIterator[Stats]:
        """Iterate over Stats, one each `interval` seconds, until the container ends."""
        seconds = parse_duration(interval, "interval")
        loop = asyncio.get_running_loop()
        yield self._sync.stats()
        moment = loop.time()
        while True:
            # Of what a slow reader has missed nothing is made up.
            moment = max(moment + seconds, loop.time())
            try:
                if await self._watch.until(max(0.0, moment - loop.time())):
                    return
                now = self._sync.stats()
            except StateError:
                with contextlib.suppress(StateError):
                    await self._watch.until(OWED)
                return
            yield now

    async def update(self, limits: Limits) -> Limits:
        """Give it other limits, in one step: all of them, or none."""
        return self._sync.update(limits)

    async def pause(self) -> None:
        """Stop all its tasks where they are, and come back when they stand still."""
        self._sync.pause()

    async def resume(self) -> None:
        """Let a paused container go on."""
        self._sync.resume()

    async def _reach(self) -> None:
        """Set up one that was not started: by one task, and without holding the loop."""
        if self._sync.state == "CREATED":
            async with self._turn:
                await set_up(self._sync)

    async def read_bytes(self, path: Arg, max_size: int | str = "64MiB") -> bytes:
        """Return the content of a file."""
        await self._reach()
        return self._sync.read_bytes(path, max_size)

    async def write_bytes(self, path: Arg, data: bytes | bytearray | memoryview, mode: int = 0o644) -> None:
        """Make a file, or replace the one that is there, in one step."""
        await self._reach()
        self._sync.write_bytes(path, data, mode)

    async def copy_in(self, src: Arg, dst: Arg) -> None:
        """Copy a file or a tree of this machine into the container."""
        await self._reach()
        self._sync.copy_in(src, dst)

    async def copy_out(self, src: Arg, dst: Arg) -> None:
        """Copy a file or a tree of the container to this machine."""
        await self._reach()
        self._sync.copy_out(src, dst)

    async def diff(self) -> list[Change]:
        """Return what the container has changed in its root."""
        await self._reach()
        return self._sync.diff()

    async def commit(self, reference: str) -> Image:
        """Make an image of what it has become, as `docker commit` does."""
        await self._reach()
        return await apart(lambda watch: self._sync._commit_as(reference, watch.event), None)

    async def export(self, path: Arg) -> None:
        """Write its whole root file system to a tar, as `docker export` does."""
        await self._reach()
        await apart(lambda watch: self._sync._export_to(path, watch.event), None)
