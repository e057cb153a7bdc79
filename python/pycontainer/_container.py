"""Container: a handle on a container that runs beside its caller, from creation to removal."""

from __future__ import annotations

import copy
import os
import warnings
from _thread import RLock
from collections.abc import Mapping
from contextlib import suppress

from pycontainer import _arguments, _events, _outcome
from pycontainer._commands import Commands
from pycontainer._commit import SAID, Layers
from pycontainer._elsewhere import Elsewhere
from pycontainer._errors import CommandNotFound, Error, StateError
from pycontainer._failures import TimeoutExpired
from pycontainer._files import Files
from pycontainer._limits import Limits
from pycontainer._live import CURES, Live
from pycontainer._logs import Logged
from pycontainer._native import core
from pycontainer._process import Text
from pycontainer._reach import Reach
from pycontainer._result import Reason, Result
from pycontainer._security import Security
from pycontainer._spec import Spec
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_bool, parse_duration, parse_int

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Literal, Self

    from pycontainer._image import Image
    from pycontainer._mounts import File, Mount
    from pycontainer._options import Stream
    from pycontainer._result import Guarantee
    from pycontainer._types import Arg

_DEFAULT_LIMITS = Limits()
_DEFAULT_SECURITY = Security()


class Container(Live, Layers, Files, Reach, Commands, Elsewhere, Logged):
    """A container: what `subprocess.Popen` is to a process, with exec, files, live limits and measurements.

    Making one checks everything and touches nothing; start() or a `with` block starts it. Leaving the block,
    close(), or the drop of the object kill what runs in it and remove it. It can be used from any thread; in a forked
    copy of the process it is nobody's.

    Args:
        args, image, entrypoint, env, limits and the others: as of run().
        name: by which others find it: letters, digits, "_", "." and "-".
        labels: what a caller wants to remember of it.
        stdin: nothing unless PIPE or a descriptor is given.
        stdout, stderr: logged unless given: the last 16 MiB of each are kept, outside this process.
        text, encoding, errors: of streams, logs and lines, as in subprocess.

    Attributes:
        id: 32 hexadecimal digits.
        name: as given, or the first 12 digits of the id.
        labels: as given.
        args: the command, as given.
        limits: the Limits that hold.
        image: the Image that it was started from.

    Raises:
        ValueError, TypeError: an argument is wrong.
    """

    def __init__(
        self,
        args: Sequence[Arg] | None = None,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        image: Image | str | os.PathLike[str] | os.PathLike[bytes] | None = None,
        entrypoint: Sequence[Arg] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        pass_fds: Sequence[int] = (),
        limits: Limits = _DEFAULT_LIMITS,
        env: Mapping[str, Arg | None] | None = None,
        cwd: Arg | None = None,
        user: int | str | None = None,
        groups: Sequence[int | str] = (),
        umask: int = 0o022,
        hostname: str | None = None,
        mounts: Sequence[Mount] = (),
        files: Mapping[str, bytes | File | os.PathLike[str]] | None = None,
        network: Literal["none", "host", "private"] = "none",
        ports: Mapping[int | str, int] | None = None,
        namespaces: Mapping[str, Any] | None = None,
        security: Security = _DEFAULT_SECURITY,
        read_only: bool = False,
        upper: Literal["memory", "disk"] = "memory",
        pid1: bool = False,
        tty: bool = False,
        degrade: Iterable[str] = (),
    ) -> None:
        given = {**locals(), "timeout": None, "input": None}
        self._owner = os.getpid()
        self._text = Text(given)
        self._spec = Spec(given, handle=True)
        self.args = args if args is not None else self._spec.argv
        self.id = os.urandom(16).hex()
        self.name = self.id[:12] if name is None else _arguments.identifier(name, "name")
        self.labels = _labels(labels)
        self._words = {word: given[word] for word in SAID}
        self.limits = self._spec.said
        self.image = self._spec.image
        self._kinds = (self._spec.stdin[0], self._spec.stdout[0], self._spec.stderr[0])
        self._closed = self._paused = False
        # Set up all but the command: somebody wanted its files before the start.
        self._held: Any = None
        self._closing = RLock()
        # Streams of which somebody who read them dropped something beyond `limits.output`.
        self._cut: list[str] = []
        self._short_log: dict[str, bytes] = {}
        self._result: Result[Any] | None = None
        _events.created(self)

    @property
    def _tty(self) -> bool:
        return self._spec.tty

    @property
    def state(self) -> str:
        """CREATED, RUNNING, PAUSED, EXITED or REMOVED."""
        if self._closed:
            return "REMOVED"
        if self._native is None:
            return "CREATED"
        if self._has_ended():
            return "EXITED"
        return "PAUSED" if self._paused else "RUNNING"

    def start(self) -> Self:
        """Start the command, and come back when it runs.

        Raises:
            SetupError: it could not be started; CommandNotFound and CommandNotExecutable are its cases.
            NotSupported: this machine cannot hold what was asked.
            StateError: it was started before.
        """
        with self._closing:  # by one thread
            self._startable()
            self._claim_name()
            try:
                self._native = self._begin()
            except BaseException as error:
                self._withdraw()
                if isinstance(error, CommandNotFound):
                    raise _outcome.with_mount_hint(error, self._spec) from None
                raise
            self._adopt()
            _events.started(self)
            self._tell()
        return self

    def _begin(self) -> Any:
        """Start the command, of what was set up before or from the beginning; the native container."""
        if self._held is None:
            return core().start(self._spec)
        held, self._held = self._held, None
        held.begin()
        return held

    def _hold(self) -> Any:
        """Set everything up but the command, for who wants at the files of a container that was not started."""
        if os.getpid() != self._owner:
            raise StateError("this process is a forked copy of the one that made the container, and owns nothing of it")
        with self._closing:  # by one thread
            if self._held is None:
                self._spec.hold = True
                try:
                    self._held = core().start(self._spec)
                except BaseException:
                    self._spec.hold = False  # or a start would wait for ever
                    raise
            return self._held

    def _startable(self) -> None:
        if self._closed or self._native is not None:
            raise StateError(f"the container is {self.state}: it can be started once")

    def _running(self) -> Any:
        """Return the native container, of one that runs and is not paused."""
        if self.state != "RUNNING":
            raise StateError(f"the container is {self.state}: {CURES[self.state]}")
        return self._native

    def _begun(self) -> None:
        if self._native is None:
            raise StateError(f"the container is {self.state}: {CURES['CREATED']}")

    def _open(self) -> None:
        self._begun()
        if self._closed:
            raise StateError(f"the container is REMOVED: {CURES['REMOVED']}")

    def _reachable(self) -> Any:
        if self.state == "CREATED":
            return self._hold()
        self._open()
        self._own_only()
        return self._native

    def resize(self, rows: int, columns: int) -> None:
        """Give its terminal another size; before start() the one that it begins with.

        Raises:
            StateError: it has no terminal, or is closed.
        """
        if self._native is None and self._spec.tty and not self._closed:
            self._spec.window = (parse_int(rows, "rows", 1, 65535), parse_int(columns, "columns", 1, 65535))
        else:
            self._open()
            super().resize(rows, columns)

    # The end.

    def _look(self, end: Any) -> bool:
        if end and self.returncode is None:
            outcome = self._native.outcome()
            if outcome is not None:
                self._outcome, self.returncode = outcome, outcome.returncode
                _events.ended(self)
        return self.returncode is not None

    def _ends_within(self, seconds: float) -> bool:
        return self._look(self._native.wait(seconds))

    @property
    def result(self) -> Result[Any] | None:
        """What it came to; None while it runs. Its output is what is kept in the log."""
        if self._native is None or self.poll() is None:
            return None
        if self._result is None:
            self._result = self._verdict(self._output("stdout"), self._output("stderr"))
        return self._result

    def _verdict(self, *output: Any) -> Result[Any]:
        """What it came to; holds nothing of this object, nor of the files that it was given."""
        outcome, spec = self._outcome, copy.copy(self._spec)
        spec.input, spec.files = None, []
        return Result(
            self.args,
            outcome.returncode,
            *output,
            reason=Reason.OUTPUT if self._cut and spec.output_kills else Reason(outcome.reason),
            usage=lambda: _outcome.usage(outcome),
            enforced=_outcome.rows(outcome, spec),
            truncated=_outcome.truncated(outcome) + self._cut,
            limits=self.limits,
        )

    @property
    def enforced(self) -> Mapping[str, Guarantee]:
        """What was asked and what is never skipped, and how it is held: read from the kernel after the start."""
        self._begun()
        if self.poll() is None and (seen := self._native.so_far()) is not None:
            return _outcome.rows(seen, self._spec)
        result = self.result
        assert result is not None
        return result.enforced

    def namespaces(self) -> dict[str, int]:
        """Return the inode of each of its namespaces, to be compared with /proc/self/ns: {"pid": 4026532201, ...}."""
        self._begun()
        seen = None if self.poll() is not None else self._native.so_far()
        evidence = (seen or self._outcome).evidence()
        return {name.partition(":")[2]: inode for name, inode in evidence.items() if name.startswith("ns:")}

    def run(self, input: Any = None, timeout: float | timedelta | None = None, check: bool = False) -> Result[Any]:
        """Start it unless it runs, and wait for its end. Its files and logs stay until close().

        Args:
            input: what goes into stdin, which must be a PIPE.
            timeout: seconds; then all of it is killed.
            check: raise CalledProcessError for a status that is not 0, LimitExceeded where a limit ended it.

        Raises:
            TimeoutExpired: `timeout` passed; it has the Result.
        """
        check = parse_bool(check, "check")
        if self.state == "CREATED":
            self.start()
        try:
            self.communicate(input, timeout)
        except TimeoutExpired as expired:
            self._native.kill("timeout")
            self.wait()
            result = self.result
            assert result is not None
            raise TimeoutExpired(self.args, expired.timeout, result.stdout, result.stderr, result=result) from None
        result = self.result
        assert result is not None
        if check:
            result.check_returncode()
        return result

    # Signals and the end of it.

    def send_signal(self, signal: int | str) -> None:
        """Send a signal to the command; to nobody once it has ended."""
        number = _arguments.signal_number(signal)
        self._open()
        self._native.signal(number)

    def stop(self, grace: float | timedelta = 10) -> None:
        """Ask the command to end (the image's STOPSIGNAL, or SIGTERM), and kill all of it after `grace` seconds."""
        seconds = parse_duration(grace, "grace", signed=True)
        self._open()
        if self.poll() is not None:
            return
        self._native.signal(self._spec.stop_signal)
        self._go_on()
        if not self._look(self._native.wait(max(0.0, seconds))):
            self._native.kill("stopped")
            self.wait()

    def kill(self) -> None:
        """Kill everything in it."""
        self._open()
        self._native.kill("killed")

    # The end of the handle.

    def close(self) -> None:
        """Kill what runs in it and remove it. Facts, result and logs remain; everything else is StateError."""
        if os.getpid() != self._owner:
            raise StateError("this process is a forked copy of the one that made the container, and owns nothing of it")
        with self._closing:
            if self._closed:
                return
            if self._held is not None:
                self._held.close()
                self._held = None
            if not self._owns:
                self._let_go()
            elif self._native is not None:
                try:
                    self._close_files()
                    _events.closing(self)
                    self._native.close()
                    self._closed = True  # also where nobody knows how it ended
                    self._keep_log()
                    self._look(True)
                finally:
                    self._withdraw()
            self._closed = True
            _events.removed(self)

    def __enter__(self) -> Self:
        if self._native is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill what runs in it and remove it."""
        if os.getpid() == self._owner:
            self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or not self._owns or os.getpid() != self._owner:
            return
        if self._native is None and self._held is None:
            _events.removed(self)
            return
        warnings.warn(f"unclosed container {self.name}", ResourceWarning, source=self, stacklevel=2)
        # Nobody is there to hear it, and the keeper sees to the rest; at the interpreter's end nothing can be imported.
        with suppress(Error, ImportError):
            self.close()

    def __repr__(self) -> str:
        return f"<Container {self.name} {self.state if os.getpid() == self._owner else 'of another process'}>"


def _labels(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a mapping of str to str, not {type(labels).__name__}")
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("labels must be a mapping of str to str")
    return dict(labels)
