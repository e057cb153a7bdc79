"""A command that is missing or none, an image that is none: a typed error with the name, and nothing is left of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import worlds
from pycontainer import Mount

EACCES, ENOENT, ENOTDIR = 13, 2, 20
# As the command is started: by our PID 1, as PID 1 itself, on a terminal, over a layer in the store.
WAYS: dict[str, dict[str, Any]] = {"plain": {}, "pid1": {"pid1": True}, "tty": {"tty": True}, "disk": {"upper": "disk"}}


@pytest.fixture
def image(fresh_rootfs: Path) -> Path:
    (fresh_rootfs / "etc/data").write_text("no program\n")
    (fresh_rootfs / "etc/data").chmod(0o644)
    return fresh_rootfs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", ["/bin", "/bin/", "/", "./bin", "/etc/data"])
def test_a_directory_or_a_file_without_the_bit_is_126(image: Path, command: str, way: str) -> None:
    with pytest.raises(pc.CommandNotExecutable) as caught:
        pc.run([command, "word"], image=image, **WAYS[way])
    assert isinstance(caught.value, PermissionError)
    assert (caught.value.errno, caught.value.filename, caught.value.step) == (EACCES, command, "execute")
    assert str(caught.value) == f"cannot execute {command}: Permission denied"


def test_a_directory_of_this_machine_s_programs_is_no_command() -> None:
    with pytest.raises(pc.CommandNotExecutable, match="cannot execute /usr/bin: Permission denied"):
        pc.run(["/usr/bin"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", ["no-such", "/no-such", "./no-such", "/no/such", "/etc/data/x", "bin"])
def test_what_is_not_there_is_127(image: Path, command: str, way: str) -> None:
    """A name alone is looked for in PATH, as in a shell: a directory of that name in the cwd is not it."""
    with pytest.raises(pc.CommandNotFound) as caught:
        pc.run([command], image=image, **WAYS[way])
    assert isinstance(caught.value, FileNotFoundError)
    assert (caught.value.errno, caught.value.filename, caught.value.step) == (ENOENT, command, "execute")
    assert str(caught.value) == f"command not found in the container: {command}"


@pytest.mark.parametrize(("word", "code"), [("/bin", 126), ("/etc/data", 126), ("no-such", 127), ("/no/such", 127)])
def test_the_command_line_ends_as_a_shell_would(image: Path, word: str, code: int) -> None:
    done = subprocess.run(worlds.command("run", str(image), word), check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert word in done.stderr


NOTHING_LEFT = """
import os, sys
import pycontainer as pc
image, store = sys.argv[1:]
for command in ("/bin", "/etc/data", "no-such", "/etc/data/x"):
    for given in ({}, {"pid1": True}, {"tty": True}, {"upper": "disk"}, {"limits": pc.Limits(wall_time=20)}):
        try:
            pc.run([command], image=image, **given)
        except (pc.CommandNotFound, pc.CommandNotExecutable):
            pass
        else:
            raise SystemExit(f"{command} ran")
        layers = os.path.join(store, "uppers")
        assert not os.path.exists(layers) or os.listdir(layers) == [], (command, given, os.listdir(layers))
descriptors = len(os.listdir("/proc/self/fd"))
for _ in range(20):
    try:
        pc.run(["/bin"], image=image, upper="disk")
    except pc.CommandNotExecutable:
        pass
