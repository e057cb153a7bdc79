"""Container's files: what is refused, and that the container is as it was afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Limits
from states import SLEEP, STATES, container

pytestmark = pytest.mark.requires("userns")


@pytest.mark.parametrize("path", ["", "relative", "./x", b"rel", "/nul\0", "~/x"])
def test_a_path_that_is_none_is_refused_before_anything_is_done(path: Any, rootfs: Path, tmp_path: Path) -> None:
    made = Container(SLEEP, image=rootfs)
    for attempt in (
        lambda: made.read_bytes(path),
        lambda: made.write_bytes(path, b""),
        lambda: made.copy_in(tmp_path, path),
        lambda: made.copy_out(path, tmp_path / "x"),
    ):
        with pytest.raises(ValueError, match=r"path|src|dst"):
            attempt()
    for value in ("", "nul\0"):
        with pytest.raises(ValueError, match=r"src|dst"):
            made.copy_in(value, "/x")
        with pytest.raises(ValueError, match=r"src|dst"):
            made.copy_out("/x", value)
    for data in ("text", None, 7):
        with pytest.raises(TypeError, match="data"):
            made.write_bytes("/x", data)  # type: ignore[arg-type]
    for mode in (-1, 0o1000, 0o4755):
        with pytest.raises(ValueError, match="mode"):
            made.write_bytes("/x", b"", mode=mode)
    assert made.state == "CREATED"


@pytest.mark.parametrize("state", ["running", "exited"])
def test_what_is_no_file_is_refused_with_its_name(state: str, rootfs: Path, tmp_path: Path) -> None:
    make = "mkfifo /tmp/fifo; nc -lU /tmp/socket 2>/dev/null & sleep 0.2; ln -s loop /tmp/loop; mkdir /tmp/d; "
    with Container(["sh", "-c", make + ("exit" if state == "exited" else "sleep 100")], image=rootfs) as made:
        deadline = time.monotonic() + patience(10)
        while ("A", "/tmp/d") not in [(line.kind, line.path) for line in made.diff()]:
            assert time.monotonic() < deadline
        table = [("/tmp/fifo", 6), ("/tmp/loop", 40), ("/tmp/d", 21), ("/", 21), ("/tmp/none", 2)]
        if state == "running":
            table += [("/dev/null", 6), ("/dev/zero", 6), ("/sys/kernel/uevent_seqnum", 95), ("/proc/version", 95)]
        for path, errno in table:
            with pytest.raises(pc.SetupError) as refused:
                made.read_bytes(path)
            assert (refused.value.errno, refused.value.filename) == (errno, path)
            assert refused.value.step == "read the file"
        if state == "running":
            for path in ("/proc/sys/kernel/core_pattern", "/sys/x", "/proc/x", "/dev/mqueue/x", "/dev/pts/x"):
                with pytest.raises(pc.SetupError) as refused:
                    made.write_bytes(path, b"x")
                assert refused.value.errno in (95, 2), str(refused.value)
            for path in ("/proc", "/sys", "/proc/self"):
                with pytest.raises(pc.SetupError) as refused:
                    made.copy_out(path, tmp_path / "out")
                assert refused.value.errno == 95, str(refused.value)
        assert (made.exec(["true"]).returncode if state == "running" else made.wait(timeout=patience(10))) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_copied_is_left_out_and_named(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/d").mkdir(parents=True)
    os.mkfifo(tmp_path / "tree/d/fifo")
    os.mkfifo(tmp_path / "tree/d/another")
    (tmp_path / "tree/z").write_text("z")
    with Container(SLEEP, image=rootfs) as made:
        with pytest.raises(pc.SetupError, match=r"left out, as 1 others; the rest is copied") as refused:
            made.copy_in(tmp_path / "tree", "/tmp/tree")
        assert refused.value.filename in (f"{tmp_path}/tree/d/fifo", f"{tmp_path}/tree/d/another")
        assert made.read_bytes("/tmp/tree/z") == b"z"
        made.exec(["mkfifo", "/tmp/tree/d/fifo"], check=True)
        with pytest.raises(pc.SetupError, match="left out; the rest is copied") as refused:
            made.copy_out("/tmp/tree", tmp_path / "out")
        assert refused.value.filename == "/tmp/tree/d/fifo"
    assert (tmp_path / "out/z").read_text() == "z"
    assert list((tmp_path / "out/d").iterdir()) == []


def test_a_copy_of_the_root_is_what_the_container_has(rootfs: Path, tmp_path: Path) -> None:
    """/proc, /sys and /dev are what the kernel and the engine make up: their directories come, and are empty."""
    with Container(SLEEP, image=rootfs) as made:
        made.write_bytes("/root/file", b"x")
        made.copy_out("/", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in rootfs.iterdir()}
    assert all(list((tmp_path / "out" / name).iterdir()) == [] for name in ("proc", "sys", "dev"))
    assert (tmp_path / "out/root/file").read_bytes() == b"x"
    assert (tmp_path / "out/bin/busybox").read_bytes() == (rootfs / "bin/busybox").read_bytes()


def test_more_than_max_size_is_refused_with_both_sizes(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        made.write_bytes("/tmp/file", bytes(5000))
        with pytest.raises(ValueError, match=r"max_size.*/tmp/file.*5000 bytes.*4096"):
            made.read_bytes("/tmp/file", max_size="4KiB")
        assert len(made.read_bytes("/tmp/file", max_size=5000)) == 5000
        # 9 TiB: a copy of the image lies on an ext4, which has files of 16 TiB at most (docs/storage.md, drivers).
        made.exec(["dd", "of=/tmp/giant", "bs=1M", "count=0", "seek=9437184"], check=True)
        for size in ("64MiB", 0):
            with pytest.raises(ValueError, match="max_size"):
                made.read_bytes("/tmp/giant", max_size=size)
        for size in ("many", -1):
            with pytest.raises(ValueError, match="max_size"):
                made.read_bytes("/tmp/file", max_size=size)


@pytest.mark.parametrize("state", STATES)
def test_a_read_only_container_stays_as_it_is(state: str, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with container(state, rootfs, read_only=True) as made:
        for attempt in (lambda: made.write_bytes("/etc/x", b"x"), lambda: made.copy_in(tmp_path / "tree", "/etc/t")):
            with pytest.raises(pc.SetupError, match="read-only in the container") as refused:
                attempt()
            assert refused.value.errno == 30
        assert made.diff() == []


@pytest.mark.requires("layer-size")
@pytest.mark.parametrize("state", ["running", "exited"])
def test_a_full_container_is_told_and_left_intact(state: str, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in "abc":
        (tmp_path / "tree" / name).write_bytes(bytes(3 << 20))
    with container(state, rootfs, limits=Limits(disk="4MiB")) as made:
        with pytest.raises(pc.SetupError) as refused:
            made.write_bytes("/tmp/file", bytes(8 << 20))
        assert (refused.value.errno, refused.value.filename) == (28, "/tmp/file")
        with pytest.raises(pc.SetupError) as refused:
            made.copy_in(tmp_path / "tree", "/tmp/tree")
        assert refused.value.errno == 28
        assert refused.value.filename.startswith("/tmp/tree/")
        assert [line.path for line in made.diff() if line.path.startswith("/tmp/file")] == []  # nothing half done
        made.write_bytes("/tmp/small", b"x")
        assert made.read_bytes("/tmp/small") == b"x"


def test_where_this_machine_takes_nothing_the_error_names_it(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        with pytest.raises(pc.SetupError) as refused:
            made.copy_out("/bin", "/proc/none")
        assert refused.value.filename == "/proc/none"
        assert made.exec(["true"]).returncode == 0


def test_a_closed_handle_and_a_forked_copy_have_no_files(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        pid = os.fork()
        if pid == 0:
            answers = []
            for attempt in (lambda: made.read_bytes("/etc/passwd"), made.diff, lambda: made.write_bytes("/x", b"")):
                try:
                    attempt()
                except pc.StateError:
                    answers.append(True)
            os._exit(0 if answers == [True] * 3 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert made.read_bytes("/etc/passwd")
    for attempt in (
        lambda: made.read_bytes("/etc/passwd"),
        lambda: made.write_bytes("/x", b""),
        lambda: made.copy_in("/etc/passwd", "/x"),
        lambda: made.copy_out("/etc/passwd", "/x"),
        made.diff,
    ):
        with pytest.raises(pc.StateError, match="REMOVED"):
            attempt()
