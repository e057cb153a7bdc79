"""The start of a container on asyncio and what is left at its end: where they take long, in a thread of their own.

Long are a root that is a copy of its image, and the removal of a writable layer that lies on the disk.
"""

from __future__ import annotations

import asyncio
import os

from pycontainer._aio_images import apart, in_thread
from pycontainer._loop import Watch, to_the_end
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._container import Container


async def launched(spec: Any) -> Any:
    """Send a container on its way: the native one. Of one that was cancelled meanwhile nothing is left."""
    native = core().launch(spec)
    return await _copied(spec) if native is None else native


async def _copied(spec: Any) -> Any:
    made: list[Any] = []
    try:
        await apart(lambda watch: made.append(core().launch_copied(spec, watch.event)), None)
    except asyncio.CancelledError:
        for native in made:  # it was there at the last moment
            await to_the_end(remove(native))
        raise
    return made[0]


async def set_up(container: Container) -> None:
    """Set all up but the command of one that was not started, for who wants at its files; else nothing."""
    if container.state != "CREATED" or container._held is not None or os.getpid() != container._owner:
        return
    container._spec.hold = True
    try:
        native = await launched(container._spec)
        try:
            await Watch(native.fileno(), native.runs).until()
        except asyncio.CancelledError:
            await to_the_end(remove(native))
            raise
    except BaseException:
        container._spec.hold = False
        raise
    if container._closed:
        await to_the_end(remove(native))
    else:
        container._held = native


async def remove(native: Any) -> None:
    """End a container that nobody got."""
    native.kill("killed")
    await Watch(native.fileno(), native.poll, native.nudge).until()
    await shed(native)
    native.close()


async def shed(native: Any) -> None:
    """Remove the writable layer of a container that has ended."""
    if native.has_layer_on_disk():
        await in_thread(native.shed, lambda: None)
