"""run() on asyncio where nobody has a handle: no group to pause it by, no word that it runs, the keeper's clock."""

from __future__ import annotations

import asyncio

from pycontainer import _outcome
from pycontainer._errors import CommandNotFound
from pycontainer._failures import TimeoutExpired
from pycontainer._loop import Exchange, Watch, to_the_end
from pycontainer._native import core
from pycontainer._result import Reason
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._container import Container
    from pycontainer._result import Result


async def alone(container: Container, data: bytes, seconds: float | None, check: bool) -> Result[Any]:
    """Run a container that nobody else has, feed it, keep what comes, and make the Result at its end."""
    spec = container._spec
    spec.handle, spec.timeout = False, seconds
    container.limits = _outcome.limits_in_force(spec)
    native = core().launch(spec)
    try:
        exchange = Exchange(ends_of(native, False, bool(data)), data, spec.output, lambda: _too_much(native, spec))  # type: ignore[attr-defined]
        try:
            await Watch(native.fileno(), lambda: native.runs() and native.poll(), native.nudge).until()
        finally:
            exchange.finish()
    except CommandNotFound as error:
        raise _outcome.with_mount_hint(error, spec) from None
    except asyncio.CancelledError:
        await to_the_end(remove(native))
        raise
    container._native, container._files, container._kept = native, {}, exchange.kept
    container._cut = exchange.cut
    return _judged(container, seconds, check)


def _too_much(native: Any, spec: Any) -> None:
    if spec.output_kills:
        native.kill("output")


def _judged(container: Container, seconds: float | None, check: bool) -> Result[Any]:
    result = container.result
    assert result is not None
    wall = container._spec.wall_time  # type: ignore[attr-defined]
    # Which of the two was the shorter one ended it.
    if result.reason == Reason.TIMEOUT and seconds is not None and (wall is None or seconds <= wall):
        raise TimeoutExpired(container.args, seconds, result.stdout, result.stderr, result=result)
    if check:
        result.check_returncode()
    return result


async def remove(native: Any) -> None:
    """End a container that nobody got."""
    native.kill("killed")
    await Watch(native.fileno(), native.poll, native.nudge).until()
    native.close()


def ends_of(native: Any, tty: bool, has_input: bool) -> list[int]:
    """Our ends of the pipes; a terminal is stdin, where something is to be typed, and stdout."""
    ends = list(native.take_pipes())
    if tty:
        ends[:2] = [native.terminal() if has_input else -1, native.terminal()]
    return ends
