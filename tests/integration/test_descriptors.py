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
def numbers(tmp_path: Path) -> Iterator[list[int]]:
    """A directory of the host at many numbers: among them those at which PID 1 has its root and its sockets."""
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    made: list[int] = []
    for number in range(3, 64):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            made.append(os.dup2(directory, number, inheritable=False))
    os.close(directory)
    yield made
    for fd in made:
        os.close(fd)


def test_a_passed_directory_never_takes_the_root_s_place(inside: Probe, numbers: list[int], tmp_path: Path) -> None:
    """As the root it would have cwd looked up in the host's files. One at a time: many would push the root away."""
    (tmp_path / "only-outside").mkdir()
    for fd in numbers:
        seen = inside(pass_fds=[fd], cwd="/var/tmp")
        assert (seen["cwd"], set(seen["fds"])) == ("/var/tmp", {"0", "1", "2", str(fd)})
        assert seen["fds"][str(fd)].endswith(tmp_path.name)
    with pytest.raises(pc.SetupError):
        inside(pass_fds=numbers, cwd="/only-outside")


def test_all_of_them_arrive(inside: Probe, numbers: list[int]) -> None:
    assert set(inside(pass_fds=numbers)["fds"]) == {"0", "1", "2", *map(str, numbers)}


def test_nor_does_one_take_that_of_the_nested_user_namespace(inside: Probe, numbers: list[int]) -> None:
    """Of a command with CAP_SYS_ADMIN. Without any, the streams are such descriptors."""
    admin = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
    for fds in ([], *([fd] for fd in numbers[:12])):
        seen = inside(pass_fds=fds, security=admin)
        assert capabilities(seen) >> 21 & 1
        assert seen.result.enforced["capabilities"].state == "held"


def test_as_pid_1_too(inside: Probe, numbers: list[int]) -> None:
    for fd in numbers:
        seen = inside(pass_fds=[fd], pid1=True, cwd="/var")
        assert (seen["pid"], seen["cwd"], set(seen["fds"])) == (1, "/var", {"0", "1", "2", str(fd)})
