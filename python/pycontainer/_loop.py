"""What asyncio's faces of containers wait with: descriptors in the loop. No thread, no child watcher, no signal handler."""

from __future__ import annotations

import asyncio
import os

from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any


class Watch:
    """Waits until a native object's descriptor brings what is looked for: any number of tasks, one reader in the loop.

    Args:
        fileno: the descriptor, or -1 where there is nothing to wait for any more.
        look: tells whether it has happened; may raise what it learns instead.
    """

    def __init__(self, fileno: int, look: Callable[[], bool]) -> None:
        self._fd, self._look = fileno, look
        self._waiting: set[asyncio.Future[None]] = set()

    async def until(self, seconds: float | None = None) -> bool:
        """Return True once it has happened, False where the time passes first."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while not self._look():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self._news(loop, left)
        return True

    async def _news(self, loop: asyncio.AbstractEventLoop, left: float | None) -> None:
        if not self._waiting:
            loop.add_reader(self._fd, self._wake)
        future = loop.create_future()
        self._waiting.add(future)
        timer = None if left is None else loop.call_later(left, _settle, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.discard(future)
            if not self._waiting:
                loop.remove_reader(self._fd)

    def _wake(self) -> None:
        for future in self._waiting:
            _settle(future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def to_the_end(work: Coroutine[Any, Any, Any]) -> Any:
    """Await what must not be left half-way: a cancellation waits for its end, and goes on then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        task.exception()  # seen; the cancellation goes first
        raise cancelled
    return task.result()


async def reader(fd: int, limit: int = 1 << 20) -> asyncio.StreamReader:
    """A StreamReader of a descriptor, which is the reader's from now on."""
    loop = asyncio.get_running_loop()
    made = asyncio.StreamReader(limit=limit, loop=loop)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(made, loop=loop), os.fdopen(fd, "rb", 0))
    return made


async def writer(fd: int) -> asyncio.StreamWriter:
    """A StreamWriter of a descriptor, which is the writer's from now on."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(fd, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
