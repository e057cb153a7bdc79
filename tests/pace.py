"""How much slower than a real machine this one is, as its session says, how often what is repeated is repeated, and
which part of the tests is this run's where two runs divide them."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable

PACE = float(os.environ.get("PYCONTAINER_TEST_PACE", "1"))
# The most repetitions, and the most cases of one test, where the session says so; 0: as many as there are.
MOST = int(os.environ.get("PYCONTAINER_TEST_MOST", "0"))
CASES = int(os.environ.get("PYCONTAINER_TEST_CASES", "0"))
# Where two runs divide the tests: the quarters that are this one's ("0", "123"). "": all.
TURNS = os.environ.get("PYCONTAINER_TEST_TURNS", "")


def patience(seconds: float) -> float:
    """Seconds of a real machine as seconds of this one."""
    return seconds * PACE


def until(true: Callable[[], object], seconds: float = 10) -> None:
    """Look again and again, and fail where it does not come true in time."""
    deadline = time.monotonic() + patience(seconds)
    while not true():
        assert time.monotonic() < deadline, f"not in {patience(seconds):g} s"
        time.sleep(0.01)


def repetitions(count: int, quick: bool) -> range:
    """range(count), or a tenth of it (at least one)."""
    wanted = max(1, -(-count // 10)) if quick else count
    return range(min(wanted, MOST) if MOST else wanted)


def thinned(tests: list[str], most: int = CASES) -> set[str]:
    """All of them, or of each that has cases (`test[case]`) so many, from the first to the last at equal distances."""
    by_test: dict[str, list[str]] = {}
    for test in tests:
        by_test.setdefault(test.partition("[")[0], []).append(test)
    return {case for cases in by_test.values() for case in spread(cases, most or len(cases))}


def is_ours(test: str, turns: str = TURNS) -> bool:
    """Each test, with all its cases, is in one quarter by its name: the runs need not have collected the same ones."""
    return not turns or str(zlib.crc32(test.partition("[")[0].encode()) % 4) in turns


def spread(cases: list[str], most: int) -> list[str]:
    if len(cases) <= most:
        return cases
    return [cases[round(place * (len(cases) - 1) / max(1, most - 1))] for place in range(most)]
