"""exec() and popen(): commands beside the first one of a container."""

from __future__ import annotations

from pycontainer import _outcome
from pycontainer._beside import BesideSpec
from pycontainer._errors import CommandNotFound, NotSupported
from pycontainer._failures import TimeoutExpired
from pycontainer._lines import OUTPUTS
from pycontainer._logs import Logged
from pycontainer._process import Text, result_of_exec
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_bool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Any

    from pycontainer._options import Stream
    from pycontainer._result import Result
    from pycontainer._spec import Spec
    from pycontainer._types import Arg

# Seconds after which what was killed is taken for what does not die.
PATIENCE = 10.0


class ExecProcess(Logged):
    """A command beside the first one of a container; leaving its block kills it and its children."""

    def __init__(self, container: Any, native: Any, args: Any, spec: Any, text: Text, *, adopt: bool = True) -> None:
        self._container, self._native, self.args, self._text = container, native, args, text
        self._kinds = (spec.stdin[0], spec.stdout[0], spec.stderr[0])
        self._has_tty = spec.tty
        if adopt:
            self._adopt()
        else:
            self._files, self._kept, self._pid = {}, {}, native.command()[0]

    @property
    def _tty(self) -> bool:
        return bool(self._has_tty)

    @property
    def result(self) -> Result[Any] | None:
        """What it came to; None while it runs."""
        if self.poll() is None:
            return None
        output = [self._output("stdout"), self._output("stderr")]
        return result_of_exec(self._container, self.args, self._end, output, ())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill what still runs of it and of its children, and wait for their end."""
        super().__exit__(kind, error, traceback)
        self._native.wait_gone(PATIENCE)

    def _open(self) -> None:
        self._begun()

    def __repr__(self) -> str:
        return f"<Process args={self.args!r} pid={self._pid} returncode={self.returncode}>"


class Commands:
    """What Container runs in itself."""

    _spec: Spec
    _owns: bool

    if TYPE_CHECKING:

        def _running(self) -> Any: ...

    def exec(
        self,
        args: Sequence[Arg],
        *,
        input: Any = None,
        user: int | str | None = None,
        env: Mapping[str, Arg | None] | None = None,
        cwd: Arg | None = None,
        tty: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
    ) -> Result[Any]:
        """Run a command in the container and wait for it.

        Its limits, namespaces and walls are the container's. PID 1 forks it: nothing joins the container from outside.

        Args:
            args: the command; an ENTRYPOINT has no part in it.
            input: bytes (str with text) for its stdin, which is otherwise empty.
            user, env, cwd: as of run(); what is not given is as with the container's own command.
            tty: give it a terminal of its own.
            timeout: seconds; then this command and everything that came of it are killed.
            check: raise CalledProcessError for a status that is not 0.

        Raises:
            CommandNotFound, CommandNotExecutable, SetupError: it could not be started.
            TimeoutExpired: `timeout` passed; it has the partial output and the Result.
            StateError: the container does not run, or is paused.
        """
        given = {**locals()}
        check = parse_bool(check, "check")
        text_of = Text(given)
        spec = BesideSpec(self._spec, given, handle=False)
        native = self._running()
        self._can_exec()
        if spec.timeout is not None and spec.timeout <= 0:
            raise TimeoutExpired(args, spec.timeout)
        try:
            end = native.exec(spec)
        except CommandNotFound as error:
            raise _outcome.with_mount_hint(error, spec) from None
        output = [text_of.decode(end["stdout"]), text_of.decode(end["stderr"])]
        cut = [name for name, was in zip(OUTPUTS, end["truncated"], strict=True) if was]
        result = result_of_exec(self, args, end, output, cut)
        if end["reason"] == "timeout":
            raise TimeoutExpired(args, spec.timeout or 0.0, *output, result=result)
        if check:
            result.check_returncode()
        return result

    def popen(
        self,
        args: Sequence[Arg],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        user: int | str | None = None,
        env: Mapping[str, Arg | None] | None = None,
        cwd: Arg | None = None,
        tty: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> ExecProcess:
        """Start a command in the container, and come back when it runs.

        Args:
            stdin, stdout, stderr: PIPE, a descriptor, a file. A stdin that is not given is empty, an output logged, as
                the container's own; dropped where the container is another process's.
            tty: a terminal of its own, of the size of this process's one, or 24 rows of 80; resize() changes that.
            args, user, env, cwd, text, encoding, errors: as of exec().

        Raises:
            CommandNotFound, CommandNotExecutable, SetupError: it could not be started.
            StateError: the container does not run, or is paused.
        """
        given = {**locals(), "timeout": None, "input": None}
        text_of = Text(given)
        spec = BesideSpec(self._spec, given, handle=True, unsaid="log" if self._owns else "null")
        native = self._running()
        self._can_exec()
        try:
            return ExecProcess(self, native.popen(spec), args, spec, text_of)
        except CommandNotFound as error:
            raise _outcome.with_mount_hint(error, spec) from None

    def _can_exec(self) -> None:
        if self._spec.pid1:
            raise NotSupported(
                "exec",
                "with pid1=True the container's PID 1 is the command itself, and starts nothing of ours",
                "leave pid1 out",
            )
