"""A pytest plugin that writes down, instead of running anything, which test bears which mark of a claim.

Started by conftest.py: pytest --collect-only -p marks, with MARKS_TO as the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sources

# Marks whose words name parameters or rows of doctor(); a cause is the word `cause=` of such a row.
KINDS = ("parameter", "refuses", "takes", "cause")


def pytest_collection_finish(session: pytest.Session) -> None:
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    tests: dict[str, dict[str, Any]] = {}
    for item in session.items:
        for kind, name in claims(item):
            found[kind].setdefault(name, []).append(item.nodeid)
            assert isinstance(item, pytest.Function)
            facts = sources.of(item.function)
            tests[item.nodeid] = {**vars(facts), "given": sorted(facts.given)}
    Path(os.environ["MARKS_TO"]).write_text(json.dumps({**found, "tests": tests}))


def claims(item: pytest.Item) -> list[tuple[str, str]]:
    marks = [(kind, marker) for kind in KINDS for marker in item.iter_markers(kind)]
    causes = [("cause", marker.kwargs["cause"]) for _, marker in marks if "cause" in marker.kwargs]
    return [(kind, name) for kind, marker in marks for name in marker.args] + causes
