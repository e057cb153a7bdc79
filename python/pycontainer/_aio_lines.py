"""Lines of a command's streams on asyncio: of pipes, which are emptied by it, and of a log, which is not."""

from __future__ import annotations

import asyncio
import os

from pycontainer._lines import Stream
from pycontainer._loop import Watch, news_of
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Any

    from pycontainer._lines import Lines

_PIECE = 1 << 16
_LOG = ""  # among the names of pipes


async def read(stream: asyncio.StreamReader) -> bytes:
    """Return what has come, at most so much; nothing at the end."""
    try:
        return await stream.read(_PIECE)
    except OSError:  # EIO: the last inner end of a terminal was closed
        return b""


async def lines_of(
    pipes: Mapping[str, asyncio.StreamReader],
    logged: Lines | None,
    decode: Callable[[bytes], Any],
    seconds: float | None,
    expired: Callable[[], Exception],
) -> AsyncIterator[tuple[str, Any]]:
    """Yield (stream, line) until all streams end; raise what `expired` makes where the time passes first."""
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    streams = {name: Stream(name) for name in pipes}
    listener = -1 if logged is None else logged.listen()
    watch = None if logged is None or listener < 0 else Watch(listener, news_of(listener, logged))
    waiting = {asyncio.ensure_future(read(pipe)): name for name, pipe in pipes.items()}
    try:
        while True:
            for item in () if logged is None else logged.come():
                yield item
            if logged is not None and watch is not None and not logged.ended and _LOG not in waiting.values():
                waiting[asyncio.ensure_future(_news(watch))] = _LOG
            if not waiting:
                return
            left = None if deadline is None else deadline - loop.time()
            done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise expired()
            for task in done:
                piece = task.result()
                if (name := waiting.pop(task)) == _LOG:
                    continue
                stream = streams[name]
                stream.rest += piece
                stream.ended = not piece
                if piece:
                    waiting[asyncio.ensure_future(read(pipes[name]))] = name
                for line in stream.lines():
                    yield name, decode(line)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if listener >= 0:
            os.close(listener)


async def _news(watch: Watch) -> bytes:
    await watch.until()
    return b""
