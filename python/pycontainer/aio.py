"""The same names on asyncio: run(), Container, Process. Descriptors in the loop; no thread, no child watcher.

What can wait is awaited. A cancelled run(), start() or exec() kills what it has begun, reaps and removes it before the
cancellation goes on; so does leaving the block of a Container or of a Process.
"""

from __future__ import annotations

import asyncio
import os

from pycontainer import _container, _outcome, _process
from pycontainer._beside import BesideSpec
from pycontainer._errors import CommandNotFound, StateError
from pycontainer._failures import TimeoutExpired
from pycontainer._lines import OUTPUTS
from pycontainer._loop import Exchange, Watch, reader, to_the_end, writer
from pycontainer._native import core
from pycontainer._process import Text, result_of_exec
from pycontainer._result import Reason, Result
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import INHERIT, PIPE, parse_bool, parse_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Literal, Self

    from pycontainer._limits import Limits
    from pycontainer._lines import Lines
    from pycontainer._options import Stream
    from pycontainer._result import Guarantee
    from pycontainer._types import Arg

__all__ = ["Container", "Process", "run"]

_PIECE = 1 << 16


class Process:
    """A command in a container: `asyncio.subprocess.Process`'s names, with a Result."""

    _sync: _process.Process

    async def _adopt(self, text: Text, kinds: Sequence[str]) -> None:
        """Take the pipes into the loop. They are bytes here; `text` says what is made of what was read."""
        native = self._sync._native
        self._text, self._files, self._kept = text, {}, {}
        fds = list(native.take_pipes())
        if self._sync._tty and "pipe" in kinds:
            fds[:2] = [native.terminal() if kind == "pipe" else -1 for kind in kinds[:2]]
        for name, fd in zip(("stdin", *OUTPUTS), fds, strict=True):
            if fd >= 0:
                self._files[name] = await (writer(fd) if name == "stdin" else reader(fd))
        self._watch = Watch(native.fileno(), lambda: self._sync.poll() is not None)

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
        seconds = _seconds(timeout)
        if self.returncode is None and not await self._watch.until(seconds):
            raise TimeoutExpired(self.args, seconds or 0.0)
        assert self.returncode is not None
        return self.returncode

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
        seconds = _seconds(timeout)
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
        while piece := await _read(self._files[name]):
            kept += piece

    def _output(self, name: str) -> Any:
        return self._text.decode(bytes(self._kept[name])) if name in self._kept else None

    def _close_files(self) -> None:
        for name, file in self._files.items():
            transport = file.transport if name == "stdin" else file._transport
            transport.abort() if name == "stdin" else transport.close()


