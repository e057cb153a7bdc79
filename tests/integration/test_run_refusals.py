"""A bad value of each parameter: the exception's type, the parameter's name in it, and that nothing was done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import worlds
from pycontainer import IdMap, Mount, Seccomp, Security

refuses = pytest.mark.refuses


class Unused:
    """Not a value of any parameter's type."""

    def __repr__(self) -> str:
        return "<Unused>"


UNUSED = Unused()
CLOSED = 1_000_003  # no such descriptor


def case(name: str, *values: Any, raises: type[Exception] = ValueError, **beside: Any) -> Any:
    """One row: each of `values` for run's parameter `name` raises exactly this, and says the name."""
    return pytest.param(name, values, raises, beside, id=f"{name}-{raises.__name__}")


# The marks stand beside the rows, as literals: tests/contract reads them without running anything.
ROWS = [
    case("args", "ls -l", b"ls", {"ls"}, 3, [1], raises=TypeError),
    case("args", [], [""], ["a\0b"], None),
    case("image", 3, UNUSED, ["/"], b"/", raises=TypeError),
    case("entrypoint", "sh", [UNUSED], raises=TypeError),
    case("entrypoint", [""], ["a\0"]),
    case("input", "text", 3, UNUSED, raises=TypeError),
    case("input", b"x", stdin=pc.PIPE),
    case("stdin", UNUSED, "file", True, raises=TypeError),
    case("stdin", CLOSED, 1 << 40, pc.STDOUT),
    case("stdout", UNUSED, 1.5, raises=TypeError),
    case("stdout", CLOSED, pc.STDOUT),
    case("stderr", UNUSED, "file", raises=TypeError),
    case("stderr", CLOSED),
    case("stderr", pc.PIPE, tty=True),
    case("capture_output", "no", 1, None, raises=TypeError),
    case("text", "yes", 1, raises=TypeError),
    case("encoding", "no-such-encoding", "a\0b"),
    case("encoding", 3, b"utf-8", raises=TypeError),
    case("errors", "no-such-handler"),
    case("errors", 3, raises=TypeError),
    case("pass_fds", 3, "12", [3.5], raises=TypeError),
    case("pass_fds", [CLOSED], [1], [-1]),
    case("timeout", "1s", UNUSED, True, raises=TypeError),
    case("timeout", float("nan")),
    case("check", "yes", 1, None, raises=TypeError),
    case("limits", {"memory": 1}, None, raises=TypeError),
    case("env", ["A=1"], {"A": 1}, {3: "x"}, raises=TypeError),
    case("env", {"A=B": "x"}, {"": "x"}, {"A": "a\0b"}, {"A": "1", b"A": "2"}),
    case("cwd", 3, UNUSED, raises=TypeError),
    case("cwd", "relative", "/a/../b", "", "/a\0b"),
    case("user", 1.5, b"root", UNUSED, True, raises=TypeError),
    case("user", -1, 2**32 - 1, "4294967295", "a:b:c", "", "-x", "a b"),
    case("groups", "wheel", 3, [1.5], raises=TypeError),
    case("groups", [-1], [2**32], [""]),
    case("umask", "022", None, raises=TypeError),
    case("umask", -1, 0o1000),
    case("hostname", 3, b"box", raises=TypeError),
    case("hostname", "a_b", "-a", "a" * 65, "", "a b"),
    case("hostname", "box", namespaces={"uts": "host"}),
    case("mounts", "/a:/b", [("/a", "/b")], Mount.tmpfs("/a"), raises=TypeError),
    case("mounts", [Mount.tmpfs("/a"), Mount.tmpfs("/a")]),
    case("files", {"/a": "text"}, {"/a": 3}, ["/a"], [], (), "", 0, False, raises=TypeError),
    case("files", {"a": b""}, {"/a/": b""}, {"/proc/x": b""}, {"/a": b"", "/a/b": b""}),
    case("files", {"/m/x": b""}, mounts=[Mount.tmpfs("/m")]),
    case("network", "bridge", None, 3),
    case("network", "private", raises=pc.NotSupported),
    case("network", "host", security=Security.strict()),
    case("ports", [80], 0, "", [], (), False, 80, {80: "0"}, {80: True}, {True: 0}, {None: 0}, raises=TypeError),
    case("ports", {0: 0}, {65536: 0}, {80: -1}, {80: 65536}, {"80": 0}, {"80/sctp": 0}, {"/tcp": 0}, {"+8/tcp": 0}),
    case("ports", {80: 0, "80/tcp": 0}, {80: 8000, 81: 8000}, dict.fromkeys(range(1, 66), 0)),
    case("ports", {80: 0}, network="host"),
    case("namespaces", ["uts"], "host", raises=TypeError),
    case("namespaces", {"net": "host"}, {"user": "host"}, {"uts": "ours"}, {"uts": 0}, {"nope": "host"}),
    case("namespaces", {"mnt": "host"}, raises=pc.NotSupported),
    case("security", None, "strict", {}, raises=TypeError),
    case("read_only", "yes", 1, None, raises=TypeError),
    case("upper", "tmpfs", None, 3),
    case("pid1", "yes", 1, raises=TypeError),
    case("tty", "yes", 1, raises=TypeError),
    case("degrade", "memory", b"memory", {"memory": 1}, 3, None, [3], [["memory"]], raises=TypeError),
    case("degrade", ["seccomp"], ["nope"], ["namespace:pid"], ["upper"]),
]  # fmt: skip


