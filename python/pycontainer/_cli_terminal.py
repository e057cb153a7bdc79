"""The caller's terminal for the time of a run: raw, and restored whatever ends it. Knows nothing of containers."""

from __future__ import annotations

import contextlib
import signal
import termios
import tty
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What would end this process and leave the terminal raw. SIGINT is Python's own: KeyboardInterrupt.
ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def raw(number: int) -> Iterator[None]:
    """Make the terminal behind a descriptor raw for a block, as docker does: each key is only a key.

    A signal that ends the process becomes SystemExit(128 + number), so that the block is left as by any exception.
    SIGWINCH does nothing, but it wakes a system call that waits: whoever copies the terminal's size looks again.
    """
    before = termios.tcgetattr(number)
    handlers = {name: signal.signal(name, _end) for name in ENDINGS}
    handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _wake)
    try:
        tty.setraw(number, termios.TCSANOW)  # what was typed ahead is the container's
        yield
    finally:
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(number, termios.TCSADRAIN, before)
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _wake(_number: int, _frame: FrameType | None) -> None:
    pass
