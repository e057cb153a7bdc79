"""The flags of the command line and the tables of docs/api.md are the same ones, in both directions."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from pycontainer import cli

PAGE = Path(__file__).parents[2] / "docs/api.md"
COMMANDS = ["run", "exec", "ps", "stats", "images", "pull", "build", "builder", "load", "save", "doctor"]
FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def documented(command: str) -> set[str]:
    """The flags in the first cells of the table that begins with "| `command` takes"."""
    table = PAGE.read_text().partition(f"| `{command}` takes |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert cells, command
    return {flag for cell in cells for code in re.findall(r"`([^`]*)`", cell) for flag in FLAG.findall(code)}


def parser(command: str) -> argparse.ArgumentParser:
    (commands,) = (action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    found = commands.choices[command]
    assert isinstance(found, argparse.ArgumentParser)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_each_flag_is_on_the_page_and_there_is_no_other(command: str) -> None:
    taken = {flag for action in parser(command)._actions for flag in action.option_strings}
    assert documented(command) == taken


def test_every_command_has_a_table() -> None:
    (commands,) = (action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(re.findall(r"^\| `(\w+)` takes \|", PAGE.read_text(), re.MULTILINE)) == set(commands.choices)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_of_one_cell_that_mean_the_same_stand_together(command: str) -> None:
    """A short form is in the cell of its long one."""
    page = PAGE.read_text()
    for action in (action for action in parser(command)._actions if action.option_strings):
        rows = [row for row in page.splitlines() if row.startswith("| `-") and action.option_strings[0] in row]
        assert any(all(f"`{flag}" in row for flag in action.option_strings) for row in rows), action.option_strings
