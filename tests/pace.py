"""How much slower than a real machine this one is, as its session says, and how often what is repeated is repeated."""

from __future__ import annotations

import os

PACE = float(os.environ.get("PYCONTAINER_TEST_PACE", "1"))
# The most repetitions, where the session says so; 0: as many as there are.
MOST = int(os.environ.get("PYCONTAINER_TEST_MOST", "0"))


def patience(seconds: float) -> float:
    """Seconds of a real machine as seconds of this one."""
    return seconds * PACE


def repetitions(count: int, quick: bool) -> range:
    """range(count), or a tenth of it (at least one)."""
    wanted = max(1, -(-count // 10)) if quick else count
    return range(min(wanted, MOST) if MOST else wanted)
