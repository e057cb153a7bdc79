"""The set-up's own descriptors and those that the caller passes never meet, whatever their numbers are."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from probing import Probe, capabilities


@pytest.fixture
def everywhere(tmp_path: Path) -> Iterator[list[int]]:
    """A directory of the host at 60 numbers: among them those at which PID 1 has its root and its sockets."""
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    made: list[int] = []
    for number in range(3, 200):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            made.append(os.dup2(directory, number, inheritable=False))
        if len(made) == 60:
            break
    os.close(directory)
    yield made
    for fd in made:
        os.close(fd)


def test_a_passed_directory_never_takes_the_root_s_place(inside: Probe, everywhere: list[int], tmp_path: Path) -> None:
    """With it as the root, cwd would be looked up in a directory of the host."""
    (tmp_path / "only-outside").mkdir()
    seen = inside(pass_fds=everywhere, cwd="/var/tmp")
    assert seen["cwd"] == "/var/tmp"
    assert {seen["fds"][str(fd)] for fd in everywhere} == {seen["fds"][str(everywhere[0])]}
    with pytest.raises(pc.SetupError):
        inside(pass_fds=everywhere, cwd="/only-outside")


def test_nor_that_of_the_nested_user_namespace(inside: Probe, everywhere: list[int]) -> None:
    admin = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
    for fds in ([], everywhere):
        seen = inside(pass_fds=fds, security=admin)
        assert capabilities(seen) >> 21 & 1
        assert seen.result.enforced["capabilities"].state == "held"


def test_as_pid_1_too(inside: Probe, everywhere: list[int]) -> None:
    seen = inside(pass_fds=everywhere, pid1=True, cwd="/var")
    assert (seen["pid"], seen["cwd"]) == (1, "/var")
    assert set(seen["fds"]) == {"0", "1", "2", *map(str, everywhere)}
