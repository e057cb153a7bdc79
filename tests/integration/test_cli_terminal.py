"""`pycontainer run -i -t` at a real terminal: keys, sizes, exit codes; the terminal is as it was, whatever ended it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pace import until
from terminals import CTRL_C, CTRL_D, PATIENCE, Terminal
from worlds import command

pytestmark = pytest.mark.requires("userns")

# Who says it is who gets the signals: busybox's shell ignores SIGQUIT to its last moment.
READY = ["sh", "-c", "echo ready >/tmp/ready; exec tail -f /tmp/ready"]


def ended(terminal: Terminal, before: list[object]) -> tuple[int, str]:
    """The exit code and the rest of what was shown; the terminal is as it was."""
    code, shown = terminal.end()
    assert terminal.settings() == before
    return code, shown.replace("\r\n", "\n")


def at_terminal(*words: str, rows: int = 24, columns: int = 80) -> tuple[Terminal, list[object]]:
    terminal = Terminal(command("run", *words), rows, columns)
    return terminal, terminal.settings()


def test_what_is_printed_is_shown(rootfs: Path) -> None:
    terminal, before = at_terminal("-i", "-t", str(rootfs), "sh", "-c", "test -t 0 && test -t 2 && echo both")
    with terminal:
        assert ended(terminal, before) == (0, "both\n")


def test_keys_go_to_the_container_until_ctrl_d(rootfs: Path) -> None:
    terminal, before = at_terminal("-it", str(rootfs), "sh", "-c", "echo ready; exec cat")
    with terminal:
        terminal.until("ready\r\n")
        assert terminal.is_raw()
        terminal.type("one\r")  # the key Enter
        assert terminal.until("one\r\n") == ""  # the container's terminal echoes it
        assert terminal.until("one\r\n") == ""  # and cat prints it
        terminal.type(CTRL_D)
        assert ended(terminal, before) == (0, "")


def test_ctrl_c_is_the_command_s(rootfs: Path) -> None:
    terminal, before = at_terminal("-it", str(rootfs), *READY)
    with terminal:
        terminal.until("ready\r\n")
        terminal.type(CTRL_C)
        assert ended(terminal, before) == (128 + signal.SIGINT, "^C")


def test_a_command_may_take_ctrl_c_for_itself(rootfs: Path) -> None:
    script = "trap 'echo mine; exit 5' INT; echo ready; while :; do sleep 0.1; done"
    terminal, before = at_terminal("-it", str(rootfs), "sh", "-c", script)
    with terminal:
        terminal.until("ready\r\n")
        terminal.type(CTRL_C)
        assert ended(terminal, before) == (5, "^Cmine\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["./no-such-directory", "true"], 125, "no-such-directory"),
        (["host", "/etc/passwd"], 126, "cannot execute /etc/passwd"),
        (["host", "no-such-program"], 127, "command not found in the container"),
        (["host", "sh", "-c", "exit 3"], 3, ""),
        (["host", "sh", "-c", "kill -9 $$"], 137, ""),
        (["--timeout", "0.2", "host", "sleep", "60"], 137, "ended by its time limit"),
    ],
)
def test_exit_codes_are_docker_s_and_the_terminal_is_restored(words: list[str], code: int, message: str) -> None:
    terminal, before = at_terminal("-it", *words)
    with terminal:
        found, shown = ended(terminal, before)
    assert found == code
    assert message in shown
    assert bool(shown) == bool(message)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_that_ends_the_command_line_restores_the_terminal(rootfs: Path, number: signal.Signals) -> None:
    terminal, before = at_terminal("-it", str(rootfs), *READY)
    with terminal:
        terminal.until("ready\r\n")
        assert terminal.is_raw()
        os.kill(terminal.pid, number)
        assert ended(terminal, before) == (128 + number, "")


def test_the_size_is_the_terminal_s_from_the_first_instruction_on(rootfs: Path) -> None:
    terminal, before = at_terminal("-it", str(rootfs), "stty", "size", rows=33, columns=77)
    with terminal:
        assert ended(terminal, before) == (0, "33 77\n")


def test_the_size_follows_and_the_command_is_told(rootfs: Path) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
    terminal, before = at_terminal("-it", str(rootfs), "sh", "-c", script)
    with terminal:
        terminal.until("ready\r\n")
        for rows, columns in ((10, 20), (50, 132)):
            terminal.resize(rows, columns)
            terminal.until(f"{rows} {columns}\r\n")
        terminal.type(CTRL_C)
        assert ended(terminal, before)[0] == 130


def test_t_alone_shows_and_leaves_the_keys_alone(rootfs: Path) -> None:
    """As docker: without -i the container's terminal is silent, and the caller's is not raw: it adds its own \\r."""
    terminal, before = at_terminal("-t", str(rootfs), "sh", "-c", "echo ready; exec cat")
    with terminal:
        terminal.until("ready\r\r\n")
        assert terminal.settings() == before
        terminal.type("mine\n")
        assert terminal.until("mine\r\n") == ""  # the caller's own echo
        terminal.type(CTRL_C)
        code, shown = ended(terminal, before)
        assert (code, shown) == (130, "^C")  # the command line's own Ctrl-C; cat has printed nothing


def test_i_alone_hands_lines_on_and_their_end(rootfs: Path) -> None:
    """Inside there is a pipe; the caller's terminal edits and echoes."""
    terminal, before = at_terminal("-i", str(rootfs), "sh", "-c", "test -t 0 || echo pipe; exec cat")
    with terminal:
        terminal.until("pipe\r\n")
        assert terminal.settings() == before
        terminal.type("line\n")
        assert terminal.until("line\r\n") == ""
        assert terminal.until("line\r\n") == ""
        terminal.type(CTRL_D)
        assert ended(terminal, before) == (0, "")


