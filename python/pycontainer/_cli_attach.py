"""This process's streams and those of a command in a container, carried both ways to its end. By Popen's protocol."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
from types import FrameType

import pycontainer as pc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

STDIN, STDOUT, STDERR = 0, 1, 2
_PIECE = 1 << 16
# What docker's client hands on to the command. Of the first two it obeys the third one itself.
_ASKING = (signal.SIGINT, signal.SIGTERM)
_HANDED_ON = (*_ASKING, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_ENOUGH = 3


def streams(*, interactive: bool, tty: bool) -> dict[str, Any]:
    """What the command gets: this process's own descriptors, and where they are terminals a pipe that is copied."""
    if tty:
        return {"stdin": pc.PIPE if interactive else None, "stdout": pc.PIPE}
    made: dict[str, Any] = {"stdin": _stream(STDIN) if interactive else None}
    return made | {"stdout": _stream(STDOUT), "stderr": _stream(STDERR)}


def _stream(number: int) -> Any:
    return pc.PIPE if os.isatty(number) else pc.INHERIT


def size() -> tuple[int, int] | None:
    """Rows and columns of the first of this process's streams that is a terminal."""
    for number in (STDOUT, STDIN):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(number)
            if rows and columns:
                return rows, columns
    return None


class Carrier:
    """Copies for one command: keys and lines in, output out, and the terminal's size where it has one.

    Args:
        process: a Container or Process whose streams are those of streams().
        given: what streams() said.
        tty: whether it has a terminal.
        hands_on: whether signals that come here are for the command; otherwise they end this process.
    """

    def __init__(self, process: Any, given: dict[str, Any], *, tty: bool, hands_on: bool = False) -> None:
        self._process, self._tty = process, tty
        self._hands_on, self._asked = hands_on, 0
        self._waiting = b""
        self._files = {name: getattr(process, name) for name, stream in given.items() if stream is pc.PIPE}
        self._outputs = {name: STDERR if name == "stderr" else STDOUT for name in self._files if name != "stdin"}
        self._selector = selectors.DefaultSelector()

    def carry(self) -> int:
        """Copy until the command has ended and all of its output is out; return docker's exit code."""
        with self._selector, self._hearing():
            for name, file in self._files.items():
                os.set_blocking(file.fileno(), False)
                if name in self._outputs:
                    self._selector.register(file.fileno(), selectors.EVENT_READ, name)
            if "stdin" in self._files:
                self._selector.register(STDIN, selectors.EVENT_READ, "keys")
            ended = self._process.fileno()
            self._selector.register(ended, selectors.EVENT_READ, "end")
            over = False
            while self._outputs or not over:
                events = {key.data for key, _ in self._selector.select(0.05 if over else None)}
                if over and not events - {"keys"}:
                    break  # who has inherited the pipe writes when the command is long gone
                for event in events:
                    if event == "end":
                        self._selector.unregister(ended)
                        over = True
                    else:
                        self._serve(event)
        code: int = self._process.wait()
        return code if code >= 0 else 128 - code

    def _serve(self, event: str) -> None:
        if event == "keys":
            self._read_keys()
        elif event == "room":
            self._feed()
        elif event == "news":
            for number in self._drain_news():
                self._heard(number)
        elif event in self._outputs:
            self._show(event)

    def _show(self, name: str) -> None:
        file = self._files[name]
        try:
            piece = os.read(file.fileno(), _PIECE)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last inner end of a terminal was closed
            piece = b""
        if not piece:
            self._selector.unregister(file.fileno())
            del self._outputs[name]
            return
        _write_all(self._outputs[name], piece)

    def _read_keys(self) -> None:
        try:
            piece = os.read(STDIN, _PIECE)
        except OSError:  # it has hung up
            piece = b""
        self._selector.unregister(STDIN)
        if not piece:
            with contextlib.suppress(OSError):
                self._files["stdin"].close()
            return
        # No more is read before this was taken: what is typed ahead stays with the terminal.
        self._waiting = piece
        self._feed(first=True)

    def _feed(self, first: bool = False) -> None:
        number = self._files["stdin"].fileno()
        try:
            self._waiting = self._waiting[os.write(number, self._waiting) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more
            self._waiting = b""
        if self._waiting and first:
            self._selector.register(number, selectors.EVENT_WRITE, "room")
        elif not self._waiting:
            if not first:
                self._selector.unregister(number)
            self._selector.register(STDIN, selectors.EVENT_READ, "keys")

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[None]:
        """Hear of each signal for the command, and of each change of the size of a terminal that it has."""
        follows = self._tty and size() is not None
        wanted = [signal.SIGWINCH] if follows else []
        if self._hands_on:
            # Not what this process was told to ignore: by nohup, or by a shell that runs it in the background.
            wanted += [number for number in _HANDED_ON if signal.getsignal(number) != signal.SIG_IGN]
        self._wanted = set(wanted)
        self._news, bell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Not by the handler, which Python runs between two of its instructions: of a signal that comes just before a
        # select it would tell after that.
        waked = signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._asked_to_end) for number in wanted}
        try:
            self._selector.register(self._news, selectors.EVENT_READ, "news")
            if follows:
                self._tell_size()  # it may have changed since the command was started
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(waked)
            os.close(self._news)
            os.close(bell)

    def _asked_to_end(self, number: int, _frame: FrameType | None) -> None:
        self._asked += number in _ASKING
        if self._asked >= _ENOUGH:
            raise SystemExit(128 + number)  # it does not want to: all of it is killed

    def _heard(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._tell_size()
        elif number in self._wanted:
            self._process.send_signal(number)

    def _drain_news(self) -> bytes:
        try:
            return os.read(self._news, _PIECE)
        except BlockingIOError:
            return b""

    def _tell_size(self) -> None:
        found = size()
        if found is not None:
            with contextlib.suppress(pc.Error, OSError):
                self._process.resize(*found)


def _write_all(number: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:  # somebody else has made this terminal so
            select.select([], [number], [])
