"""What the tests of archives share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pycontainer._errors import LayerError

Unpack = Callable[[bytes], Path]


def make_canary(path: Path) -> Path:
    (path / "directory").mkdir(parents=True)
    (path / "file").write_text("do not touch\n")
    return path


def refused(unpack: Unpack, data: bytes, text: str = "") -> None:
    with pytest.raises(LayerError) as caught:
        unpack(data)
    assert text in str(caught.value)


def leftovers(arena: Path) -> list[str]:
    return [name for name in os.listdir(arena / "store/archives") if name.endswith((".tmp", ".lock"))]


def nothing_left(arena: Path) -> bool:
    """Neither of archives nor of layers is there anything in the store, complete or not."""
    places = [arena / "store" / name for name in ("archives", "layers", "partial")]
    return not any(os.listdir(place) for place in places if place.exists())
