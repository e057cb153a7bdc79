"""A pytest plugin that writes down, instead of running anything, which test bears which mark of a parameter.

Started by test_parameters.py: pytest --collect-only -p marks, with MARKS_TO as the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sources


def pytest_collection_finish(session: pytest.Session) -> None:
    found: dict[str, dict[str, list[str]]] = {"parameter": {}, "refuses": {}}
    tests: dict[str, dict[str, Any]] = {}
    for item in session.items:
        for kind, names in found.items():
            for marker in item.iter_markers(kind):
                for name in marker.args:
                    names.setdefault(name, []).append(item.nodeid)
                    assert isinstance(item, pytest.Function)
                    facts = sources.of(item.function)
                    tests[item.nodeid] = {**vars(facts), "given": sorted(facts.given)}
    Path(os.environ["MARKS_TO"]).write_text(json.dumps({**found, "tests": tests}))
