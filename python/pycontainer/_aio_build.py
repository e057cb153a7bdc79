"""build() on asyncio."""

from __future__ import annotations

from pycontainer._aio_images import in_loop, in_thread
from pycontainer._image import Image, builder
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
    handle = builder().Handle()
    tell: Any = in_loop(progress) if callable(progress) else progress
    return await in_thread(lambda: Image._build(handle, context, progress=tell, **options), handle.cancel)
