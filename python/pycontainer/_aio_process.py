"""A command in a container on asyncio: its streams in the loop, its end awaited."""

from __future__ import annotations

import asyncio
import os

from pycontainer._aio_lines import lines_of, read
from pycontainer._commands import PATIENCE
from pycontainer._errors import StateError
from pycontainer._failures import TimeoutExpired
from pycontainer._lines import OUTPUTS
from pycontainer._loop import Watch, reader, to_the_end, writer
from pycontainer._process import Text, result_of_exec
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Literal, Self

    from pycontainer._commands import ExecProcess as ExecOnThreads
    from pycontainer._lines import Lines
    from pycontainer._logs import Logged
    from pycontainer._result import Result


def seconds_of(timeout: Any) -> float | None:
    """Check a `timeout`: seconds, or None."""
    return None if timeout is None else parse_duration(timeout, "timeout", signed=True)


class Process:
    """A command in a container: `asyncio.subprocess.Process`'s names, with a Result."""

    _sync: Logged

    async def _adopt(self, text: Text, kinds: Sequence[str]) -> None:
        """Take the pipes into the loop. They are bytes here; `text` says what is made of what was read."""
        native = self._sync._native
        self._text, self._files, self._kept = text, {}, {}
        fds = list(native.take_pipes())
        if self._sync._tty and "pipe" in kinds:
            fds[:2] = [native.terminal() if kind == "pipe" else -1 for kind in kinds[:2]]
        for name in ("stdin", *OUTPUTS):
            try:
                if (fd := fds.pop(0)) >= 0:
                    self._files[name] = await (writer(fd) if name == "stdin" else reader(fd))
            except BaseException:  # a cancellation: those that no file owns yet
                for left in fds:
                    if left >= 0:
                        os.close(left)
                raise

    _text: Text
    _files: dict[str, Any]
    _kept: dict[str, bytearray]
    _watch: Watch

    @property
    def args(self) -> Any:
        """The command, as given."""
        return self._sync.args

    @property
    def pid(self) -> int:
        """The command's pid as this process sees it."""
        return self._sync.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, a killing signal negative; None while it runs."""
        return self._sync.returncode

    def _file(self, name: str) -> Any:
        self._sync._begun()
        if name not in self._files:
            raise StateError(f"{name} is not a pipe: {name}=PIPE asks for one")
        return self._files[name]

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """What the command reads, where PIPE was asked for."""
        writer: asyncio.StreamWriter = self._file("stdin")
        return writer

    @property
    def stdout(self) -> asyncio.StreamReader:
        """The command's output, where PIPE was asked for."""
        reader: asyncio.StreamReader = self._file("stdout")
        return reader

    @property
    def stderr(self) -> asyncio.StreamReader:
        """The command's errors, where PIPE was asked for."""
        reader: asyncio.StreamReader = self._file("stderr")
        return reader

    def poll(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        return self._sync.poll()

    def fileno(self) -> int:
        """Return the command's pidfd, which stays this object's."""
        return self._sync.fileno()

    def send_signal(self, signal: int | str) -> None:
        """Send a signal to the command; to nobody once it has ended."""
        self._sync.send_signal(signal)

    def terminate(self) -> None:
        """Ask the command to end: SIGTERM."""
        self._sync.terminate()

    def resize(self, rows: int, columns: int) -> None:
        """Give its terminal another size."""
        self._sync.resize(rows, columns)

    async def kill(self) -> None:
        """End the command and everything that came of it, and wait for its end."""
        self._sync.kill()
        await self._watch.until()

    async def wait(self, timeout: float | timedelta | None = None) -> int:
        """Wait for the end and return the exit status.

        Raises:
            TimeoutExpired: `timeout` seconds passed; the command runs on.
        """
        self._sync._begun()
        seconds = seconds_of(timeout)
        if self.returncode is None and not await self._watch.until(seconds):
            raise TimeoutExpired(self.args, seconds or 0.0)
        assert self.returncode is not None
        return self.returncode

    def lines(self, timeout: float | timedelta | None = None) -> AsyncIterator[tuple[str, Any]]:
        """Iterate over ("stdout" or "stderr", line) until both streams end, each in its order.

        What is a PIPE is taken from it. Lines have their newline; one of more than 1 MiB comes in pieces.

        Raises:
            TimeoutExpired: `timeout` seconds passed for all of it; the command runs on.
        """
        self._sync._begun()
        seconds = seconds_of(timeout)
        pipes = {name: self._files[name] for name in OUTPUTS if name in self._files}
        return lines_of(
            pipes, self._log_lines(), self._text.decode, seconds, lambda: TimeoutExpired(self.args, seconds or 0.0)
        )

    def _log_lines(self) -> Lines | None:
        self._sync._open()
        return self._sync._logged_lines() if self._sync._logged() else None

    def logs(self, stream: Literal["stdout", "stderr"] | None = None) -> Any:
        """Return all that is kept of a logged stream, or of both, one after the other. Also after close()."""
        return self._sync.logs(stream)

    async def communicate(self, input: Any = None, timeout: float | timedelta | None = None) -> tuple[Any, Any]:
        """Feed stdin and read what comes until the end; can be called again after a timeout.

        Returns:
            stdout and stderr: what was read of a PIPE, all that is kept of a log, otherwise None.

        Raises:
            TimeoutExpired: `timeout` seconds passed, with what has come until then; the command runs on.
        """
        self._sync._begun()
        data = b"" if input is None else self._text.encode(input)
        if input is not None and "stdin" not in self._files:
            raise ValueError("input: stdin is not a pipe; stdin=PIPE asks for one")
        seconds = seconds_of(timeout)
        try:
            async with asyncio.timeout(seconds):
                async with asyncio.TaskGroup() as group:
                    if "stdin" in self._files:
                        group.create_task(self._feed(data))
                    for name in OUTPUTS:
                        if name in self._files:
                            group.create_task(self._take(name))
                await self.wait()
        except TimeoutError:
            raise TimeoutExpired(self.args, seconds or 0.0, self._output("stdout"), self._output("stderr")) from None
        return self._output("stdout"), self._output("stderr")

    async def _feed(self, data: bytes) -> None:
        stdin = self._files["stdin"]
        try:
            if data:
                stdin.write(data)
                await stdin.drain()
            stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            stdin.close()  # as subprocess: a command may end without reading all of its input

    async def _take(self, name: str) -> None:
        kept = self._kept.setdefault(name, bytearray())
        while piece := await read(self._files[name]):
            kept += piece

    def _output(self, name: str) -> Any:
        if name in self._sync._logged():
            return self._sync._output(name)
        return self._text.decode(bytes(self._kept[name])) if name in self._kept else None

    def _close_files(self) -> None:
        for name, file in self._files.items():
            transport = file.transport if name == "stdin" else file._transport
            if not transport.is_closing():
                # What is not yet written is for nobody any more.
                transport.abort() if name == "stdin" else transport.close()


class ExecProcess(Process):
    """A command beside the first one of a container; leaving its block kills it and its children."""

    _sync: ExecOnThreads

    def __init__(self, sync: ExecOnThreads) -> None:
        self._sync = sync

    @property
    def result(self) -> Result[Any] | None:
        """What it came to; None while it runs."""
        sync: Any = self._sync
        if self.poll() is None:
            return None
        output = [self._output("stdout"), self._output("stderr")]
        return result_of_exec(sync._container, self.args, sync._end, output, ())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill what still runs, and wait for its end."""
        native: Any = self._sync._native
        native.kill("killed")
        self._close_files()
        await to_the_end(Watch(native.fileno(), native.is_gone).until(PATIENCE))
        self._sync.poll()
