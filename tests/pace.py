"""How much slower than a real machine this one is, as its session says: one factor for what tests wait and repeat."""

from __future__ import annotations

import os

PACE = float(os.environ.get("PYCONTAINER_TEST_PACE", "1"))
# An emulated machine shows that a thing holds there, not how often: that is counted on real ones.
MOST_WHERE_SLOW = 6


def patience(seconds: float) -> float:
    """Seconds of a real machine as seconds of this one."""
    return seconds * PACE


def repetitions(count: int, quick: bool) -> range:
    """range(count), or a tenth of it (at least one); a handful where each is slow."""
    wanted = max(1, -(-count // 10)) if quick else count
    return range(min(wanted, MOST_WHERE_SLOW) if PACE > 1 else wanted)
