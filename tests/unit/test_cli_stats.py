"""`stats` of the command line without a container: shares, sizes, bars, and rows from samples."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, strategies as st

import pycontainer as pc
from pycontainer import _cli_live, _cli_stats, cli
from pycontainer._cli_stats import Row
from pycontainer._result import Pressure
from pycontainer._stats import Breakdown, Stats

GIB = 1 << 30
PHYSICAL = _cli_stats.physical_memory()


@pytest.mark.parametrize(
    ("before", "now", "seconds", "share"),
    [
        (1.0, 1.5, 1.0, 50.0), (1.0, 3.0, 0.5, 400.0), (2.0, 2.0, 1.0, 0.0),
        (None, 1.0, 1.0, None), (1.0, None, 1.0, None), (1.0, 2.0, 0.0, None), (1.0, 2.0, -1.0, None),
        (2.0, 1.9, 1.0, 0.0),  # a sum of processes of which one was not reaped yet
    ],
)  # fmt: skip
def test_a_share_is_what_two_samples_differ_by(
    before: float | None, now: float | None, seconds: float, share: float | None
) -> None:
    assert _cli_stats.percent(before, now, seconds) == share


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "--"), (0, "0B"), (1, "1B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (512 * 1024, "512KiB"),
        (1807360, "1.724MiB"), (64 << 20, "64MiB"), (25276510208, "23.54GiB"), (1 << 60, "1024PiB"),
    ],
)  # fmt: skip
def test_memory_is_written_as_docker_writes_it(size: int | None, text: str) -> None:
    assert _cli_stats.binary(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "--"), (0, "0B"), (999, "999B"), (1000, "1kB"), (4096, "4.1kB"), (8_190_000, "8.19MB"), (10**12, "1TB")],
)
def test_bytes_of_disks_are_written_as_docker_writes_them(size: int | None, text: str) -> None:
    assert _cli_stats.decimal(size) == text


@pytest.mark.parametrize(
    ("limit", "bound"), [(None, 8 * GIB), (math.inf, 8 * GIB), (GIB, GIB), (9 * GIB, 8 * GIB), (8 * GIB, 8 * GIB)]
)
def test_a_limit_that_is_none_is_the_machine_s_memory(limit: float | None, bound: int) -> None:
    assert _cli_stats.bound(limit, 8 * GIB) == bound


@pytest.mark.parametrize(
    ("values", "least", "line"),
    [
        ([], 100, "        "),
        ([0], 100, "       ▁"),
        ([0, 25, 50, 100], 100, "    ▁▃▅█"),
        ([0, 50, 400], 100, "     ▁▂█"),  # four processors: they are the top now
        ([None, 100, None], 100, "      █ "),
        ([0, 0], 1, "      ▁▁"),
        ([5, 5], 1, "      ██"),
        (range(20), 1, "▆▆▆▇▇███"),
        ([-1], 1, "       ▁"),
    ],
)
def test_bars(values: list[float | None], least: float, line: str) -> None:
    assert _cli_live.sparkline(values, least, width=8) == line


@given(st.lists(st.none() | st.floats(0, 1e18), max_size=50), st.floats(1e-3, 1e6), st.integers(1, 30))
def test_bars_have_their_width_and_the_largest_is_the_highest(
    values: list[float | None], least: float, width: int
) -> None:
    line = _cli_live.sparkline(values, least, width)
    assert len(line) == width
    assert set(line) <= {" ", *_cli_live.BARS}
    last = values[-width:]
    numbers = [value for value in last if value is not None]
    if numbers and max(numbers) >= least:
        assert line.rjust(width)[width - len(last) + last.index(max(numbers))] == "█"


def sample(**fields: object) -> Stats:
    return Stats(**fields)  # type: ignore[arg-type]


def test_a_row_from_two_samples() -> None:
    row = Row("0123456789abcdef" * 2, "web")
    row.add(10.0, sample(cpu=1.0, memory=32 << 20, pids=3), pc.Limits(memory="64MiB"))
    assert row.cells(trunc=True) == ("0123456789ab", "web", "--", "32MiB / 64MiB", "50.00%", "-- / --", "3")
    row.add(12.0, sample(cpu=2.5, memory=16 << 20, pids=1, io_read=4096, io_write=0), pc.Limits(memory="32MiB"))
    assert row.cells(trunc=True)[2:] == ("75.00%", "16MiB / 32MiB", "50.00%", "4.1kB / 0B", "1")
    assert row.cells(trunc=False)[0] == row.id
    assert (list(row.cpus), list(row.memories)) == ([None, 75.0], [32 << 20, 16 << 20])


def test_what_a_kernel_does_not_tell_is_no_number() -> None:
    row = Row("a" * 32, "web")
    for moment in (1.0, 2.0):
        row.add(moment, sample(), pc.Limits())
    limit = _cli_stats.binary(PHYSICAL)
    assert row.cells(trunc=True) == ("a" * 12, "web", "--", f"-- / {limit}", "--", "-- / --", "--")
    row.lose()
    assert row.cells(trunc=True) == ("a" * 12, "web", "--", "-- / --", "--", "-- / --", "--")


def test_a_row_as_json() -> None:
    row = Row("a" * 32, "web")
    parts = {"breakdown": Breakdown(anon=5), "pressure": Pressure(0.5, 0.0, 0.0, 0.0, 0.0)}
    row.add(1.0, sample(cpu=1.0, memory=16 << 20, **parts), pc.Limits(memory="48MiB"))
    row.add(2.0, sample(cpu=1.123456, memory=16 << 20, **parts), pc.Limits(memory="48MiB"))
    seen = json.loads(json.dumps(row.as_dict()))
    assert (seen["id"], seen["name"], seen["cpu"], seen["cpu_percent"]) == ("a" * 32, "web", 1.123456, 12.35)
    assert (seen["memory"], seen["memory_limit"], seen["memory_percent"]) == (16 << 20, 48 << 20, 33.33)
    assert seen["breakdown"] == {"anon": 5, "file": None, "kernel": None, "shmem": None}
    assert seen["pressure"]["cpu_some"] == 0.5
    assert seen.keys() - {"id", "name", "cpu_percent", "memory_limit", "memory_percent"} == set(Stats.__slots__)
    row.lose()
    assert {value for name, value in row.as_dict().items() if name not in ("id", "name")} == {None}


def test_words() -> None:
    arguments = cli.parse(["stats", "-a", "--no-stream", "web", "--no-trunc", "other"])
    assert (arguments.containers, arguments.all, arguments.no_stream, arguments.no_trunc) == (
        ["web", "other"], True, True, True,
    )  # fmt: skip
    assert cli.parse(["stats"]).containers == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["stats", "--bogus"], 125), (["stats", "--format", "xml"], 125), (["ps", "--bogus"], 125),
        (["exec", "--bogus", "web", "true"], 125), (["exec", "web"], 1), (["exec", "-it"], 1), (["ps", "extra"], 1),
        (["doctor", "extra"], 1), (["no-such-command"], 1),
    ],
)  # fmt: skip
def test_what_is_wrong_with_words_is_docker_s_125_or_1(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parse(words)
    assert end.value.code == code
    said = capsys.readouterr().err
    assert code == 1 or words[1] in said
    assert "usage: " in said
