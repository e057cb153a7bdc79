"""events(): an iterator of what happens to the containers of this interpreter. Waits for one descriptor; no thread."""

from __future__ import annotations

import os
import select
import time

from pycontainer._errors import SetupError, StateError
from pycontainer._hub import PAUSE, hub
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_duration

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from pycontainer._events import Event


class Listener:
    """What was told since it was made, and not yet read. What waits is of those that extend it."""

    def __init__(self) -> None:
        self._owner, self._closed, self._waiters = os.getpid(), True, 0
        self._hub = hub()
        try:
            self._queue = self._hub.join()
            self._closed = False
            self._epoll = select.epoll()
            self._epoll.register(self._queue.bell, select.EPOLLIN)
            self._epoll.register(self._hub.epoll.fileno(), select.EPOLLIN)
        except OSError as error:
            self.close()
            raise SetupError(error.errno or 0, error.strerror, step="listen to events") from None

    @property
    def lost(self) -> int:
        """How many events were dropped, the oldest first, because more than 65,536 waited to be read."""
        return self._queue.lost

    def fileno(self) -> int:
        """Return a descriptor that is readable when there may be an event. It stays this object's."""
        self._usable()
        return int(self._epoll.fileno())

    def _usable(self) -> None:
        if os.getpid() != self._owner:
            raise StateError("this process is a forked copy of the one that listens: call events() in it")
        if self._closed:
            raise StateError("it is closed: events() listens anew")

    def _take(self) -> tuple[Event | None, bool]:
        """The oldest event, if there is one; whether to ask again in a moment although nothing will be ready."""
        again = self._hub.look()
        with self._hub.lock:
            return (None if self._closed else self._queue.take()), again

    def _wait_begins(self) -> None:
        with self._hub.lock:
            self._usable()
            self._waiters += 1

    def _wait_ends(self) -> None:
        with self._hub.lock:
            self._waiters -= 1
            self._shut()

    def close(self) -> None:
        """Listen no more. Who waits in another thread is woken, and the iteration ends."""
        if os.getpid() != self._owner:
            return
        with self._hub.lock:
            if not self._closed:
                self._closed = True
                self._hub.leave(self._queue)
                self._queue.waiting.clear()
                self._queue.ring()
                self._shut()

    def _shut(self) -> None:
        """Not before the last one has stopped waiting for them."""
        if self._closed and not self._waiters:
            self._queue.close()
            if (epoll := getattr(self, "_epoll", None)) is not None:
                epoll.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


class Events(Listener):
    """An iterator of events, from the call of events() on; a context manager, for any thread."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._closed:
            raise StopIteration
        try:
            event = self.get()
        except StateError:
            if self._closed:  # by another thread
                raise StopIteration from None
            raise
        assert event is not None
        return event

    def get(self, timeout: float | timedelta | None = None) -> Event | None:
        """Return the next event; None where `timeout` seconds pass first. 0 looks and does not wait.

        Raises:
            StateError: it is closed; this process is a forked copy of the one that listens.
        """
        seconds = None if timeout is None else parse_duration(timeout, "timeout", signed=True)
        deadline = None if seconds is None else time.monotonic() + seconds
        self._wait_begins()
        try:
            while True:
                event, again = self._take()
                if event is not None:
                    return event
                self._usable()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                if again:
                    time.sleep(PAUSE)
                else:
                    self._epoll.poll(left)
        finally:
            self._wait_ends()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Listen no more."""
        self.close()


def events() -> Events:
    """Listen to what happens to the containers of this interpreter: an iterator of events, from this call on.

    Each has kind, time, id, name, labels, args and result. The kinds of a container are, in this order: "created",
    "started", any of "paused", "resumed" and "oom", "ended" with its Result (without the output), "removed"; one whose
    start failed has neither "started" nor "ended". The end, and the OOM killer, are told when they come, also of a
    container that nobody waits for. run() is among them, commands of exec() and popen() are not, nor are containers of
    other processes.

    The iteration goes on until close(), which leaving its block or its drop do too. Nothing keeps a container alive:
    65,536 events wait to be read, of more the oldest are dropped and counted in `lost`.

    Returns:
        An iterator; also get(timeout), fileno() for a selector, close(), lost.

    Raises:
        SetupError: no descriptor is free.
    """
    return Events()
