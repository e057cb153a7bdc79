"""Each parameter of run, Limits and Security has a test of its effect from inside, and one of a refused value.

A mark alone is a claim: what the marked test does is read from its source (sources.py).
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc

sys.path.insert(0, str(Path(__file__).parent))
import sources

Marks = dict[str, dict[str, Any]]
SPACES = {"run": pc.run, "limits": pc.Limits, "security": pc.Security}
# Values that no container can have yet: what is shown is that they are refused, never ignored.
NOT_BUILT = {"limits.network"}
POSITIONAL = {"run.args"}


def parameters() -> list[str]:
    return [f"{space}.{name}" for space, owner in SPACES.items() for name in inspect.signature(owner).parameters]


def test_there_is_something_to_count() -> None:
    assert len(parameters()) > 50
    assert {"run.env", "limits.memory", "security.seccomp"} <= set(parameters())


def test_each_has_a_test_of_its_effect_from_inside(marks: Marks) -> None:
    """It bears @pytest.mark.parameter("run.env")."""
    assert [name for name in parameters() if not marks["parameter"].get(name)] == []


def test_each_has_a_test_that_a_bad_value_is_refused(marks: Marks) -> None:
    """It bears @pytest.mark.refuses("run.env")."""
    assert [name for name in parameters() if not marks["refuses"].get(name)] == []


def test_no_mark_names_a_parameter_that_does_not_exist(marks: Marks) -> None:
    assert {name for kind in ("parameter", "refuses") for name in marks[kind]} - set(parameters()) == set()


def marked(marks: Marks, kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(parameter, test without its row, facts); one line for each test."""
    found = {(name, test.partition("[")[0]): marks["tests"][test] for name, of in marks[kind].items() for test in of}
    return [(*key, facts) for key, facts in found.items()]


def none_of(tests: list[tuple[str, str]]) -> None:
    if tests:
        pytest.fail("\n".join(f"{name}: {test}" for name, test in tests), pytrace=False)


def of_what_is_built(marks: Marks) -> list[tuple[str, str, dict[str, Any]]]:
    return [case for case in marked(marks, "parameter") if case[0] not in NOT_BUILT]


def said(name: str, facts: dict[str, Any]) -> bool:
    return name in POSITIONAL or name.partition(".")[2] in facts["given"]


def test_an_effect_is_shown_by_the_probe_or_a_program_of_ours(marks: Marks) -> None:
    """tests/probe or tests/programs/load.c in a container for which the parameter is said."""
    shown = {name for name, _, facts in of_what_is_built(marks) if facts["shows"] and said(name, facts)}
    assert set(parameters()) - NOT_BUILT - shown == set()


def test_a_marked_test_starts_a_container_with_its_parameter(marks: Marks) -> None:
    """A refusal is no effect: outside of such a block something is run, and the parameter is said."""
    shown = of_what_is_built(marks)
    none_of([(name, test) for name, test, facts in shown if not (facts["runs"] and said(name, facts))])


def test_a_refusal_is_an_exception_of_a_type(marks: Marks) -> None:
    refusing = marked(marks, "refuses") + [case for case in marked(marks, "parameter") if case[0] in NOT_BUILT]
    none_of([(name, test) for name, test, facts in refusing if not facts["refuses"]])


# ---- the reading of sources --------------------------------------------------------------------------------------


def helped(load: Any) -> None:
    load("exit", memory=1)


def claims_only(load: Any, inside: Any) -> None:
    assert load
    with pytest.raises(Exception, match="x"):
        inside.run(env={})


def refused_only(load: Any) -> None:
    with pytest.raises(pc.NotSupported):
        load("exit", io={})


def by_helper(load: Any) -> None:
    with pytest.raises(pc.TimeoutExpired):
        helped(load)


def by_shell(load: Any) -> None:
    pc.run(["hostname"], image=load.root, hostname="x")


@pytest.mark.parametrize(
    ("test", "runs", "shows", "refuses", "word"),
    [
        (claims_only, False, False, False, "env"),
        (refused_only, False, False, True, "io"),
        (by_helper, True, True, True, "memory"),
        (by_shell, True, False, False, "hostname"),
    ],
)
def test_what_a_source_says(test: Any, runs: bool, shows: bool, refuses: bool, word: str) -> None:
    facts = sources.of(test)
    assert (facts.runs, facts.shows, facts.refuses, word in facts.given) == (runs, shows, refuses, True)
