"""What the logger is told of an engine and of degraded limits, and that nobody is told who does not listen."""

from __future__ import annotations

import logging
import sys
import types

import pytest

import pycontainer as pc
from pycontainer import _log


def native(*notices):
    """An engine with these notices, each taken once."""
    waiting = list(notices)
    return types.SimpleNamespace(take_notices=lambda: waiting.pop(0) if waiting else None)


def records(caplog):
    return [(record.name, record.levelname, record.getMessage()) for record in caplog.records]


def test_a_keeper_that_died_is_a_warning_and_a_sweep_is_not(caplog):
    caplog.set_level(logging.DEBUG)
    engine = native((70, 60, 0, 0), (70, None, 2, 1), None)
    for _ in range(4):
        _log.of_engine(engine)
    assert records(caplog) == [
        ("pycontainer", "WARNING", "the keeper (pid 60) died, and its containers with it; pid 70 stands in for it"),
        ("pycontainer", "DEBUG", "swept what dead keepers had left: control groups: 2, writable layers: 1"),
    ]


ROWS = {
    "memory": pc.Guarantee("memory", "missing", "", "no group", "be root"),
    "rlimits": pc.Guarantee("rlimits", "degraded", "setrlimit", "cut to 9"),
    "cpus": pc.Guarantee("cpus", "held", "cgroup v2"),
    "landlock": pc.Guarantee("landlock", "missing", "", "an old kernel"),
}


def test_a_degraded_limit_is_told_where_degrade_named_it(caplog):
    caplog.set_level(logging.DEBUG)
    _log.of_degraded(ROWS, ["memory", "cpus", "rlimits", "io"])
    assert records(caplog) == [
        ("pycontainer", "DEBUG", "memory is missing: no group; degrade= allows it"),
        ("pycontainer", "DEBUG", "rlimits is degraded: cut to 9; degrade= allows it"),
    ]


def test_rows_are_made_only_for_who_reads_them(caplog):
    caplog.set_level(logging.INFO)
    _log.of_degraded(types.SimpleNamespace(), ["memory"])  # has no rows to give
    assert records(caplog) == []


@pytest.mark.parametrize("module", [None, types.ModuleType("logging")])
def test_without_logging_nothing_is_taken(monkeypatch, module):
    """Not imported, or about to be by another thread: it is told later."""
    engine = native((70, 60, 0, 0))
    if module is None:
        monkeypatch.delitem(sys.modules, "logging")
    else:
        monkeypatch.setitem(sys.modules, "logging", module)
    _log.of_engine(engine)
    _log.of_degraded(ROWS, ["memory"])
    assert engine.take_notices() == (70, 60, 0, 0)
    assert sys.modules.get("logging") is module
