"""Popen's protocol for what runs in a container: a command's streams, its end, signals. What is native waits."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import selectors
import struct
import termios
import time

from pycontainer import _arguments, _outcome
from pycontainer._errors import StateError
from pycontainer._failures import TimeoutExpired
from pycontainer._lines import Lines
from pycontainer._result import Reason, Result, Usage
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_duration, parse_int

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta
    from types import TracebackType
    from typing import IO, Any, Self


_PIECE = 1 << 16


class Text:
    """How the streams of a command are read: as bytes, or as str of an encoding."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.mode = _arguments.text_mode(given["text"], given["encoding"], given["errors"])
        self.encoding, self.errors = given["encoding"], given["errors"]

    def encode(self, data: Any) -> bytes:
        return _outcome.encode(data, self.mode, self.encoding, self.errors)

    def decode(self, data: bytes) -> Any:
        return _outcome.decode(data, self.encoding, self.errors) if self.mode else data

    def open(self, fd: int, mode: str) -> IO[Any]:
        """A file of the descriptor, as Popen makes it."""
        file = open(fd, mode + "b", -1)  # noqa: SIM115
        if not self.mode:
            return file
        encoding = self.encoding or "utf-8"
        if mode == "w":
            return io.TextIOWrapper(file, encoding, self.errors, write_through=True)
        return io.TextIOWrapper(file, encoding, self.errors or "replace")


