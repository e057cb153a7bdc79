"""A Result for people and as JSON. On the public package only."""

from __future__ import annotations

import os
import sys

import pycontainer as pc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def verdict(result: pc.Result[Any], stats: bool) -> None:
    """What a limit ended is said always: an exit code of 137 says nothing."""
    if stats:
        for name, value in stats_of(result).items():
            print(f"{name:12} {value}", file=sys.stderr)
    try:
        result.check_returncode()
    except pc.LimitExceeded as error:
        print(f"pycontainer: {str(error).splitlines()[0]}", file=sys.stderr)
    except pc.CalledProcessError:
        pass


def stats_of(result: pc.Result[Any]) -> dict[str, str]:
    """The verdict in lines for people; what this kernel cannot tell is left out."""
    usage = result.usage
    lines = {"reason": str(result.reason), "status": str(result.returncode)}
    for name in ("wall", "cpu", "cpu_user", "cpu_system"):
        if (seconds := getattr(usage, name)) is not None:
            lines[name] = f"{seconds:.3f} s"
    for name in ("memory_peak", "disk", "io_read", "io_write"):
        if (count := getattr(usage, name)) is not None:
            lines[name] = f"{count / 1048576:.1f} MiB"
    for name in ("pids_peak", "pids_denied", "oom_kills"):
        if (count := getattr(usage, name)) is not None:
            lines[name] = str(count)
    if usage.disk_full:
        lines["disk_full"] = "yes"
    weak = [f"{row.name} {row.state}" for row in result.enforced.values() if row.state != "held"]
    lines["enforced"] = ", ".join(weak) or f"all {len(result.enforced)} held"
    return lines


def as_dict(result: pc.Result[Any]) -> dict[str, Any]:
    """A Result as JSON can carry it."""
    usage = {name: getattr(result.usage, name) for name in result.usage.__slots__}
    if usage["pressure"] is not None:
        usage["pressure"] = {name: getattr(usage["pressure"], name) for name in usage["pressure"].__slots__}
    rows = {
        row.name: {"state": row.state, "by": row.by, "why": row.why, "fix": row.fix} for row in result.enforced.values()
    }
    return {
        "args": [os.fsdecode(word) for word in result.args],
        "returncode": result.returncode,
        "reason": str(result.reason),
        "stdout": result.stdout,
        "stderr": result.stderr,
        "truncated": list(result.truncated),
        "usage": usage,
        "enforced": rows,
    }
