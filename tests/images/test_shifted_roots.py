"""Root, and a store that cannot be idmapped: an overlay over a copy of the image with the owners of one range of ids.

The store lies on an overlay, as within another container: it takes no idmapped mount and no writable layer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import layouts
from drivers import CHANGES, LOOK, TOP, UPPER, VARIABLE, member
from pace import patience, until
from programs.stores import PRELUDE, in_store, mounted, unmount

pytestmark = pytest.mark.requires("root")
nested = pytest.mark.requires("kernel>=6.8")  # whiteouts that an overlay can hold
CAPABLE = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")  # net_bind_service, as setcap writes it

TREES = """
trees = lambda: sorted(os.listdir(root + "/shifted")) if os.path.exists(root + "/shifted") else []
image = pc.Image.load(sys.argv[2])[0]
"""


@contextlib.contextmanager
def overlaid(below: Path) -> Iterator[Path]:
    """A directory `store` on an overlay whose own files lie in `below`."""
    with tempfile.TemporaryDirectory(dir=below) as place:
        for name in ("lower", "upper", "work", "point"):
            Path(place, name).mkdir()
        point = Path(place, "point")
        options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(point)], check=True)
        try:
            yield point / "store"
        finally:
            unmount(point)


@pytest.fixture
def store(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv(VARIABLE, raising=False)
    with overlaid(scratch) as place:
        yield place


@pytest.fixture
def layout(scratch: Path, base: bytes) -> Iterator[layouts.Layout]:
    """Of `three:1`, with something of everything in it, and a program with a capability."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        made = layouts.Layout(Path(place, "layout"))
        capable = member("opt/capable", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABLE})
        made.image("three:1", [base, UPPER, TOP, layouts.tar({"opt/capable": capable})])
        yield made


SEEN = f"""
image = pc.Image.load(sys.argv[2])[0]
look = lambda image: pc.run(["sh", "-c", {LOOK!r}], image=image, hostname="h", text=True, check=True).stdout
tell(look(image))
with pc.Container(["sh", "-c", {CHANGES!r}], image=image) as made:
    made.wait()
    tell([[line.kind, line.path] for line in made.diff()])
    committed = made.commit("made:1")
    made.export(sys.argv[3])
tell(look_at_all(committed))
tell(pc.run(["sh", "-c", "stat -c '%n %u %g %a' /opt/* /home"], image=committed, text=True).stdout)
"""
ALL = """
def look_at_all(image):
    script = "find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc*' | sort | xargs ls -dn"
    done = pc.run(["sh", "-c", script], image=image, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [" ".join([*line[:1], *line[2 : 4 if line[0][0] == "d" else 5], *line[8:]]) for line in lines]
"""