class Process:
    """A command in a container: what `subprocess.Popen` is to a process.

    Attributes:
        args: the command, as given.
        pid: its number as this process sees it.
        returncode: its exit status, a killing signal negative; None while it runs.
    """

    args: Any
    returncode: int | None = None
    _native: Any = None
    _text: Text
    _kinds: tuple[str, str, str] = ("null", "null", "null")
    _pid = 0

    if TYPE_CHECKING:

        def _lines(self) -> Lines: ...

    def _adopt(self) -> None:
        """Take what the start has left: the pipes, or the terminal."""
        self._files: dict[str, IO[Any]] = {}
        self._kept: dict[str, bytearray] = {}
        self._pid = self._native.command()[0]
        fds = list(self._native.take_pipes())
        if self._tty and "pipe" in self._kinds:
            if self._kinds[0] == "pipe":
                fds[0] = self._native.terminal()
            if self._kinds[1] == "pipe":
                fds[1] = self._native.terminal()
        for name, fd in zip(("stdin", "stdout", "stderr"), fds, strict=True):
            if fd >= 0:
                self._files[name] = self._text.open(fd, "w" if name == "stdin" else "r")

    @property
    def _tty(self) -> bool:
        return False

    def _file(self, name: str) -> IO[Any]:
        self._begun()
        if name not in self._files:
            raise StateError(f"{name} is not a pipe: {name}=PIPE asks for one")
        return self._files[name]

    def _begun(self) -> None:
        if self._native is None:
            raise StateError("the container was not started: start() does")

    @property
    def stdin(self) -> IO[Any]:
        """The file that the command reads from, where PIPE was asked for."""
        return self._file("stdin")

    @property
    def stdout(self) -> IO[Any]:
        """The file to read the command's output from, where PIPE was asked for."""
        return self._file("stdout")

    @property
    def stderr(self) -> IO[Any]:
        """The file to read the command's errors from, where PIPE was asked for."""
        return self._file("stderr")

    @property
    def pid(self) -> int:
        """The command's pid as this process sees it."""
        self._begun()
        return self._pid

    def fileno(self) -> int:
        """Return the command's pidfd: readable when it has ended. It stays this object's."""
        self._begun()
        return int(self._native.command()[1])

    # The two that know how to look at the end; of a container they are replaced.
    def _look(self, end: Any) -> bool:
        if end is not None and self.returncode is None:
            self._end = end
            self.returncode = end["returncode"]
        return self.returncode is not None

    def poll(self) -> int | None:
        """Return the exit status, or None while the command runs. Waits for nothing."""
        self._begun()
        if self.returncode is None:
            self._look(self._native.poll())
        return self.returncode

    def wait(self, timeout: float | timedelta | None = None) -> int:
        """Wait for the end and return the exit status.

        Args:
            timeout: seconds.

        Raises:
            TimeoutExpired: it passed; the command runs on.
        """
        self._begun()
        seconds = _seconds(timeout)
        if self.returncode is None and not self._look(self._native.wait(seconds)):
            raise TimeoutExpired(self.args, seconds or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, signal: int | str) -> None:
        """Send a signal to the command; to nobody once it has ended.

        Args:
            signal: a number, a `signal.Signals`, or a name with or without "SIG".

        Raises:
            ValueError: there is no such signal.
        """
        number = _arguments.signal_number(signal)
        self._begun()
        self._native.signal(number)

    def terminate(self) -> None:
        """Ask the command to end: SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """End the command and everything that came of it."""
        self._begun()
        self._native.kill("killed")

    def resize(self, rows: int, columns: int) -> None:
        """Give its terminal another size.

        Raises:
            StateError: it has no terminal.
        """
        size = struct.pack("HHHH", parse_int(rows, "rows", 1, 65535), parse_int(columns, "columns", 1, 65535), 0, 0)
        self._begun()
        fd = self._native.terminal()
        if fd < 0:
            raise StateError("there is no terminal to resize: tty=True asks for one")
        try:
            fcntl.ioctl(fd, termios.TIOCSWINSZ, size)
        finally:
            os.close(fd)

    def lines(self, timeout: float | timedelta | None = None) -> Iterator[tuple[str, Any]]:
        """Iterate over ("stdout" or "stderr", line) until both streams end, each in its order.

        What is a PIPE is taken from it. Lines have their newline; one of more than 1 MiB comes in pieces.

        Args:
            timeout: seconds for all of it.

        Raises:
            TimeoutExpired: it passed; the command runs on.
        """
        self._begun()
        seconds = _seconds(timeout)
        lines = self._lines()
        return lines.until(seconds, lambda: TimeoutExpired(self.args, seconds or 0.0))

    def communicate(self, input: Any = None, timeout: float | timedelta | None = None) -> tuple[Any, Any]:
        """Feed stdin and read what comes until the end, as Popen.communicate does; can be called again after a timeout.

        Args:
            input: what goes into stdin, which must be a PIPE.
            timeout: seconds.

        Returns:
            stdout and stderr: what was read of a PIPE, all that is kept of a log, otherwise None.

        Raises:
            TimeoutExpired: it passed, with what has come until then; the command runs on.
        """
        self._begun()
        data = b"" if input is None else self._text.encode(input)
        if input is not None and "stdin" not in self._files:
            raise ValueError("input: stdin is not a pipe; stdin=PIPE asks for one")
        seconds = _seconds(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        if not self._exchange(data, deadline):
            raise self._expired(seconds)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            self.wait(left)
        except TimeoutExpired:
            raise self._expired(seconds) from None
        return self._output("stdout"), self._output("stderr")

    def _expired(self, seconds: float | None) -> TimeoutExpired:
        return TimeoutExpired(self.args, seconds or 0.0, self._output("stdout"), self._output("stderr"))

    def _output(self, name: str) -> Any:
        return self._text.decode(bytes(self._kept[name])) if name in self._kept else None

    def _exchange(self, data: bytes, deadline: float | None) -> bool:
        """Serve the pipes until they end; False where the time passed first."""
        with selectors.DefaultSelector() as selector:
            self._register(selector, data)
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                for key, _events in selector.select(left):
                    if key.data == "stdin":
                        self._feed(selector, key.fileobj)
                    else:
                        self._take(selector, key.fileobj, key.data)
        return True

    def _register(self, selector: Any, data: bytes) -> None:
        stdin = self._files.get("stdin")
        if stdin is not None and not stdin.closed:
            _ignoring_broken(stdin.flush)
            self._input = getattr(self, "_input", b"") + data
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, 2)
            selector.modify(stdin, 2, "stdin")
        for name in ("stdout", "stderr"):
            file = self._files.get(name)
            if file is not None and not file.closed:
                self._kept.setdefault(name, bytearray())
                selector.register(file, 1, name)

    def _feed(self, selector: Any, stdin: Any) -> None:
        try:
            self._input = self._input[os.write(stdin.fileno(), self._input[:_PIECE]) :] if self._input else b""
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input = b""
        if not self._input:
            selector.unregister(stdin)
            _ignoring_broken(stdin.close)

    def _take(self, selector: Any, file: Any, name: str) -> None:
        try:
            piece = os.read(file.fileno(), _PIECE)
        except OSError:  # EIO: the last inner end of a terminal was closed
            piece = b""
        self._kept[name] += piece
        if not piece:
            selector.unregister(file)
            file.close()

    def _close_files(self) -> None:
        for file in self._files.values():
            _ignoring_broken(file.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill what still runs, and wait for its end."""
        self._native.kill("killed")
        self._close_files()
        self.wait()


def result_of_exec(container: Any, args: Any, end: Any, output: Any, truncated: Any) -> Result[Any]:
    """Make the Result of a command beside the first one; the container's guarantees are its own."""
    reason = end["reason"]
    if end["lost"] and container._ends_within(1.0) and container.result is not None:
        reason = container.result.reason  # it died of what the container died of
    return Result(
        args,
        end["returncode"],
        *output,
        reason=Reason(reason),
        usage=lambda: _usage_of_exec(end),
        enforced=container.enforced,
        truncated=truncated,
    )


def _usage_of_exec(end: Any) -> Usage:
    user, system = end["cpu_user"], end["cpu_system"]
    return Usage(wall=end["wall"], cpu=user + system, cpu_user=user, cpu_system=system, memory_peak=end["memory_peak"])


def _seconds(timeout: Any) -> float | None:
    return None if timeout is None else parse_duration(timeout, "timeout", signed=True)


def _ignoring_broken(action: Any) -> None:
    """As subprocess: a command may end without reading all of its input."""
    with contextlib.suppress(BrokenPipeError):
        action()
