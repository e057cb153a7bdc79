"""The same names on asyncio: run(), Container, Process, events(), pull(), load().

Descriptors in the loop; no child watcher, and no thread but for images and what is copied of them.

What can wait is awaited. A cancelled run(), start() or exec() kills what it has begun, reaps and removes it before the
cancellation goes on; so does leaving the block of a Container or of a Process.
"""

from __future__ import annotations

import asyncio
import os

from pycontainer import _commands, _container, _events, _outcome, _waiting, _waiting_loop
from pycontainer._aio_build import build
from pycontainer._aio_control import Control
from pycontainer._aio_events import events
from pycontainer._aio_images import load, pull
from pycontainer._aio_process import ExecProcess, Process, seconds_of
from pycontainer._aio_run import alone
from pycontainer._aio_start import launched, remove, shed
from pycontainer._beside import BesideSpec
from pycontainer._errors import CommandNotFound
from pycontainer._failures import TimeoutExpired
from pycontainer._lines import OUTPUTS
from pycontainer._loop import Exchange, Watch, to_the_end
from pycontainer._process import Text, result_of_exec
from pycontainer._run import judged
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import INHERIT, PIPE, parse_bool, parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Self

    from pycontainer._options import Stream
    from pycontainer._result import Result
    from pycontainer._types import Arg
    from pycontainer._waiting import Condition

__all__ = ["Container", "Process", "build", "events", "load", "pull", "run"]


