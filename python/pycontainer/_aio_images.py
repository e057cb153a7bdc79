"""Images on asyncio: pull() and load(), in threads, as build() is: no loop can watch a disk, or TLS below us."""

from __future__ import annotations

import asyncio
import threading

from pycontainer._image import Image
from pycontainer._loop import to_the_end
from pycontainer._progress import Follower
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeVar

    from pycontainer._types import Arg

    T = TypeVar("T")


async def pull(
    reference: str,
    *,
    policy: Literal["missing", "always", "never"] = "always",
    platform: str | None = None,
    progress: Callable[[Any], object] | None = None,
    auth: tuple[str, str] | None = None,
) -> Image:
    """Return the image that the registry has now, as Image.pull(); with policy="missing" as Image().

    `progress` is called in the loop. A cancelled pull has ended when the cancellation goes on, and nothing is listed.
    """

    def work(watch: Any) -> Image:
        return Image(reference, policy=policy, platform=platform, progress=watch, auth=auth)

    return await apart(work, progress)


async def load(path: Arg, progress: Callable[[Any], object] | None = None) -> list[Image]:
    """Load images from a file or layout, as Image.load(); `progress` is called in the loop."""
    return await apart(lambda watch: Image.load(path, progress=watch), progress)


async def apart(work: Callable[[Any], T], progress: Callable[[Any], object] | None) -> T:
    """Carry out work that asks now and then whether to go on."""
    cancelled = threading.Event()

    def stop() -> None:
        if cancelled.is_set():
            raise asyncio.CancelledError

    watch = Follower(None if progress is None else in_loop(progress), stop)
    return await in_thread(lambda: work(watch), cancelled.set)


def in_loop(progress: Callable[[Any], object]) -> Callable[[Any], object]:
    """What another thread calls so that `progress` is called in this loop."""
    loop = asyncio.get_running_loop()
    return lambda event: loop.call_soon_threadsafe(progress, event)


async def in_thread(work: Callable[[], T], end: Callable[[], object]) -> T:
    """Carry out `work` in a thread of its own; cancelled, call `end` and wait until the work has ended.

    Not one of the loop's executor: its few are for short work, and names are looked up there.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def carry_out() -> None:
        try:
            settle, value = done.set_result, work()
        except BaseException as caught:  # of whatever kind, it is the caller's
            loop.call_soon_threadsafe(done.set_exception, caught)
        else:
            loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=carry_out, name="pycontainer-image", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        end()
        await to_the_end(_ended(done))
        raise


async def _ended(done: asyncio.Future[Any]) -> None:
    await asyncio.wait([done])
    done.exception()  # it is nobody's any more
