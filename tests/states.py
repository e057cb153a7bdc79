"""A container in each state in which it has files."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pace import patience
from pycontainer import Container

SLEEP = ["sleep", "100"]
STATES = ["created", "running", "stopped", "exited"]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def container(state: str, image: Path | None, **options: Any) -> Iterator[Container]:
    """One in that state; "stopped": neither its command nor its PID 1 does anything."""
    made = Container(["true"] if state == "exited" else SLEEP, image=image, **options)
    try:
        if state != "created":
            made.start()
        if state == "exited":
            made.wait(timeout=patience(10))
        stopped = [made.pid, parent(made.pid)] if state == "stopped" else []
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield made
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    finally:
        made.close()
