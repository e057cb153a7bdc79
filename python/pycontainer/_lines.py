"""Lines of two streams as they come: of pipes, which are emptied by it, and of a container's log, which is not."""

from __future__ import annotations

import os
import select
import time

from pycontainer._errors import Error
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

LINE_MAX = 1 << 20
_PIECE = 1 << 16
OUTPUTS = ("stdout", "stderr")


class Stream:
    """One stream: what has come of it and is not yet a line."""

    def __init__(self, name: str) -> None:
        self.name, self.rest, self.ended = name, bytearray(), False

    def lines(self) -> Iterator[bytes]:
        start = 0
        while (end := self.rest.find(b"\n", start)) >= 0 or len(self.rest) - start > LINE_MAX:
            end = min(end + 1 if end >= 0 else len(self.rest), start + LINE_MAX)
            yield bytes(self.rest[start:end])
            start = end
        del self.rest[:start]
        if self.ended and self.rest:
            yield bytes(self.rest)
            self.rest.clear()


class _Pipe(Stream):
    def __init__(self, name: str, fd: int) -> None:
        super().__init__(name)
        self.fd = fd

    def take(self) -> bool:
        """One read of what is there; blocks where nothing is."""
        try:
            piece = os.read(self.fd, _PIECE)
        except OSError:  # EIO: the last inner end of a terminal was closed
            piece = b""
        self.rest += piece
        self.ended = not piece
        return True


class Follower(Stream):
    def __init__(self, name: str, log: Any, position: int = 0) -> None:
        super().__init__(name)
        self.log, self.position = log, position

    def take(self) -> bool:
        """What has come since the last look; False where nothing has."""
        piece, self.position, lost, _, self.ended = self.log.read(OUTPUTS.index(self.name), self.position, LINE_MAX)
        if lost:
            self.rest.clear()  # its other half is gone
        self.rest += piece
        return bool(piece)


class Lines:
    """An iterator's worth of lines.

    Args:
        process: whose end is the end of what is logged.
        pipes: the descriptors of streams that are pipes, by name.
        log: the native log, and which of the streams are in it.
        decode: from bytes to what the caller reads.
    """

    def __init__(
        self,
        process: Any,
        pipes: dict[str, int],
        log: tuple[Any, tuple[str, ...]] | None,
        decode: Callable[[bytes], Any],
    ) -> None:
        self._process, self._decode = process, decode
        # No more news will come of the log.
        self.closed = False
        self._pipes = [_Pipe(name, fd) for name, fd in pipes.items()]
        self._logged = [Follower(name, log[0]) for name in log[1]] if log is not None else []

    def until(self, seconds: float | None, expired: Callable[[], Exception]) -> Iterator[tuple[str, Any]]:
        """Yield (stream, line) until all streams end; raise what `expired` makes where the time passes first."""
        deadline = None if seconds is None else time.monotonic() + seconds
        listener = self.listen()
        try:
            while True:
                yield from self.come()
                waiting = [stream for stream in self._pipes if not stream.ended]
                if not waiting and self.ended:
                    return
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise expired()
                for stream in self._ready(waiting, listener, left):
                    stream.take()
                    yield from self._decoded(stream)
        finally:
            if listener >= 0:
                os.close(listener)

    @property
    def ended(self) -> bool:
        """Whether all that is logged has come."""
        return all(stream.ended for stream in self._logged)

    def listen(self) -> int:
        """A socket with news of the log; -1 where none is needed, or none will come."""
        try:
            listener = int(self._process._native.listen()) if self._logged else -1
        except Error:  # the keeper died, and the container with it
            listener = -1
        self.closed = listener < 0
        return listener

    def _decoded(self, stream: Stream) -> Iterator[tuple[str, Any]]:
        return ((stream.name, self._decode(line)) for line in stream.lines())

    def come(self) -> Iterator[tuple[str, Any]]:
        """Yield the lines of the log that have come since the last look."""
        for stream in self._logged:
            if stream.ended:
                continue
            while stream.take():
                yield from self._decoded(stream)
            stream.ended |= self.closed  # what has not come by now does not come
            yield from self._decoded(stream)

    def _ready(self, waiting: list[_Pipe], listener: int, left: float | None) -> list[_Pipe]:
        poll = select.poll()
        for stream in waiting:
            poll.register(stream.fd, select.POLLIN)
        if not self.closed:
            poll.register(listener, select.POLLIN)
        seen = dict(poll.poll(None if left is None else max(0, left * 1000)))
        if listener in seen:
            self.closed = not os.read(listener, 4096)
        return [stream for stream in waiting if stream.fd in seen]
