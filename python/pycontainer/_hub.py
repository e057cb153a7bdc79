"""Who listens to events in this process, and what is watched for them: one epoll for all, asked by whoever waits.

It holds the end, and the OOM killer's descriptor, of each container that lives while somebody listens; who finds
something ready asks that container, which tells all listeners. One lock, which a drop may enter again, and no thread.
"""

from __future__ import annotations

import _socket
import os
import select
import struct
import time
from _thread import RLock
from collections import deque
from contextlib import suppress

from pycontainer import _events
from pycontainer._errors import Error, StateError
from pycontainer._events import Event
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import FrozenMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontainer._events import Kind
    from pycontainer._result import Result

# Events that wait for one listener: the oldest of more are dropped.
BOUND = 1 << 16
# Seconds in which the OOM killer takes somebody after it has said that it will (version 1's event).
_TAKEN = 1.0
# Seconds between looks at that.
PAUSE = 0.001
_CREATED, _STARTED, _ENDED = range(3)


class _Queue:
    """What one listener has not read yet."""

    def __init__(self) -> None:
        self.waiting: deque[Event] = deque()
        self.lost = 0
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def put(self, event: Event) -> None:
        if len(self.waiting) >= BOUND:
            self.waiting.popleft()
            self.lost += 1
        self.waiting.append(event)
        if len(self.waiting) == 1:
            self.ring()

    def ring(self) -> None:
        os.eventfd_write(self.bell, 1)

    def close(self) -> None:
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1

    def take(self) -> Event | None:
        event = self.waiting.popleft() if self.waiting else None
        if not self.waiting:
            with suppress(BlockingIOError):
                os.eventfd_read(self.bell)
        return event


class _Record:
    """A container as listeners know it: how far it is, and what is watched for it."""

    # Of a run(): our end of the socket on which it tells that its command runs, and its own, in use until it is over.
    line: Any = None
    far: Any = None

    def __init__(self, id: str, name: str, labels: Mapping[str, str], args: Sequence[Any], stage: int) -> None:
        self.id, self.name, self.labels, self.args, self.stage = id, name, FrozenMap(labels), tuple(args), stage
        self.container = _events.containers.get(id)
        # Descriptors: of its end (the container's own), of the OOM killer, of what counts whom that took.
        self.end = self.oom = self.counter = -1
        # Processes that had been taken when it was last told of; until when one more is expected.
        self.kills, self.expected = 0, 0.0

    def taken(self) -> int | None:
        """How many the OOM killer has taken so far; None where the group is gone."""
        try:
            text = os.pread(self.counter if self.counter >= 0 else self.oom, 4096, 0)
        except OSError:
            return None
        counts = [line.split()[1] for line in text.splitlines() if line.startswith(b"oom_kill ")]
        return int(counts[0]) if counts else None

    def let_go(self) -> None:
        """Close what is its own."""
        for fd in (self.oom, self.counter):
            if fd >= 0:
                os.close(fd)
        if self.line is not None:
            self.line.close()
        self.end = self.oom = self.counter = -1

    def over(self) -> None:
        """Of a run() that has come back: nobody writes to its end any more."""
        if self.far is not None:
            self.far.close()


