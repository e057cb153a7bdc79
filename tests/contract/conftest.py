"""What the contract tests share: the marks of the tests, as pytest itself collects them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
Marks = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Marks:
    """{kind: {what a mark names: [tests]}} of `KINDS` in marks.py, and {"tests": {test: facts}}; nothing is run."""
    target = tmp_path_factory.mktemp("marks") / "marks.json"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": path, "MARKS_TO": str(target)}
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "marks", "-p", "no:cacheprovider"]
    argv += ["tests/integration", "tests/unit"]
    done = subprocess.run(argv, check=False, cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(target.read_text())
