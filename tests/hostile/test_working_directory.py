"""cwd= and what is open at exec: no descriptor of the host's is left to walk through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from hostile.attacks import inside, links_out, put_link, shell


@pytest.fixture
def opened(canary: Path) -> Iterator[None]:
    """Directories of the host, open in this process under 30 inheritable numbers, as in an application with leaks."""
    fds = [os.open(canary if number % 2 else "/", os.O_RDONLY | os.O_DIRECTORY) for number in range(30)]
    for fd in fds:
        os.set_inheritable(fd, True)
    yield
    for fd in fds:
        os.close(fd)


def test_cve_2024_21626_working_directory_of_a_descriptor(rootfs: Path, fresh_rootfs: Path, opened: None) -> None:
    """Every number from 0 to 64, said by the caller and by a link of the image."""
    for number in range(65):
        put_link(fresh_rootfs / "w", f"/proc/self/fd/{number}")
        for cwd in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", "/w", "/w/../.."):
            with pytest.raises((pc.SetupError, ValueError)):
                shell(fresh_rootfs, "ls ../../..", cwd=cwd)


def test_control_of_cve_2024_21626_a_string_follows(opened: None, canary: Path) -> None:
    """chdir to a descriptor's name goes where it leads: outside of any root that was entered since."""
    import subprocess

    fd = os.open(canary, os.O_RDONLY | os.O_DIRECTORY)
    done = subprocess.run(
        ["sh", "-c", f"cd /proc/self/fd/{fd}; pwd -P"], pass_fds=[fd], capture_output=True, text=True, check=True
    )
    os.close(fd)
    assert done.stdout.strip() == str(canary)


@pytest.mark.parametrize("way", list(links_out(Path("/x"))))
def test_cve_2026_55686_working_directory_through_a_link(fresh_rootfs: Path, canary: Path, way: str) -> None:
    put_link(fresh_rootfs / "a", links_out(canary)[way])
    for cwd in ("/a", "/a/directory", "/a/."):
        try:
            done = shell(fresh_rootfs, "ls; ls ..; cat ptmx file", cwd=cwd)
        except pc.SetupError:
            continue
        assert "canary" not in done.stdout
        assert "secret" not in done.stdout


@pytest.mark.parametrize("name", ["/missing", "/bin/sh", "/etc/loop", "/proc/self/ns", "/proc/self/task/self"])
def test_cve_2024_21626_strange_working_directories(fresh_rootfs: Path, name: str) -> None:
    put_link(fresh_rootfs / "etc/loop", "loop")
    with_answer = name == "/proc/self/ns"  # a directory like any other; what lies in it leads nowhere
    if with_answer:
        assert shell(fresh_rootfs, "pwd", cwd=name).returncode == 0
        return
    with pytest.raises(pc.SetupError):
        shell(fresh_rootfs, "true", cwd=name)


def test_cve_2024_21626_nothing_is_open(opened: None) -> None:
    """0, 1 and 2 only, none of them a directory; the one that lists is the fourth."""
    rows = inside("""
        numbers = [fd for fd in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{fd}')]
        tell({fd: os.readlink(f'/proc/self/fd/{fd}') for fd in numbers})
    """)
    assert set(rows) == {"0", "1", "2"}, rows
    assert rows["0"] == "/dev/null"
    assert rows["1"].startswith("pipe:")


def test_cve_2016_9962_passed_descriptors_only(tmp_path: Path, opened: None) -> None:
    """pass_fds is the one way in, and gives exactly what was said."""
    with open(tmp_path / "f", "w+") as lent:
        lent.write("lent")
        lent.flush()
        fd = lent.fileno()
        rows = inside(
            "tell(sorted(fd for fd in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{fd}')))",
            pass_fds=[fd],
        )
    assert set(rows) == {"0", "1", "2", str(fd)}


def test_cve_2024_21626_command_named_by_a_descriptor(rootfs: Path, opened: None) -> None:
    """The path of the program is resolved while the set-up's own descriptors are open: none of them leads out."""
    for number in range(65):
        with pytest.raises(pc.SetupError):
            pc.run([f"/proc/self/fd/{number}/../../../../../../usr/bin/env"], image=rootfs)
