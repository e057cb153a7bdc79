"""CPython's own tests of subprocess.run, with pycontainer.run in its place; each difference with its reason."""

from __future__ import annotations

import importlib
import time
import unittest
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import pycontainer as pc

# Debian's python3 carries it in libpython3.11-testsuite, other builds in the standard library.
pytestmark = pytest.mark.requires("module:test.test_subprocess")

DIFFERENCES = {
    "test_run_with_pathlike_path": "a command is a sequence: one word alone may be meant for a shell",
    "test_run_with_shell_timeout_and_capture_output": 'no shell=: ["sh", "-c", ...] says which; the same test is below',
    "test_stdout_with_capture_output_arg": "capture_output is True unless said: no contradiction",
    "test_stderr_with_capture_output_arg": "as with stdout",
}


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    return importlib.import_module("test.test_subprocess")


def names() -> list[str]:
    try:
        case = importlib.import_module("test.test_subprocess").RunFuncTestCase
    except ImportError:  # the requirement says so
        return ["test_returncode"]
    found = unittest.defaultTestLoader.getTestCaseNames(case)
    return [name for name in found if not getattr(getattr(case, name), "__unittest_skip__", False)]  # Windows' own


@pytest.fixture
def ours(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`subprocess.run` of that module is ours, and its list of children is its own."""
    calls: list[Any] = []

    def run(*args: Any, **keywords: Any) -> Any:
        calls.append(args)
        return pc.run(*args, **keywords)

    monkeypatch.setattr(suite.subprocess, "run", run)
    yield
    assert calls, "the test never came to us"


@pytest.mark.parametrize("name", names())
def test_of_cpython(suite: ModuleType, ours: None, name: str) -> None:
    result = unittest.TestResult()
    suite.RunFuncTestCase(name).run(result)
    problems = [text for _, text in result.errors + result.failures]
    assert not result.skipped, result.skipped
    if name in DIFFERENCES:
        assert problems, f"it passes now: take it out of the differences ({DIFFERENCES[name]})"
    else:
        assert problems == []


def test_each_difference_is_one_of_theirs() -> None:
    assert set(DIFFERENCES) <= set(names())


def test_output_is_not_waited_for_after_a_timeout() -> None:
    """Theirs of shell=, in our words: a grandchild that holds the pipe open does not delay the exception."""
    before = time.monotonic()
    with pytest.raises(pc.TimeoutExpired):
        pc.run(["sh", "-c", "sleep 30 & sleep 30"], timeout=0.1)
    assert time.monotonic() - before < 10
