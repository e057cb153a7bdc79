"""The exception tree: who is whose base, what survives pickle and copy, what the messages say."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import subprocess

import pytest

from pycontainer import _errors as errors, _failures as failures
from pycontainer._result import Reason, Result
from pycontainer._text import escape, last_lines

RESULT = Result(["sh"], -9, b"out", b"err", reason=Reason.MEMORY)
MADE = [
    errors.Error("plain"),
    errors.SetupError(errno.EINVAL, "Invalid argument", "/usr", step="mount overlay on", hint="try less"),
    errors.SetupError(errno.EPERM),
    errors.CommandNotFound(errno.ENOENT, None, "foo", step="execute", hint="it is on this machine"),
    errors.CommandNotExecutable(errno.EACCES, None, b"/etc/passwd"),
    errors.NotSupported("limits.io", "cgroup v1", 'add degrade=["io"]'),
    failures.TimeoutExpired(["sleep", "9"], 0.5, b"part", b"", result=RESULT),
    failures.TimeoutExpired(["sleep", "9"], 0.5, output="part"),
    failures.CalledProcessError(3, ["false"], b"", b"no\n", result=RESULT),
    failures.LimitExceeded(-9, ["hog"], None, "x", result=RESULT, reason=Reason.MEMORY, verdict="ended by its limit"),
    errors.StateError("closed"),
    errors.ContainerEnded("gone", result=RESULT),
    errors.RemoteError("boom", type_name="app.Boom", traceback="Traceback ..."),
    errors.ImageError("bad"),
    errors.ImageNotFound("alpine:9"),
    errors.InvalidReference("A:b:c"),
    errors.DigestMismatch("sha256:00"),
    errors.LayerError("a hard link out of the layer"),
    errors.RegistryError("too many", status=429, code="TOOMANYREQUESTS"),
    errors.AuthError("denied"),
    errors.BuildError("failed", step="RUN false", line=3, log="no\n"),
    errors.NoSpaceError(errno.ENOSPC, "No space left on device", "/store"),
]
CLASSES = {
    c for m in (errors, failures) for _, c in inspect.getmembers(m, inspect.isclass) if issubclass(c, BaseException)
}


def attributes(error: BaseException) -> dict[str, object]:
    names = [name for name in dir(error) if not name.startswith("__")]
    values = {name: getattr(error, name, None) for name in names}  # OSError lists characters_written without having it
    return {name: repr(value) for name, value in values.items() if not callable(value)}


def same(one: BaseException, two: BaseException) -> bool:
    facts = [(type(e), str(e), e.args, getattr(e, "__notes__", None), attributes(e)) for e in (one, two)]
    return facts[0] == facts[1]


def test_the_examples_cover_every_class():
    assert {type(error) for error in MADE} == CLASSES


@pytest.mark.parametrize("error", MADE, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_everything(error, protocol):
    noted = copy.copy(error)
    noted.add_note("a note")
    back = pickle.loads(pickle.dumps(noted, protocol))
    assert back.__notes__ == ["a note"]
    assert same(noted, back)


@pytest.mark.parametrize("error", MADE, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_copy_keeps_everything(error, copier):
    noted = copy.copy(error)
    noted.add_note("a note")
    back = copier(noted)
    assert back is not noted
    assert same(noted, back)


def test_same_notices_a_lost_attribute():
    one = errors.RegistryError("x", status=429)
    two = errors.RegistryError("x", status=500)
    assert not same(one, two)


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (errors.SetupError, (errors.Error, OSError)),
        (errors.CommandNotFound, (errors.SetupError, FileNotFoundError)),
        (errors.CommandNotExecutable, (errors.SetupError, PermissionError)),
        (errors.NotSupported, (errors.Error,)),
        (failures.TimeoutExpired, (errors.Error, subprocess.TimeoutExpired)),
        (failures.CalledProcessError, (errors.Error, subprocess.CalledProcessError)),
        (failures.LimitExceeded, (failures.CalledProcessError,)),
        (errors.StateError, (errors.Error,)),
        (errors.ContainerEnded, (errors.StateError,)),
        (errors.RemoteError, (errors.Error,)),
        (errors.ImageError, (errors.Error,)),
        (errors.ImageNotFound, (errors.ImageError, LookupError)),
        (errors.InvalidReference, (errors.ImageError, ValueError)),
        (errors.DigestMismatch, (errors.ImageError,)),
        (errors.LayerError, (errors.ImageError,)),
        (errors.RegistryError, (errors.ImageError,)),
        (errors.AuthError, (errors.ImageError,)),
        (errors.BuildError, (errors.ImageError,)),
        (errors.NoSpaceError, (errors.ImageError, OSError)),
    ],
)
def test_the_tree(cls, bases):
    assert cls.__bases__ == bases


def test_setup_error_is_an_os_error_with_its_step():
    error = errors.SetupError(errno.EINVAL, None, "/usr", step="mount overlay on", hint="Linux 6.7 can")
    assert (error.errno, error.filename, error.step) == (errno.EINVAL, "/usr", "mount overlay on")
    assert str(error) == "mount overlay on /usr: Invalid argument (Linux 6.7 can)"


def test_command_not_found_names_the_command():
    error = errors.CommandNotFound(errno.ENOENT, None, "foo", hint="Mount.bind('/opt/foo', ...) brings it")
    assert str(error) == "command not found in the container: foo (Mount.bind('/opt/foo', ...) brings it)"
    assert str(errors.CommandNotExecutable(errno.EACCES, None, "a")) == "cannot execute a: Permission denied"


def test_not_supported_says_what_why_and_how():
    error = errors.NotSupported("limits.io", "the io controller is on cgroup v1", "add degrade=['io']")
    assert str(error) == "limits.io: the io controller is on cgroup v1; add degrade=['io']"
    assert str(errors.NotSupported("ports")) == "ports"


def test_timeout_reads_like_subprocess():
    error = failures.TimeoutExpired(["sleep", "9"], 0.5, b"part")
    assert str(error) == "Command '['sleep', '9']' timed out after 0.5 seconds"
    assert (error.output, error.stdout, error.stderr, error.result) == (b"part", b"part", None, None)


def test_called_process_error_ends_with_the_last_lines_of_stderr():
    noise = b"".join(b"line %d\n" % number for number in range(100_000))
    text = str(failures.CalledProcessError(2, ["make"], b"", noise))
    assert text.startswith("Command '['make']' returned non-zero exit status 2.\nline 99990\n")
    assert text.endswith("\nline 99999")
    assert str(failures.CalledProcessError(-11, ["x"])) == "Command '['x']' died with <Signals.SIGSEGV: 11>."


HOSTILE = "\x1b[2Jup\r\x00\x7f\u202eevil\u2066\u200b\udcff\U000e0001"


@pytest.mark.parametrize(
    "error",
    [
        errors.Error(HOSTILE),
        errors.SetupError(errno.EINVAL, None, HOSTILE, step="mount"),
        errors.CommandNotFound(errno.ENOENT, None, HOSTILE),
        errors.CommandNotExecutable(errno.EACCES, None, HOSTILE.encode("utf-8", "surrogateescape")),
        errors.NotSupported(HOSTILE, HOSTILE, HOSTILE),
        failures.TimeoutExpired(HOSTILE, 1),
        failures.CalledProcessError(1, ["x"], "", HOSTILE),
        failures.CalledProcessError(1, ["x"], b"", HOSTILE.encode("utf-8", "surrogateescape")),
        failures.LimitExceeded(1, HOSTILE, "", HOSTILE),
        errors.ImageNotFound(HOSTILE),
        errors.NoSpaceError(errno.ENOSPC, HOSTILE, HOSTILE),
    ],
    ids=lambda e: type(e).__name__,
)
def test_foreign_text_is_escaped(error):
    text = str(error).replace("\n", "")
    assert text.isprintable()
    assert "\\x1b[2J" in text


def test_escape():
    assert escape("plain ä 漢") == "plain ä 漢"
    assert escape("a\tb\n") == "a\\x09b\\x0a"
    assert escape("a\nb", keep="\n") == "a\nb"
    assert escape("\u202e\U000e0001") == "\\u202e\\U000e0001"
    assert escape(b"\xff\x1b") == "\\xff\\x1b"
    assert escape(escape(HOSTILE)) == escape(HOSTILE)


def test_last_lines():
    assert last_lines(None) == last_lines(b"") == last_lines("\n\n") == ""
    assert last_lines(b"a\r\nb\tc\n\n", 2) == "a\nb       c"
    assert last_lines("x\n" * 9, 3) == "x\nx\nx"
    assert len(last_lines(b"y" * 10_000_000)) == 8192
