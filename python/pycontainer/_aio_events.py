"""events() on asyncio: the same, with its descriptor in the loop."""

from __future__ import annotations

import asyncio

from pycontainer._hub import PAUSE
from pycontainer._listening import Listener
from pycontainer._loop import Watch
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pycontainer._events import Event


class Events(Listener):
    """An async iterator of events, from the call of events() on; also an async context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._watch = Watch(self.fileno(), self._has_news)
        self._again = False

    def _has_news(self) -> bool:
        self._again = self._hub.look()
        return self._closed or self._again or bool(self._queue.waiting)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._closed:
            raise StopAsyncIteration
        self._wait_begins()
        try:
            while True:
                await self._watch.until()
                event, _ = self._take()
                if event is not None:
                    return event
                if self._closed:
                    raise StopAsyncIteration
                await asyncio.sleep(PAUSE if self._again else 0)
        finally:
            self._wait_ends()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Listen no more."""
        self.close()


def events() -> Events:
    """Listen to what happens to the containers of this interpreter, those of threads too: as `pycontainer.events`.

    Raises:
        SetupError: no descriptor is free.
    """
    return Events()
