"""The public surface: what `__all__` lists, what the package has, and what docs/api.md says are one."""

from __future__ import annotations

import ast
import enum
import inspect
import re
import types
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pycontainer import aio

# Classes that are made of parts (mixins) which nobody imports.
PARTS = {pc.Container, pc.Image}
SET_BY_ITS_CONSTRUCTOR = {"image", "id", "name", "labels", "args", "limits"}
PAGE = Path(__file__).parent.parent.parent / "docs/api.md"
BLOCK = re.compile(r"^```python signature\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page() -> list[ast.stmt]:
    return [statement for block in BLOCK.findall(PAGE.read_text()) for statement in ast.parse(block).body]


def documented() -> dict[str, str]:
    """{"run": "(args=None, ...)", "Limits.replace": ..., "Limits": its constructor's or "class"}."""
    found: dict[str, str] = {}
    for statement in page():
        if isinstance(statement, ast.FunctionDef):
            found[statement.name] = parameters_of(statement.args)
        elif isinstance(statement, ast.ClassDef):
            methods = [part for part in statement.body if isinstance(part, ast.FunctionDef)]
            found[statement.name] = "class"
            for method in methods:
                found[f"{statement.name}.{method.name}"] = parameters_of(method.args)
    return found


def parameters_of(arguments: ast.arguments) -> str:
    return normal(ast.unparse(arguments))


def normal(text: str) -> str:
    """Numbers in one base: the page writes modes in octal."""
    return re.sub(r"\b0o[0-7]+\b", lambda match: str(int(match[0], 8)), text.replace("'", '"'))


def actual() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in pc.__all__:
        value = getattr(pc, name)
        if inspect.isclass(value):
            found[name] = "class"
            for method, function in methods_of(value).items():
                found[f"{name}.{method}"] = shown(function)
        elif isinstance(value, types.FunctionType):
            found[name] = shown(value)
    return found


def methods_of(cls: type) -> dict[str, Any]:
    """Constructors and public methods of the class and of its own parts; an enumeration has none of ours."""
    if issubclass(cls, enum.Enum):
        return {}
    found = {}
    for name, value in members_of(cls).items():
        function = getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and (name == "__init__" or not name.startswith("_")):
            found[name] = function
    if cls is pc.Mount:
        del found["__init__"]  # it only says that there is none
    return found


def members_of(cls: type) -> dict[str, Any]:
    """What a class defines, with its parts that have no name for users."""
    public = {getattr(pc, name) for name in pc.__all__ if inspect.isclass(getattr(pc, name))}
    parts = [one for one in cls.__mro__ if one.__module__.startswith("pycontainer.") and one not in public - {cls}]
    found: dict[str, Any] = {}
    for part in reversed(parts if cls in PARTS else [cls]):
        found |= vars(part)
    return found


def shown(function: Any) -> str:
    parts: list[str] = []
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if (
            parameter.kind is parameter.KEYWORD_ONLY
            and "*" not in parts
            and not any(part.startswith("*") for part in parts)
        ):
            parts.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={default_of(parameter.default)}"
        parts.append(f"{stars}{parameter.name}{default}")
    return normal(", ".join(parts))


def default_of(value: Any) -> str:
    if value == pc.DEFAULT_CAPABILITIES:
        return "DEFAULT_CAPABILITIES"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple) and len(value) > 3:
        return "..."
    return repr(value)


def test_signatures_are_those_of_the_page() -> None:
    assert actual() == documented()


def test_the_page_has_the_bases_of_each_class() -> None:
    for statement in page():
        if isinstance(statement, ast.ClassDef) and statement.bases:
            bases = [ast.unparse(base).rpartition(".")[2] for base in statement.bases]
            cls = getattr(pc, statement.name)
            # Of a class made of parts the page names those that are public, wherever they come in.
            named = [base for base in cls.__mro__[1:] if base.__name__ in pc.__all__] if cls in PARTS else cls.__bases__
            assert [base.__name__ for base in named] == bases, statement.name


def test_the_page_has_each_constant_and_member() -> None:
    text = PAGE.read_text()
    for name in pc.__all__:
        if not callable(getattr(pc, name)):
            assert f"`{name}`" in text, name
    member = next(
        statement for statement in page() if isinstance(statement, ast.ClassDef) and statement.name == "Reason"
    )
    assert {ast.unparse(part) for part in member.body} == {f"{one.name} = {one.value!r}" for one in pc.Reason}


def test_all_is_everything_and_sorted() -> None:
    public = {
        name for name, value in vars(pc).items() if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == {name for name in pc.__all__ if not isinstance(getattr(pc, name), types.ModuleType)}
    assert len(pc.__all__) == len(set(pc.__all__))


@pytest.mark.parametrize(("plain", "on_asyncio"), [(pc.Container, aio.Container), (pc.Process, aio.Process)])
def test_asyncio_has_the_same_names(plain: type, on_asyncio: type) -> None:
    """A stream of a command is read where it is: `lines` of a Process is for threads."""

    def public(cls: type) -> set[str]:
        attributes = SET_BY_ITS_CONSTRUCTOR if cls is pc.Container else {"args", "returncode"}
        return {name for name in dir(cls) if not name.startswith("_")} | (attributes if cls is plain else set())

    assert public(plain) - public(on_asyncio) - ({"lines"} if plain is pc.Process else set()) == set()
    for name in public(plain) & public(on_asyncio):
        assert getattr(on_asyncio, name).__doc__, name


def test_everything_public_has_a_docstring() -> None:
    for name, signature in actual().items():
        owner, _, method = name.partition(".")
        value = getattr(pc, owner)
        if method != "__init__":
            assert (getattr(value, method) if method else value).__doc__, f"{name}{signature}"


@pytest.mark.parametrize("name", sorted(name for name in pc.__all__ if inspect.isclass(getattr(pc, name))))
def test_attributes_on_the_page_exist(name: str) -> None:
    for statement in page():
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            said = {ast.unparse(part.target) for part in statement.body if isinstance(part, ast.AnnAssign)}
            members = members_of(getattr(pc, name)).items()
            computed = {member for member, value in members if isinstance(value, property)}
            cls = getattr(pc, name)
            made = SET_BY_ITS_CONSTRUCTOR if cls in PARTS else set()
            assert said <= set(inspect.get_annotations(cls)) | computed | made, name


def test_type_checkers_see_what_the_package_has() -> None:
    stub = ast.parse(Path(pc.__file__).with_suffix(".pyi").read_text())
    seen = {(s.module, name.asname) for s in stub.body if isinstance(s, ast.ImportFrom) for name in s.names}
    values = {(f"pycontainer.{home}", name) for home, names in pc._HOMES.items() for name in names}
    assert seen == values | {("pycontainer", module) for module in pc._MODULES}
