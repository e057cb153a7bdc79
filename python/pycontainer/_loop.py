"""What asyncio's faces of containers wait with: descriptors in the loop. No thread, no child watcher."""

from __future__ import annotations

import asyncio
import os

from pycontainer._lines import OUTPUTS
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any, Self

    from pycontainer._lines import Lines

_PIECE = 1 << 16
# Seconds between two nudges, as of every wait in a thread.
_TICK = 1.024
# As much as a pipe can hold (fs.pipe-max-size, unless root raised it).
_PIPE_MAX = 1 << 20


class Watch:
    """Waits until a native object's descriptor brings what is looked for: any number of tasks, one reader in the loop.

    Args:
        fileno: the descriptor, or -1 where there is nothing to wait for any more.
        look: tells whether it has happened; may raise what it learns instead.
        nudge: called now and then meanwhile: wakes a keeper that was stopped, and raises where waiting is in vain.
    """

    def __init__(self, fileno: int, look: Callable[[], bool], nudge: Callable[[], None] | None = None) -> None:
        self._fd, self._look, self._nudge = fileno, look, nudge
        self._waiting: set[asyncio.Future[bool]] = set()

    async def until(self, seconds: float | None = None) -> bool:
        """Return True once it has happened, False where the time passes first."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while not self._look():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            if self._nudge is None:
                await self._news(loop, left)
            elif not await self._news(loop, _TICK if left is None else min(left, _TICK)):
                self._nudge()
        return True

    async def _news(self, loop: asyncio.AbstractEventLoop, left: float | None) -> bool:
        """Return False where the time passed first."""
        if not self._waiting:
            loop.add_reader(self._fd, self._wake)
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.add(future)
        timer = None if left is None else loop.call_later(left, _settle, future, False)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.discard(future)
            if not self._waiting:
                loop.remove_reader(self._fd)

    def _wake(self) -> None:
        for future in self._waiting:
            _settle(future, True)


def news_of(listener: int, lines: Lines) -> Callable[[], bool]:
    """Make the look of a Watch for a socket with news of a log."""
    os.set_blocking(listener, False)

    def look() -> bool:
        try:
            lines.closed = not os.read(listener, 4096)
        except BlockingIOError:
            return False
        return True

    return look


def _settle(future: asyncio.Future[bool], news: bool) -> None:
    if not future.done():
        future.set_result(news)


class Exchange:
    """Feeds a stdin and keeps what comes of two outputs, while somebody waits for something else.

    Args:
        fds: our ends of stdin, stdout and stderr, which are its own from now on; -1: there is none.
        data: what goes into stdin.
        cap: bytes of each output, of which the rest is dropped; None is no bound.
        too_much: called once when something is dropped.
    """

    def __init__(self, fds: Sequence[int], data: bytes, cap: float | None, too_much: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stdin, self._data, self._cap, self._too_much = fds[0], memoryview(data), cap, too_much
        self._open = {name: fd for name, fd in zip(OUTPUTS, fds[1:], strict=True) if fd >= 0}
        self.kept = {name: bytearray() for name in self._open}
        self.cut: list[str] = []
        for name, fd in self._open.items():
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._take, name)
        if self._stdin >= 0:
            os.set_blocking(self._stdin, False)
            self._loop.add_writer(self._stdin, self._feed)

    @classmethod
    def of(cls, native: Any, spec: Any, data: bytes, has_input: bool) -> Self:
        """That of a native command. Its terminal is stdin, where something is to be typed, and stdout."""
        ends = list(native.take_pipes())
        if spec.tty:
            ends[:2] = [native.terminal() if has_input else -1, native.terminal()]

        def too_much() -> None:
            if spec.output_kills:
                native.kill("output")

        return cls(ends, data, spec.output, too_much)

    def _take(self, name: str) -> bool:
        """One read; False where nothing is there, or nothing will be."""
        fd = self._open[name]
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last inner end of a terminal was closed
            piece = b""
        if not piece:
            self._loop.remove_reader(fd)
            os.close(self._open.pop(name))
            return False
        kept = self.kept[name]
        room = len(piece) if self._cap is None else max(0, int(self._cap) - len(kept))
        kept += piece[:room]
        if room < len(piece) and name not in self.cut:
            self.cut.append(name)
            self._too_much()
        return True

    def _feed(self) -> None:
        try:
            self._data = self._data[os.write(self._stdin, self._data[:_PIECE]) :] if self._data else self._data
        except BlockingIOError:
            return
        except OSError:  # as subprocess: a command may end without reading all of its input
            self._data = self._data[:0]
        if not self._data:
            self._end_input()

    def _end_input(self) -> None:
        if self._stdin >= 0:
            self._loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def finish(self) -> None:
        """Take what is left in the pipes of a command that has ended, and close them."""
        self._end_input()
        for name in list(self._open):
            left = _PIPE_MAX  # a stranger that still writes must not keep us here
            while left > 0 and name in self._open and self._take(name):
                left -= _PIECE
            if name in self._open:
                self._loop.remove_reader(self._open[name])
                os.close(self._open.pop(name))


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
