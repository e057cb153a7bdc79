"""`run(tty=True)`: where its keys come from, how they end, where its output goes, and which size it has."""

from __future__ import annotations

import os
import signal
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from terminals import Terminal
from worlds import python

pytestmark = pytest.mark.requires("userns")
SOON = 20  # seconds; a reader that waits for ever would be TimeoutExpired


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "source"
    path.write_bytes(b"of a file\n")
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (b"", b""),
        (b"line\n", b"line\r\nline\r\n"),
        (b"no end", b"no endno end"),
        (b"\n\n", b"\r\n\r\n\r\n\r\n"),
        (b"x\n" * 3000, None),
    ],
)
def test_input_is_typed_and_then_its_end(rootfs: Path, typed: bytes, shown: bytes | None) -> None:
    """As script(1): a program that reads to the end comes to it, also in the middle of a line."""
    result = pc.run(["cat"], image=rootfs, tty=True, input=typed, timeout=SOON)
    assert result.returncode == 0
    if shown is None:
        twice = 2 * typed.count(b"\n")  # the echo and the copy, one within the other
        assert (result.stdout.count(b"x"), result.stdout.count(b"\r\n")) == (twice, twice)
    else:
        assert sorted(result.stdout) == sorted(shown)


def test_a_descriptor_is_typed_and_then_its_end(rootfs: Path, source: int) -> None:
    result = pc.run(["cat"], image=rootfs, tty=True, stdin=source, timeout=SOON)
    assert (result.returncode, result.stdout.count(b"of a file\r\n")) == (0, 2)


@pytest.mark.parametrize("stdin", [pc.DEVNULL, pc.PIPE])
def test_what_is_said_to_be_empty_ends_at_once(rootfs: Path, stdin: int) -> None:
    result = pc.run(["cat"], image=rootfs, tty=True, stdin=stdin, timeout=SOON)
    assert (result.returncode, result.stdout) == (0, b"")


def test_what_is_not_said_is_silent(rootfs: Path) -> None:
    """As `docker run -t` without -i: open, and nobody types."""
    with pytest.raises(pc.TimeoutExpired) as raised:
        pc.run(["sh", "-c", "echo ready; cat; echo ended"], image=rootfs, tty=True, timeout=1)
    assert raised.value.stdout == b"ready\r\n"


def test_its_output_goes_where_stdout_says(rootfs: Path) -> None:
    with tempfile.TemporaryFile() as out:
        result = pc.run(["echo", "text"], image=rootfs, tty=True, stdout=out)
        out.seek(0)
        assert (out.read(), result.stdout, result.stderr) == (b"text\r\n", None, b"")
    result = pc.run(["echo", "text"], image=rootfs, tty=True, stdout=pc.DEVNULL)
    assert (result.stdout, result.stderr) == (None, b"")


def test_without_a_terminal_it_has_no_size() -> None:
    assert pc.run(["stty", "size"], tty=True, text=True).stdout == "0 0\n"


@pytest.mark.parametrize("stream", ["stdout", "stdin"])
def test_it_has_the_size_of_the_caller_s(rootfs: Path, stream: str) -> None:
    call = f"pc.run(['stty', 'size'], image={str(rootfs)!r}, tty=True, {stream}=pc.INHERIT)"
    code = f"import pycontainer as pc; r = {call}\nprint((r.stdout or b'').decode())"
    with Terminal(python(code), rows=31, columns=59) as terminal:
        terminal.until("31 59\r")
        assert terminal.end()[0] == 0


def test_lines_of_a_terminal_are_copied_into_a_pipe(rootfs: Path) -> None:
    """A terminal is never handed on, as stdin neither."""
    call = f"pc.run(['sh', '-c', 'test -p /dev/stdin && exec cat'], image={str(rootfs)!r}, stdin=pc.INHERIT)"
    code = f"import pycontainer as pc; r = {call}\nprint(r.returncode, r.stdout)"
    with Terminal(python(code)) as terminal:
        terminal.type("typed\n\x04")
        terminal.until("0 b'typed\\n'\r\n")
        assert terminal.end()[0] == 0


FLOOD = """
import os
import pycontainer as pc
try:
    pc.run(["sh", "-c", "yes abcdefgh | head -n 200000"], image={rootfs!r}, capture_output=False)
except KeyboardInterrupt:
    os._exit(3)  # the traceback would wait for the terminal
"""


def test_a_stopped_terminal_holds_the_output_but_not_the_keyboard(rootfs: Path) -> None:
    """Ctrl-S: nothing is lost when it is let go, and Ctrl-C still ends the run: a write would have slept."""
    with Terminal(python(FLOOD.format(rootfs=str(rootfs)))) as terminal:
        terminal.until("abcdefgh")
        termios.tcflow(terminal.inner, termios.TCOOFF)
        time.sleep(0.5)
        assert terminal.program.poll() is None
        termios.tcflow(terminal.inner, termios.TCOON)
        code, shown = terminal.end()
        assert code == 0
        assert shown.count("abcdefgh\r\n") >= 200000 - 2
    with Terminal(python(FLOOD.format(rootfs=str(rootfs)))) as terminal:
        terminal.until("abcdefgh")
        termios.tcflow(terminal.inner, termios.TCOOFF)
        time.sleep(0.5)
        os.kill(terminal.pid, signal.SIGINT)
        begun = time.monotonic()
        while terminal.program.poll() is None and time.monotonic() < begun + SOON:
            time.sleep(0.05)
        assert terminal.program.poll() == 3
        termios.tcflow(terminal.inner, termios.TCOON)
