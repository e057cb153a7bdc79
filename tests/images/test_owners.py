"""Whose files an image's files are: as its layers say, for root and for a plain user with a range of ids alike.

Their owners on the disk are ids of that range, which the user is not: what he wants of such files himself (reading one
without a container, building from it, removing it) goes through a process that has them.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import house
import layouts
import pycontainer as pc
import ranges
import worlds
from layouts import Layout
from pycontainer._native import core

NODE = (1000, 1001)
EVERYBODY = ("userns", "ids")


def entry(name: str, mode: int, owner: tuple[int, int] = (0, 0), kind: bytes = tarfile.REGTYPE, **more: Any) -> Any:
    """A tar header; a file has its name as content."""
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.mtime = kind, mode, 1_000_000_000
    made.uid, made.gid = owner
    for attribute, value in more.items():
        setattr(made, attribute, value)
    return made


def home(name: str = "home/node") -> dict[str, Any]:
    return {
        name: entry(name, 0o700, NODE, tarfile.DIRTYPE),
        f"{name}/.rc": entry(f"{name}/.rc", 0o600, NODE),
        f"{name}/link": entry(f"{name}/link", 0o777, NODE, tarfile.SYMTYPE, linkname=".rc"),
        f"{name}/hard": entry(f"{name}/hard", 0o600, kind=tarfile.LNKTYPE, linkname=f"{name}/.rc"),
        f"{name}/fifo": entry(f"{name}/fifo", 0o644, (7, 8), tarfile.FIFOTYPE),
    }


def look(image: pc.Image, *names: str, form: str = "%a %u:%g") -> list[str]:
    said = pc.run(["stat", "-c", form, *names], image=image, text=True, check=True).stdout
    return said.splitlines()


def read(image: pc.Image, path: str) -> bytes:
    with image.open(path) as file:
        return bytes(file.read())


@pytest.mark.requires(*EVERYBODY)
def test_each_file_is_whose_it_is(layout: Layout, base: bytes) -> None:
    more = {
        "su": entry("su", 0o4755),
        "agent": entry("agent", 0o2755, (0, 101)),
        "both": entry("both", 0o6755, (5, 101)),
        "shared": entry("shared", 0o2775, (0, 50), tarfile.DIRTYPE),
        "far": entry("far", 0o644, (100_000, 70_000)),
    }
    layout.image("app:1", [base, layouts.tar({**home(), **more})])
    (image,) = pc.Image.load(layout.path)
    names = [*home(), *more]
    assert dict(zip(names, look(image, *[f"/{name}" for name in names]), strict=True)) == {
        "home/node": "700 1000:1001",
        "home/node/.rc": "600 1000:1001",
        "home/node/link": "777 1000:1001",
        "home/node/hard": "600 1000:1001",
        "home/node/fifo": "644 7:8",
        "su": "4755 0:0",
        "agent": "2755 0:101",
        "both": "6755 5:101",
        "shared": "2775 0:50",
        "far": "644 65534:65534",  # beyond the container's ids: nobody's
    }
    assert look(image, "/both", "/home/node", form="%Y") == ["1000000000"] * 2
    image.verify()


@pytest.mark.requires(*EVERYBODY)
def test_who_owns_a_directory_writes_there_and_nobody_else(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [base, layouts.tar(home())])
    (image,) = pc.Image.load(layout.path)
    pc.run(["sh", "-c", "echo x > /home/node/new && cat /home/node/.rc"], image=image, user="1000:1001", check=True)
    assert pc.run(["ls", "/home/node"], image=image, user="1002:1001").returncode
    assert pc.run(["sh", "-c", "echo x > /etc/new"], image=image, user="1000:1001").returncode


@pytest.mark.requires(*EVERYBODY)
def test_the_last_entry_of_a_name_says_whose_it_is(layout: Layout, base: bytes) -> None:
    """A later entry takes an earlier one's place, whatever both are."""
    twice = [
        ("a", entry("a", 0o644, NODE)), ("b", entry("b", 0o644)), ("a", entry("a", 0o644)),
        ("b", entry("b", 0o644, NODE)), ("c", entry("c", 0o644, NODE)), ("c", entry("c", 0o755, kind=tarfile.DIRTYPE)),
        ("d", entry("d", 0o755, NODE, tarfile.DIRTYPE)),
        ("d", entry("d", 0o777, (0, 3), tarfile.SYMTYPE, linkname="b")),
    ]  # fmt: skip
    parts = [layouts.tar({name: content})[: -tarfile.BLOCKSIZE * 2] for name, content in twice]
    one_by_one = b"".join(part.rstrip(b"\0").ljust(-(-len(part.rstrip(b"\0")) // 512) * 512, b"\0") for part in parts)
    layout.image("app:1", [base, one_by_one + bytes(1024)])
    (image,) = pc.Image.load(layout.path)
    assert look(image, "/a", "/b", "/c", "/d") == ["644 0:0", "644 1000:1001", "755 0:0", "777 0:3"]


@pytest.mark.requires(*EVERYBODY)
def test_another_name_keeps_the_owner_when_the_first_is_replaced(layout: Layout, base: bytes) -> None:
    entries = [
        entry("a", 0o2755, NODE), entry("hard", 0o644, kind=tarfile.LNKTYPE, linkname="a"), entry("a", 0o644, (5, 6)),
        entry("b", 0o644), entry("c", 0o644, NODE), entry("c", 0o644, kind=tarfile.LNKTYPE, linkname="b"),
    ]  # fmt: skip
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in entries:
            archive.addfile(member)
    layout.image("app:1", [base, out.getvalue()])
    (image,) = pc.Image.load(layout.path)
    assert look(image, "/a", "/hard", "/b", "/c") == ["644 5:6", "2755 1000:1001", "644 0:0", "644 0:0"]


@pytest.mark.requires(*EVERYBODY)
def test_many_owners(layout: Layout, base: bytes) -> None:
    """More than one message to whoever gives them holds, and more than are kept in memory."""
    names = [f"many/{number:05}{'x' * 40}" for number in range(3000)]
    files = {name: entry(name, 0o640, (number + 1, number + 2)) for number, name in enumerate(names)}
    layout.image("app:1", [base, layouts.tar(files)])
    (image,) = pc.Image.load(layout.path)
    script = (
        "cd /many; for name in 00000* 01500* 02999*; do stat -c '%a %u:%g' $name; done; stat -c %u * | sort -u | wc -l"
    )
    said = pc.run(["sh", "-c", script], image=image, text=True, check=True).stdout.split("\n")
    assert said[:4] == ["640 1:2", "640 1501:1502", "640 3000:3001", "3000"]


@pytest.mark.requires(*EVERYBODY)
def test_what_others_own_is_read_without_a_container_and_gone_with_its_image(layout: Layout, base: bytes) -> None:
    content = entry("home/node/secret", 0o600, NODE)
    data = layouts.tar({**home(), "home/node/deep": entry("home/node/deep", 0o700, NODE, tarfile.DIRTYPE)})
    layout.image("app:1", [base, data, layouts.tar({"home/node/secret": content, "etc/x": b"x"})])
    (image,) = pc.Image.load(layout.path)
    assert read(image, "/home/node/.rc") == b""
    assert read(image, "/home/node/link") == b""
    assert {"/home/node/.rc", "/home/node/deep", "/home/node/secret"} <= set(image.files())
    image.remove()
    layers = layout.path.parent / "store/layers"
    assert [path.name for path in layers.iterdir()] == []


@pytest.mark.requires(*EVERYBODY)
def test_directories_that_are_only_implied_keep_their_owner(layout: Layout, base: bytes) -> None:
    inner = {"home/node/a": entry("home/node/a", 0o750, NODE, tarfile.DIRTYPE), "home/node/a/low": b""}
    layout.image("app:1", [base, layouts.tar({**home(), **inner}), layouts.tar({"home/node/a/new": b"new"})])
    (image,) = pc.Image.load(layout.path)
    assert look(image, "/home/node", "/home/node/a", "/home/node/a/new") == [
        "700 1000:1001", "750 1000:1001", "755 0:0",
    ]  # fmt: skip


@pytest.mark.requires(*EVERYBODY)
def test_an_archive_s_owners(store: Path, base: bytes) -> None:
    path = store.parent / "root.tar"
    with tarfile.open(path, "w") as out, tarfile.open(fileobj=io.BytesIO(base)) as given:
        for member in given:
            out.addfile(member, given.extractfile(member) if member.isreg() else None)
        for member in home().values():
            out.addfile(member)
    image = pc.Image.from_archive(path)
    assert look(image, "/home/node", "/home/node/.rc", "/home/node/fifo") == [
        "700 1000:1001", "600 1000:1001", "644 7:8",
    ]  # fmt: skip


DOCKERFILE = """
FROM base:1 AS first
RUN mkdir -p /home/app/out && echo built > /home/app/out/file && chown -R 1000:1001 /home/app && chmod 700 /home/app
USER 1000:1001
RUN echo more > /home/app/out/more && id -u > /home/app/out/who

FROM base:1
COPY --from=first /home/app/out /copied
COPY --from=first --chown=5:6 /home/app/out/file /given
RUN stat -c '%u:%g %n' /copied /copied/* /given > /seen && cat /copied/who /copied/file
"""


@pytest.mark.requires(*EVERYBODY)
def test_a_build_keeps_owners_from_step_to_step(image: pc.Image, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    built = pc.Image.build(tmp_path, tag="built:1")
    assert read(built, "/seen").decode().splitlines() == [
        "0:0 /copied", "1000:1001 /copied/file", "1000:1001 /copied/more", "1000:1001 /copied/who", "5:6 /given",
    ]  # fmt: skip
    assert read(built, "/copied/who") == b"1000\n"
    pc.Image.prune(unused=True)


@pytest.mark.requires(*EVERYBODY)
def test_what_is_committed_and_exported_has_them(layout: Layout, base: bytes, tmp_path: Path) -> None:
    layout.image("app:1", [base, layouts.tar(home())])
    (image,) = pc.Image.load(layout.path)
    with pc.Container(["sleep", "60"], image=image) as box:
        box.exec(["sh", "-c", "echo x > /home/node/new && chown 7:8 /home/node/new"], check=True)
        again = box.commit("app:2")
        box.export(tmp_path / "root.tar")
    assert look(again, "/home/node/.rc", "/home/node/new") == ["600 1000:1001", "644 7:8"]
    with tarfile.open(tmp_path / "root.tar") as archive:
        members = [archive.getmember(name) for name in ("home/node", "home/node/new")]
    assert [(member.uid, member.gid) for member in members] == [NODE, (7, 8)]


CAPABILITY = b"\x01\0\0\x02" + b"\0\x04\0\0" + bytes(12)  # revision 2, effective: CAP_NET_BIND_SERVICE


@pytest.mark.requires(*EVERYBODY)
def test_file_capabilities(layout: Layout, base: bytes, tmp_path: Path) -> None:
    capable = entry("capable", 0o755, (0, 9))
    capable.pax_headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
    layout.image("app:1", [base, layouts.tar({"capable": capable})])
    (image,) = pc.Image.load(layout.path)
    with pc.Container(["true"], image=image) as box:
        box.wait()
        box.export(tmp_path / "root.tar")
    with tarfile.open(tmp_path / "root.tar", errors="surrogateescape") as archive:
        member = archive.getmember("capable")
    assert (member.uid, member.gid) == (0, 9)
    assert member.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY


# ---- a plain user's --------------------------------------------------------------------------------------------------


@pytest.mark.requires("user", *EVERYBODY)
def test_devices_are_left_out_and_told(layout: Layout, base: bytes, caplog: pytest.LogCaptureFixture) -> None:
    null = entry("dev/null", 0o666, kind=tarfile.CHRTYPE, devmajor=1, devminor=3)
    disk = entry("a/disk", 0o600, kind=tarfile.BLKTYPE, devmajor=8, devminor=1)
    layout.image("app:1", [base, layouts.tar({"dev/null": null, "a/disk": disk})])
    with caplog.at_level("INFO", logger="pycontainer"):
        (image,) = pc.Image.load(layout.path)
        assert pc.run(["test", "-e", "/a/disk"], image=image).returncode == 1
    (told,) = [record.getMessage() for record in caplog.records if "devices" in record.getMessage()]
    assert "c 1:3 dev/null" in told
    assert "b 8:1 a/disk" in told


@pytest.mark.leaks_by_design  # another steward, another socket to it
@pytest.mark.requires("user", *EVERYBODY)
def test_a_steward_that_is_killed_is_replaced(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [base, layouts.tar(home())])
    (image,) = pc.Image.load(layout.path)
    for pid in stewards():
        os.kill(pid, signal.SIGKILL)
    assert read(image, "/home/node/.rc") == b""
    for pid in stewards():
        os.kill(pid, signal.SIGKILL)
    image.remove()
    assert list((layout.path.parent / "store/layers").iterdir()) == []


def stewards() -> list[int]:
    """Of this process's keeper, by their name and their parent's parent."""
    keeper, _ = core().keeper_pid()
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    found = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "pycontainer-own\n"]
    assert found
    return found


@pytest.mark.requires("user", *EVERYBODY)
def test_a_steward_ends_with_its_host(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [base, layouts.tar(home())])
    code = """
import sys, time, pycontainer as pc
from pycontainer._native import core
pc.Image.load(sys.argv[1])
print(core().keeper_pid()[0], flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([*worlds.python(code), str(layout.path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    keeper = child.stdout.readline().strip()
    pids = [keeper, *Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]
    assert len(pids) > 1
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    child.stdout.close()


@pytest.mark.requires("user", *EVERYBODY)
def test_threads_share_a_steward(layout: Layout, base: bytes) -> None:
    for number in range(8):
        layout.image(f"app:{number}", [base, layouts.tar(home(f"home/{number}"))])
    pc.Image.load(layout.path)
    failed: list[BaseException] = []

    def read_often(number: int) -> None:
        try:
            for _ in range(50):
                assert read(pc.Image.get(f"app:{number}"), f"/home/{number}/.rc") == b""
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read_often, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(stewards()) == 1


# ---- ranges that come, change and go -----------------------------------------------------------------------------


LOOK = """
import json, os, sys, pycontainer as pc
image = pc.Image.load(sys.argv[1])[0] if sys.argv[2] == "load" else pc.Image.get("app:1")
names = ["/home/node", "/home/node/.rc"]
said = pc.run(["stat", "-c", "%u:%g", *names], image=image, text=True, check=True).stdout.split()
assert image.open("/home/node/.rc").read() == b""
if sys.argv[2] == "remove":
    image.remove()
print(json.dumps([said, sorted(os.listdir(os.environ["PYCONTAINER_ROOT"] + "/layers"))]))
"""


@pytest.fixture
def with_range(scratch: Path, base: bytes) -> Iterator[Callable[[str, str], Any]]:
    """What LOOK prints as a plain user whose /etc/subuid and /etc/subgid have that text; one store for all."""
    interpreter = house.python_for_user()
    assert interpreter, "requires plain-user"
    place = worlds.readable_copy(Path(tempfile.mkdtemp(dir=scratch)))
    place.chmod(0o755)
    layout = Layout(place / "layout")
    layout.image("app:1", [base, layouts.tar(home())])
    store = place / "store"
    store.mkdir()
    shutil.chown(store, house.USER)

    def look(text: str, what: str) -> Any:
        argv = [*worlds.python(LOOK, interpreter, str(place)), str(layout.path), what]
        return ranges.told(place, text, argv, PYCONTAINER_ROOT=store)

    yield look
    shutil.rmtree(place)


@pytest.mark.requires("root", "plain-user", "program:newuidmap")
def test_a_range_that_comes_and_changes(with_range: Callable[[str, str], Any]) -> None:
    """Unpacked again with the ids that there are now; without any, all is the user's, and that is read as it is."""
    theirs = ["1000:1001", "1000:1001"]
    assert with_range("", "load")[0] == ["0:0", "0:0"]
    assert with_range(f"{house.USER}:300000:65536\n", "get")[0] == theirs
    assert with_range(f"{house.USER}:300000:70000\n", "get")[0] == theirs
    assert with_range(f"{house.USER}:300000:70000\n", "remove") == [theirs, []]


@pytest.mark.requires("root", "plain-user", "program:newuidmap")
def test_a_range_without_the_owner(with_range: Callable[[str, str], Any]) -> None:
    """Neither 1000 nor nobody is among ten ids: root's."""
    assert with_range(f"{house.USER}:300000:10\n", "load")[0] == ["0:0", "0:0"]
