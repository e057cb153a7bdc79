"""Imports between the Python modules point one way, and one module only knows the native one."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import pycontainer

PACKAGE = Path(pycontainer.__file__).parent
PACKAGES = {"pycontainer", "pycontainer._build"}
# Lower rooms first; a module imports from rooms below its own. A new module finds its room here first.
ROOMS = [
    {"_text"},
    {"_types", "_errors", "_causes", "_log", "_host_names", "_host_image"},
    {"_arguments", "_events", "_build.draft", "_build.frozen"},
    {"_build.source"},
    {"_build.glob", "_build.instructions", "_build.patterns", "_build.quote", "_build.values", "_build.words"},
    {"_build.ignore", "_build.mounts", "_build.shell"},
    {"_build.lines"},
    {"_build.commands", "_build.readers"},
    {"_build.files", "_build.parse"},
    {"_build.expand", "_build.fetching", "_build.history", "_build.metadata", "_build.write"},
    {"_build.scope", "_dockerfile"},
    {"_build.stages"},
    {"_failures", "_limits", "_mounts", "_seccomp", "_native", "_ports"},
    {"_security", "_result", "_build.context"},
    {"_image_config", "_progress"},
    {"_image_facts", "_stored", "_build.events", "_build.request"},
    {"_build.caches"},
    {"_enforced", "_image", "_spaces", "_streams", "_hub", "_build.cache", "_build.copies", "_build.scratch"},
    {"_spec", "_build.bases"},
    {"_outcome", "_lines", "_stats", "_registry", "_listening"},
    {"_run", "_beside", "_loop", "_files", "_commit", "_live"},
    {"_process", "_waiting"},
    {"_logs"},
    {"_commands", "_reach", "_elsewhere", "wait"},
    {"_container", "_waiting_loop", "_aio_images", "_aio_lines"},
    {"_aio_start"},
    {"_aio_process", "_aio_build", "_aio_control", "_aio_events", "_aio_run"},
    {"_build.mounting", "_build.running"},
    {"_build.stage"},
    {"_build.build"},
    {"aio"},
    {"_doctor"},
    {"__init__"},
    {"_cli_words", "_cli_terminal", "_cli_attach", "_cli_containers", "_cli_results"},
    {"_cli_images"},
    {"_cli_live", "_cli_build"},
    {"_cli_stats"},
    {"_cli_values"},
    {"cli"},
    {"__main__"},
]
# Work without the extension, as plain values: they may not even name what loads it.
VALUES = {
    "_text", "_types", "_errors", "_causes", "_failures", "_arguments", "_limits", "_mounts", "_seccomp", "_security",
    "_result", "_enforced", "_log", "_ports", "_stats", "_events", "_dockerfile", "_build.commands", "_build.draft",
    "_build.expand", "_build.frozen", "_build.glob", "_build.history", "_build.ignore", "_build.instructions",
    "_build.lines", "_build.metadata", "_build.mounts", "_build.parse", "_build.patterns", "_build.quote",
    "_build.readers", "_build.scope", "_build.shell", "_build.source", "_build.stages", "_build.values",
    "_build.words", "_build.write",
}  # fmt: skip
# Never imported at run time: the last test of this file.
FOR_TYPE_CHECKERS = {"_options"}
# What costs milliseconds at import, or starts something.
HEAVY = {
    "asyncio",
    "concurrent",
    "dataclasses",
    "inspect",
    "logging",
    "multiprocessing",
    "threading",
    "typing",
    "urllib",
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    """All but those that only type checkers read."""
    found = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}
    below = [path for path in sorted(PACKAGE.glob("*/*.py")) if path.stem != "__init__"]
    found |= {f"{path.parent.name}.{path.stem}": ast.parse(path.read_text()) for path in below}
    return {name: tree for name, tree in found.items() if name not in FOR_TYPE_CHECKERS}


def imported(tree: ast.AST) -> list[str]:
    """Dotted names that are imported when the code runs; what only type checkers read is left out."""
    found: list[str] = []
    for node in running(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = node.module or ""
            # `from pycontainer import _core` names a module in the second half.
            found += [f"{module}.{alias.name}" for alias in node.names] if module in PACKAGES else [module]
    return found


def running(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        nodes.append(node)
        waiting += ast.iter_child_nodes(node)
    return nodes


def of_the_package(names: list[str]) -> set[str]:
    own = {name.partition(".")[2] for name in names if name.split(".")[0] == "pycontainer"}
    own = {name if name in modules() else name.split(".")[0] for name in own}
    return {name if name in modules() or name == "_core" else "__init__" for name in own}


def room(module: str) -> int:
    return next(number for number, names in enumerate(ROOMS) if module in names)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_down(module: str) -> None:
    assert any(module in names for names in ROOMS), (
        f"{module} has no room; say in {Path(__file__).name} where it belongs"
    )
    wrong = {name for name in of_the_package(imported(modules()[module])) - {"_core"} if room(name) >= room(module)}
    assert wrong == set()


def test_no_room_is_empty() -> None:
    assert {name for names in ROOMS for name in names} == set(modules())


def test_only_one_module_imports_the_native_one() -> None:
    assert [name for name, tree in modules().items() if "_core" in of_the_package(imported(tree))] == ["_native"]


def test_values_work_without_the_extension() -> None:
    for module in VALUES:
        assert not of_the_package(imported(modules()[module])) & {"_native", "_core"}, module
        assert of_the_package(imported(modules()[module])) <= VALUES, module


def test_what_type_checkers_read_is_left_out_and_nothing_else() -> None:
    """The control of this file's own reader."""
    text = (
        "import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\ndef f():\n    from pycontainer import _core\n"
    )
    assert sorted(imported(ast.parse(text))) == ["a", "c", "pycontainer._core"]
    assert of_the_package(["pycontainer._core", "pycontainer._run", "pycontainer.Limits", "os"]) == {
        "_core",
        "_run",
        "__init__",
    }


ON_ASYNCIO = {
    "aio",
    "_aio_control",
    "_aio_events",
    "_aio_build",
    "_aio_images",
    "_aio_lines",
    "_aio_process",
    "_aio_run",
    "_aio_start",
    "_loop",
    "_waiting_loop",
}
OF_THE_COMMAND_LINE = {
    "_cli_build",
    "_cli_words",
    "_cli_terminal",
    "_cli_attach",
    "_cli_containers",
    "_cli_images",
    "_cli_live",
    "_cli_results",
    "_cli_stats",
    "_cli_values",
    "cli",
    "__main__",
}


# Threads of a build: imported when one begins.
OF_BUILDS = {"_build.build", "_build.files", "_build.running", "_build.stage"}


@pytest.mark.parametrize("module", sorted(set(modules()) - OF_THE_COMMAND_LINE - ON_ASYNCIO - OF_BUILDS))
def test_nothing_heavy_is_imported(module: str) -> None:
    at_import = [node for node in modules()[module].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {name.split(".")[0] for node in at_import for name in imported(ast.Module([node], []))}
    assert names & HEAVY == set()


def test_what_only_type_checkers_read_is_never_imported() -> None:
    for module, tree in modules().items():
        assert not FOR_TYPE_CHECKERS & {name.split(".")[-1] for name in imported(tree)}, module
