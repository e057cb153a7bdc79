"""The pages about the house name what is there: paths, modules, messages of the wire, sessions, places of tests."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "ARCHITECTURE.md"
TOP = ("rust", "python", "tests", "tools", "docs", "benchmarks", "examples")
# Pages whose bare file names are files of this project too.
OF_THE_HOUSE = [PAGE, ROOT / "docs/kernel-features.md", *sorted((ROOT / "docs/decisions").glob("*.md"))]
PAGES = [*OF_THE_HOUSE, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")), *sorted(ROOT.glob("docs/*.md"))]
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(TOP)})/[\w./-]*\w/?")
FILE = re.compile(r"(?<![\w./*-])[\w-]+\.(?:rs|py|pyi|c|sh|md|txt|toml)(?![\w.-]*\w)")
# Rooms whose modules are all named; a directory's own module and tests beside the code are not.
ROOMS = ("rust/keeper", "rust/src", "python/pycontainer", "benchmarks", "tools", "examples")
UNNAMED = re.compile(r"mod\.rs|tests\.rs")


def files() -> dict[str, list[Path]]:
    """By name: the project's own files."""
    found: dict[str, list[Path]] = {}
    for path in [*ROOT.glob("*.*"), *(path for top in TOP for path in (ROOT / top).rglob("*.*"))]:
        found.setdefault(path.name, []).append(path)
    return found


@pytest.mark.parametrize("page", dict.fromkeys(PAGES), ids=lambda page: page.name)
def test_each_path_of_a_page_exists(page: Path) -> None:
    named = {path.rstrip(".") for path in PATH.findall(page.read_text())}
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", OF_THE_HOUSE, ids=lambda page: page.name)
def test_each_file_of_a_page_exists(page: Path) -> None:
    assert set(FILE.findall(page.read_text())) - files().keys() == set()


def block() -> list[str]:
    """The lines of "The house"."""
    return PAGE.read_text().partition("## The house")[2].partition("```\n")[2].partition("```")[0].splitlines()


def house() -> dict[str, set[str]]:
    """{directory: the files that its line and those indented below it name}, of the block of "The house"."""
    found: dict[str, set[str]] = {}
    around: list[tuple[int, str]] = []
    for line in block():
        indent, first = len(line) - len(line.lstrip()), line.split()[0]
        around = [(depth, name) for depth, name in around if depth < indent]
        if first.endswith("/"):
            around.append((indent, first.rstrip("/")))
        found.setdefault("/".join(name for _, name in around), set()).update(FILE.findall(line))
    return found


def modules(room: Path) -> dict[str, set[str]]:
    """{directory: its files} of a room and all below it."""
    found: dict[str, set[str]] = {}
    for path in room.rglob("*.*"):
        own = path.is_file() and "tests" not in path.relative_to(room).parts and "__pycache__" not in path.parts
        if own and FILE.fullmatch(path.name) and not UNNAMED.fullmatch(path.name):
            found.setdefault(str(path.parent.relative_to(ROOT)), set()).add(path.name)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_each_module_has_its_place_in_the_house(room: str) -> None:
    there = modules(ROOT / room)
    assert there, room
    named = {
        # A line may speak of a file at the top.
        place: {name for name in names if (ROOT / place / name).exists() or not (ROOT / name).exists()}
        for place, names in house().items()
        if place == room or place.startswith(f"{room}/")
    }
    assert {place: names for place, names in named.items() if names} == there


def test_each_kind_of_test_is_named() -> None:
    below = "\n".join(block()).partition("\ntests/\n")[2].partition("\nbenchmarks/")[0]
    kinds = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert kinds - set(below.split()) == set()


@pytest.mark.parametrize("module", ["request", "record", "outside", "inside"])
def test_each_message_and_operation_is_named(module: str) -> None:
    text = (ROOT / "rust/src/wire.rs").read_text().partition(f"pub mod {module} {{")[2].partition("\n}")[0]
    names = set(re.findall(r"const ([A-Z0-9_]+):", text)) - {"END"}
    assert len(names) > 5
    assert {name for name in names if not re.search(rf"\b{name}\b", PAGE.read_text())} == set()


def test_the_table_of_sessions_is_nox_s() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    marked = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    sessions = {node.name for node in marked if ast.unparse(node.decorator_list[0]).startswith("nox.session")}
    rows = re.findall(r"^\| (\w+) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert sorted(set(rows) - {"session"}) == sorted(sessions)


def test_pytest_looks_where_tests_are() -> None:
    said = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"])
    there = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    assert said == there - {"tests/reliability"}
