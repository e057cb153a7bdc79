"""What a container can be waited for, how each is looked at, and the wait for all. Runs nothing but for wait.exec()."""

from __future__ import annotations

import errno
import os
import re
import select
import time

from pycontainer._errors import ContainerEnded, Error, NotSupported, SetupError, StateError
from pycontainer._failures import TimeoutExpired
from pycontainer._lines import OUTPUTS, Follower
from pycontainer._text import TYPE_CHECKING, last_lines, shown
from pycontainer._types import Frozen, FrozenMap

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    # Whether it is so now. The number is how many seconds a look may take.
    Look: TypeAlias = Callable[[float], bool]

# Seconds between two looks at what gives no sign.
FIRST_PAUSE = 0.005
LAST_PAUSE = 0.1
# Seconds that one attempt may take, where the whole wait has no end: who answers later is asked again.
ATTEMPT = 10.0
# Milliseconds for PID 1 to give a socket.
_PATIENCE = 500
ANSWER_MAX = 4096
_TAIL = 8192
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}


class Condition(Frozen):
    """Base of what wait_for() takes: a value, made by the functions of `pycontainer.wait`."""

    __slots__ = ()

    if TYPE_CHECKING:

        def describe(self) -> str:
            """Say it for a message: "port 5432"."""

        def _watch(self, container: Any) -> Look: ...

    def _gives_signs(self) -> bool:
        """Whether news of the log are all that there is to wait for."""
        return False


class LogCondition(Condition):
    """Made by wait.log()."""

    __slots__ = ("pattern", "stream")
    pattern: bytes | re.Pattern[str] | re.Pattern[bytes]
    stream: str | None

    def describe(self) -> str:
        pattern = self.pattern.pattern if isinstance(self.pattern, re.Pattern) else self.pattern
        return f"{shown(pattern if isinstance(pattern, str) else pattern.decode(errors='replace'))} in {self._where()}"

    def _where(self) -> str:
        return self.stream or "the log"

    def _gives_signs(self) -> bool:
        return True

    def _found(self, line: bytes) -> bool:
        pattern = self.pattern
        if not isinstance(pattern, re.Pattern):
            return pattern in line
        return pattern.search(line.decode(errors="replace") if isinstance(pattern.pattern, str) else line) is not None  # type: ignore[arg-type]

    def _watch(self, container: Any) -> Look:
        names = container._logged() if self.stream is None else (self.stream,)
        if not names or any(name not in container._logged() for name in names):
            raise StateError(f"wait.log: {self._where()} is not logged: it was asked for elsewhere")
        followed = [Follower(name, container._log()) for name in names]
        return lambda left: any(self._look(stream) for stream in followed)

    def _look(self, stream: Follower) -> bool:
        while stream.take():
            if any(self._found(line) for line in stream.lines()):
                return True
        return self._found(bytes(stream.rest))  # a prompt has no newline


class PortCondition(Condition):
    """Made by wait.port()."""

    __slots__ = ("port", "protocol")
    port: int
    protocol: str

    def describe(self) -> str:
        return f"port {self.port}" if self.protocol == "tcp" else f"port {self.port}/{self.protocol}"

    def _watch(self, container: Any) -> Look:
        return lambda left: _listens(container, self.port, self.protocol)


class HttpCondition(Condition):
    """Made by wait.http()."""

    __slots__ = ("path", "port", "status")
    port: int
    path: str
    status: frozenset[int]

    def describe(self) -> str:
        return f"an answer to GET {shown(self.path)} at port {self.port}"

    def _watch(self, container: Any) -> Look:
        self._check(container)
        return lambda left: self._is_it(_asked(container, self, time.monotonic() + left))

    def _check(self, container: Any) -> None:
        if container._spec.pid1:
            raise NotSupported("wait.http", "with pid1=True nothing of ours is inside that could ask", "wait.port()")

    def _is_it(self, answer: bytes) -> bool:
        found = re.match(rb"HTTP/\d(?:\.\d)? (\d{3})\b", answer)
        status = int(found[1]) if found else 0
        return status in self.status if self.status else 200 <= status < 300

    def _question(self) -> bytes:
        host = f"Host: localhost:{self.port}\r\nUser-Agent: pycontainer\r\nConnection: close"
        return f"GET {self.path} HTTP/1.1\r\n{host}\r\n\r\n".encode()


class ExecCondition(Condition):
    """Made by wait.exec()."""

    __slots__ = ("args", "cwd", "env", "user")
    args: tuple[Any, ...]
    user: int | str | None
    env: FrozenMap[str, Any] | None
    cwd: Any

    def describe(self) -> str:
        return f"status 0 of {shown(list(self.args))}"

    def _watch(self, container: Any) -> Look:
        return lambda left: self._ran(container, left)

    def _ran(self, container: Any, left: float) -> bool:
        try:
            result = container.exec(list(self.args), user=self.user, env=self.env, cwd=self.cwd, timeout=left)
        except (StateError, TimeoutExpired):  # it has ended, or is paused: who waits looks at that
            return False
        return bool(result.returncode == 0)


class FileCondition(Condition):
    """Made by wait.file()."""

    __slots__ = ("path",)
    path: str

    def describe(self) -> str:
        return f"the file {shown(self.path)}"

    def _watch(self, container: Any) -> Look:
        return lambda left: self._is_there(container)

    def _is_there(self, container: Any) -> bool:
        try:
            container.read_bytes(self.path, 0)
        except ValueError:  # more than nothing is in it
            return True
        except SetupError as error:  # a directory, a socket: not to be read, and there
            return error.errno not in _NOT_THERE
        return True


