"""Properties of Limits: the algebra of `|`, reprs that evaluate, values that hash and pickle."""

from __future__ import annotations

import pickle

from hypothesis import given, strategies as st

from pycontainer._limits import RLIMITS, IoLimit, Limits, NetworkLimit

maximum = st.just("max")
sizes = st.integers(2**20, 2**63 - 1) | st.sampled_from(["1MiB", "2.5g", "7MB"]) | maximum
seconds = st.floats(1e-6, 1e9) | maximum
weights = st.integers(1, 10000)
cpusets = st.sets(st.integers(0, 8191), min_size=1, max_size=12)
counts = st.integers(1, 2**22) | maximum
io_limits = st.builds(IoLimit, read_bps=st.none() | sizes, write_iops=st.none() | counts)
pairs = st.tuples(st.integers(0, 99), st.integers(99, 2**63 - 1) | maximum) | st.integers(0, 99) | maximum
FIELDS = {
    "memory": sizes,
    "swap": sizes,
    "memory_high": sizes,
    "cpus": st.floats(0.01, 8192) | maximum,
    "cpu_weight": weights,
    "cpuset": cpusets,
    "cpu_time": seconds,
    "wall_time": seconds,
    "pids": counts,
    "disk": sizes,
    "output": sizes,
    "output_mode": st.sampled_from(["kill", "truncate"]),
    "io": st.dictionaries(st.sampled_from(["8:0", "8:16", "/var"]), io_limits, max_size=3),
    "io_weight": weights,
    "network": st.builds(NetworkLimit, rate=st.none() | sizes, loss=st.none() | st.floats(0, 1)),
    "rlimits": st.dictionaries(st.sampled_from(RLIMITS), pairs, max_size=4),
    "oom_group": st.booleans(),
    "oom_score_adj": st.integers(-1000, 1000),
}
said = st.fixed_dictionaries({}, optional=FIELDS)
limits = said.map(lambda fields: Limits(**fields))


def attempt(call, *args, **kwargs):
    """What a call gives, and the refusal that it raises: one of them is None."""
    try:
        return call(*args, **kwargs), None
    except (ValueError, TypeError) as refusal:
        return None, refusal


def test_every_field_is_drawn():
    assert set(FIELDS) == set(Limits._fields)


@given(limits, limits, limits)
def test_or_is_associative(a, b, c):
    assert (a | b) | c == a | (b | c)


@given(limits)
def test_saying_nothing_is_the_identity_and_saying_it_twice_is_saying_it(a):
    assert a | Limits() == a
    assert Limits() | a == a
    assert a | a == a


@given(limits, limits)
def test_what_the_right_hand_says_wins(a, b):
    both = a | b
    for name, value in b._said().items():
        if name in ("io", "rlimits"):
            assert dict(getattr(both, name)) == {**(getattr(a, name) or {}), **value}
        else:
            assert getattr(both, name) == value
    assert set(both._said()) == set(a._said()) | set(b._said())


@given(limits, st.sampled_from(sorted(FIELDS)))
def test_replace_unsays_one_field_and_leaves_the_others(a, name):
    without = a.replace(**{name: None})
    assert without._said() == {key: value for key, value in a._said().items() if key != name}
    assert without.replace(**{name: getattr(a, name)}) == a


@given(limits)
def test_what_is_read_back_can_be_said_again(a):
    assert Limits(**a._said()) == a
    assert eval(repr(a)) == a


@given(limits)
def test_equal_values_hash_alike_and_pickle(a):
    back = pickle.loads(pickle.dumps(a))
    assert back == a
    assert hash(back) == hash(a)
    assert repr(back) == repr(a)


@given(limits, limits)
def test_equality_is_equality_of_what_was_said(a, b):
    assert (a == b) == (a._said() == b._said())


@given(cpusets)
def test_a_cpuset_keeps_its_members(cpus):
    text = Limits(cpuset=cpus).cpuset
    members = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        members.extend(range(int(first), int(last or first) + 1))
    assert members == sorted(cpus)
    assert Limits(cpuset=text).cpuset == text


@given(st.text(max_size=20))
def test_a_cpuset_from_text_is_canonical_or_refused_by_name(text):
    made, refusal = attempt(Limits, cpuset=text)
    if refusal:
        assert isinstance(refusal, ValueError)
        assert str(refusal).startswith("cpuset")
    else:
        assert Limits(cpuset=made.cpuset) == made


@given(st.sampled_from(sorted(FIELDS)), st.none() | st.integers() | st.floats() | st.text(max_size=8) | st.binary())
def test_any_value_is_taken_or_refused_by_name(name, value):
    made, refusal = attempt(Limits, **{name: value})
    if refusal:
        assert str(refusal).startswith(name)
    else:
        assert Limits(**made._said()) == made
