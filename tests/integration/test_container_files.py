"""Container's files: read, written, copied, compared; before its start, while it runs or is stopped, after its end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Limits, Mount

pytestmark = [pytest.mark.vm, pytest.mark.requires("userns")]
SLEEP = ["sleep", "100"]
STATES = ["created", "running", "stopped", "exited"]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def container(state: str, image: Path | None, **options: Any) -> Iterator[Container]:
    """One in that state; "stopped": neither its command nor its PID 1 does anything."""
    made = Container(["true"] if state == "exited" else SLEEP, image=image, **options)
    try:
        if state != "created":
            made.start()
        if state == "exited":
            made.wait(timeout=patience(10))
        stopped = [made.pid, parent(made.pid)] if state == "stopped" else []
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield made
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    finally:
        made.close()


def tree(top: Path) -> Path:
    """Files, directories, links, modes, times, a hole and names that a shell would take for something else."""
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_bytes(os.urandom(300_000))
    (top / "a/empty").touch()
    for name in ("*", "?[]", "new\nline", "-rf", " ", "\udcff"):
        (top / name).write_text(name, errors="surrogateescape")
    (top / "a/link").symlink_to("b/file")
    (top / "a/out").symlink_to("/etc/passwd")
    (top / "a/nowhere").symlink_to("../../../../nowhere")
    with (top / "hole").open("wb") as file:
        file.seek(40 << 20)
        file.write(b"end")
    (top / "a/b/file").chmod(0o640)
    (top / "a/b").chmod(0o500)
    for path, seconds in ((top / "a/b/file", 1), (top / "a/b", 123456789), (top, 10**9)):
        os.utime(path, ns=(7, seconds * 10**9 + 42))
    return top


def seen(top: Path) -> dict[str, Any]:
    """All that a copy keeps, by path."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        what = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[os.fspath(path.relative_to(top))] = (what.st_mode, what.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("state", STATES)
def test_bytes_go_in_and_come_back(state: str, rootfs: Path) -> None:
    data = os.urandom(1_000_000)
    with container(state, rootfs) as made:
        made.write_bytes("/tmp/file", data, mode=0o750)
        assert made.read_bytes("/tmp/file") == data
        made.write_bytes(b"/tmp/file", b"")
        assert made.read_bytes(Path("/tmp/file")) == b""
        assert made.read_bytes("/etc/passwd") == (rootfs / "etc/passwd").read_bytes()
        assert [(line.kind, line.path) for line in made.diff()] == [("C", "/tmp"), ("A", "/tmp/file")]
        assert made.state == {"stopped": "RUNNING"}.get(state, state.upper())


