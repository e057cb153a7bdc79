"""run(): one command in one container, from arguments to a Result. The waiting and the kernel's part are native."""

from __future__ import annotations

import os

from pycontainer import _arguments, _events, _log, _outcome
from pycontainer._errors import CommandNotFound
from pycontainer._failures import TimeoutExpired
from pycontainer._limits import Limits
from pycontainer._native import core
from pycontainer._result import Reason, Result
from pycontainer._security import Security
from pycontainer._spec import Spec
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_bool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import Any, Literal, Unpack, overload

    from pycontainer._image import Image
    from pycontainer._mounts import File, Mount
    from pycontainer._options import Options, Stream
    from pycontainer._types import Arg
else:

    def overload(signature):
        """Stand in for typing's, which costs 2 ms of every import."""
        return signature


_DEFAULT_LIMITS = Limits()
_DEFAULT_SECURITY = Security()


@overload
def run(
    args: Sequence[Arg] | None = None,
    *,
    text: Literal[True],
    encoding: str | None = None,
    errors: str | None = None,
    **options: Unpack[Options],
) -> Result[str]: ...
@overload
def run(
    args: Sequence[Arg] | None = None,
    *,
    encoding: str,
    text: bool | None = None,
    errors: str | None = None,
    **options: Unpack[Options],
) -> Result[str]: ...
@overload
def run(
    args: Sequence[Arg] | None = None,
    *,
    errors: str,
    text: bool | None = None,
    encoding: str | None = None,
    **options: Unpack[Options],
) -> Result[str]: ...
@overload
def run(
    args: Sequence[Arg] | None = None,
    *,
    text: Literal[False] | None = None,
    encoding: None = None,
    errors: None = None,
    **options: Unpack[Options],
) -> Result[bytes]: ...
@overload
def run(
    args: Sequence[Arg] | None = None,
    *,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    **options: Unpack[Options],
) -> Result[Any]: ...
def run(
    args: Sequence[Arg] | None = None,
    *,
    image: Image | str | os.PathLike[str] | os.PathLike[bytes] | None = None,
    entrypoint: Sequence[Arg] | None = None,
    input: Any = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = True,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pass_fds: Sequence[int] = (),
    timeout: float | timedelta | None = None,
    check: bool = False,
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
) -> Result[Any]:
    """Run a command in a container of its own and wait for it; `subprocess.run` with walls.

    Args:
        args: the command, a sequence of str, bytes or PathLike; it replaces the image's CMD and keeps its ENTRYPOINT.
        image: an Image, a directory (a Path, or a str that begins with /, ./ or ../), or None for this machine's
            programs (`Image.host()`). Another str is a reference.
        entrypoint: replaces the image's; [] drops it.
        input: bytes (str with text) for the command's stdin, which is otherwise empty.
        stdin, stdout, stderr: as in subprocess; INHERIT is this process's own. What is not given is captured. A
            descriptor must be open for its direction.
        capture_output: False lets stdout and stderr go where this process's go.
        text, encoding, errors: str instead of bytes; the default is UTF-8 with errors="replace".
        pass_fds: open descriptors that keep their numbers inside.
        timeout: seconds after the command's start; then the whole tree is killed and TimeoutExpired raised.
        check: raise CalledProcessError for a status that is not 0, LimitExceeded where a limit ended the run.
        limits: what it may use.
        env: variables beyond PATH, HOME and HOSTNAME; None removes one. The host's environment is not inherited.
        cwd: the working directory inside; "/" if not given.
        user: a uid, a name of the container's own passwd, or "user:group"; root if not given.
        groups: more supplementary groups, at most 1023: gids, or names of the container's own /etc/group.
        umask: of the command.
        hostname: of the container's own uts namespace.
        mounts: what of this machine is visible inside, and where.
        files: {path: bytes, File or Path} that are there before the command starts, owned by `user`.
        network: "none" (loopback only) or "host".
        ports: {port inside: port of 127.0.0.1 and ::1 here}; 0 is any that is free. A port is TCP's, or "53/udp". It
            opens the way in, never the way out.
        namespaces: {"ipc": "host", "uts": pid}: what is shared; everything is new if not said.
        security: capabilities, seccomp and the other walls.
        read_only: a read-only root; /tmp, /run and /dev/shm stay writable, in memory.
        upper: where the writable layer lies: "memory" (gone with the container) or "disk".
        pid1: run the command itself as PID 1, for an init.
        tty: give it a terminal of its own; its output is stdout. `input` or `stdin` are typed, then Ctrl-D; without
            them it is open and silent, as with `docker run -t`.
        degrade: limits, or "landlock", that may be held worse than asked; `Result.enforced` tells.

    Raises:
        SetupError: the container could not be started; CommandNotFound and CommandNotExecutable are its cases.
        NotSupported: this machine cannot hold what was asked; the message has the cure.
        TimeoutExpired: `timeout` passed; it has the partial output and the Result.
        CalledProcessError: with `check`, a status that is not 0.
        LimitExceeded: with `check`, a limit ended the run.
        ValueError, TypeError: an argument is wrong; nothing was done.
    """
    return _carry_out(locals())


