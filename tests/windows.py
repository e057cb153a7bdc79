"""Windows of a real terminal emulator (tmux), each with a shell: what is typed into them, and what they show."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pace import patience
from worlds import command

COLUMNS, ROWS = 100, 30
OUTER, INNER = "outer$", "inner#"


class Windows:
    """A tmux server of our own, ended with its block. `pc` is the command line of the package in all of its shells."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._place = Path(tempfile.mkdtemp(prefix="tmux-"))  # the path of a socket is short
        program = self._place / "pc"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
        program.chmod(0o755)
        prompt = self._place / "rc"  # dash takes no prompt from the environment
        prompt.write_text(f"PS1='{OUTER} '\n")
        given = {name: value for name, value in os.environ.items() if not name.startswith("TMUX")}
        own = {"TMUX_TMPDIR": str(self._place), "PATH": f"{self._place}:{os.environ['PATH']}", "ENV": str(prompt)}
        self._environ = given | own | {"LC_ALL": "C.UTF-8"}
        self._pid = 0

    def __enter__(self) -> Windows:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._pid:
                self.ask("kill-server")
                deadline = time.monotonic() + patience(10)
                while self._lives():
                    if time.monotonic() > deadline:
                        os.kill(self._pid, signal.SIGKILL)
                    time.sleep(0.02)
        finally:
            shutil.rmtree(self._place)

    def without(self, module: str) -> None:
        """As if it were not installed, for the command line."""
        (self._place / "lacking").mkdir()
        # Wherever it is installed: the place of the package under test may come first.
        (self._place / "lacking/sitecustomize.py").write_text(f"import sys; sys.modules[{module!r}] = None\n")
        self._environ["PYTHONPATH"] = f"{self._place / 'lacking'}:{os.environ.get('PYTHONPATH', '')}"

    def _lives(self) -> bool:
        try:
            stat = Path(f"/proc/{self._pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"  # whose parent does not hurry

    def ask(self, *words: str) -> str:
        argv = ["tmux", "-L", "test", "-f", "/dev/null", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=self._environ, timeout=30).stdout

    def open(self, columns: int = COLUMNS, rows: int = ROWS) -> Window:
        """One more window, of a size of its own, with a shell at its prompt."""
        start = ["new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(self.directory), "-P", "-F"]
        if not self._pid:  # a server takes options when it has a session
            self._pid = int(self.ask(*start, "#{pid}", "exec sleep 1000", ";", "set-option", "-g", "status", "off"))
        pane = self.ask(*start, "#{pane_id}", "exec sh -i").strip()
        made = Window(self, pane)
        made.until(f"^{re.escape(OUTER)}")
        return made


class Window:
    """One of them."""

    def __init__(self, server: Windows, pane: str) -> None:
        self._server, self._pane = server, pane
        self._asked = 0

    def type(self, text: str) -> None:
        self._server.ask("send-keys", "-t", self._pane, "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, C-c, Up."""
        self._server.ask("send-keys", "-t", self._pane, *keys)

    def line(self, text: str) -> None:
        self.type(text)
        self.press("Enter")

    def screen(self) -> str:
        """What is to be seen, without blanks at the ends of lines."""
        shown = self._server.ask("capture-pane", "-p", "-t", self._pane)
        return "\n".join(line.rstrip() for line in shown.splitlines())

    def until(self, pattern: str, *, wanted: bool = True) -> str:
        """The screen once it shows this, or shows it no more."""
        deadline = time.monotonic() + patience(20)
        while True:
            shown = self.screen()
            if bool(re.search(pattern, shown, re.MULTILINE)) == wanted:
                return shown
            assert time.monotonic() < deadline, f"{pattern!r} {'is not' if wanted else 'is still'} shown:\n{shown}"
            time.sleep(0.05)

    def insist(self, key: str, pattern: str) -> None:
        """Press a key until the screen shows this: a job is in the foreground a moment after its line was typed."""
        self._again(lambda: self.press(key), pattern)

    def _again(self, act: Callable[[], None], pattern: str) -> None:
        deadline = time.monotonic() + patience(20)
        while True:
            act()
            moment = time.monotonic() + 0.5
            while time.monotonic() < moment:
                if re.search(pattern, self.screen(), re.MULTILINE):
                    return
                time.sleep(0.05)
            assert time.monotonic() < deadline, f"{pattern!r} does not come:\n{self.screen()}"

    def answer(self, text: str, pattern: str) -> None:
        """Type a line until it is answered so: what changes a terminal from outside takes a moment to arrive."""

        def ask() -> None:
            self.press("C-l")
            self.line(text)

        self._again(ask, pattern)

    def code(self) -> int:
        """The exit code of the last command of its shell."""
        # What is typed before the last command has put the terminal back may be thrown away with it.
        self.until(rf"({re.escape(OUTER)}|{re.escape(INNER)})\n*\Z")
        self._asked += 1  # older answers are still to be seen
        self.line(f"echo code-{self._asked}-$?.")
        shown = self.until(rf"code-{self._asked}-\d+\.$")
        return int(re.findall(rf"code-{self._asked}-(\d+)\.$", shown, re.MULTILINE)[0])

    def clear(self) -> None:
        """An empty screen with a prompt."""
        self.line("clear")
        self.until(r"\Aouter\$\n*\Z")

    def settings(self) -> str:
        """What the shell's terminal is set to, in stty's own words."""
        self.line("stty -g > settings.new && mv settings.new settings")
        file = self._server.directory / "settings"
        deadline = time.monotonic() + patience(20)
        while not file.exists():
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.02)
        found = file.read_text()
        file.unlink()
        return found

    def resize(self, columns: int, rows: int) -> None:
        self._server.ask("resize-window", "-t", self._pane, "-x", str(columns), "-y", str(rows))
