"""aio.load() and aio.pull(): in a thread that has ended when the call has, whoever ends it; events come in the loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from layouts import Layout
from pycontainer import aio


def test_load_tells_in_the_loop_and_gives_what_image_load_gives(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [base], {"Cmd": ["echo", "hello"]})
    told: list[tuple[str, bool]] = []

    async def main() -> list[pc.Image]:
        here = threading.get_ident()
        return await aio.load(layout.path, lambda event: told.append((event.state, threading.get_ident() == here)))

    assert asyncio.run(main()) == pc.Image.all()
    assert {"loading", "unpacking"} <= {state for state, _ in told}
    assert all(is_here for _, is_here in told)
    assert pc.run(image="app:1").stdout == b"hello\n"


def test_a_cancelled_load_has_ended_and_lists_nothing(layout: Layout, store: Path) -> None:
    layout.image("big:1", [bytes(1 << 28)], compress=False)

    async def main() -> None:
        begun = asyncio.Event()
        loading = asyncio.create_task(aio.load(layout.path, lambda event: begun.set()))
        await begun.wait()
        loading.cancel()
        await loading

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert pc.Image.all() == []
    assert [path.name for path in (store / "partial").iterdir() if path.suffix == ".tmp"] == []


def test_pull_asks_nobody_for_what_is_there_if_told_so(image: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"policy": "missing"}
    assert asyncio.run(aio.pull("base:1", **options)) == image
    monkeypatch.setenv("PYCONTAINER_OFFLINE", "1")
    with pytest.raises(pc.ImageNotFound, match="PYCONTAINER_OFFLINE"):
        asyncio.run(aio.pull("base:1"))
