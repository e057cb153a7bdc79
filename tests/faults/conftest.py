"""The fault tests use the pen of the reliability tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.with_name("reliability")))
from pen import Pen


@pytest.fixture
def pen() -> Iterator[Pen]:
    with Pen() as made:
        yield made