class AnyCondition(Condition):
    """Made by wait.any_of()."""

    __slots__ = ("conditions",)
    conditions: tuple[Condition, ...]

    def describe(self) -> str:
        return f"any of ({', '.join(condition.describe() for condition in self.conditions)})"

    def _gives_signs(self) -> bool:
        return all(condition._gives_signs() for condition in self.conditions)

    def _watch(self, container: Any) -> Look:
        looks = [condition._watch(container) for condition in self.conditions]
        return lambda left: any(look(left) for look in looks)


# ---- looks ---------------------------------------------------------------------------------------------------------


def _listens(container: Any, port: int, protocol: str) -> bool:
    """Whether somebody listens there, as the kernel's table says: the service is not called up for it.

    The table is that of the command's network namespace, in /proc/PID/net, which every user may read.
    """
    wanted = f":{port:04X}"
    state = "0A" if protocol == "tcp" else "07"  # TCP_LISTEN; of a datagram socket that is bound, TCP_CLOSE
    for family in ("", "6"):
        try:
            with open(f"/proc/{container.pid}/net/{protocol}{family}") as table:
                rows = [line.split() for line in table][1:]
        except FileNotFoundError:  # no IPv6; or the command has ended
            continue
        if any(row[1].endswith(wanted) and row[3] == state for row in rows):
            return container.poll() is None
    return False


def sockets(container: Any) -> Iterator[tuple[socket.socket, str]]:
    """Sockets of the container's network namespace, of either family, and the address to connect each to."""
    import socket  # noqa: PLC0415 - milliseconds of every import, for what few ask

    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            fd = container._native.socket(int(family), _PATIENCE)
        except Error:  # a machine without IPv6
            continue
        if fd < 0:  # it has ended, or is paused
            return
        with socket.socket(fileno=fd) as made:
            yield made, address


def _asked(container: Any, condition: HttpCondition, deadline: float) -> bytes:
    """The first line of the answer; nothing where there is none."""
    for connected, address in sockets(container):
        answer = b""
        try:
            connected.settimeout(max(deadline - time.monotonic(), 0.001))
            connected.connect((address, condition.port))
            connected.sendall(condition._question())
            while b"\n" not in answer and len(answer) < ANSWER_MAX:
                connected.settimeout(max(deadline - time.monotonic(), 0.001))
                if not (piece := connected.recv(ANSWER_MAX)):
                    break
                answer += piece
        except OSError:
            continue
        return answer
    return b""


# ---- the wait ------------------------------------------------------------------------------------------------------


def wait_for(container: Any, conditions: Iterable[Condition], seconds: float | None) -> None:
    """Come back when each of them was so once.

    Raises:
        TimeoutExpired: the time passed; the container runs on.
        ContainerEnded: it ended before.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    waiting = [(condition, condition._watch(container)) for condition in conditions]
    news = _News(container)
    try:
        while True:
            ended = container.poll() is not None
            attempt = ATTEMPT if deadline is None else max(0.0, deadline - time.monotonic())
            waiting = [(condition, look) for condition, look in waiting if not look(attempt)]
            if not waiting:
                return
            missing = ", ".join(condition.describe() for condition, _ in waiting)
            if ended:
                raise ended_before(container, missing)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise expired_before(container, seconds or 0.0, missing)
            news.wait(left, all(condition._gives_signs() for condition, _ in waiting))
    finally:
        news.close()


class _News:
    """Wakes for what the log gets and for the container's end; else after a pause, which becomes longer."""

    def __init__(self, container: Any) -> None:
        self._native = container._native
        self._pause = FIRST_PAUSE
        try:
            self._listener = int(self._native.listen()) if container._logged() else -1
        except Error:  # the keeper died, and the container with it
            self._listener = -1

    def wait(self, left: float | None, signs_only: bool) -> None:
        poll = select.poll()
        for fd in (self._listener, self._native.fileno()):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        pause = None if signs_only and self._listener >= 0 else self._pause
        self._pause = min(self._pause * 1.5, LAST_PAUSE)
        times = [time for time in (left, pause) if time is not None]
        seen = dict(poll.poll(min(times) * 1000 if times else None))
        if self._listener in seen and not os.read(self._listener, 4096):
            self.close()

    def close(self) -> None:
        if self._listener >= 0:
            os.close(self._listener)
            self._listener = -1


def expired_before(container: Any, seconds: float, missing: str) -> TimeoutExpired:
    said = f"still waiting for {missing}{_last_words(container)}"
    return TimeoutExpired(container.args, seconds, container._output("stdout"), container._output("stderr"), hint=said)


def ended_before(container: Any, missing: str) -> ContainerEnded:
    result = container.result
    how = f"status {result.returncode}" if result is not None else "its end"
    return ContainerEnded(
        f"the container ended ({how}) before there was {missing}{_last_words(container)}", result=result
    )


def _last_words(container: Any) -> str:
    """The last lines of its log, for the end of a message."""
    said = ""
    for name in container._logged():
        total = container._log().read(OUTPUTS.index(name), 1 << 62, 0)[1]
        tail = last_lines(container._log().read(OUTPUTS.index(name), max(0, total - _TAIL), _TAIL)[0])
        said += f"\nthe last lines of {name}:\n{tail}" if tail else ""
    return said


def conditions_of(given: tuple[Any, ...], argument: str) -> tuple[Condition, ...]:
    """Check that there is one, and that all are of wait's."""
    for value in given:
        if not isinstance(value, Condition):
            raise TypeError(
                f"{argument} must be of pycontainer.wait, such as wait.port(80), not {type(value).__name__}"
            )
    if not given:
        raise ValueError(f"{argument}: there is nothing to wait for")
    return given
