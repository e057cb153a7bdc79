"""Each field of Limits with a value that is no limit: refused by name when the value is made; no machine is asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pycontainer import IoLimit, Limits

NAN = float("nan")

SIZES = ("memory", "memory_high", "swap", "disk", "output")
BAD: list[tuple[str, Any, type[Exception]]] = [
    *((name, value, ValueError) for name in SIZES for value in (-1, "-1", "12 parsecs", "", "1e3MiB", NAN)),
    *((name, value, TypeError) for name in SIZES for value in (b"1MiB", [1], True)),
    ("memory", 1023, ValueError),
    ("memory_high", 0, ValueError),
    ("disk", 0, ValueError),
    *(("cpus", value, ValueError) for value in (0, -1, NAN, 0.001, 10_000)),
    *(("cpus", value, TypeError) for value in ("1.5", True)),
    *((name, value, ValueError) for name in ("cpu_weight", "io_weight") for value in (0, -5, 10_001)),
    *((name, value, TypeError) for name in ("cpu_weight", "io_weight") for value in ("high", 1.5, True)),
    *(("cpuset", value, ValueError) for value in ("", "3-1", "a", "0,,1", [], [-1], "99999", "0-")),
    *(("cpuset", value, TypeError) for value in (1, b"0", {0: 1}, ["0"])),
    *((name, value, ValueError) for name in ("cpu_time", "wall_time") for value in (0, -1, NAN, timedelta(-1))),
    *((name, value, TypeError) for name in ("cpu_time", "wall_time") for value in ("1s", True)),
    *(("pids", value, ValueError) for value in (0, -1, 1 << 40)),
    *(("pids", value, TypeError) for value in ("64", 1.5, True)),
    *(("output_mode", value, ValueError) for value in ("drop", "", None.__class__, 1)),
    ("io", [IoLimit(read_bps=1)], TypeError),
    ("io", {"8:0": 1}, TypeError),
    ("io", {8: IoLimit(read_bps=1)}, TypeError),
    ("network", 1, TypeError),
    *(("rlimits", value, ValueError) for value in ({"files": 1}, {"nofile": (2, 1)}, {"core": "x"}, {1: 1})),
    *(("rlimits", value, TypeError) for value in ([("nofile", 1)], {"nofile": True})),
    ("oom_group", 1, TypeError),
    ("oom_group", "yes", TypeError),
    *(("oom_score_adj", value, ValueError) for value in (-1001, 1001)),
    *(("oom_score_adj", value, TypeError) for value in ("0", 0.5, True)),
]
FIELDS = sorted({name for name, *_ in BAD})


@pytest.mark.refuses(*(f"limits.{name}" for name in FIELDS))
@pytest.mark.parametrize(("name", "value", "error"), BAD, ids=[f"{n}-{v!r:.20}" for n, v, _ in BAD])
def test_what_is_no_limit_is_refused_by_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^(a key of )?{name}"):
        Limits(**{name: value})


def test_every_field_is_in_the_table() -> None:
    assert sorted(Limits().__slots__) == FIELDS