class Hub:
    """What all listeners of this process share, under one lock, which a drop in the middle of it may take again."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.queues: tuple[_Queue, ...] = ()
        self.records: dict[str, _Record] = {}
        self.watched: dict[int, _Record] = {}
        self.epoll: Any = None

    # Listeners come and go.

    def join(self) -> _Queue:
        with self.lock:
            queue = _Queue()
            if not self.queues:
                try:
                    self.epoll = select.epoll()
                except OSError:
                    queue.close()
                    raise
                _events.hub = self
            self.queues += (queue,)
            for made in list(_events.containers.values()):
                container = made()
                if container is not None and container._owner == os.getpid() and container.id not in self.records:
                    self._know(container)
            return queue

    def _know(self, container: Any) -> None:
        """One that was there before anybody listened."""
        stage = _CREATED if container._native is None else _STARTED if container.returncode is None else _ENDED
        record = self._record(container, stage)
        if stage == _STARTED:
            self._watch(record, container)
            record.kills = record.taken() or 0

    def _record(self, container: Any, stage: int) -> _Record:
        facts = (container.id, container.name, container.labels, container.args or ())
        record = self.records[container.id] = _Record(*facts, stage)
        return record

    def leave(self, queue: _Queue) -> None:
        with self.lock:
            self.queues = tuple(other for other in self.queues if other is not queue)
            if not self.queues and self.epoll is not None:
                _events.hub = None
                for record in self.records.values():
                    self._unwatch(record)
                self.records.clear()
                self.epoll.close()
                self.epoll = None

    def start_anew(self) -> None:
        """In a forked copy: nobody listens, and the other process's epoll is left alone."""
        _events.hub = None
        _events.containers.clear()
        if self.epoll is not None:
            self.epoll.close()
        for record in self.records.values():
            record.let_go()
            record.over()
        for queue in self.queues:
            queue.close()
        self.queues, self.epoll = (), None
        self.records.clear()
        self.watched.clear()
        self.lock.release()

    # What containers tell.

    def _tell(self, record: _Record, kind: Kind, result: Result[Any] | None = None) -> None:
        event = Event(kind, time.time(), record.id, record.name, record.labels, record.args, result)
        for queue in self.queues:
            queue.put(event)

    def created(self, container: Any) -> None:
        with self.lock:
            if self.queues and container.id not in self.records:
                self._tell(self._record(container, _CREATED), "created")

    def started(self, container: Any) -> None:
        with self.lock:
            record = self.records.get(container.id)
            if record is not None and record.stage == _CREATED:
                self._start(record)
                self._watch(record, container)

    def _start(self, record: _Record) -> None:
        record.stage = _STARTED
        self._tell(record, "started")

    def changed(self, container: Any, kind: Kind) -> None:
        with self.lock:
            record = self.records.get(container.id)
            if record is not None and record.stage == _STARTED:
                self._tell(record, kind)

    def ended(self, container: Any) -> None:
        with self.lock:
            record = self.records.get(container.id)
            if record is not None:
                self._end(record, container._verdict())

    def _end(self, record: _Record, result: Result[Any] | None) -> None:
        """Once, whoever was the first to learn of it."""
        if record.stage == _CREATED:
            self._start(record)
        if record.stage != _STARTED:
            return
        self._unwatch(record)
        if result is not None and (result.usage.oom_kills or 0) > record.kills:
            self._tell(record, "oom")
        record.stage = _ENDED
        self._tell(record, "ended", result)

    def removed(self, container: Any) -> None:
        with self.lock:
            record = self.records.pop(container.id, None)
            if record is not None:
                if record.stage == _STARTED:
                    self._end(record, None)
                self._unwatch(record)
                self._tell(record, "removed")

    def forget(self, container: Any) -> None:
        with self.lock:
            record = self.records.get(container.id)
            if record is not None:
                self._unwatch(record)

    # What run() tells, which has no handle.

    def run_begins(self, args: Sequence[Any], spec: Any) -> _Record:
        id = os.urandom(16).hex()
        record = _Record(id, id[:12], {}, args, _CREATED)
        with self.lock:
            if self.queues:
                self.records[id] = record
                self._tell(record, "created")
                with suppress(OSError):  # without a descriptor its start is told with its end
                    record.line, record.far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
                    self._add(record.line.fileno(), select.EPOLLIN, record)
                    record.end, spec.news = record.line.fileno(), record.far.fileno()
        return record

    def run_ended(self, record: _Record | None, args: Sequence[Any], result: Result[Any] | None) -> None:
        """`record`: none where nobody listened when it began."""
        with self.lock:
            if not self.queues:
                return
            if record is None or record.id not in self.records:
                id = os.urandom(16).hex()
                record = _Record(id, id[:12], {}, args, _STARTED)
            if record.end >= 0:
                self._hear(record)
            if result is not None or record.stage != _CREATED:
                self._end(record, None if result is None else result._without_output())
            self._unwatch(record)
            self.records.pop(record.id, None)
            self._tell(record, "removed")

    def _hear(self, record: _Record) -> None:
        """The command runs; with that come a number and descriptors, as of `container_oom`."""
        room = _socket.CMSG_SPACE(8)
        try:
            message, ancillary, _, _ = record.line.recvmsg(16, room, _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            message = b""
        if not message:  # it did not run
            return
        fds = [fd for *_, data in ancillary for (fd,) in struct.iter_unpack("i", data)]
        record.oom, record.counter = [*fds, -1, -1][:2]
        self._forget_fd(record.end)
        record.end = -1
        if record.stage == _CREATED:
            self._start(record)
        if record.oom >= 0:
            with suppress(OSError):
                self._add(record.oom, struct.unpack("H", message)[0], record)

    # What is watched.

    def _watch(self, record: _Record, container: Any) -> None:
        """Where no descriptor is free its end is told when somebody learns of it."""
        with suppress(Error, OSError):
            if (end := container._native.fileno()) >= 0:
                self._add(end, select.EPOLLIN, record)
                record.end = end
        self._watch_kills(record, container)

    def _watch_kills(self, record: _Record, container: Any) -> None:
        with suppress(Error, OSError):
            found = core().container_oom(container._native)
            if found is not None:
                events, record.oom, record.counter = found
                self._add(record.oom, events, record)

    def regrouped(self, container: Any) -> None:
        """It has other limits, and perhaps a group that counts whom the OOM killer takes."""
        with self.lock:
            record = self.records.get(container.id)
            if record is not None and record.stage == _STARTED and record.oom < 0:
                self._watch_kills(record, container)

    def _add(self, fd: int, events: int, record: _Record) -> None:
        self.epoll.register(fd, events)
        self.watched[fd] = record

    def _forget_fd(self, fd: int) -> None:
        if self.watched.pop(fd, None) is not None:
            with suppress(OSError):
                self.epoll.unregister(fd)

    def _unwatch(self, record: _Record) -> None:
        self._forget_fd(record.end)
        self._forget_fd(record.oom)
        record.let_go()

    def look(self) -> bool:
        """Ask those that have something to tell; True where one is to be asked again in a moment."""
        again = False
        with self.lock:
            for fd, _ in [] if self.epoll is None else self.epoll.poll(0):
                record = self.watched.get(fd)
                if record is not None:
                    again |= self._look_at(record, fd)
        return again

    def _look_at(self, record: _Record, fd: int) -> bool:
        if fd == record.oom:
            return self._look_at_kills(record)
        container = record.container() if record.container is not None else None
        if record.line is not None:
            self._hear(record)
        elif container is None:  # it is about to be dropped
            self._unwatch(record)
        else:
            self._look_at_end(record, container)
        return False

    def _look_at_end(self, record: _Record, container: Any) -> None:
        try:
            container.poll()
        except StateError:
            self._unwatch(record)
        except Error:
            self._end(record, None)

    def _look_at_kills(self, record: _Record) -> bool:
        """Version 1 says that somebody will be taken, version 2 that its counters have changed."""
        taken = record.taken()
        if taken is not None and taken > record.kills:
            record.kills = taken
            self._tell(record, "oom")
        elif record.counter >= 0 and taken is not None:
            now = time.monotonic()
            record.expected = record.expected or now + _TAKEN
            if now < record.expected:
                return True  # it stays ready meanwhile
        if taken is None:
            self._forget_fd(record.oom)
        elif record.counter >= 0:
            record.expected = 0.0
            with suppress(OSError):
                os.read(record.oom, 8)
        return False


_hub = Hub()
_hooked: list[bool] = []


def hub() -> Hub:
    """Return this process's hub; a fork gets one of its own."""
    core()  # on another system it says so
    if not _hooked:
        _hooked.append(True)
        # No fork in the middle of a change: its copy would close what it cannot know.
        os.register_at_fork(before=_hub.lock.acquire, after_in_parent=_hub.lock.release, after_in_child=_hub.start_anew)
    return _hub
