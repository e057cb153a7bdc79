"""The command line in the windows of a real terminal emulator: keys, sizes, job control, a second terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pace import patience
from pycontainer._cli_live import BARS
from windows import COLUMNS, INNER, OUTER, ROWS, Window, Windows
from worlds import command

pytestmark = pytest.mark.requires("userns", "program:tmux")
WORKING = ["sh", "-c", "echo ready; exec sleep 654.5"]


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[Windows]:
    with Windows(tmp_path) as made:
        yield made


@pytest.fixture
def window(windows: Windows) -> Window:
    return windows.open()


def enter(window: Window, rootfs: Path, *options: str) -> None:
    """A shell in a container."""
    window.line(f"pc run -it {' '.join(options)} -e PS1='{INNER} ' {rootfs} sh")
    window.until(f"^{INNER}$")


def ps(name: str) -> dict[str, Any] | None:
    done = subprocess.run(command("ps", "--format", "json"), check=True, capture_output=True, text=True, timeout=60)
    return next((row for row in json.loads(done.stdout) if row["name"] == name), None)


def until_gone(name: str) -> None:
    deadline = time.monotonic() + patience(10)
    while ps(name) is not None:
        assert time.monotonic() < deadline


def test_a_shell_in_a_container(rootfs: Path, window: Window) -> None:
    before = window.settings()
    enter(window, rootfs)
    window.line("echo $((6*7))")
    window.until("^42$")
    window.line("stty size")
    window.until(f"^{ROWS} {COLUMNS}$")
    # Ctrl-C is the program's inside, and the shell inside goes on.
    window.line("sh -c 'echo up; exec sleep 1000'")
    window.until("^up$")
    window.press("C-c")
    assert window.code() == 130
    window.press("C-d")
    window.until(rf"^{re.escape(OUTER)}$")
    assert window.code() == 0  # of the last command of the shell inside
    assert window.settings() == before


def test_job_control_is_the_shell_s_inside(rootfs: Path, window: Window) -> None:
    enter(window, rootfs)
    window.line("sleep 1000")
    for _ in range(2):
        window.insist("C-z", r"\[1\]\+\s+Stopped\s+sleep 1000$")
        window.press("C-l")
        window.until("Stopped", wanted=False)
        window.line("fg")
        window.until(r"^sleep 1000$")
    window.insist("C-c", rf"^{INNER}$")
    window.line("sleep 1000 &")
    window.line("jobs")
    window.until(r"^\[1\]\+\s+Running\s+sleep 1000$")
    window.line("exit 7")
    window.until(rf"^{re.escape(OUTER)}$")
    assert window.code() == 7


def test_the_size_follows_the_window(rootfs: Path, window: Window) -> None:
    enter(window, rootfs)
    for columns, rows in ((70, 20), (132, 43)):
        window.resize(columns, rows)
        window.answer("stty size", f"^{rows} {columns}$")


def test_without_a_terminal_of_its_own(rootfs: Path, window: Window) -> None:
    """Ctrl-Z stops the command line and not the container, fg goes on, and Ctrl-C is for the command."""
    before = window.settings()
    window.line(f"pc run --name web {rootfs} sh -c 'echo ready; exec sleep 654.5'")
    window.until("^ready$")
    window.press("C-z")
    window.until(r"\[1\] \+ Stopped")
    seen = ps("web")
    assert seen is not None
    stat = Path(f"/proc/{seen['pid']}/stat").read_text()
    assert stat.rpartition(")")[2].split()[0] == "S"
    window.clear()
    window.line("fg")
    window.until("^pc run")
    window.press("C-c")
    window.until(rf"^\^C.*{re.escape(OUTER)}$|^{re.escape(OUTER)}$")
    assert window.code() == 130
    assert window.settings() == before
    until_gone("web")


def test_ctrl_c_is_handed_to_a_command_that_wants_it_and_the_third_one_ends_the_others(
    rootfs: Path, window: Window
) -> None:
    window.line(f"pc run {rootfs} sh -c 'trap \"echo mine; exit 5\" INT; echo ready; while :; do sleep 0.05; done'")
    window.until("^ready$")
    window.press("C-c")
    window.until("mine$")
    assert window.code() == 5
    window.clear()
    window.line(f"pc run --name web {rootfs} sh -c 'trap \"\" INT; echo ready; while :; do sleep 0.05; done'")
    window.until("^ready$")
    window.press("C-c")
    window.until(r"^\^C$")
    assert ps("web") is not None
    presses = 1
    while not re.search(rf"{re.escape(OUTER)}$", window.screen(), re.MULTILINE):  # two that come at once are one
        assert presses < 3 + patience(20)
        window.press("C-c")
        presses += 1
        time.sleep(0.3)
    assert presses >= 3
    assert window.code() == 130
    until_gone("web")


def test_in_the_background_it_waits_for_the_terminal(rootfs: Path, window: Window) -> None:
    """As any program that would set it: stopped until it is in the foreground."""
    before = window.settings()
    window.line(f"pc run -it {rootfs} sh -c 'echo inside; read word; echo got $word' &")
    deadline = time.monotonic() + patience(20)
    while not re.search(r"Stopped \(tty output\)", window.screen()):
        assert time.monotonic() < deadline, window.screen()
        window.press("Enter")
        time.sleep(0.2)
    window.clear()
    window.line("fg")
    window.until("^inside$")
    window.line("this")
    window.until("^got this$")
    assert window.code() == 0
    assert window.settings() == before


@pytest.mark.parametrize("who", ["command", "first"])
def test_killed_from_another_terminal(rootfs: Path, windows: Windows, window: Window, who: str) -> None:
    before = window.settings()
    enter(window, rootfs, "--name", "web")
    seen = ps("web")
    assert seen is not None
    status = Path(f"/proc/{seen['pid']}/status").read_text()
    pid = seen["pid"] if who == "command" else int(re.findall(r"^PPid:\s+(\d+)", status, re.MULTILINE)[0])
    windows.open().line(f"kill -9 {pid}")
    window.until(rf"{re.escape(OUTER)}$")
    assert window.code() == 137
    assert window.settings() == before
    window.line("echo $((6*7))")
    window.until("^42$")


def test_a_second_terminal_beside_the_first(rootfs: Path, windows: Windows, window: Window) -> None:
    enter(window, rootfs, "--name", "web")
    window.line("echo hello > /tmp/note")
    second = windows.open(160, 35)
    before = second.settings()
    second.line("pc ps")
    second.until(r"^[0-9a-f]{12} .* Up .* web$")
    second.line(f"pc exec -it -e PS1='{INNER} ' web sh")
    second.until(f"^{INNER}$")
    second.line("cat /tmp/note; stty size")
    second.until("^hello\n35 160$")
    second.resize(90, 25)
    second.answer("stty size", "^25 90$")
    second.line("sleep 1000")
    second.insist("C-z", "Stopped")
    second.press("C-d")  # the shell says that there are stopped jobs, and at the next one ends
    second.press("C-d")
    second.until(rf"{re.escape(OUTER)}$")
    assert second.settings() == before
    # The first one has seen nothing of it.
    window.line("stty size; echo $?")
    window.until(f"^{ROWS} {COLUMNS}\n0$")


@pytest.mark.parametrize("by", ["itself", pytest.param("rich", marks=pytest.mark.requires("module:rich"))])
def test_stats_in_a_second_terminal(rootfs: Path, windows: Windows, by: str) -> None:
    if by == "itself":
        windows.without("rich")
    window = windows.open()
    enter(window, rootfs, "--name", "web")
    second = windows.open(150, 20)
    before = second.settings()
    second.line("pc stats")
    second.until(r"^CONTAINER ID +NAME +CPU %.* MEM USAGE / LIMIT +MEM %.* BLOCK I/O +PIDS$")
    second.until(r"^[0-9a-f]{12} +web +0\.00% .* [0-9.]+[KM]iB / [0-9.]+GiB .* 1$")
    window.line("while :; do :; done")
    shown = second.until(r"^[0-9a-f]{12} +web +[1-9]\d*\.\d\d% ")
    assert bool(set(BARS) & set(shown)) == (by == "rich")
    if by == "rich":
        second.press("C-c")
        second.until(rf"{re.escape(OUTER)}$")
        assert (second.code(), second.settings()) == (130, before)
        return
    third = windows.open()
    third.line(f"pc run --name later {rootfs} {' '.join(WORKING[:2])} '{WORKING[2]}'")
    third.until("^ready$")
    second.until(r"^[0-9a-f]{12} +later +")
    third.press("C-c")
    second.until(r" later ", wanted=False)
    second.until(r"^[0-9a-f]{12} +web +")
    second.press("C-c")
    second.until(rf"{re.escape(OUTER)}$")
    assert second.code() == 130
    assert second.settings() == before
    second.line("pc stats later")
    second.until("there is no container 'later'")
    assert second.code() == 1
    window.press("C-c")


def test_an_interpreter_that_edits_its_lines(window: Window) -> None:
    window.line(f"pc run -it host {Path(sys.executable).name} -q")
    window.until("^>>>$")
    window.line("2 ** 70")
    window.until("^1180591620717411303424$")
    window.press("Up")
    window.line(" + 1")
    window.until("^1180591620717411303425$")
    window.line("while True: pass")
    window.press("Enter")
    window.press("C-c")
    window.until("^KeyboardInterrupt$")
    window.line("6 * 7")  # one that ends upon an interrupt ends by that signal, as Python does
    window.until("^42$")
    window.press("C-d")
    window.until(rf"^{re.escape(OUTER)}$")
    assert window.code() == 0


@pytest.mark.requires("program:vim")
def test_a_program_that_takes_the_whole_screen(window: Window) -> None:
    before = window.settings()
    window.clear()
    window.line("echo was here")
    window.until("^was here$")
    window.line("pc run -it host vim -u NONE --cmd 'set noswapfile'")
    shown = window.until("^~$")
    assert "was here" not in shown
    window.press("i")
    window.line("typed")
    window.press("Escape")
    shown = window.until("^typed$")
    assert shown.count("\n~") == ROWS - 3
    window.resize(80, 20)
    window.until(r"\Atyped\n\n(~\n){17}")
    window.type(":q!")
    window.press("Enter")
    window.until(rf"^was here\n.*noswapfile'\n{re.escape(OUTER)}$")  # the screen of before
    assert window.code() == 0
    assert window.settings() == before
