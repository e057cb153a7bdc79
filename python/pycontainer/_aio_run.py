"""run() on asyncio where nobody has a handle: no group to pause it by, no word that it runs, one wait for all."""

from __future__ import annotations

import asyncio

from pycontainer import _outcome
from pycontainer._aio_start import launched, remove
from pycontainer._errors import CommandNotFound
from pycontainer._loop import Exchange, Watch, to_the_end
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from pycontainer._container import Container


async def alone(container: Container, data: bytes) -> None:
    """Run a container that nobody else has, from its start to its end, feed it and keep what comes."""
    spec = container._spec
    spec.handle = False
    native = await launched(spec)
    try:
        exchange = Exchange.of(native, spec, data, bool(data))
        try:
            await Watch(native.fileno(), lambda: native.runs() and native.poll(), native.nudge).until()
        finally:
            exchange.finish()
    except CommandNotFound as error:
        raise _outcome.with_mount_hint(error, spec) from None
    except asyncio.CancelledError:
        await to_the_end(remove(native))
        raise
    container._native, container._files = native, {}
    container._kept, container._cut = exchange.kept, exchange.cut
