"""What the source of a test says that it does: runs one of our programs inside, expects a refusal. Runs nothing."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

# Fixtures that run tests/probe and tests/programs/load.c in a container, and the names of tests/probing.py for it.
PROGRAMS = {"inside", "load"}
OF_THE_PROBE = {"PROGRAM", "Probe"}
# An exception of these says that nothing was done; any other one is what the test is about, such as TimeoutExpired.
REFUSALS = {"ValueError", "TypeError", "NotSupported", "SetupError"}
UNTYPED = {"Exception", "BaseException"}


@dataclass
class Facts:
    """Of one test, with the helpers of its module that it names.

    Attributes:
        runs: a container is started outside of a block that expects a refusal.
        shows: with tests/probe or tests/programs/load.c in it.
        refuses: there is a block that expects an exception of a type.
        given: the arguments that are said by name.
    """

    runs: bool = False
    shows: bool = False
    refuses: bool = False
    given: set[str] = field(default_factory=set)


def of(test: Callable[..., Any]) -> Facts:
    facts = Facts()
    for function in with_helpers(inspect.unwrap(test)):
        look(ast.parse(textwrap.dedent(inspect.getsource(function))), facts, refused=False)
    return facts


def with_helpers(test: Callable[..., Any]) -> list[FunctionType]:
    """The test, and the plain functions of its module that it names, and theirs."""
    assert isinstance(test, FunctionType)
    found = [test]
    for function in found:
        for name in function.__code__.co_names:
            helper = function.__globals__.get(name)
            if isinstance(helper, FunctionType) and helper.__module__ == test.__module__ and helper not in found:
                found.append(helper)
    return found


def look(node: ast.AST, facts: Facts, refused: bool) -> None:
    """Walk down, knowing whether this is within the block of a refusal."""
    if isinstance(node, ast.With) and (names := list(expected(node))):
        facts.refuses |= not UNTYPED & set(names)
        refused |= all(
            name in REFUSALS | UNTYPED or name.islower() for name in names
        )  # a variable of the rows: a refusal
    if not refused:
        facts.shows |= runs_a_program(node)
        facts.runs |= facts.shows or (isinstance(node, ast.Attribute) and ast.unparse(node) == "pc.run")
    facts.given |= words(node)
    for child in ast.iter_child_nodes(node):
        look(child, facts, refused)


def expected(node: ast.With) -> Iterator[str]:
    """The names in pytest.raises(...) of a with statement."""
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "raises":
            for part in ast.walk(call.args[0]):
                if isinstance(part, ast.Attribute):
                    yield part.attr
                elif isinstance(part, ast.Name) and part.id != "pc":
                    yield part.id


def runs_a_program(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in OF_THE_PROBE
    if not isinstance(node, ast.Call):
        return False
    called = node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "run" else node.func
    return isinstance(called, ast.Name) and called.id in PROGRAMS


def words(node: ast.AST) -> set[str]:
    """Names of arguments, as keywords or as the keys of a table's dictionaries."""
    if isinstance(node, ast.keyword) and node.arg:
        return {node.arg}
    if isinstance(node, ast.Dict):
        return {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return set()