@refuses("run.args", "run.image", "run.entrypoint", "run.input", "run.stdin", "run.stdout", "run.stderr")
@refuses("run.capture_output", "run.text", "run.encoding", "run.errors", "run.pass_fds", "run.timeout", "run.check")
@refuses("run.limits", "run.env", "run.cwd", "run.user", "run.groups", "run.umask", "run.hostname", "run.mounts")
@refuses("run.files", "run.network", "run.ports", "run.namespaces", "run.security", "run.read_only", "run.upper")
@refuses("run.pid1", "run.tty", "run.degrade")
@pytest.mark.parametrize(("name", "values", "raises", "beside"), ROWS)
def test_a_bad_value_is_refused_by_name(
    name: str, values: tuple[Any, ...], raises: type[Exception], beside: dict[str, Any], no_start: Callable[[], int]
) -> None:
    for value in values:
        given = {"args": ["true"], **beside, name: value}
        with pytest.raises(raises) as caught:
            pc.run(given.pop("args"), **given)
        assert type(caught.value) is raises, value
        assert name in str(caught.value), (value, caught.value)
    assert no_start() == 0


SECURITY_ROWS = [
    case("capabilities", "CHOWN", 3, [3], {"CHOWN": 1}, raises=TypeError),
    case("capabilities", ["NO_SUCH"], [""]),
    case("seccomp", None, {}, 3, raises=TypeError),
    case("seccomp", "off", ""),
    case("no_new_privileges", "no", 0, None, raises=TypeError),
    case("user_namespace", None, 3, [3], raises=TypeError),
    case("user_namespace", "private", [], IdMap(1, 1000, 5), [IdMap(0, 1000, 5), IdMap(3, 2000, 5)]),
    case("landlock", "yes", 1, raises=TypeError),
    case("masked_paths", "/a", 3, [3], raises=TypeError),
    case("masked_paths", ["a"], ["/"], ["/a/../b"]),
    case("readonly_paths", "/a", 3, [3], raises=TypeError),
    case("readonly_paths", ["a"], ["/"], ["/a/../b"]),
    case("devices", "/dev/fuse", 3, [3], raises=TypeError),
    case("devices", ["fuse"], ["/etc/passwd"], ["/dev"], ["/dev/../etc/shadow"]),
]


