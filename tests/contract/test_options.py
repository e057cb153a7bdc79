"""The typed keywords of run()'s overloads are run()'s parameters: names, order, types; and what a checker sees."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pycontainer as pc

PACKAGE = Path(pc.__file__).parent
# They decide between str and bytes, so each overload writes them out.
OF_TEXT = ("text", "encoding", "errors")


def body(name: str) -> list[ast.stmt]:
    return ast.parse((PACKAGE / name).read_text()).body


def options() -> dict[str, str]:
    """The fields of Options with their annotations, as they are written."""
    (found,) = (node for node in body("_options.py") if isinstance(node, ast.ClassDef) and node.name == "Options")
    rows = (node for node in found.body if isinstance(node, ast.AnnAssign))
    return {ast.unparse(node.target): ast.unparse(node.annotation) for node in rows}


def overloads() -> list[ast.FunctionDef]:
    every = [node for node in body("_run.py") if isinstance(node, ast.FunctionDef) and node.name == "run"]
    return [node for node in every if [ast.unparse(word) for word in node.decorator_list] == ["overload"]]


def test_options_are_the_other_parameters_of_run_in_their_order() -> None:
    keywords = {
        name: parameter.annotation
        for name, parameter in inspect.signature(pc.run).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in OF_TEXT
    }
    assert options() == keywords
    assert list(options()) == list(keywords)


def test_every_overload_takes_the_same_words() -> None:
    assert len(overloads()) == 5
    for node in overloads():
        assert [argument.arg for argument in node.args.args] == ["args"]
        assert sorted(argument.arg for argument in node.args.kwonlyargs) == sorted(OF_TEXT)
        assert node.args.kwarg is not None
        assert ast.unparse(node.args.kwarg.annotation or ast.Constant(None)) == "Unpack[Options]"


def test_run_s_own_signature_is_the_whole_one() -> None:
    """No overload hides it from inspect, pydoc and editors without types."""
    parameters = inspect.signature(pc.run).parameters
    assert next(iter(parameters)) == "args"
    assert {parameter.kind for name, parameter in parameters.items() if name != "args"} == {
        inspect.Parameter.KEYWORD_ONLY
    }
    assert len(parameters) == len(options()) + len(OF_TEXT) + 1


CALLS = {
    "pc.run(['x'])": "Result[bytes]",
    "pc.run(['x'], text=False, timeout=1)": "Result[bytes]",
    "pc.run(['x'], text=True)": "Result[str]",
    "pc.run(['x'], encoding='ascii', tty=True)": "Result[str]",
    "pc.run(['x'], errors='strict', env={'A': 'b'})": "Result[str]",
    "pc.run(['x'], text=maybe)": "Result[Any]",
}
REFUSED = ["pc.run('x', nope=1)", "pc.run(['x'], umask='077')", "pc.run(['x'], network='lan')"]


@pytest.mark.requires("module:mypy")
def test_a_type_checker_sees_bytes_str_or_either(tmp_path: Path) -> None:
    lines = ["import pycontainer as pc", "maybe: bool = bool(input())"]
    lines += [*(f"reveal_type({call})" for call in CALLS), *REFUSED]
    page = tmp_path / "page.py"
    page.write_text("\n".join(lines) + "\n")
    argv = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(page)]
    environ = {"MYPYPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=110)
    said = {int(line.split(":")[1]): line for line in reversed(done.stdout.splitlines()) if line.startswith("page.py:")}
    for number, expected in enumerate(CALLS.values(), 3):
        assert said[number].replace("builtins.", "").endswith(f'{expected}"'), said[number]
    for number in range(3 + len(CALLS), 3 + len(CALLS) + len(REFUSED)):
        assert "error:" in said[number]
