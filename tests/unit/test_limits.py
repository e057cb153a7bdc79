"""Limits as a value: what is accepted, what it reads back as, what is refused and by which name."""

from __future__ import annotations

import datetime
import inspect
import math
import pathlib
import pickle

import pytest

from pycontainer._limits import RLIMITS, IoLimit, Limits, NetworkLimit

FIELDS = list(inspect.signature(Limits).parameters)


@pytest.mark.parametrize(
    ("field", "said", "read"),
    [
        ("memory", "512MiB", 512 * 2**20),
        ("memory", 2**20, 2**20),
        ("memory", " 2 m ", 2**21),
        ("memory", "max", math.inf),
        ("memory", math.inf, math.inf),
        ("swap", 0, 0),
        ("memory_high", "1.5g", 3 * 2**29),
        ("cpus", 1, 1.0),
        ("cpus", 0.01, 0.01),
        ("cpus", "max", math.inf),
        ("cpu_weight", 1, 1),
        ("cpu_weight", 10000, 10000),
        ("cpuset", "5,0-2,1,3", "0-3,5"),
        ("cpuset", [1, 0], "0-1"),
        ("cpuset", {7}, "7"),
        ("cpuset", " 4-4 , 6\n", "4,6"),
        ("cpu_time", datetime.timedelta(minutes=1), 60.0),
        ("wall_time", 0.5, 0.5),
        ("wall_time", "MAX", math.inf),
        ("pids", 1, 1),
        ("pids", "max", math.inf),
        ("disk", "1MB", 10**6),
        ("output", 0, 0),
        ("output_mode", "truncate", "truncate"),
        ("io", {"8:0": IoLimit(read_bps="1m")}, {"8:0": IoLimit(read_bps=2**20)}),
        ("io", {pathlib.Path("/var"): IoLimit()}, {"/var": IoLimit()}),
        ("io_weight", 100, 100),
        ("network", NetworkLimit(rate="1MB", delay=0.1, loss=0.5), NetworkLimit(rate=10**6, delay=0.1, loss=0.5)),
        ("rlimits", {"nofile": (1024, 4096), "core": 0}, {"nofile": (1024, 4096), "core": (0, 0)}),
        ("rlimits", {"as": "1GiB", "stack": ("8m", "max")}, {"as": (2**30, 2**30), "stack": (2**23, math.inf)}),
        ("oom_group", False, False),
        ("oom_score_adj", -1000, -1000),
    ],
)
def test_what_is_said_reads_back_as_numbers(field, said, read):
    value = getattr(Limits(**{field: said}), field)
    assert value == read
    assert type(value) is type(read) or isinstance(read, dict)
    assert Limits(**{field: value}) == Limits(**{field: said})


BAD = [
    ("memory", -1, ValueError),
    ("memory", 2**20 - 1, ValueError),
    ("memory", 2**63, ValueError),
    ("memory", 10**5000, ValueError),
    ("memory", "9" * 5000, ValueError),
    ("memory", "lots", ValueError),
    ("memory", "", ValueError),
    ("memory", "-5m", ValueError),
    ("memory", "1e9", ValueError),
    ("memory", "٣m", ValueError),
    ("memory", math.nan, ValueError),
    ("memory", -math.inf, ValueError),
    ("memory", 1e9, TypeError),
    ("memory", True, TypeError),
    ("memory", b"1g", TypeError),
    ("swap", -1, ValueError),
    ("memory_high", 0, ValueError),
    ("cpus", 0, ValueError),
    ("cpus", 0.001, ValueError),
    ("cpus", -math.inf, ValueError),
    ("cpus", math.nan, ValueError),
    ("cpus", 1e9, ValueError),
    ("cpus", "2", TypeError),
    ("cpus", True, TypeError),
    ("cpu_weight", 0, ValueError),
    ("cpu_weight", 10001, ValueError),
    ("cpu_weight", "max", TypeError),
    ("cpuset", "", ValueError),
    ("cpuset", [], ValueError),
    ("cpuset", "3-1", ValueError),
    ("cpuset", "0,,1", ValueError),
    ("cpuset", "0-99999999", ValueError),
    ("cpuset", [-1], ValueError),
    ("cpuset", [8192], ValueError),
    ("cpuset", [True], TypeError),
    ("cpuset", 3, TypeError),
    ("cpuset", b"0", TypeError),
    ("cpu_time", 0, ValueError),
    ("cpu_time", 1e-7, ValueError),
    ("cpu_time", -1, ValueError),
    ("cpu_time", math.nan, ValueError),
    ("cpu_time", 10**400, ValueError),
    ("cpu_time", "10s", TypeError),
    ("wall_time", 1e11, ValueError),
    ("wall_time", datetime.timedelta(-1), ValueError),
    ("wall_time", False, TypeError),
    ("pids", 0, ValueError),
    ("pids", 2**22 + 1, ValueError),
    ("pids", 1.5, TypeError),
    ("pids", True, TypeError),
    ("disk", 0, ValueError),
    ("output", -1, ValueError),
    ("output_mode", "drop", ValueError),
    ("output_mode", 1, ValueError),
    ("io", [], TypeError),
    ("io", {"8:0": 5}, TypeError),
    ("io", {8: IoLimit()}, TypeError),
    ("io", {"": IoLimit()}, ValueError),
    ("io_weight", 0, ValueError),
    ("network", 5, TypeError),
    ("rlimits", {"files": 1}, ValueError),
    ("rlimits", {"NOFILE": 1}, ValueError),
    ("rlimits", {"nofile": (2, 1)}, ValueError),
    ("rlimits", {"nofile": ("max", 1)}, ValueError),
    ("rlimits", {"nofile": (1, 2, 3)}, ValueError),
    ("rlimits", {"nofile": -1}, ValueError),
    ("rlimits", {"nofile": "1k"}, TypeError),
    ("rlimits", {"nofile": None}, TypeError),
    ("rlimits", ["nofile"], TypeError),
    ("oom_group", 1, TypeError),
    ("oom_score_adj", 1001, ValueError),
    ("oom_score_adj", "0", TypeError),
]