@refuses("security.capabilities", "security.seccomp", "security.no_new_privileges", "security.user_namespace")
@refuses("security.landlock", "security.masked_paths", "security.readonly_paths", "security.devices")
@pytest.mark.parametrize(("name", "values", "raises", "beside"), SECURITY_ROWS)
def test_a_bad_value_of_security_is_refused_by_name(
    name: str, values: tuple[Any, ...], raises: type[Exception], beside: dict[str, Any]
) -> None:
    for value in values:
        with pytest.raises(raises) as caught:
            Security(**{name: value})
        assert type(caught.value) is raises, value
        assert name in str(caught.value), (value, caught.value)


def test_every_row_has_its_mark() -> None:
    for function, rows, space in (
        (test_a_bad_value_is_refused_by_name, ROWS, "run"),
        (test_a_bad_value_of_security_is_refused_by_name, SECURITY_ROWS, "security"),
    ):
        marked = {name for mark in function.pytestmark if mark.name == "refuses" for name in mark.args}
        assert marked == {f"{space}.{row.values[0]}" for row in rows}


@pytest.fixture
def no_start(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many times the native module was asked to run something."""
    from pycontainer import _core, _run

    class Counting:
        started = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(_core, name)

        def run(self, spec: Any) -> Any:
            Counting.started += 1
            raise AssertionError("it came as far as the native module")

    counting = Counting()
    monkeypatch.setattr(_run, "core", lambda: counting)
    return lambda: Counting.started


@pytest.mark.parametrize(
    ("profile", "raises"),
    [({"defaultAction": "NO"}, ValueError), ({"defaultAction": "SCMP_ACT_ALLOW", "no": 1}, ValueError), (3, TypeError)],
)
def test_a_bad_seccomp_profile_is_refused(profile: Any, raises: type[Exception]) -> None:
    with pytest.raises(raises, match=r"profile|defaultAction"):
        Seccomp(profile)


def test_a_refusal_makes_no_keeper_and_opens_nothing() -> None:
    """In an interpreter of its own: the first call is the one that is refused."""
    script = """
import os, pycontainer as pc
before = sorted(os.listdir("/proc/self/fd"))
for bad in (dict(cwd="relative"), dict(timeout="x"), dict(degrade=["no"]), dict(encoding="no-such")):
    try:
        pc.run(["true"], **bad)
    except (TypeError, ValueError):
        pass
    else:
        raise SystemExit(f"{bad} was taken")
assert sorted(os.listdir("/proc/self/fd")) == before
assert not open("/proc/self/task/%d/children" % os.getpid()).read()
from pycontainer import _core
assert _core.keeper_pid() is None
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(Path(pc.__file__).parents[1])}
    )


@pytest.mark.requires("user")
def test_a_plain_user_cannot_have_the_owners_of_this_machine_mapped() -> None:
    with pytest.raises(pc.NotSupported, match=r"writable=True.*root only.*Mount\.overlay"):
        pc.run(["true"], image=pc.Image.host(writable=True))


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_more_mounts_than_a_container_can_have_are_refused_by_name(rootfs: Path, kind: str) -> None:
    """The keeper had refused the plan without a word of why."""
    make = {"tmpfs": Mount.tmpfs, "overlay": lambda target: Mount.overlay(rootfs, target)}[kind]
    some, many = ([make(f"/tmp/{index}") for index in range(count)] for count in (12, 300))
    script = "ls /tmp | wc -l"
    assert pc.run(["sh", "-c", script], image=rootfs, mounts=some, text=True).stdout == "12\n"
    with pytest.raises(ValueError, match=r"^mounts: 300 of them"):
        pc.run(["true"], image=rootfs, mounts=many)


def test_a_machine_that_refuses_the_keeper_costs_nothing_each_time() -> None:
    """Each attempt has stacks for its clones; where there was no clone they go."""
    script = """
import worlds, pycontainer as pc
def size():
    return int(open("/proc/self/statm").read().split()[0]) * 4096
def attempt():
    try:
        pc.run(["true"])
    except pc.NotSupported:
        return
    raise SystemExit("it ran")
worlds.install("clone3", 1)
for _ in range(5): attempt()
before = size()
for _ in range(100): attempt()
assert size() - before < 2 << 20, size() - before
"""
    subprocess.run(worlds.python(script), check=True)
