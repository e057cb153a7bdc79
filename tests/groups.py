"""Control groups that a test makes for itself: removed when their last process has left."""

from __future__ import annotations

import time
from pathlib import Path

import leaks


def remove(group: Path) -> None:
    """The keeper of an interpreter that sat there ends a moment after it."""
    deadline = time.monotonic() + leaks.SETTLE
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)
