"""What the reliability tests share: the pen, and a line with the counts of each test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pen import Pen


@pytest.fixture
def pen() -> Iterator[Pen]:
    with Pen() as made:
        yield made


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints a line that shows without -s: the counts belong to the result."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}", end=" ", flush=True)

    return line
