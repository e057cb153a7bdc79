"""The conditions of wait_for as values: checked when they are made, compared, pickled, said in words."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

import pycontainer as pc
from pycontainer import wait

GOOD = [
    (wait.log("ready"), "'ready' in the log"),
    (wait.log(b"ready\n", stream="stderr"), r"'ready\n' in stderr"),
    (wait.log(re.compile("rea.y")), "'rea.y' in the log"),
    (wait.log(re.compile(b"rea.y")), "'rea.y' in the log"),
    (wait.port(5432), "port 5432"),
    (wait.port("5432/tcp"), "port 5432"),
    (wait.port("53/udp"), "port 53/udp"),
    (wait.http(80), "an answer to GET '/' at port 80"),
    (wait.http(80, "/health?all=1", status=[200, 503]), "an answer to GET '/health?all=1' at port 80"),
    (wait.exec(["pg_isready", "-q"], user="postgres", env={"A": "b"}, cwd="/"), "status 0 of ['pg_isready', '-q']"),
    (wait.file("/run/postgres.pid"), "the file '/run/postgres.pid'"),
    (wait.any_of(wait.port(1), wait.file("/x")), "any of (port 1, the file '/x')"),
]


@pytest.mark.parametrize(("condition", "said"), GOOD)
def test_each_is_a_value_that_says_what_it_is(condition: Any, said: str) -> None:
    assert condition.describe() == said
    again = pickle.loads(pickle.dumps(condition))
    assert (again, hash(again)) == (condition, hash(condition))
    with pytest.raises(AttributeError):
        condition.port = 3


def test_what_says_the_same_is_equal_and_nothing_else() -> None:
    assert wait.port(5432) == wait.port("5432/tcp") != wait.port("5432/udp")
    assert wait.log("a") == wait.log(b"a") != wait.log("a", stream="stdout")
    assert wait.http(80, status=200) == wait.http(80, status=(200,)) != wait.http(80)


BAD = [
    (wait.log, ("",), {}, ValueError, "pattern"),
    (wait.log, ("a\nb",), {}, ValueError, "pattern"),
    (wait.log, (3,), {}, TypeError, "pattern"),
    (wait.log, ("a",), {"stream": "stdin"}, ValueError, "stream"),
    (wait.port, (0,), {}, ValueError, "port"),
    (wait.port, ("80",), {}, ValueError, "port"),
    (wait.port, (None,), {}, TypeError, "port"),
    (wait.http, (70000,), {}, ValueError, "port"),
    (wait.http, (80, "health"), {}, ValueError, "path"),
    (wait.http, (80, "/a b"), {}, ValueError, "path"),
    (wait.http, (80, "/a\r\nHost: x"), {}, ValueError, "path"),
    (wait.http, (80, b"/"), {}, TypeError, "path"),
    (wait.http, (80,), {"status": 99}, ValueError, "status"),
    (wait.http, (80,), {"status": ()}, ValueError, "status"),
    (wait.http, (80,), {"status": "200"}, TypeError, "status"),
    (wait.exec, ("true",), {}, TypeError, "args"),
    (wait.exec, ([],), {}, ValueError, "args"),
    (wait.exec, (["true"],), {"user": ""}, ValueError, "user"),
    (wait.exec, (["true"],), {"env": {"": "x"}}, ValueError, "env"),
    (wait.exec, (["true"],), {"cwd": "x"}, ValueError, "cwd"),
    (wait.file, ("x",), {}, ValueError, "path"),
    (wait.file, (3,), {}, TypeError, "path"),
    (wait.any_of, (), {}, ValueError, "conditions"),
    (wait.any_of, (3,), {}, TypeError, "conditions"),
]


@pytest.mark.parametrize(("make", "args", "keywords", "raises", "name"), BAD)
def test_a_bad_one_is_refused_when_it_is_made(
    make: Any, args: tuple[Any, ...], keywords: dict[str, Any], raises: type[Exception], name: str
) -> None:
    with pytest.raises(raises, match=name):
        make(*args, **keywords)


def test_a_time_that_passed_says_what_was_missing_also_after_pickling() -> None:
    said = "still waiting for port 5432\nthe last lines of stderr:\nno"
    expired = pc.TimeoutExpired(["postgres"], 3, b"", b"", hint=said)
    for error in (expired, pickle.loads(pickle.dumps(expired))):
        assert str(error) == f"Command '['postgres']' timed out after 3 seconds: {said}"
