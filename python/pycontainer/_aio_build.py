"""build() on asyncio. A build is blocking native work and has threads of its own, so it is carried out in one too."""

from __future__ import annotations

import asyncio
import threading

from pycontainer._image import Image, builder
from pycontainer._loop import to_the_end
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainer._types import Arg


async def build(
    context: Arg | None = None, *, progress: bool | Callable[[Any], object] = False, **options: Any
) -> Image:
    """Build an image from a Dockerfile: `Image.build`, with its parameters, in a thread.

    A callable `progress` is called in the loop's thread. A cancellation kills what runs, and goes on when the thread
    has ended.

    Raises:
        As Image.build.
    """
    loop, handle = asyncio.get_running_loop(), builder().Handle()
    done: asyncio.Future[Image] = loop.create_future()
    tell: Any = progress
    if callable(progress):
        call = progress

        def tell(event: Any) -> None:
            loop.call_soon_threadsafe(call, event)

    def settle(image: Image | None, error: BaseException | None) -> None:
        if error is not None:
            done.set_exception(error)
        elif image is not None:
            done.set_result(image)

    def work() -> None:
        try:
            image, error = Image._build(handle, context, progress=tell, **options), None
        except BaseException as caught:  # of whatever kind, it is the caller's
            image, error = None, caught
        loop.call_soon_threadsafe(settle, image, error)

    threading.Thread(target=work, name="build", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        handle.cancel()
        await to_the_end(_ended(done))
        raise


async def _ended(done: asyncio.Future[Image]) -> None:
    await asyncio.wait([done])
    done.exception()  # it is nobody's any more
