"""Each parameter of run, Limits and Security has a test of its effect from inside, and one of a refused value."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycontainer as pc

TESTS = Path(__file__).parent.parent
CHECKOUT = TESTS.parent
SPACES = {"run": pc.run, "limits": pc.Limits, "security": pc.Security}


def parameters() -> list[str]:
    return [f"{space}.{name}" for space, owner in SPACES.items() for name in inspect.signature(owner).parameters]


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """{"parameter": {"run.env": [tests]}, "refuses": ...}, as pytest itself collects them; nothing is run."""
    target = tmp_path_factory.mktemp("marks") / "marks.json"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": path, "MARKS_TO": str(target)}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "marks",
        "-p",
        "no:cacheprovider",
        "tests/integration",
    ]
    done = subprocess.run(argv, check=False, cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(target.read_text())


def test_there_is_something_to_count() -> None:
    assert len(parameters()) > 50
    assert {"run.env", "limits.memory", "security.seccomp"} <= set(parameters())


def test_each_has_a_test_of_its_effect_from_inside(marks: dict[str, dict[str, list[str]]]) -> None:
    """It bears @pytest.mark.parameter("run.env")."""
    assert [name for name in parameters() if not marks["parameter"].get(name)] == []


def test_each_has_a_test_that_a_bad_value_is_refused(marks: dict[str, dict[str, list[str]]]) -> None:
    """It bears @pytest.mark.refuses("run.env")."""
    assert [name for name in parameters() if not marks["refuses"].get(name)] == []


def test_no_mark_names_a_parameter_that_does_not_exist(marks: dict[str, dict[str, list[str]]]) -> None:
    assert {name for kind in marks.values() for name in kind} - set(parameters()) == set()
