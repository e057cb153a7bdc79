"""aio.run beside run(): the same answers, errors and rows, whether somebody listens to events or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Limits, _events, aio
from pycontainer._native import core

pytestmark = pytest.mark.requires("userns")

SAME: dict[str, tuple[list[str] | None, dict[str, Any]]] = {
    "output": (["sh", "-c", "echo out; echo err >&2; exit 3"], {}),
    "text": (["echo", "ä"], {"text": True}),
    "input": (["sh", "-c", "cat; cat | wc -c"], {"input": b"x" * 300_000}),
    "no input": (["cat"], {}),
    "signal": (["sh", "-c", "kill -USR1 $$"], {}),
    "null": (["echo", "out"], {"stdout": pc.DEVNULL}),
    "together": (["sh", "-c", "echo out; echo err >&2"], {"stderr": pc.STDOUT}),
    "nothing captured": (["true"], {"capture_output": False}),
    "timeout": (["sh", "-c", "echo begun; sleep 8000"], {"timeout": 0.5}),
    "wall time": (["sleep", "8000"], {"limits": Limits(wall_time=0.4)}),
    "wall time before the timeout": (["sleep", "8000"], {"limits": Limits(wall_time=0.3), "timeout": patience(5)}),
    "timeout before the wall time": (["sleep", "8000"], {"limits": Limits(wall_time=patience(5)), "timeout": 0.3}),
    "timeout that does not come": (["true"], {"timeout": patience(20)}),
    "too much output": (["yes"], {"limits": Limits(output="64KiB")}),
    "check": (["sh", "-c", "echo out; exit 7"], {"check": True}),
    "no such command": (["no-such-command"], {}),
    "no command": (["/etc"], {}),
    "no directory": (["true"], {"cwd": "/no/such/directory"}),
    "no user": (["true"], {"user": "nobody-knows-him"}),
    "processes": (["sh", "-c", "sleep 8000 & echo left"], {}),
    "first": (["sh", "-c", "echo $$"], {"pid1": True}),
    "terminal": (["sh", "-c", "test -t 0 && echo yes"], {"tty": True}),
    "files": (["cat", "/data"], {"files": {"/data": b"data"}}),
}


def told(call: Callable[[], Any]) -> dict[str, Any]:
    error = None
    try:
        result = call()
    except pc.Error as raised:
        error, result = raised, getattr(raised, "result", None)
    seen: dict[str, Any] = {"error": (type(error), str(error))}
    if result is not None:
        seen |= {name: getattr(result, name) for name in ("returncode", "stdout", "stderr", "reason", "truncated")}
        seen["args"] = result.args
        # Where somebody listens, and at a terminal, it is a handle, and has a group to be paused by.
        seen |= {"enforced": {name: row.state for name, row in result.enforced.items() if name != "cgroup"}}
    return seen


@pytest.mark.parametrize("listened", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("case", SAME)
def test_both_tell_the_same(rootfs: Path, case: str, listened: bool) -> None:
    args, options = SAME[case]
    expected = told(lambda: pc.run(args, image=rootfs, **options))
    with contextlib.closing(pc.events()) if listened else contextlib.nullcontext():
        assert told(lambda: asyncio.run(aio.run(args, image=rootfs, **options))) == expected


@pytest.mark.parametrize("case", ["output", "timeout", "no such command", "check"])
def test_nothing_of_it_is_remembered(rootfs: Path, case: str) -> None:
    args, options = SAME[case]
    before = len(_events.containers)
    told(lambda: asyncio.run(aio.run(args, image=rootfs, **options)))
    assert len(_events.containers) == before


def test_a_keeper_that_was_stopped_is_woken_when_it_is_late(rootfs: Path) -> None:
    keeper = core().keeper_pid()[0]

    async def main() -> None:
        task = asyncio.create_task(aio.run(["sleep", "8000"], image=rootfs, timeout=1.0))
        await asyncio.sleep(0.5)
        os.kill(keeper, signal.SIGSTOP)
        with pytest.raises(pc.TimeoutExpired):
            await task

    begun = time.monotonic()
    asyncio.run(main())
    assert 1 <= time.monotonic() - begun < patience(8)
