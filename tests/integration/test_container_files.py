"""Container's files: read, written, copied, compared; before its start, while it runs or is stopped, after its end."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Limits, Mount
from states import SLEEP, STATES, container

pytestmark = pytest.mark.requires("userns")


@pytest.fixture(scope="module", autouse=True)
def skeleton() -> None:
    """Before the first snapshot: the engine keeps the skeleton of each kind of Image.host() that was used."""
    if os.geteuid() == 0:
        with contextlib.suppress(pc.NotSupported):  # file systems that cannot be idmapped
            pc.run(["true"], image=pc.Image.host(writable=True))


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


@pytest.mark.requires("layer-size")
@pytest.mark.parametrize("state", STATES)
def test_a_tree_comes_back_as_it_was(state: str, rootfs: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    with container(state, rootfs, limits=Limits(disk="64MiB")) as made:
        made.copy_in(source, "/tmp/new name")
        made.copy_out("/tmp/new name", tmp_path / "copy")
        assert seen(source) == seen(tmp_path / "copy")
        if os.environ.get("PYCONTAINER_STORAGE_DRIVER") != "fuse-overlayfs":  # which tells of no hole: docs/storage.md
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


@pytest.mark.parametrize(
    "options",
    [
        {"upper": "disk"},
        {"pid1": True},
        {"image": None},
        pytest.param({"image": pc.Image.host(writable=True)}, marks=pytest.mark.requires("root")),
        pytest.param({"security": pc.Security(user_namespace="host")}, marks=pytest.mark.requires("root")),
        pytest.param(
            {"security": pc.Security(user_namespace=[pc.IdMap(0, 100_000, 10), pc.IdMap(10, 200_000, 100)])},
            marks=pytest.mark.requires("root"),
        ),
        {"security": pc.Security(capabilities=())},
    ],
    ids=["disk", "pid 1", "host", "writable host", "no namespace", "own map", "no capabilities"],
)
def test_whatever_the_container_is_like(options: dict[str, Any], rootfs: Path) -> None:
    made = Container(SLEEP, **{"image": rootfs, **options})
    made.write_bytes("/tmp/before", b"before")
    with made:
        made.write_bytes("/tmp/while", b"while")
        assert made.read_bytes("/tmp/before") == b"before"
        if "pid1" not in options:
            owners = made.exec(["stat", "-c", "%u %g", "/tmp/before", "/tmp/while"], text=True).stdout
            assert owners == "0 0\n0 0\n"
        made.kill()
        made.wait(timeout=patience(10))
        made.write_bytes("/tmp/after", b"after")
        assert [line.path for line in made.diff()] == ["/tmp", "/tmp/after", "/tmp/before", "/tmp/while"]
        assert made.read_bytes("/tmp/while") == b"while"


@pytest.mark.requires("pen")
def test_a_paused_container_has_its_files(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as made:
        made.pause()
        made.write_bytes("/tmp/file", b"x")
        assert (made.state, made.read_bytes("/tmp/file")) == ("PAUSED", b"x")
        assert [line.path for line in made.diff()] == ["/tmp", "/tmp/file"]
        made.resume()
        assert made.exec(["cat", "/tmp/file"]).stdout == b"x"


@pytest.mark.requires("layer-size")
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


@pytest.mark.vm
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