class Container(Control, Process):
    """A container, as `pycontainer.Container`, on asyncio: what can wait is awaited. Its parameters are the same."""

    _sync: _container.Container

    def __init__(self, args: Sequence[Arg] | None = None, **options: Any) -> None:
        self._sync = _container.Container(args, **options)
        self._text, self._files, self._kept = self._sync._text, {}, {}
        self._turn = asyncio.Lock()

    @classmethod
    def get(cls, id: str) -> Self:
        """Return a handle on a container of any process of this user, which owns nothing."""
        return cls._around(_container.Container.get(id))

    @classmethod
    def all(cls) -> list[Self]:
        """Return handles, as of get(), on all containers of this user's processes, the oldest first."""
        return [cls._around(found) for found in _container.Container.all()]

    @classmethod
    def _around(cls, found: _container.Container) -> Self:
        made = cls.__new__(cls)
        made._sync, made._text, made._files, made._kept = found, found._text, {}, {}
        made._turn = asyncio.Lock()
        made._watch = Watch(found._native.fileno(), found._has_ended)
        return made

    @property
    def result(self) -> Result[Any] | None:
        """What it came to; None while it runs."""
        if self._sync._native is not None and self._sync._result is None:
            for name, kept in self._kept.items():
                self._sync._kept[name] = kept
        return self._sync.result

    async def wait_for(self, *conditions: Condition, timeout: float | timedelta | None = None) -> None:
        """Wait until each of these was so once. Conditions and exceptions are `pycontainer.Container.wait_for`'s."""
        wanted = _waiting.conditions_of(conditions, "conditions")
        seconds = None if timeout is None else parse_duration(timeout, "timeout", signed=True)
        self._sync._open()
        await _waiting_loop.wait_for(self, wanted, seconds)

    async def start(self) -> Self:
        """Start the command, and come back when it runs. Raises as `pycontainer.Container.start`."""
        async with self._turn:  # by one task, and none that wants at its files
            self._sync._startable()
            self._sync._claim_name()
            try:
                await self._begin()
            except BaseException:
                self._sync._withdraw()
                raise
        try:
            await self._adopt(self._sync._text, self._sync._kinds)
        except BaseException:  # nobody has it yet, so nobody would close it
            await to_the_end(self.close())
            raise
        self._sync._tell()
        return self

    async def _begin(self) -> None:
        """Start it, and leave its pipes alone."""
        sync = self._sync
        sync._startable()
        native, sync._held = sync._held, None
        if native is None:
            native = await launched(sync._spec)
        else:
            native.go()
        try:
            await Watch(native.fileno(), native.runs).until()
        except CommandNotFound as error:
            raise _outcome.with_mount_hint(error, sync._spec) from None
        except asyncio.CancelledError:
            await to_the_end(remove(native))
            raise
        if sync._closed:  # by another task, meanwhile
            await to_the_end(remove(native))
        sync._startable()
        sync._native, sync._files, sync._kept = native, {}, {}
        sync._pid = native.command()[0]
        _events.started(sync)
        self._watch = Watch(native.fileno(), lambda: sync.poll() is not None, native.nudge)

    async def _whole(self, data: bytes) -> None:
        """From the start to the end: feed it, and keep what comes."""
        await self._begin()
        sync = self._sync
        exchange = Exchange.of(sync._native, sync._spec, data, bool(data))
        try:
            await self._watch.until()
        finally:
            exchange.finish()
        sync._kept, sync._cut = exchange.kept, exchange.cut
        if sync._tty:  # both are one, as run() says it
            sync._kept["stderr"] = bytearray()

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
            await to_the_end(self._watch.until())
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
            self._sync._native.signal(self._sync._spec.stop_signal)
            self._sync._go_on()
            if not await self._watch.until(max(0.0, seconds)):
                self._sync._native.kill("stopped")
                await self._watch.until()

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
        """Run a command in the container and wait for it; a timeout and a cancellation kill all that came of it."""
        given = {**locals(), "stdin": None if input is None else PIPE, "stdout": PIPE, "stderr": None if tty else PIPE}
        check = parse_bool(check, "check")
        seconds = seconds_of(timeout)
        text_of = Text(given)
        data = b"" if input is None else text_of.encode(input)
        native, spec = await self._launch({**given, "input": None})
        watch = Watch(native.fileno(), lambda: native.poll() is not None)
        gone = Watch(native.fileno(), native.is_gone)

        exchange = Exchange.of(native, spec, data, input is not None)
        try:
            if not await watch.until(seconds):
                native.kill("timeout")
                await gone.until()
        except asyncio.CancelledError:
            native.kill("killed")
            await to_the_end(gone.until())
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
        native, spec = await self._launch(given, "log" if self._sync._owns else "null")
        process = ExecProcess(_commands.ExecProcess(self._sync, native, args, spec, text_of, adopt=False))
        try:
            process._watch = Watch(native.fileno(), lambda: process._sync.poll() is not None)
            await process._adopt(text_of, (spec.stdin[0], spec.stdout[0], spec.stderr[0]))
        except BaseException:
            native.kill("killed")
            await to_the_end(Watch(native.fileno(), native.is_gone).until())
            raise
        return process

    async def _launch(self, given: Mapping[str, Any], unsaid: str = "null") -> tuple[Any, BesideSpec]:
        """Start a command beside the first one, and leave its pipes alone."""
        spec = BesideSpec(self._sync._spec, given, handle=True, unsaid=unsaid)
        running = self._sync._running()
        self._sync._can_exec()
        native = running.launch(spec)
        try:
            await Watch(native.fileno(), native.runs).until()
        except CommandNotFound as error:
            raise _outcome.with_mount_hint(error, spec) from None
        except asyncio.CancelledError:
            native.kill("killed")
            await to_the_end(Watch(native.fileno(), native.is_gone).until())
            raise
        return native, spec

    async def close(self) -> None:
        """Kill what runs in it and remove it. Facts, result and logs remain; everything else is StateError."""
        sync = self._sync
        if sync._native is not None and not sync._closed:
            if sync._owns and self.poll() is None:
                sync._native.kill("killed")
                await to_the_end(self._watch.until())
            self._close_files()
            if sync._owns:
                await shed(sync._native)
        elif sync._held is not None:
            held, sync._held = sync._held, None
            await to_the_end(remove(held))
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
    sync, seconds = container._sync, seconds_of(timeout)
    data = b"" if input is None else sync._text.encode(input)
    if seconds is not None and seconds <= 0:
        raise TimeoutExpired(container.args, seconds)
    sync._spec.timeout = seconds
    sync.limits = _outcome.limits_in_force(sync._spec)
    try:
        await (alone(sync, data) if _events.hub is None and not tty else container._whole(data))
        result = sync.result
        assert result is not None
        return judged(result, sync._spec, check)
    finally:
        await to_the_end(container.close())
