"""The base of a Dockerfile's values."""

from __future__ import annotations

import pickle

import pytest

from pycontainer._build.frozen import Value


class Point(Value, silent=("note",)):
    x: int
    y: int = 2
    note: str = ""


class Point3(Point):
    z: int = 3


def test_fields_defaults_and_order() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 5).y, Point3(1, z=9).z) == (1, 2, 5, 9)
    assert repr(Point3(1, note="n")) == "Point3(x=1, y=2, z=3)"


def test_equal_by_class_and_by_what_is_not_silent() -> None:
    assert Point(1) == Point(1, note="other")
    assert hash(Point(1)) == hash(Point(1, note="other"))
    assert Point(1) != Point(2)
    assert Point(1) != Point3(1)
    assert Point(1) != (1, 2)


def test_changes_make_another() -> None:
    one = Point(1, note="n")
    other = one.but(y=7)
    assert (one.y, other.y, other.x, other.note) == (2, 7, 1, "n")


def test_frozen() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        Point(1).x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del Point(1).x


@pytest.mark.parametrize("given", [{}, {"x": 1, "q": 2}, {"y": 1}])
def test_fields_that_are_missing_or_unknown(given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="missing or unknown"):
        Point(**given)  # type: ignore[arg-type]


def test_pickle() -> None:
    assert pickle.loads(pickle.dumps(Point3(1, note="n"))).note == "n"