async def _read(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.read(_PIECE)
    except OSError:  # EIO: the last inner end of a terminal was closed
        return b""


class ExecProcess(Process):
    """A command beside the first one of a container, from Container.popen(). Leaving its block kills it and its children."""

    def __init__(self, sync: _process.ExecProcess) -> None:
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
        self._sync.kill()
        self._close_files()
        await to_the_end(self.wait())


class Container(Process):
    """A container, as `pycontainer.Container`, on asyncio: what can wait is awaited. Its parameters are the same."""

    _sync: _container.Container

    def __init__(self, args: Sequence[Arg] | None = None, **options: Any) -> None:
        self._sync = _container.Container(args, **options)

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return self._sync.id

    @property
    def name(self) -> str:
        """As given, or the first 12 digits of the id."""
        return self._sync.name

    @property
    def labels(self) -> dict[str, str]:
        """As given."""
        return self._sync.labels

    @property
    def state(self) -> str:
        """CREATED, RUNNING, PAUSED, EXITED or REMOVED."""
        return self._sync.state

    @property
    def limits(self) -> Limits:
        """The Limits that hold."""
        return self._sync.limits

    @property
    def result(self) -> Result[Any] | None:
        """What it came to; None while it runs."""
        if self._sync._native is not None and self._sync._result is None:
            for name, kept in self._kept.items():
                self._sync._kept[name] = kept
        return self._sync.result

    @property
    def enforced(self) -> Mapping[str, Guarantee]:
        """What was asked and what is never skipped, and how it is held."""
        return self._sync.enforced

    def logs(self, stream: Literal["stdout", "stderr"] | None = None) -> Any:
        """Return all that is kept of a logged stream, or of both, one after the other. Also after close()."""
        return self._sync.logs(stream)

    async def start(self) -> Self:
        """Start the command, and come back when it runs. Raises as `pycontainer.Container.start`."""
        await self._begin()
        await self._adopt(self._sync._text, self._sync._kinds)
        return self

    async def _begin(self) -> None:
        """Start it, and leave its pipes alone."""
        sync = self._sync
        sync._startable()
        native = core().launch(sync._spec)
        try:
            await Watch(native.fileno(), native.runs).until()
        except CommandNotFound as error:
            raise _outcome.with_mount_hint(error, sync._spec) from None
        except asyncio.CancelledError:
            await to_the_end(_remove(native))
            raise
        sync._native, sync._files, sync._kept = native, {}, {}
        sync._pid = native.command()[0]
        self._files, self._kept, self._text = {}, {}, sync._text
        self._watch = Watch(native.fileno(), lambda: sync.poll() is not None)

    async def _whole(self, data: bytes, seconds: float | None, check: bool) -> Result[Any]:
        """Feed it, keep what comes, and make the Result at its end."""
        sync = self._sync
        native = sync._native
        limits = sync._spec

        def too_much() -> None:
            if limits.output_kills:
                native.kill("output")

        exchange = Exchange(_ends(native, sync._tty, bool(data)), data, limits.output, too_much)  # type: ignore[attr-defined]
        try:
            expired = not await self._watch.until(seconds)
            if expired:
                native.kill("timeout")
                await self._watch.until()
        finally:
            exchange.finish()
        sync._kept, sync._cut = exchange.kept, exchange.cut
        result = sync.result
        assert result is not None
        if expired and result.reason == Reason.TIMEOUT:
            raise TimeoutExpired(self.args, seconds or 0.0, result.stdout, result.stderr, result=result)
        if check:
            result.check_returncode()
        return result

    def _output(self, name: str) -> Any:
        return self._sync._output(name) if name in self._sync._logged() else super()._output(name)

    async def run(
        self, input: Any = None, timeout: float | timedelta | None = None, check: bool = False
    ) -> Result[Any]:
        """Start it unless it runs, and wait for its end; a timeout, and a cancellation, kill it."""
        check = parse_bool(check, "check")
        if self.state == "CREATED":
            await self.start()
        try:
            await self.communicate(input, timeout)
        except TimeoutExpired as expired:
            self._sync._native.kill("timeout")
            await to_the_end(self.wait())
            result = self.result
            assert result is not None
            raise TimeoutExpired(self.args, expired.timeout, result.stdout, result.stderr, result=result) from None
        except asyncio.CancelledError:
            await to_the_end(self.close())
            raise
        result = self.result
        assert result is not None
        if check:
            result.check_returncode()
        return result

    async def stop(self, grace: float | timedelta = 10) -> None:
        """Ask the command to end, and kill all of it after `grace` seconds."""
        seconds = parse_duration(grace, "grace", signed=True)
        self._sync._open()
        if self.poll() is None:
            self._sync._native.signal(_container._TERM)
            if not await self._watch.until(max(0.0, seconds)):
                self._sync._native.kill("stopped")
                await self._watch.until()

    async def lines(self, timeout: float | timedelta | None = None) -> AsyncIterator[tuple[str, Any]]:
        """Iterate over ("stdout" or "stderr", line) of what is logged, until its streams end.

        Raises:
            TimeoutExpired: `timeout` seconds passed; the command runs on.
            StateError: nothing is logged: streams that are a PIPE are read from `stdout` and `stderr`.
        """
        self._sync._open()
        if not self._sync._logged():
            raise StateError("nothing is logged: read from stdout and stderr")
        seconds = _seconds(timeout)
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        lines = self._sync._logged_lines()
        listener = lines.listen()
        try:
            watch = None if listener < 0 else Watch(listener, _news(listener, lines))
            while True:
                for stream, line in lines.come():
                    yield stream, line
                if lines.ended or watch is None:
                    return
                if not await watch.until(None if deadline is None else deadline - loop.time()):
                    raise TimeoutExpired(self.args, seconds or 0.0)
        finally:
            if listener >= 0:
                os.close(listener)

    async def exec(
        self,
        args: Sequence[Arg],
        *,
        input: Any = None,
        user: int | str | None = None,
        env: Mapping[str, Arg | None] | None = None,
        cwd: Arg | None = None,
        tty: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
    ) -> Result[Any]:
        """Run a command in the container and wait for it. A timeout and a cancellation kill it and all that came of it."""
        given = {**locals(), "stdin": None if input is None else PIPE, "stdout": PIPE, "stderr": None if tty else PIPE}
        check = parse_bool(check, "check")
        seconds = _seconds(timeout)
        text_of = Text(given)
        data = b"" if input is None else text_of.encode(input)
        native, spec = await self._launch({**given, "input": None})
        watch = Watch(native.fileno(), lambda: native.poll() is not None)

        def too_much() -> None:
            if spec.output_kills:
                native.kill("output")

        exchange = Exchange(_ends(native, spec.tty, input is not None), data, spec.output, too_much)
        try:
            if not await watch.until(seconds):
                native.kill("timeout")
                await watch.until()
        except asyncio.CancelledError:
            native.kill("killed")
            await to_the_end(watch.until())
            raise
        finally:
            exchange.finish()
        end = native.poll()
        output = [text_of.decode(bytes(exchange.kept.get(name, b""))) for name in OUTPUTS]
        result = result_of_exec(self._sync, args, end, output, exchange.cut)
        if end["reason"] == "timeout":
            raise TimeoutExpired(args, seconds or 0.0, *output, result=result)
        if check:
            result.check_returncode()
        return result

    async def popen(
        self,
        args: Sequence[Arg],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        user: int | str | None = None,
        env: Mapping[str, Arg | None] | None = None,
        cwd: Arg | None = None,
        tty: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> ExecProcess:
        """Start a command in the container, and come back when it runs."""
        given = {**locals(), "timeout": None, "input": None}
        text_of = Text(given)
        native, spec = await self._launch(given)
        process = ExecProcess(_process.ExecProcess(self._sync, native, args, spec, text_of, adopt=False))
        await process._adopt(text_of, (spec.stdin[0], spec.stdout[0], spec.stderr[0]))
        return process

    async def _launch(self, given: Mapping[str, Any]) -> tuple[Any, BesideSpec]:
        """Start a command beside the first one, and leave its pipes alone."""
        spec = BesideSpec(self._sync._spec, given, handle=True)
        running = self._sync._running()
        self._sync._can_exec()
        native = running.launch(spec)
        try:
            await Watch(native.fileno(), native.runs).until()
        except CommandNotFound as error:
            raise _outcome.with_mount_hint(error, spec) from None
        except asyncio.CancelledError:
            native.kill("killed")
            await to_the_end(Watch(native.fileno(), lambda: native.poll() is not None).until())
            raise
        return native, spec

    async def close(self) -> None:
        """Kill what runs in it and remove it. Facts, result and logs remain; everything else is StateError."""
        sync = self._sync
        if sync._native is not None and not sync._closed:
            if self.poll() is None:
                sync._native.kill("killed")
                await to_the_end(self._watch.until())
            self._close_files()
        sync.close()

    async def __aenter__(self) -> Self:
        if self._sync._native is None:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill what runs in it and remove it."""
        if os.getpid() == self._sync._owner:
            await to_the_end(self.close())

    def __repr__(self) -> str:
        return repr(self._sync)


async def _remove(native: Any) -> None:
    """End a container that nobody got."""
    native.kill("killed")
    await Watch(native.fileno(), native.poll).until()
    native.close()


async def run(
    args: Sequence[Arg] | None = None,
    *,
    input: Any = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = True,
    timeout: float | timedelta | None = None,
    check: bool = False,
    **options: Any,
) -> Result[Any]:
    """Run a command in a container of its own and wait for it: `pycontainer.run` on asyncio, with its parameters.

    Raises as it does. A cancellation kills the container, reaps and removes it, and goes on then.
    """
    check = parse_bool(check, "check")
    capture = parse_bool(capture_output, "capture_output")
    if input is not None and stdin is not None:
        raise ValueError("stdin and input: both were given")
    unsaid = PIPE if capture else INHERIT
    tty = options.get("tty", False)
    container = Container(
        args,
        stdin=PIPE if input is not None else None if stdin == PIPE else stdin,
        stdout=unsaid if stdout is None else stdout,
        stderr=stderr if stderr is not None or tty else unsaid,
        **options,
    )
    data = b"" if input is None else container._sync._text.encode(input)
    seconds = _seconds(timeout)
    if seconds is not None and seconds <= 0:
        raise TimeoutExpired(container.args, seconds)
    await container._begin()
    try:
        return await container._whole(data, seconds, check)
    finally:
        await to_the_end(container.close())


def _ends(native: Any, tty: bool, has_input: bool) -> list[int]:
    """Our ends of the pipes; a terminal is stdin, where something is to be typed, and stdout."""
    ends = list(native.take_pipes())
    if tty:
        ends[:2] = [native.terminal() if has_input else -1, native.terminal()]
    return ends


def _news(listener: int, lines: Lines) -> Callable[[], bool]:
    os.set_blocking(listener, False)

    def look() -> bool:
        try:
            lines.closed = not os.read(listener, 4096)
        except BlockingIOError:
            return False
        return True

    return look


def _seconds(timeout: Any) -> float | None:
    return None if timeout is None else parse_duration(timeout, "timeout", signed=True)