assert len(os.listdir("/proc/self/fd")) == descriptors
print(pc.run(["echo", "goes on"], image=image, text=True).stdout, end="")
"""


def test_nothing_is_left_of_any_of_them_while_the_interpreter_lives(image: Path, tmp_path: Path) -> None:
    """No layer in the store, no descriptor; processes, mounts and groups are looked for after each test here."""
    environ = {**os.environ, "PYCONTAINER_ROOT": str(tmp_path)}
    command = [*worlds.python(NOTHING_LEFT), str(image), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, timeout=100)
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr


# ---- the mount that the message names ----------------------------------------------------------------------------


@pytest.fixture
def tools(scratch: Path, rootfs: Path) -> Iterator[Path]:
    """A directory of this machine that no image has, with a static program under a name of its own and by a link."""
    place = scratch / "tools"
    (place / "real").mkdir(parents=True)
    shutil.copy(rootfs / "bin/busybox", place / "real/hostname-1.0")
    (place / "real/hostname-1.0").chmod(0o755)
    (place / "real/hostname").symlink_to("hostname-1.0")
    (place / "hostname").symlink_to("real/hostname")
    yield place
    shutil.rmtree(place)


def cure(error: pc.CommandNotFound) -> dict[str, Any]:
    """What the message says, as the arguments that it means."""
    said = re.search(r"mounts=(\[Mount\.bind\(.*?\)\])(?:, and '(.*)' as the command)?\)$", str(error))
    assert said, error
    return {"mounts": eval(said[1], {"Mount": Mount}), "command": said[2]}


def test_a_missing_command_that_this_machine_has_names_the_mount_that_brings_it(image: Path, tools: Path) -> None:
    command = str(tools / "hostname")
    with pytest.raises(pc.CommandNotFound) as caught:
        pc.run([command], image=image)
    assert caught.value.filename == command
    assert f"{command} is on this machine, not in the image: mounts=[" in str(caught.value)
    said = cure(caught.value)
    assert pc.run([command], image=image, mounts=said["mounts"], hostname="box", check=True).stdout == b"box\n"


def test_a_name_is_looked_for_in_this_process_s_path(image: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tools / "hostname").rename(tools / "only-here")
    monkeypatch.setenv("PATH", f"/nowhere:{tools}:{os.environ['PATH']}")
    with pytest.raises(pc.CommandNotFound, match=f"command not found in the container: only-here .*{tools}") as caught:
        pc.run(["only-here"], image=image)
    said = cure(caught.value)
    assert said["command"] == str(tools / "only-here"), "inside no PATH leads there"
    argv = ["sh", "-c", f"test -x {said['command']} && echo there"]
    assert pc.run(argv, image=image, mounts=said["mounts"]).stdout == b"there\n"


def test_where_path_inside_leads_to_it_the_mount_is_all(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the image's own programs in that directory are still there."""
    (image / "usr/bin").mkdir(parents=True, exist_ok=True)
    (image / "usr/bin/own").symlink_to("/bin/busybox")
    monkeypatch.setenv("PATH", "/usr/bin")
    with pytest.raises(pc.CommandNotFound) as caught:
        pc.run(["prlimit"], image=image)
    said = cure(caught.value)
    assert (said["command"], [mount.target for mount in said["mounts"]]) == (None, ["/usr/bin/prlimit"])
    done = pc.run(["sh", "-c", "command -v prlimit; ls /usr/bin"], image=image, mounts=said["mounts"], text=True)
    assert done.stdout.split() == ["/usr/bin/prlimit", "own", "prlimit"]


@pytest.mark.parametrize("command", ["/usr/bin", "./prlimit", "no-such-anywhere", "/etc/hostname/x"])
def test_what_this_machine_has_not_as_a_program_names_no_mount(image: Path, command: str) -> None:
    with pytest.raises(pc.CommandNotFound) as caught:
        pc.run([command], image=image)
    assert "mounts=" not in str(caught.value)


# ---- an image that is none ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [str, Path, pc.Image.from_directory])
def test_an_image_directory_that_is_a_file_or_missing(scratch: Path, tmp_path: Path, how: Any) -> None:
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.write_text("no directory")
    for path, errno, words in (
        (file, ENOTDIR, r"open the image .*: Not a directory .*Image\.from_archive"),
        (missing, ENOENT, "find the image .*: No such file or directory"),
        (file / "below", ENOTDIR, "find the image .*: Not a directory"),
    ):
        with pytest.raises(pc.SetupError, match=words) as caught:
            pc.run(["true"], image=how(path))
        assert (type(caught.value), caught.value.errno) == (pc.SetupError, errno)
        assert caught.value.filename == str(path)


@pytest.mark.requires("user")
def test_an_image_directory_that_this_user_may_not_read(fresh_rootfs: Path) -> None:
    """Of root no local directory can be kept."""
    fresh_rootfs.chmod(0)
    try:
        with pytest.raises(pc.SetupError, match=r"open the image .*: Permission denied") as caught:
            pc.run(["true"], image=fresh_rootfs)
    finally:
        fresh_rootfs.chmod(0o755)
    assert (type(caught.value), caught.value.errno, caught.value.filename) == (pc.SetupError, EACCES, str(fresh_rootfs))
    for path in ("/root", "/root/anything"):
        with pytest.raises(pc.SetupError, match=r"the image .*: Permission denied"):
            pc.run(["true"], image=path)