def test_output_can_go_elsewhere(rootfs: Path, tmp_path: Path) -> None:
    """The keys come from the terminal, the output goes to a file, as it comes."""
    out = tmp_path / "out"
    words = command("run", "-it", str(rootfs), "sh", "-c", "echo ready; read x; echo $x")
    program = f"exec {shlex.join(words)} > {out}"
    with Terminal(["sh", "-c", program]) as terminal:
        before = terminal.settings()
        until(lambda: out.exists() and out.read_bytes() == b"ready\r\n", PATIENCE)
        terminal.type("typed\r")
        assert ended(terminal, before) == (0, "")
    assert out.read_bytes() == b"ready\r\ntyped\r\ntyped\r\n"


def refused(argv: list[str]) -> tuple[int, str]:
    done = subprocess.run(argv, check=False, input="", capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def test_without_a_terminal_it_is_refused_in_docker_s_words(rootfs: Path) -> None:
    assert refused(command("run", "-i", "-t", str(rootfs), "true")) == (1, "pycontainer: the input device is not a TTY")


@pytest.mark.requires("program:docker")
def test_docker_refuses_it_so() -> None:
    code, said = refused(["docker", "run", "-i", "-t", "no-such-image", "true"])
    assert (code, said.splitlines()[-1]) == (1, "the input device is not a TTY")


WAITS = "trap 'echo got; exit 7' TERM HUP QUIT USR1 USR2; echo ready; while :; do sleep 0.05; done"


@pytest.mark.parametrize("options", [[], ["-it"]])
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
)  # fmt: skip
def test_a_signal_is_for_the_command(rootfs: Path, options: list[str], number: signal.Signals) -> None:
    """As docker hands them on: the command decides, and its exit code counts."""
    terminal, before = at_terminal(*options, str(rootfs), "sh", "-c", WAITS)
    with terminal:
        terminal.until("ready\r\n")
        os.kill(terminal.pid, number)
        assert ended(terminal, before) == (7, "got\n")


def test_the_third_request_to_end_is_obeyed_here(rootfs: Path) -> None:
    script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"
    terminal, before = at_terminal("-it", str(rootfs), "sh", "-c", script)
    with terminal:
        terminal.until("ready\r\n")
        sent = 0
        while terminal.program.poll() is None:  # two that come at once are one
            assert sent < 3 + PATIENCE
            os.kill(terminal.pid, signal.SIGTERM if sent else signal.SIGINT)
            sent += 1
            time.sleep(0.3)
        assert sent >= 3
        assert ended(terminal, before) == (128 + signal.SIGTERM, "")


def test_what_this_process_ignores_is_for_nobody(rootfs: Path) -> None:
    """As under nohup, or in the background of a shell without job control."""
    words = shlex.join(command("run", str(rootfs), "sh", "-c", WAITS))
    with Terminal(["sh", "-c", f"trap '' HUP; exec {words}"]) as terminal:
        terminal.until("ready\r\n")
        os.kill(terminal.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert terminal.program.poll() is None
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.end() == (7, "got\r\n")