# Some values are too long for an id.
@pytest.mark.parametrize(("field", "bad", "error"), BAD, ids=[f"{row[0]}-{n}" for n, row in enumerate(BAD)])
def test_what_makes_no_sense_is_refused_by_name(field, bad, error):
    with pytest.raises(error) as caught:
        Limits(**{field: bad})
    assert type(caught.value) is error
    assert field in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_field_has_a_bad_value_in_the_table():
    assert {row[0] for row in BAD} == set(FIELDS)


def test_every_field_is_keyword_only_and_unsaid_by_default():
    parameters = inspect.signature(Limits).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.default is None for p in parameters)
    assert all(getattr(Limits(), name) is None for name in FIELDS)
    assert Limits()._said() == {}
    assert set(Limits._fields) == set(FIELDS)


def test_frozen():
    limits = Limits(pids=5)
    with pytest.raises(AttributeError, match="pids cannot be set"):
        limits.pids = 6
    with pytest.raises(AttributeError, match="frozen"):
        limits.colour = 1
    with pytest.raises(AttributeError, match="frozen"):
        del limits.pids
    assert limits.pids == 5


def test_mappings_inside_are_read_only_and_copied():
    mine = {"core": 0}
    limits = Limits(rlimits=mine)
    mine["nofile"] = 5
    assert limits.rlimits == {"core": (0, 0)}
    with pytest.raises(TypeError):
        limits.rlimits["core"] = (1, 1)


def test_or_lets_the_right_hand_win_and_merges_mappings():
    a = Limits(memory="1g", pids=5, rlimits={"core": 0, "nofile": 9}, io={"8:0": IoLimit(read_bps=1)})
    b = Limits(memory="2g", rlimits={"nofile": 10}, io={"8:0": IoLimit(write_bps=2), "8:16": IoLimit()})
    assert a | b == Limits(
        memory="2g",
        pids=5,
        rlimits={"core": 0, "nofile": 10},
        io={"8:0": IoLimit(write_bps=2), "8:16": IoLimit()},
    )
    with pytest.raises(TypeError):
        a | {"pids": 5}


def test_replace_unsays_and_names_no_new_field():
    assert Limits(memory="1g", pids=5).replace(memory=None) == Limits(pids=5)
    with pytest.raises(TypeError, match="colour"):
        Limits().replace(colour=1)
    with pytest.raises(ValueError, match="pids"):
        Limits().replace(pids=0)


def test_strict():
    assert Limits.strict()._said() == {
        "memory": 512 * 2**20,
        "swap": 0,
        "cpus": 1.0,
        "cpu_time": 10.0,
        "wall_time": 30.0,
        "pids": 64,
        "disk": 64 * 2**20,
        "output": 2**20,
        "rlimits": {"nofile": (256, 256), "core": (0, 0)},
    }


def test_repr_shows_what_was_said_and_can_be_evaluated():
    limits = Limits(memory="64m", swap=0, rlimits={"nofile": (5, "max")}, io={"8:0": IoLimit(read_bps="max")})
    assert repr(limits) == (
        "Limits(io={'8:0': IoLimit(read_bps='max')}, memory='64MiB', rlimits={'nofile': (5, 'max')}, swap=0)"
    )
    assert eval(repr(limits)) == limits
    assert repr(Limits(pids="max", memory=1048577)) == "Limits(memory=1048577, pids='max')"
    assert repr(Limits()) == "Limits()"


def test_pickle_and_hash():
    limits = Limits.strict() | Limits(io={"8:0": IoLimit(read_iops=5)}, network=NetworkLimit(loss=0.1))
    back = pickle.loads(pickle.dumps(limits))
    assert back == limits
    assert hash(back) == hash(limits)
    assert limits != Limits.strict()
    assert limits != object()


@pytest.mark.parametrize(
    ("cls", "field", "bad", "error"),
    [
        (IoLimit, "read_bps", 0, ValueError),
        (IoLimit, "write_bps", "fast", ValueError),
        (IoLimit, "read_iops", 0, ValueError),
        (IoLimit, "write_iops", 1.5, TypeError),
        (NetworkLimit, "rate", 0, ValueError),
        (NetworkLimit, "delay", -1, ValueError),
        (NetworkLimit, "loss", 1.1, ValueError),
        (NetworkLimit, "loss", "1%", TypeError),
    ],
)
def test_parts_refuse_by_name(cls, field, bad, error):
    with pytest.raises(error, match=field):
        cls(**{field: bad})


def test_the_table_of_rlimits_is_the_kernels():
    import resource

    known = {name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_")}
    assert known - {"ofile"} <= set(RLIMITS) | {"ofile"}
    assert len(RLIMITS) == 16
