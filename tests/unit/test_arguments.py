"""The plain arguments of run(): commands, environment, host names, users, groups, names."""

from __future__ import annotations

import collections
import pathlib

import pytest

from pycontainer import _arguments as arguments


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["echo", b"\xff", pathlib.Path("/a")], (b"echo", b"\xff", b"/a")),
        (("a", ""), (b"a", b"")),
        (collections.deque(["a"]), (b"a",)),
        (["caf\u00e9", "\udcff"], ("caf\u00e9".encode(), b"\xff")),
    ],
)
def test_command(args, words):
    assert arguments.command(args) == words


@pytest.mark.parametrize("args", ["ls -l", b"ls", bytearray(b"ls"), pathlib.Path("/bin/ls")])
def test_a_command_that_is_one_text_says_how_to_get_a_shell(args):
    with pytest.raises(TypeError, match=r'args must be .*\["sh", "-c", \.\.\.\]'):
        arguments.command(args)


@pytest.mark.parametrize(
    ("args", "error", "word"),
    [
        ([], ValueError, "args is empty"),
        ([""], ValueError, r"args\[0\]"),
        (["a", "b\0c"], ValueError, r"args\[1\] has a NUL"),
        (["a", "\ud800"], ValueError, r"args\[1\] cannot be encoded"),
        (["a", 5], TypeError, r"args\[1\]"),
        (["a", None], TypeError, r"args\[1\]"),
        ({"a": 1}, TypeError, "args"),
        ({"a"}, TypeError, "args"),
        (iter(["a"]), TypeError, "args"),
        (5, TypeError, "args"),
        (None, TypeError, "args"),
    ],
)
def test_bad_commands(args, error, word):
    with pytest.raises(error, match=word):
        arguments.command(args)


def test_an_entrypoint_may_be_empty():
    assert arguments.command([], "entrypoint", empty=True) == ()
    with pytest.raises(TypeError, match="entrypoint"):
        arguments.command("x", "entrypoint", empty=True)


def test_environment():
    env = {"A": "1\n2", b"B": b"\xff", "C": pathlib.Path("/p"), "D": None, "E": ""}
    assert arguments.environment(env) == ((b"A", b"1\n2"), (b"B", b"\xff"), (b"C", b"/p"), (b"D", None), (b"E", b""))
    assert arguments.environment(None) == ()


@pytest.mark.parametrize(
    ("env", "error", "word"),
    [
        ({"": "x"}, ValueError, "empty"),
        ({"A=B": "x"}, ValueError, "A=B"),
        ({"A\0": "x"}, ValueError, "NUL"),
        ({"A": "x\0"}, ValueError, r"env\['A'\]"),
        ({"A": 5}, TypeError, r"env\['A'\]"),
        ({5: "x"}, TypeError, "a name in env"),
        ({"A": "1", b"A": "2"}, ValueError, "twice"),
        ([("A", "1")], TypeError, "env"),
        ("A=1", TypeError, "env"),
    ],
)
def test_bad_environments(env, error, word):
    with pytest.raises(error, match=word):
        arguments.environment(env)


@pytest.mark.parametrize("name", ["a", "web-1.example.org", "1", "a" * 63, ".".join(["a" * 31, "b" * 32])])
def test_hostname(name):
    assert arguments.hostname(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", ".a", "a_b", "a\n", "a b", "ä", "a" * 65, "b" * 64, "a/b"])
def test_bad_hostnames(name):
    with pytest.raises(ValueError, match="hostname"):
        arguments.hostname(name)


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (None, None),
        (0, "0"),
        (2**32 - 2, "4294967294"),
        ("007", "7"),
        ("4294967294", "4294967294"),
        ("nobody", "nobody"),
        ("nobody:users", "nobody:users"),
        ("1000:0100", "1000:100"),
        ("a.b-c$", "a.b-c$"),
    ],
)
def test_user(user, text):
    assert arguments.user(user) == text


@pytest.mark.parametrize(
    ("user", "error"),
    [
        (-1, ValueError),
        (2**32 - 1, ValueError),
        ("4294967295", ValueError),
        ("9" * 5000, ValueError),
        ("-1", ValueError),
        ("", ValueError),
        (":", ValueError),
        ("a:", ValueError),
        (":a", ValueError),
        ("a:b:c", ValueError),
        ("a\nb", ValueError),
        ("a\0", ValueError),
        ("a/b", ValueError),
        ("a b", ValueError),
        ("x" * 300, ValueError),
        (True, TypeError),
        (1.0, TypeError),
        (b"root", TypeError),
        ((0, 0), TypeError),
    ],
)
def test_bad_users(user, error):
    with pytest.raises(error, match="user"):
        arguments.user(user)


def test_groups():
    assert arguments.groups([5, "audio", "010"]) == ("5", "audio", "10")
    assert arguments.groups(()) == ()


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        ("audio", TypeError),
        ({5}, TypeError),
        (5, TypeError),
        ([-1], ValueError),
        ([True], TypeError),
        (["a:b"], ValueError),
    ],
)
def test_bad_groups(groups, error):
    with pytest.raises(error, match="groups"):
        arguments.groups(groups)


def test_too_many_groups():
    assert len(arguments.groups([1] * 1023)) == 1023
    with pytest.raises(ValueError, match="groups has more than 1023"):
        arguments.groups([1] * 1024)


def test_the_keeper_has_room_for_as_many_and_the_primary_one():
    sources = pathlib.Path(__file__).parents[2] / "rust"
    keeper = (sources / "keeper/users.rs").read_text()
    assert f"GROUPS_MAX: usize = {arguments.GROUPS_MAX + 1};" in keeper
    assert f"at most {arguments.GROUPS_MAX + 1} groups" in (sources / "src/spawn/accounts.rs").read_text()


@pytest.mark.parametrize("name", ["a", "A1_.-", "0" * 128])
def test_identifier(name):
    assert arguments.identifier(name, "name") == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a\n", "ä", "a" * 129])
def test_bad_identifiers(name):
    with pytest.raises(ValueError, match="name"):
        arguments.identifier(name, "name")
