"""What is held in memory, for worker.py and handles.py: of the machine, of the engine's processes, of one process."""

from __future__ import annotations

import os
from pathlib import Path


def available() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return float(fields["MemAvailable"].split()[0])


def helpers() -> set[str]:
    """Processes whose program is our helper, by the link to it."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if "pycontainer" in os.readlink(f"/proc/{pid}/exe"):
                found.add(pid)
        except OSError:  # ended, or not ours to see
            continue
    return found


def status(pid: str, name: str) -> float:
    """KiB, from /proc: unlike ru_maxrss these are of this program alone, not of the one that started it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(dict(line.split(":", 1) for line in lines)[name].split()[0])


def share(pid: str) -> float:
    """KiB of a process, a page that n processes have counting for 1/n (Pss)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return float(dict(line.split(":", 1) for line in lines)["Pss"].split()[0])