def _carry_out(given: dict[str, Any]) -> Result[Any]:
    args, encoding, errors = given["args"], given["encoding"], given["errors"]
    text_mode = _arguments.text_mode(given["text"], encoding, errors)
    check = parse_bool(given["check"], "check")
    spec = Spec(given)
    if given["input"] is not None:
        spec.input = _outcome.encode(given["input"], text_mode, encoding, errors)
    if spec.timeout is not None and spec.timeout <= 0:
        raise TimeoutExpired(args, spec.timeout)
    native, listened, result = core(), None, None
    args = args if args is not None else spec.argv
    if _events.hub is not None:
        listened = _events.hub.run_begins(args, spec)
    try:
        outcome = native.run(spec)
        result = _result(args, outcome, spec, given, text_mode)
    except CommandNotFound as error:
        raise _outcome.with_mount_hint(error, spec) from None
    finally:
        _log.of_engine(native)
        if listened is not None or (_events.hub is not None and result is not None):
            _events.run_ended(listened, args, result)
    if spec.degrade:
        _log.of_degraded(result.enforced, spec.degrade)
    return judged(result, spec, check)


def judged(result: Result[Any], spec: Spec, check: bool) -> Result[Any]:
    """Return it, or raise what `timeout` and `check` make of it."""
    wall = spec.wall_time  # type: ignore[attr-defined]
    # Of the two the shorter one ended the run.
    if result.reason is Reason.TIMEOUT and spec.timeout is not None and (wall is None or spec.timeout <= wall):
        raise TimeoutExpired(result.args, spec.timeout, result.stdout, result.stderr, result=result)
    if check:
        result.check_returncode()
    return result


def _result(args: Any, outcome: Any, spec: Spec, given: dict[str, Any], text_mode: bool) -> Result[Any]:
    spec.input, spec.files = None, []  # not kept for what somebody may look at later
    return Result(
        args,
        outcome.returncode,
        *_streams(outcome, spec, given, text_mode),
        reason=Reason(outcome.reason),
        usage=lambda: _outcome.usage(outcome),
        enforced=_outcome.rows(outcome, spec),
        truncated=_outcome.truncated(outcome),
        limits=_outcome.limits_in_force(spec),
    )


def _streams(outcome: Any, spec: Spec, given: dict[str, Any], text_mode: bool) -> list[Any]:
    """stdout and stderr as they were asked for; None where they were not captured."""
    streams: list[Any] = []
    for name, data in zip(_outcome.OUTPUTS, outcome.take_output(), strict=True):
        captured = getattr(spec, name)[0] == "capture" or (spec.tty and name == "stderr")
        if not captured:
            streams.append(None)
        else:
            streams.append(_outcome.decode(data, given["encoding"], given["errors"]) if text_mode else data)
    return streams
