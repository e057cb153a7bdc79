"""wait_for() on asyncio: the same conditions and errors, and no look that would hold the loop."""

from __future__ import annotations

import asyncio
import os
import time

from pycontainer._errors import Error, StateError
from pycontainer._failures import TimeoutExpired
from pycontainer._loop import Watch
from pycontainer._text import TYPE_CHECKING
from pycontainer._waiting import (
    ANSWER_MAX,
    ATTEMPT,
    FIRST_PAUSE,
    LAST_PAUSE,
    AnyCondition,
    Condition,
    ExecCondition,
    HttpCondition,
    ended_before,
    expired_before,
    sockets,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any, TypeAlias

    Look: TypeAlias = Callable[[float], Awaitable[bool]]


def _look_of(container: Any, condition: Condition) -> Look:
    if isinstance(condition, ExecCondition):
        return lambda left: _ran(container, condition, left)
    if isinstance(condition, HttpCondition):
        condition._check(container._sync)
        return lambda left: _asked(container, condition, left)
    if isinstance(condition, AnyCondition):
        looks = [_look_of(container, one) for one in condition.conditions]
        return lambda left: _any(looks, left)
    look = condition._watch(container._sync)

    async def quick(left: float) -> bool:
        return look(left)

    return quick


async def _any(looks: list[Look], left: float) -> bool:
    for look in looks:
        if await look(left):
            return True
    return False


async def _ran(container: Any, condition: ExecCondition, left: float) -> bool:
    try:
        result = await container.exec(
            list(condition.args), user=condition.user, env=condition.env, cwd=condition.cwd, timeout=left
        )
    except (StateError, TimeoutExpired):  # it has ended, or is paused: who waits looks at that
        return False
    return bool(result.returncode == 0)


async def _asked(container: Any, condition: HttpCondition, left: float) -> bool:
    loop = asyncio.get_running_loop()
    answer = b""
    for connected, address in sockets(container._sync):
        connected.setblocking(False)
        try:
            async with asyncio.timeout(left):
                await loop.sock_connect(connected, (address, condition.port))
                await loop.sock_sendall(connected, condition._question())
                while b"\n" not in answer and len(answer) < ANSWER_MAX:
                    if not (piece := await loop.sock_recv(connected, ANSWER_MAX)):
                        break
                    answer += piece
        except OSError:  # TimeoutError too
            continue
        break
    return condition._is_it(answer)


async def wait_for(container: Any, conditions: Iterable[Condition], seconds: float | None) -> None:
    """As of `pycontainer._waiting`."""
    sync = container._sync
    deadline = None if seconds is None else time.monotonic() + seconds
    waiting = [(condition, _look_of(container, condition)) for condition in conditions]
    pause, listener = FIRST_PAUSE, _listen(sync)
    news = None if listener < 0 else Watch(listener, lambda: _heard(listener))
    try:
        while True:
            ended = sync.poll() is not None
            attempt = ATTEMPT if deadline is None else max(0.0, deadline - time.monotonic())
            waiting = [(condition, look) for condition, look in waiting if not await look(attempt)]
            if not waiting:
                return
            missing = ", ".join(condition.describe() for condition, _ in waiting)
            if ended:
                raise ended_before(sync, missing)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise expired_before(sync, seconds or 0.0, missing)
            if news is not None and all(condition._gives_signs() for condition, _ in waiting):
                await news.until(left)  # which end with the container
            else:
                await container._watch.until(pause if left is None else min(pause, left))
                pause = min(pause * 1.5, LAST_PAUSE)
    finally:
        if listener >= 0:
            os.close(listener)


def _listen(sync: Any) -> int:
    try:
        listener = int(sync._native.listen()) if sync._logged() else -1
    except Error:  # the keeper died, and the container with it
        return -1
    if listener >= 0:
        os.set_blocking(listener, False)
    return listener


def _heard(listener: int) -> bool:
    try:
        os.read(listener, 4096)
    except BlockingIOError:
        return False
    return True
