"""The exceptions that are subprocess's too: what a command that ran came to. Formats only; imported with what runs one.

TimeoutExpired                              also subprocess.TimeoutExpired
CalledProcessError                          also subprocess.CalledProcessError
    LimitExceeded
"""

from __future__ import annotations

import subprocess

from pycontainer._errors import Error
from pycontainer._text import TYPE_CHECKING, last_lines

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._result import Reason, Result


class TimeoutExpired(Error, subprocess.TimeoutExpired):
    """`timeout` passed. `output`, `stdout` and `stderr` hold what came until then, in the type of the whole.

    Attributes:
        result: the Result of what was killed, or None where the container runs on.
    """

    def __init__(
        self,
        cmd: Any,
        timeout: float,
        output: str | bytes | None = None,
        stderr: str | bytes | None = None,
        *,
        result: Result[Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(cmd, timeout, output, stderr)
        self.result = result
        self._hint = hint

    def _text(self) -> str:
        text = subprocess.TimeoutExpired.__str__(self)
        return f"{text}: {self._hint}" if self._hint else text


class CalledProcessError(Error, subprocess.CalledProcessError):
    """The command failed and `check` was asked for. The message ends with the last lines of stderr.

    Attributes:
        result: the Result.
    """

    def __init__(
        self,
        returncode: int,
        cmd: Any,
        output: str | bytes | None = None,
        stderr: str | bytes | None = None,
        *,
        result: Result[Any] | None = None,
    ) -> None:
        super().__init__(returncode, cmd, output, stderr)
        self.result = result

    def _headline(self) -> str:
        return subprocess.CalledProcessError.__str__(self)

    def _text(self) -> str:
        tail = last_lines(self.stderr)
        return f"{self._headline()}\n{tail}" if tail else self._headline()


class LimitExceeded(CalledProcessError):
    """A limit ended the run, and `check` was asked for: "ended by its memory limit: peak 64.0 MiB of 64 MiB".

    Attributes:
        reason: the Reason: TIMEOUT, CPU_TIME, MEMORY, HOST_MEMORY or OUTPUT.
    """

    def __init__(
        self,
        returncode: int,
        cmd: Any,
        output: str | bytes | None = None,
        stderr: str | bytes | None = None,
        *,
        result: Result[Any] | None = None,
        reason: Reason | None = None,
        verdict: str = "ended by a limit",
    ) -> None:
        super().__init__(returncode, cmd, output, stderr, result=result)
        self.reason = reason
        self._verdict = verdict

    def _headline(self) -> str:
        return f"Command '{self.cmd}' was {self._verdict}."
