"""Images on asyncio: pull() and load(). The one place with a thread: no loop can watch a disk, or TLS below us."""

from __future__ import annotations

import asyncio

from pycontainer._image import Image
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
    """Run `work` in a thread that is asked now and then whether to go on, and wait for its end also when cancelled."""
    loop, cancelled = asyncio.get_running_loop(), False

    def stop() -> None:
        if cancelled:
            raise asyncio.CancelledError

    def tell(event: Any) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, event)

    future = loop.run_in_executor(None, work, Follower(tell, stop))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled = True
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # it has been seen
        raise
