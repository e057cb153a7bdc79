"""_core.pyi says of the native module what the native module is: names, parameters, attributes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import pycontainer
from pycontainer import _core

STUB = Path(pycontainer.__file__).parent / "_core.pyi"


CLASSES = ["Container", "ContainerLog", "Exec", "Foreign", "Held", "Outcome", "Tree"]


def described() -> tuple[dict[str, list[str]], dict[str, dict[str, list[str]]], set[str]]:
    """Functions with their parameters, members of the classes with theirs, constants."""
    tree = ast.parse(STUB.read_text())
    functions = {node.name: names(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    members = {
        owner.name: {
            node.name: names(node)
            for node in owner.body
            if isinstance(node, ast.FunctionDef) and node.name != "__new__"
        }
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
    }
    constants = {ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)}
    return functions, members, constants


def names(node: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs) if argument.arg != "self"]


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "$self")]


def public(owner: Any) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def test_functions_and_constants() -> None:
    functions, _, constants = described()
    assert public(_core) == functions.keys() | constants | set(CLASSES)
    assert {name: parameters(getattr(_core, name)) for name in functions} == functions


@pytest.mark.parametrize("owner", CLASSES)
def test_members_of(owner: str) -> None:
    members = described()[1][owner]
    assert public(getattr(_core, owner)) == members.keys()
    for name, wanted in members.items():
        member = getattr(getattr(_core, owner), name)
        if callable(member):
            assert parameters(member) == wanted, name
        else:
            assert wanted == [], name


def test_each_says_what_it_is() -> None:
    tree = ast.parse(STUB.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert ast.get_docstring(node), node.name
