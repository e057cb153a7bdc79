"""A program on a terminal of its own, as a person has it: what is typed, what is shown, how the terminal is left."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

PATIENCE = 30  # seconds
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A program as the leader of a session on a new pty. Leaving the block kills it."""

    def __init__(self, argv: list[str], rows: int = 24, columns: int = 80) -> None:
        self.shown = b""
        # The inner end stays open here: the settings can be looked at when the program has ended.
        self.outer, self.inner = pty.openpty()
        self.resize(rows, columns)
        # The first terminal that the leader of a session opens is the session's.
        enter = f'exec <>{os.ttyname(self.inner)} >&0 2>&0; exec "$@"'
        self.program = subprocess.Popen(["sh", "-c", enter, "sh", *argv], start_new_session=True)
        self.pid = self.program.pid

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self.outer)
        os.close(self.inner)

    def type(self, text: str) -> None:
        os.write(self.outer, text.encode())

    def until(self, text: str) -> str:
        """What was shown before `text`; both are taken from what is still to be looked at."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.shown:
            assert time.monotonic() < deadline, (text, self.shown)
            self._look(0.1)
        before, _, self.shown = self.shown.partition(text.encode())
        return before.decode()

    def _look(self, seconds: float) -> bool:
        if not select.select([self.outer], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.outer, 65536)
        return True

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.inner)

    def is_raw(self) -> bool:
        return not self.settings()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)  # type: ignore[operator]

    def resize(self, rows: int, columns: int) -> None:
        """As a window does: the kernel sends SIGWINCH to the foreground group."""
        fcntl.ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def end(self) -> tuple[int, str]:
        """The exit code (negative: a signal) and what else was shown, once the program has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.program.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._look(0.05)
        while self._look(0):
            pass
        return self.program.returncode, self.shown.decode()
