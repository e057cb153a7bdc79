"""Properties of the parsers of sizes and times, and of the text that is shown."""

from __future__ import annotations

import datetime
import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, strategies as st

from pycontainer._text import escape
from pycontainer._types import SIZE_MAX, exact_size, format_size, parse_duration, parse_size

UNITS = {"": 1, "b": 1}
for power, letter in enumerate("kmgtpe", 1):
    UNITS |= {letter: 1024**power, f"{letter}ib": 1024**power, f"{letter}b": 1000**power}


def attempt(call, *args, **kwargs):
    """What a call gives, and the refusal that it raises: one of them is None."""
    try:
        return call(*args, **kwargs), None
    except (ValueError, TypeError) as refusal:
        return None, refusal


def any_case(text: str) -> st.SearchStrategy[str]:
    return st.tuples(*[st.sampled_from([c.lower(), c.upper()]) for c in text]).map("".join)


@given(st.integers(0, SIZE_MAX))
def test_a_size_written_exactly_reads_back(size):
    assert parse_size(exact_size(size), "x") == size
    assert parse_size(size, "x") == size
    assert parse_size(str(size), "x") == size


@given(st.data(), st.decimals(0, 10**6, allow_nan=False, places=3), st.sampled_from(sorted(UNITS)))
def test_a_number_with_a_unit_is_that_many_units_rounded_down(data, number, unit):
    exact = math.floor(Fraction(number) * UNITS[unit])
    assume(exact <= SIZE_MAX)
    space = data.draw(st.sampled_from(["", " "]))
    assert parse_size(f"{number:f}{space}{data.draw(any_case(unit))}", "x") == exact


@given(st.text(max_size=30))
def test_text_is_a_size_or_a_value_error_that_names_the_argument(text):
    size, refusal = attempt(parse_size, text, "the_name")
    if refusal:
        assert isinstance(refusal, ValueError)
        assert "the_name" in str(refusal)
        assert str(refusal).isprintable()
    else:
        assert size == math.inf or (isinstance(size, int) and 0 <= size <= SIZE_MAX)


@given(st.integers() | st.floats() | st.booleans() | st.binary() | st.none() | st.integers(2**70, 2**20000))
def test_any_value_is_a_size_or_a_typed_error(value):
    size, refusal = attempt(parse_size, value, "the_name")
    if refusal:
        assert "the_name" in str(refusal)
    else:
        assert size == value
        assert not isinstance(value, bool)


@given(st.integers(0, SIZE_MAX))
def test_a_formatted_size_is_within_half_a_tenth_of_its_unit(size):
    text = format_size(size)
    number, unit = text.split()
    factor = UNITS[unit.lower()]
    assert abs(Fraction(number) * factor - size) <= Fraction(factor, 20) + 2**10
    assert factor == 1 or 1 <= float(number) < 1024


@given(st.floats(1e-6, 9e9))
def test_seconds_read_back(seconds):
    assert parse_duration(seconds, "x") == seconds
    assert parse_duration(-seconds, "x", signed=True) == -seconds
    with pytest.raises(ValueError, match="the_name"):
        parse_duration(-seconds, "the_name")


@given(st.timedeltas(datetime.timedelta(microseconds=1), datetime.timedelta(days=365)))
def test_timedelta_reads_back_as_seconds(delta):
    assert parse_duration(delta, "x") == delta.total_seconds()


@given(st.text())
def test_escaped_text_is_printable_and_escaping_again_changes_nothing(text):
    once = escape(text)
    assert once.isprintable()
    assert escape(once) == once
    if text.isprintable():
        assert once == text


@given(st.binary())
def test_bytes_are_shown_as_their_text(data):
    assert escape(data) == escape(data.decode("utf-8", "surrogateescape"))
    assert escape(data).isprintable()
