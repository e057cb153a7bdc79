"""Results: a CompletedProcess with a verdict; what check raises and with which numbers."""

from __future__ import annotations

import copy
import pickle
import subprocess

import pytest

from pycontainer._enforced import Enforced
from pycontainer._failures import CalledProcessError, LimitExceeded
from pycontainer._limits import Limits
from pycontainer._result import Guarantee, Pressure, Reason, Result, Usage
from pycontainer._types import DEVNULL, INHERIT, PIPE, STDOUT, format_size


def ended(reason, *, returncode=-9, usage=None, limits=None):
    return Result(["hog"], returncode, b"", b"oh\n", reason=reason, usage=usage, limits=limits)


def test_it_is_a_completed_process():
    result = Result(["true"], 0, b"out", b"err")
    assert isinstance(result, subprocess.CompletedProcess)
    assert (result.args, result.returncode, result.stdout, result.stderr) == (["true"], 0, b"out", b"err")
    assert (result.reason, result.truncated, dict(result.enforced)) == ("exited", (), {})
    assert result.check_returncode() is None
    assert Result[bytes].__origin__ is Result


def test_reasons_are_lower_case_words_of_the_table():
    assert [str(reason) for reason in Reason] == (
        ["exited", "signaled", "timeout", "cpu_time", "memory", "host_memory", "output", "stopped", "killed"]
    )
    assert all(reason == reason.name.lower() for reason in Reason)


@pytest.mark.parametrize("reason", [Reason.EXITED, Reason.SIGNALED, Reason.STOPPED, Reason.KILLED])
def test_a_bad_status_without_a_limit_is_a_called_process_error(reason):
    result = ended(reason, returncode=3)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        result.check_returncode()
    error = caught.value
    assert type(error) is CalledProcessError
    assert (error.returncode, error.cmd, error.output, error.stderr) == (3, ["hog"], b"", b"oh\n")
    assert error.result is result
    ended(reason, returncode=0).check_returncode()


MIB = 2**20


@pytest.mark.parametrize(
    ("reason", "usage", "limits", "verdict"),
    [
        (
            Reason.MEMORY,
            Usage(memory_peak=64 * MIB),
            Limits(memory="64m"),
            "ended by its memory limit: peak 64.0 MiB of 64 MiB",
        ),
        (Reason.MEMORY, Usage(), Limits(memory="1.5g"), "ended by its memory limit: of 1.5 GiB"),
        (Reason.MEMORY, Usage(memory_peak=MIB), Limits(), "ended by its memory limit: peak 1.0 MiB"),
        (Reason.CPU_TIME, Usage(cpu=10.04), Limits(cpu_time=10), "ended by its cpu_time limit: 10.0 s of 10 s"),
        (Reason.TIMEOUT, Usage(wall=2.5), Limits(wall_time=2.5), "ended by its time limit: 2.5 s of 2.5 s"),
        (Reason.TIMEOUT, Usage(), Limits(), "ended by its time limit"),
        (Reason.OUTPUT, Usage(), Limits(output="1m"), "ended by its output limit: more than 1 MiB"),
        (Reason.HOST_MEMORY, Usage(), Limits(), "ended by the OOM killer, for a memory limit above this container"),
    ],
)
@pytest.mark.parametrize("returncode", [0, -9])
def test_a_limit_that_ended_the_run_is_named_with_its_numbers(reason, usage, limits, verdict, returncode):
    result = ended(reason, usage=usage, limits=limits, returncode=returncode)
    with pytest.raises(LimitExceeded) as caught:
        result.check_returncode()
    assert caught.value.reason is reason
    assert caught.value.result is result
    assert str(caught.value).startswith(f"Command '['hog']' was {verdict}")
    assert str(caught.value).endswith(".\noh")


def test_pickle_and_copy():
    result = Result(
        ["x"],
        1,
        "out",
        None,
        reason=Reason.MEMORY,
        usage=Usage(wall=1.5, pressure=Pressure(cpu_some=0.5)),
        enforced={"memory": Guarantee("memory", "held", "cgroup v1")},
        truncated=["stdout"],
        limits=Limits(memory="1m"),
    )
    for back in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert type(back) is Result
        assert vars(back) == vars(result)
    assert result.enforced["memory"].by == "cgroup v1"
    assert result.truncated == ("stdout",)
    with pytest.raises(TypeError):
        result.enforced["memory"] = None


def test_repr_is_readable():
    result = Result(["x"], 0, b"y" * 1000, "short", truncated=("stdout",))
    assert repr(result) == (
        f"Result(args=['x'], returncode=0, reason=EXITED, stdout=<{b'y' * 60!r}... 1000 bytes>, "
        "stderr='short', truncated=('stdout',))"
    )


def test_usage_keeps_what_is_known_and_says_none_for_the_rest():
    usage = Usage(wall=1.0, memory_peak=0)
    assert repr(usage) == "Usage(memory_peak=0, wall=1.0)"
    assert usage.oom_kills is None
    assert usage == pickle.loads(pickle.dumps(usage))
    assert hash(usage) == hash(Usage(wall=1.0, memory_peak=0))
    with pytest.raises(AttributeError, match="frozen"):
        usage.wall = 2.0


def test_guarantee():
    row = Guarantee("io", "degraded", by="cgroup v1", why="writes pass", fix="boot with cgroup v2")
    assert (row.name, row.state, row.by, row.why, row.fix) == (
        "io",
        "degraded",
        "cgroup v1",
        "writes pass",
        "boot with cgroup v2",
    )
    with pytest.raises(ValueError, match="state"):
        Guarantee("io", "fine")


def test_pressure_takes_its_five_numbers_in_order():
    assert Pressure(1, 2, 3, 4, 5)._values() == {
        "cpu_some": 1,
        "memory_some": 2,
        "memory_full": 3,
        "io_some": 4,
        "io_full": 5,
    }


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20 - 1, "1.0 MiB"), (2**63 - 1, "8.0 EiB")],
)
def test_format_size(size, text):
    assert format_size(size) == text


def test_the_stream_constants():
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL) == (-1, -2, -3)
    assert repr(INHERIT) == "INHERIT"
    assert pickle.loads(pickle.dumps(INHERIT)) is INHERIT
    assert copy.copy(INHERIT) is copy.deepcopy(INHERIT) is INHERIT


def test_numbers_and_rows_are_made_when_somebody_looks_and_once() -> None:
    looks: list[str] = []

    def numbers() -> Usage:
        looks.append("usage")
        return Usage(wall=1.5)

    def sources() -> tuple[dict[str, object], list[tuple[str, ...]], dict[str, object]]:
        looks.append("enforced")
        raise LookupError("the kernel said nothing")

    result = Result(["x"], 0, usage=numbers, enforced=Enforced(sources))
    repr(result)
    assert looks == []
    assert (result.usage.wall, result.usage, looks) == (1.5, Usage(wall=1.5), ["usage"])
    with pytest.raises(LookupError):
        len(result.enforced)
    plain = Result(["x"], 0, usage=numbers)
    assert pickle.loads(pickle.dumps(plain)).usage == copy.copy(plain).usage == Usage(wall=1.5)