@pytest.mark.parametrize("state", STATES)
def test_a_tree_comes_back_as_it_was(state: str, rootfs: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    with container(state, rootfs, limits=Limits(disk="64MiB")) as made:
        made.copy_in(source, "/tmp/new name")
        made.copy_out("/tmp/new name", tmp_path / "copy")
        assert seen(source) == seen(tmp_path / "copy")
        assert (tmp_path / "copy/hole").stat().st_blocks <= (source / "hole").stat().st_blocks + 64
        # One file, one link: the same.
        made.copy_out("/tmp/new name/a/b/file", tmp_path / "one")
        made.copy_out("/tmp/new name/a/link", tmp_path / "link")
        assert (tmp_path / "one").read_bytes() == (source / "a/b/file").read_bytes()
        assert os.readlink(tmp_path / "link") == "b/file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "link", "one", "source"]


def test_before_the_start_is_before_the_command(rootfs: Path) -> None:
    made = Container(["cat", "/tmp/file"], image=rootfs)
    made.write_bytes("/tmp/file", b"there")
    assert made.state == "CREATED"
    with made:
        assert (made.wait(timeout=patience(10)), made.logs()) == (0, b"there")
    missing = Container(["nothing"], image=rootfs)
    missing.write_bytes("/tmp/file", b"there")
    with pytest.raises(pc.CommandNotFound):
        missing.start()
    missing.close()
    never = Container(SLEEP, image=rootfs)
    never.write_bytes("/tmp/file", b"there")
    never.close()
    assert never.state == "REMOVED"


def test_what_comes_in_is_the_container_root_s(rootfs: Path, tmp_path: Path) -> None:
    tree(tmp_path / "source")
    with Container(SLEEP, image=rootfs, user=1000, limits=Limits(disk="64MiB")) as made:
        made.copy_in(tmp_path / "source", "/tmp/copy")
        made.write_bytes("/tmp/file", b"x", mode=0o604)
        done = made.exec(["sh", "-c", "stat -c '%u %g %a' /tmp/file /tmp/copy/a/empty; id -u"], text=True)
        umask = (tmp_path / "source/a/empty").stat().st_mode & 0o777
        assert done.stdout.split("\n") == ["0 0 604", f"0 0 {umask:o}", "1000", ""]
        made.copy_out("/tmp/file", tmp_path / "out")
        assert ((tmp_path / "out").stat().st_uid, (tmp_path / "out").stat().st_gid) == (os.geteuid(), os.getegid())


def test_a_process_inside_sees_what_was_written_and_the_other_way(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        made.write_bytes("/tmp/script", b"#!/bin/sh\necho from inside > /tmp/answer", mode=0o755)
        made.exec(["/tmp/script"], check=True)
        assert made.read_bytes("/tmp/answer") == b"from inside\n"


def test_mounts_of_the_container_are_seen_while_it_lives(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    os.chown(tmp_path / "bound", *(2 * [1234] if os.geteuid() == 0 else [os.geteuid(), os.getegid()]))
    mounts = [Mount.bind(tmp_path / "bound", "/mnt/bound"), Mount.bind(rootfs / "etc", "/mnt/fixed", read_only=True)]
    with Container(SLEEP, image=rootfs, mounts=mounts) as made:
        made.write_bytes("/mnt/bound/file", b"through the mount")
        assert (tmp_path / "bound/file").read_bytes() == b"through the mount"
        assert (tmp_path / "bound/file").stat().st_uid == (tmp_path / "bound").stat().st_uid
        with pytest.raises(pc.SetupError) as refused:
            made.write_bytes("/mnt/fixed/file", b"x")
        assert (refused.value.errno, refused.value.filename) == (30, "/mnt/fixed/file")
        assert made.diff() == []


@pytest.mark.parametrize("where", ["layer", "bind"])
def test_set_id_bits_are_kept_in_the_container_s_own_layer_alone(where: str, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    os.chown(tmp_path / "bound", *(2 * [1234] if os.geteuid() == 0 else [os.geteuid(), os.getegid()]))
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o6755)
    target = "/mnt/bound/file" if where == "bind" else "/tmp/file"
    with Container(SLEEP, image=rootfs, mounts=[Mount.bind(tmp_path / "bound", "/mnt/bound")]) as made:
        made.copy_in(tmp_path / "file", target)
        mode = made.exec(["stat", "-c", "%a", target], text=True).stdout.strip()
        assert mode == ("755" if where == "bind" else "6755")
        made.copy_out(target, tmp_path / "copy")
        assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o755


@pytest.mark.requires("kernel>=6.6")
def test_attributes_of_the_user_s_are_kept_and_a_layer_s_are_not(rootfs: Path, tmp_path: Path) -> None:
    """Of a tmpfs from Linux 6.6 on."""
    (tmp_path / "tree").mkdir()
    for path in (tmp_path / "tree", tmp_path / "tree/file"):
        path.touch()
        try:
            os.setxattr(path, "user.note", b"\0value")
            os.setxattr(path, "user.overlay.opaque", b"y")
        except OSError:
            pytest.fail("the file system of temporary files has no user.* attributes")
    with Container(SLEEP, image=rootfs) as made:
        made.copy_in(tmp_path / "tree", "/tmp/tree")
        made.copy_out("/tmp/tree", tmp_path / "copy")
    for path in (tmp_path / "copy", tmp_path / "copy/file"):
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == {"user.note": b"\0value"}


# ---- merging, replacing --------------------------------------------------------------------------------------------


def test_trees_merge_as_with_copytree(rootfs: Path, tmp_path: Path) -> None:
    for path, text in (("one/a", "1"), ("one/d/x", "1"), ("two/a", "2"), ("two/d/y", "2"), ("two/link/z", "2")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    with Container(SLEEP, image=rootfs) as made:
        made.copy_in(tmp_path / "one", "/tmp/t")
        made.copy_in(tmp_path / "two", "/tmp/t")
        made.copy_out("/tmp/t", tmp_path / "merged")
        made.copy_out("/tmp/t", tmp_path / "one")
        for name in ("merged", "one"):
            found = {path: (tmp_path / name / path).read_text() for path in ("a", "d/x", "d/y", "link/z")}
            assert found == {"a": "2", "d/x": "1", "d/y": "2", "link/z": "2"}
        # A link to a directory is entered at the top, in the container, and nowhere else.
        made.exec(["ln", "-s", "t", "/tmp/alias"], check=True)
        made.copy_in(tmp_path / "one", "/tmp/alias")
        assert made.read_bytes("/tmp/t/a") == b"2"
        made.exec(["sh", "-c", "rm -r /tmp/t/link; ln -s /etc /tmp/t/link"], check=True)
        with pytest.raises(pc.SetupError) as refused:
            made.copy_in(tmp_path / "two", "/tmp/t")
        assert (refused.value.errno, refused.value.filename) == (20, "/tmp/t/link")


def test_a_name_is_the_new_name_and_never_a_directory_to_copy_into(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "tree").mkdir()
    with Container(SLEEP, image=rootfs) as made:
        for attempt, errno in (
            (lambda: made.copy_in(tmp_path / "file", "/tmp"), 21),
            (lambda: made.copy_in(tmp_path / "file", "/tmp/"), 21),
            (lambda: made.copy_in(tmp_path / "tree", "/etc/passwd"), 20),
            (lambda: made.copy_in(tmp_path / "file", "/none/file"), 2),
            (lambda: made.write_bytes("/etc/passwd/file", b""), 20),
            (lambda: made.copy_out("/etc/passwd", tmp_path / "tree"), 21),
            (lambda: made.copy_out("/etc/passwd", tmp_path / "none/file"), 2),
            (lambda: made.copy_out("/none", tmp_path / "new"), 2),
            (lambda: made.copy_in(tmp_path / "none", "/tmp/new"), 2),
        ):
            with pytest.raises(pc.SetupError) as refused:
                attempt()
            assert refused.value.errno == errno, str(refused.value)
        assert made.diff() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tree"]


def test_a_link_is_copied_and_with_a_slash_what_it_leads_to(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")
    (tmp_path / "link").symlink_to("tree")
    with Container(SLEEP, image=rootfs) as made:
        made.copy_in(tmp_path / "link", "/tmp/link")
        made.copy_in(f"{tmp_path}/link/", "/tmp/tree")
        assert made.exec(["readlink", "/tmp/link"], text=True).stdout == "tree\n"
        made.copy_out("/tmp/link/", tmp_path / "again")
        made.copy_out("/tmp/link/.", tmp_path / "and again")
        made.copy_out("/tmp/link/../link", tmp_path / "a link")
    assert (tmp_path / "again/file").read_text() == (tmp_path / "and again/file").read_text() == "x"
    assert os.readlink(tmp_path / "a link") == "tree"


def test_a_file_is_replaced_in_one_step_and_a_link_with_it(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        made.exec(["sh", "-c", "echo kept > /tmp/kept; ln -s kept /tmp/name; ln /tmp/kept /tmp/same"], check=True)
        made.write_bytes("/tmp/name", b"new")
        made.write_bytes("/tmp/same", b"new")
        assert [made.read_bytes(f"/tmp/{name}") for name in ("kept", "name", "same")] == [b"kept\n", b"new", b"new"]
        reader = made.popen(["sh", "-c", "while :; do wc -c < /tmp/whole; done"], stdout=pc.PIPE)
        for length in [1_000_000, 10] * 10:
            made.write_bytes("/tmp/whole", bytes(length))
        reader.kill()
        sizes = set(reader.stdout.read().split())
        assert sizes <= {b"1000000", b"10"}, sizes


# ---- refusals ------------------------------------------------------------------------------------------------------


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
        made.exec(["dd", "of=/tmp/giant", "bs=1M", "count=0", "seek=100000000"], check=True)
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


# ---- agents --------------------------------------------------------------------------------------------------------


def agents() -> list[str]:
    """Processes that serve files, and what is left of them."""
    done = subprocess.run(["ps", "-e", "-o", "stat=,comm="], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "pycontainer-fs" in line]


def test_nothing_of_an_errand_stays(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        for _ in range(20):
            made.read_bytes("/etc/passwd")
            with pytest.raises(pc.SetupError):
                made.read_bytes("/none")
        deadline = time.monotonic() + patience(5)
        while agents() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert agents() == []


def test_many_threads_have_an_agent_each(rootfs: Path) -> None:
    wrong: list[BaseException] = []
    with Container(SLEEP, image=rootfs) as made:

        def errands(number: int) -> None:
            try:
                for turn in range(10):
                    data = os.urandom(10_000)
                    made.write_bytes(f"/tmp/{number}-{turn}", data)
                    assert made.read_bytes(f"/tmp/{number}-{turn}") == data
                made.diff()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=errands, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(made.diff()) == 161


def copy_again_and_again(made: Container, target: Path) -> None:
    while True:
        made.copy_out("/tmp/big", target)


def test_a_signal_ends_an_errand_and_its_agent(rootfs: Path, tmp_path: Path) -> None:
    """Where nobody takes what the agent sends it waits, and goes with the caller."""

    class Enough(Exception):
        pass

    def stop(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with Container(SLEEP, image=rootfs) as made:
            made.exec(["dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=200"], check=True)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Enough):
                copy_again_and_again(made, tmp_path / "big")
            deadline = time.monotonic() + patience(5)
            while agents() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert agents() == []
            assert made.read_bytes("/etc/passwd")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- what has changed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "exited"])
def test_diff_is_docker_s(state: str, fresh_rootfs: Path) -> None:
    for path in (
        "usr/kept/a",
        "usr/gone/b",
        "usr/replaced/old",
        "usr/replaced/same",
        "etc/file",
        "etc/mode",
        "usr/d/x",
    ):
        (fresh_rootfs / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh_rootfs / path).write_text("text")
    script = """
    echo more >> /etc/file; chmod 600 /etc/mode; mkdir /new; echo x > /new/x; ln -s x /new/link
    rm -r /usr/gone; rm /usr/kept/a; touch /usr/kept/temporary; rm /usr/kept/temporary
    rm -r /usr/replaced; mkdir /usr/replaced; echo x > /usr/replaced/same; echo x > /usr/replaced/new
    rm -r /usr/d; echo file > /usr/d; chmod 700 /home; cat /bin/ls > /dev/null; touch /done
    """
    with Container(["sh", "-c", script + ("" if state == "exited" else "sleep 100")], image=fresh_rootfs) as made:
        deadline = time.monotonic() + patience(10)
        while "/done" not in [line.path for line in made.diff()]:
            assert time.monotonic() < deadline
        if state == "exited":
            made.wait(timeout=patience(10))
        lines = [f"{line.kind} {line.path}" for line in made.diff()]
    assert lines == [
        "A /done",
        "C /etc",
        "C /etc/file",
        "C /etc/mode",
        "C /home",
        "A /new",
        "A /new/link",
        "A /new/x",
        "C /usr",
        "C /usr/d",
        "D /usr/gone",
        "C /usr/kept",
        "D /usr/kept/a",
        "C /usr/replaced",
        "A /usr/replaced/new",
        "D /usr/replaced/old",
        "C /usr/replaced/same",
    ]


@pytest.mark.parametrize("upper", ["memory", "disk"])
@pytest.mark.parametrize("image", ["directory", "host"])
def test_what_the_engine_makes_does_not_show(image: str, upper: Any, rootfs: Path, tmp_path: Path) -> None:
    mounts = [Mount.tmpfs("/srv/deep/er"), Mount.bind(tmp_path, "/mnt/x", read_only=True), Mount.tmpfs("/home")]
    options = {"image": rootfs if image == "directory" else None, "mounts": mounts, "upper": upper}
    with Container(SLEEP, **options) as made:
        assert made.diff() == []
        made.write_bytes("/srv/deep/er/hidden", b"x")
        assert made.diff() == []
        made.write_bytes("/srv/deep/shown", b"x")
        assert [(line.kind, line.path) for line in made.diff()] == [
            ("C", "/srv"),
            ("C", "/srv/deep"),
            ("A", "/srv/deep/shown"),
        ]


def test_an_attribute_of_the_container_s_own_does_not_change_the_diff(rootfs: Path) -> None:
    """Where an overlay keeps its notes in trusted.*, those in user.* are anybody's."""
    with Container(["python3", "-c", "import os; os.mkdir('/tmp/x'); os.chmod('/srv', 0o700)"]) as made:
        made.wait(timeout=patience(20))
        assert ("A", "/tmp/x") in [(line.kind, line.path) for line in made.diff()]
        assert [line for line in made.diff() if line.kind == "D"] == []