@nested
def test_all_is_as_on_a_store_that_can_be_idmapped(layout: layouts.Layout, store: Path, scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        told = [
            in_store(where, ALL + SEEN, where, layout.path, f"{place}/export-{number}")
            for number, where in enumerate((store, Path(place, "store")))
        ]
        assert told[0] == told[1]
        exports = [owners(Path(place, f"export-{number}")) for number in (0, 1)]
    assert exports[0] == exports[1]
    assert ["C", "/opt/a"] in told[0][1]
    assert "/opt/dir 1000 1000 750\n" in told[0][3]


def owners(path: Path) -> list[str]:
    listed = subprocess.run(["tar", "--numeric-owner", "-tvf", path], check=True, capture_output=True, text=True)
    given = ("etc/", "./", "dev/", "proc/", "sys/")
    return [line for line in listed.stdout.splitlines() if not line.split()[5].startswith(given)]


@pytest.mark.vm
@pytest.mark.parametrize("upper", ["memory", "disk"])
def test_layers_without_whiteouts(upper: str, base: bytes, scratch: Path, store: Path) -> None:
    """Before Linux 6.8 an overlay can hold no others. With `upper="disk"` the root is a copy, and is compared."""
    entries = {"opt/": None, "opt/gone/": None, "opt/a": b"a"}
    owned = {"opt/his": member("opt/his", uid=7, gid=8, mode=0o4755)}
    code = """
image = pc.Image.load(sys.argv[2])[0]
script = "cd /opt; echo b >> a; chown 9:9 /home; touch new"
with pc.Container(["sh", "-c", script], image=image, upper=sys.argv[3]) as made:
    made.wait()
    committed = made.commit("made:1")
with pc.Container(["sh", "-c", script + "; rm -r gone"], image=image, upper=sys.argv[3]) as made:
    made.wait()
    tell([[line.kind, line.path] for line in made.diff()])
tell(pc.run(["sh", "-c", "cat /opt/a; stat -c '%u %g %a' /opt/his /home"], image=committed, text=True).stdout)
"""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        layout = layouts.Layout(Path(place, "layout"))
        layout.image("two:1", [base, layouts.tar({**entries, **owned})])
        lines, seen = in_store(store, code, store, layout.path, upper)
    assert lines == [["C", "/home"], ["C", "/opt"], ["C", "/opt/a"], ["D", "/opt/gone"], ["A", "/opt/new"]]
    assert seen == "ab\n7 8 4755\n9 9 755\n"


def await_free(base: int) -> None:
    """The keeper of a process that has ended holds its ranges for a moment longer."""

    def is_free() -> bool:
        try:
            with open(f"/run/pycontainer/ids/{base:x}") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    until(is_free)


@nested
def test_one_copy_serves_all_containers_of_its_range(layout: layouts.Layout, store: Path) -> None:
    """One after another none is made any more, in another process neither; two at a time have two ranges."""
    code = f"""{TREES}
pc.run(["id"], image=image)
first = trees()
made = os.stat(f"{{root}}/shifted/{{first[0]}}/rootfs").st_ino
for _ in range(5):
    done = pc.run(["cat", "/opt/top"], image=image)
tell([done.stdout.decode(), done.enforced["upper"].state, done.enforced["upper"].by])
tell([first, trees(), made == os.stat(f"{{root}}/shifted/{{first[0]}}/rootfs").st_ino])
"""
    said, (first, then, same) = in_store(store, code, store, layout.path)
    assert said == ["top", "held", "tmpfs"]
    assert (len(first), then, same) == (1, first, True)
    await_free((store / "shifted" / first[0] / "rootfs").stat().st_uid)
    (_, (again, _, _)) = in_store(store, code, store, layout.path)
    assert again == first
    code = f"""{TREES}
with pc.Container(["sleep", "100"], image=image) as one, pc.Container(["sleep", "100"], image=image) as two:
    tell([made.exec(["stat", "-c", "%u %g", "/opt/suid"], text=True).stdout for made in (one, two)])
    tell(len(trees()))
"""
    seen, count = in_store(store, code, store, layout.path)
    assert seen == ["7 8\n", "7 8\n"]
    assert count == 2


@nested
def test_on_the_disk_it_has_the_container_s_owners(layout: layouts.Layout, store: Path) -> None:
    code = f"""{TREES}
pc.run(["id"], image=image)
opt = f"{{root}}/shifted/{{trees()[0]}}/rootfs/opt/"
facts = {{name: os.lstat(opt + name) for name in ("a", "suid", "link", "fifo", "dir")}}
tell({{name: [seen.st_uid, seen.st_gid, oct(seen.st_mode & 0o7777)] for name, seen in facts.items()}})
tell(list(os.getxattr(opt + "capable", "security.capability")))
tell(os.stat(opt + "b").st_ino == os.stat(opt + "hard").st_ino)
"""
    facts, capability, one_file = in_store(store, code, store, layout.path)
    base = facts["a"][0]
    assert base >= 0x70000000
    assert base % 65536 == 0
    assert facts["suid"] == [base + 7, base + 8, "0o4755"]
    assert facts["dir"] == [base + 1000, base + 1000, "0o750"]
    assert facts["link"][:2] == facts["fifo"][:2] == [base, base]
    assert struct.unpack("<6I", bytes(capability))[5] == base, "a capability for the container's root alone"
    assert one_file


@nested
def test_it_goes_when_nobody_stands_on_it(layout: layouts.Layout, store: Path) -> None:
    code = f"""{TREES}
with pc.Container(["sleep", "100"], image=image) as made:
    pc.Image.prune()
    tell([len(trees()), made.exec(["cat", "/opt/top"], text=True).stdout])
    image.remove()
    tell([len(trees()), made.exec(["cat", "/opt/top"], text=True).stdout])
pc.Image.prune()
tell([trees(), os.listdir(root + "/layers")])
"""
    assert in_store(store, code, store, layout.path) == [[1, "top"], [1, "top"], [[], []]]


@nested
def test_an_archive_is_shifted_and_a_layer_on_the_disk_is_a_copy(
    layout: layouts.Layout, store: Path, base: bytes, scratch: Path
) -> None:
    """An overlay takes no writable layer of another one: then the container has all of its image to itself."""
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar") as archive:
        archive.write(base)
        archive.flush()
        code = f"""{TREES}
archive = pc.Image.from_archive({archive.name!r})
tell(pc.run(["stat", "-c", "%u %g", "/bin"], image=archive, text=True).stdout)
tell(len(trees()))
tell([pc.run(["id"], image=one, upper="disk").enforced["upper"].by for one in (image, archive)])
tell([len(trees()), os.listdir(root + "/uppers")])
"""
        owner, count, upper, left = in_store(store, code, store, layout.path)
    assert (owner, count) == ("0 0\n", 1)
    assert upper == ["a copy of the image in the store"] * 2
    assert left == [1, []]


@nested
def test_a_map_of_the_caller_s_and_the_driver_by_name(
    layout: layouts.Layout, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "overlay")
    code = f"""{TREES}
security = pc.Security(user_namespace=pc.IdMap(0, 500000, 2000))
for _ in range(2):
    tell(pc.run(["stat", "-c", "%u %g", "/opt/suid", "/opt/dir"], image=image, security=security, text=True).stdout)
tell([os.stat(f"{{root}}/shifted/{{one}}/rootfs/opt/suid").st_uid for one in trees()])
"""
    assert in_store(store, code, store, layout.path) == ["7 8\n1000 1000\n"] * 2 + [[500007]]


@nested
@pytest.mark.parametrize("driver", ["", "overlay"])
def test_doctor_tells_it(driver: str, layout: layouts.Layout, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, driver)
    code = f"""{TREES}
def used():
    row = pc.doctor().to_dict()["storage"]
    return row, int(row["by"].rpartition(" bytes of images")[0].rpartition(" ")[2])
row, before = used()
pc.run(["id"], image=image)
tell([row, used()[1] - before, os.stat(f"{{root}}/shifted/{{trees()[0]}}/rootfs/bin/busybox").st_size])
"""
    ((row, more, program),) = in_store(store, code, store, layout.path)
    assert program <= more < 2 * program, "of an image that is hardly more than one program"
    assert row["state"] == "degraded"
    assert row["by"].startswith("overlay on overlay, ")
    assert "copied once for each range of ids" in row["why"]
    assert "cannot be idmapped" in row["why"]


@nested
def test_a_host_that_is_killed_leaves_no_half(layout: layouts.Layout, store: Path, base: bytes) -> None:
    layout.image("many:1", [base, layouts.tar({f"many/{n}": b"" for n in range(6000)})])
    load = f"{TREES}\npc.Image.load(sys.argv[2])"
    in_store(store, load, store, layout.path)
    words = [sys.executable, "-c", f"{PRELUDE}\npc.run(['true'], image=pc.Image.get('many:1'))", str(store)]
    with subprocess.Popen(words, env={**os.environ, "PYCONTAINER_ROOT": str(store)}) as child:
        until(lambda: list(store.glob("shifted/*.tmp/rootfs/many")), patience(20))
        child.send_signal(signal.SIGKILL)
    assert list(store.glob("shifted/*/complete")) == []
    code = f"""{TREES}
tell(pc.run(["sh", "-c", "ls /many | wc -l"], image=pc.Image.get("many:1"), text=True).stdout)
tell([one for one in trees() if one.endswith(".tmp")])
"""
    assert in_store(store, code, store, layout.path) == ["6000\n", []]


@nested
@pytest.mark.requires("loop", "program:mkfs.ext4")
def test_no_room_for_it(base: bytes, layout: layouts.Layout, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    layout.image("big:1", [base, layouts.tar({"big": os.urandom(40 << 20)})])
    code = """
image = {one.reference: one for one in pc.Image.load(sys.argv[2])}["docker.io/library/big:1"]
try:
    with pc.Container(["sleep", "100"], image=image), pc.Container(["sleep", "100"], image=image):
        tell("both run")
except pc.NoSpaceError as error:
    tell(str(error))
tell(len(os.listdir(root + "/shifted")))
tell(pc.run(["echo", "once more"], image=image).stdout.decode())
"""
    with mounted("ext4", 150, scratch) as below, overlaid(below) as store:
        said, left, after = in_store(store, code, store, layout.path)
    assert str(store) in said
    assert (left, after) == (1, "once more\n")


@nested
def test_whiteouts_are_files_that_the_kernel_reads(layout: layouts.Layout, store: Path) -> None:
    """No device 0:0 can be made on an overlay. With this machine's ids the layers lie below as they are."""
    code = f"""{TREES}
security = pc.Security(user_namespace="host")
script = "ls /bin/true; cat /opt/old/*; ls /opt/old; ls /bin | grep -c true"
done = pc.run(["sh", "-c", script], image=image, security=security, text=True)
tell([done.stdout, done.stderr, len(trees())])
tell([list(image.open("/opt/old/new").read()), "/bin/true" in set(image.files())])
"""
    said, seen = in_store(store, code, store, layout.path)
    assert said == ["new" + "new\n" + "0\n", "ls: /bin/true: No such file or directory\n", 0]
    assert seen == [list(b"new"), False]
    (marked,) = [path for path in store.glob("layers/*/rootfs/bin/true") if path.stat().st_size == 0]
    assert stat.S_ISREG(marked.stat().st_mode)
    assert os.getxattr(marked, "trusted.overlay.whiteout") == b"y"
    assert os.getxattr(marked.parent, "trusted.overlay.opaque") == b"x"


@nested
@pytest.mark.parametrize("driver", ["", "vfs"])
def test_an_image_that_is_mounted(
    driver: str, layout: layouts.Layout, store: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is such a copy, of the container's range, whatever the container's own root is."""
    monkeypatch.setenv(VARIABLE, driver)
    script = "cd /m; cat opt/top opt/old/*; stat -c '%u %g %a' opt/suid opt/dir; ls bin/true; : > new"
    code = f"""{TREES}
for _ in range(2):
    for own in (pc.Image.host(), pc.Image.from_directory(sys.argv[3]), image):
        done = pc.run(["sh", "-c", {script!r}], image=own, mounts=[pc.Mount.image(image, "/m")], text=True)
        tell([done.stdout, done.stderr.count("Read-only"), len(trees())])
"""
    said = in_store(store, code, store, layout.path, str(rootfs))
    assert said == [["topnew7 8 4755\n1000 1000 750\n", 1, 1]] * 6
