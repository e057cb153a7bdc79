"""benchmarks/worker.py: whatever it times, a guarantee that was not held is told, and so is a command that failed."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

import pycontainer as pc
from pycontainer import aio

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MIB = 1 << 20
# What run.py asks for, with small numbers.
REQUESTS: dict[str, dict[str, Any]] = {
    "time": {"variant": "limits", "n": 1},
    "rate": {"variant": "plain", "n": 2, "threads": 2},
    "seccomp": {"n": 1},
    "capture": {"mib": 1},
    "capture_capped": {"mib": 2},
    "stats": {"n": 1},
    "exec": {"n": 1},
    "first_line": {"n": 1},
    "aio_rate": {"n": 200},
    "many": {"n": 2},
    "copies": {"files": 2, "size": 10},
    "sizes": {},
    "alive": {"n": 1},
}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module, on a machine without containers, times and sizes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("worker", BENCHMARKS / "worker.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    keepers = itertools.count()
    (tmp_path / "_bin").mkdir()
    (tmp_path / "_bin/pycontainer-keeper").write_bytes(b"")
    monkeypatch.setattr(module, "bare", lambda argv: SimpleNamespace(stdout=b"x" * MIB))
    monkeypatch.setattr(module, "helpers", lambda: set(map(str, range(next(keepers)))))
    monkeypatch.setattr(module, "status", lambda pid, name: 0.0)
    handles = sys.modules["handles"]
    monkeypatch.setattr(handles, "helpers", lambda: set(map(str, range(3 * next(keepers)))))
    monkeypatch.setattr(handles, "share", lambda pid: 0.0)
    monkeypatch.setattr(handles, "lacking_with", lambda n, argv: 0.0)
    clock = SimpleNamespace(sleep=lambda seconds: None, perf_counter=itertools.count().__next__)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module.importlib.resources, "files", lambda name: tmp_path)
    return module


def answers(worker: ModuleType, monkeypatch: pytest.MonkeyPatch, what: str, state: str, status: int) -> dict[str, Any]:
    row = pc.Guarantee("masked_paths", state, "mounts", "a reason")
    warm = pc.Guarantee("masked_paths", "held", "mounts")

    def run(args: list[str], limits: pc.Limits = pc.Limits(), **options: Any) -> pc.Result[bytes]:
        cut = ("stdout",) if limits.output else ()
        if what == "capture_capped" and not cut:  # the run before the one that is looked at
            return pc.Result(args, 0, b"", b"", enforced={warm.name: warm})
        return pc.Result(args, status, b"x" * MIB, b"", truncated=cut, enforced={row.name: row})

    class Live:
        """A container that is looked at while it runs."""

        enforced: ClassVar = {row.name: row}

        def __init__(self, args: list[str], **options: Any) -> None: ...

        def __enter__(self) -> Live:
            return self

        def __exit__(self, *error: object) -> None: ...

        def stats(self) -> None: ...

        def start(self) -> Live:
            return self

        def exec(self, args: list[str]) -> pc.Result[bytes]:
            return run(args)

        def lines(self) -> Iterator[tuple[str, bytes]]:
            yield "stdout", b"x"

        def kill(self) -> None: ...

        def close(self) -> None: ...

        def copy_in(self, src: object, dst: object) -> None: ...

        def copy_out(self, src: object, dst: object) -> None: ...

    async def run_on_asyncio(args: list[str], **options: Any) -> pc.Result[bytes]:
        return run(args)

    monkeypatch.setattr(worker.pc, "run", run)
    monkeypatch.setattr(worker.pc, "Container", Live)
    monkeypatch.setattr(aio, "run", run_on_asyncio)
    return worker.answer(worker.Worker("/nowhere"), {"do": what, **REQUESTS[what]})


def test_these_are_the_requests_of_the_figures() -> None:
    calls = [node for node in ast.walk(ast.parse((BENCHMARKS / "run.py").read_text())) if isinstance(node, ast.Call)]
    words = [word.value for call in calls for word in call.keywords if word.arg == "do"]
    assert {word.value for word in words if isinstance(word, ast.Constant)} == set(REQUESTS)


@pytest.mark.parametrize("what", REQUESTS)
def test_what_was_not_held_comes_with_the_figure(
    worker: ModuleType, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert answers(worker, monkeypatch, what, "held", 0)["weak"] == {}
    assert answers(worker, monkeypatch, what, "degraded", 0)["weak"] == {"masked_paths": "degraded: a reason"}


@pytest.mark.parametrize("what", sorted(REQUESTS.keys() - {"stats", "copies"}))  # these two raise
def test_a_command_that_failed_is_no_figure(worker: ModuleType, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    assert "returncode 3" in answers(worker, monkeypatch, what, "held", 3)["error"]
