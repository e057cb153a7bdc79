"""Storage drivers: the same containers on each, how one is picked, and what is left of copies."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import layouts
import pycontainer as pc
import worlds
from pace import patience, repetitions
from programs.stores import in_store, mounted

VARIABLE = "PYCONTAINER_STORAGE_DRIVER"
DRIVERS = ["overlay", "vfs"]
IS_ROOT = os.geteuid() == 0


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info


UPPER = layouts.tar({
    "bin/.wh.true": b"",  # of the layer below
    "opt/": None, "opt/a": b"a", "opt/b": b"b", "opt/gone/": None, "opt/gone/x": b"x",
    "opt/old/": None, "opt/old/x": b"x", "opt/link": "a",
    "opt/hard": member("opt/hard", tarfile.LNKTYPE, linkname="opt/b"),
    "opt/suid": member("opt/suid", mode=0o4755, uid=7, gid=8),
    "opt/dir": member("opt/dir", tarfile.DIRTYPE, mode=0o750, uid=1000, gid=1000),
    "opt/attributes": member("opt/attributes", pax_headers={"SCHILY.xattr.user.x": "value"}),
    "opt/fifo": member("opt/fifo", tarfile.FIFOTYPE, mode=0o600),
})  # fmt: skip
TOP = layouts.tar({"opt/top": b"top", "opt/old/": None, "opt/old/.wh..wh..opq": b"", "opt/old/new": b"new"})


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def three(layout: layouts.Layout, base: bytes) -> pc.Image:
    """An image of three layers, with something of everything in it."""
    layout.image("three:1", [base, UPPER, TOP])
    return pc.Image.load(layout.path)[0]


@pytest.fixture
def leaves_no_copy(store: Path) -> Iterator[None]:
    yield
    assert uppers(store) == []


def uppers(store: Path) -> list[str]:
    return os.listdir(store / "uppers") if (store / "uppers").exists() else []


LOOK = """cd /opt; ls -lnR . | grep -v ^total; cat a b top old/new link; test -e /bin/true && echo WRONG
test b -ef hard && echo same; id -u; cat /etc/hostname"""


def look(image: pc.Image) -> str:
    done = pc.run(["sh", "-c", LOOK], image=image, hostname="h", text=True, check=True, degrade=["disk"])
    assert isinstance(done.stdout, str)
    return done.stdout


@pytest.mark.usefixtures("leaves_no_copy")
def test_a_container_sees_the_same_on_every_driver(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for driver in DRIVERS:
        monkeypatch.setenv(VARIABLE, driver)
        seen[driver] = look(three)
    assert seen["vfs"] == seen["overlay"]
    lines = seen["vfs"].splitlines()
    assert lines[-3:] == ["abtopnewasame", "0", "h"]
    if IS_ROOT:
        assert any(line.startswith("-rwsr-xr-x") and line.split()[2:4] == ["7", "8"] for line in lines)


CHANGES = """cd /opt; echo more >> a; chmod 600 attributes; mkdir /d; echo y > /d/f; ln attributes c; mv top moved
rm -r gone old; mkdir old; echo o > old/o; rm link; ln -s b link; mkdir dir/in; rm -f suid; : > empty
find / -xdev -newer /bin/busybox -exec touch -h -d @1700000000 {} + 2> /dev/null; """


@pytest.mark.usefixtures("leaves_no_copy")
def test_what_changed_is_told_alike_and_committed_alike(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    told, trees, exported = {}, {}, {}
    for driver in DRIVERS:
        monkeypatch.setenv(VARIABLE, driver)
        with pc.Container(["sh", "-c", CHANGES], image=three) as made:
            made.wait(timeout=patience(20))
            told[driver] = [(line.kind, line.path) for line in made.diff()]
            committed = made.commit(f"made:{driver}")
            made.export(out := three_path(driver))
        exported[driver] = entries(out)
        trees[driver] = [look_at_all(committed), layer_of(committed)]
        out.unlink()
    assert told["vfs"] == told["overlay"]
    assert ("C", "/opt/a") in told["vfs"]
    assert ("D", "/opt/gone") in told["vfs"]
    assert exported["vfs"] == exported["overlay"]
    assert trees["vfs"][0] == trees["overlay"][0]
    # A directory in place of another one is opaque to an overlay; a copy names what is gone from it (docs/storage.md).
    opaque, named = {"opt/old/.wh..wh..opq"}, {"opt/old/.wh.new"}
    assert set(trees["overlay"][1]) - set(trees["vfs"][1]) == opaque
    assert set(trees["vfs"][1]) - set(trees["overlay"][1]) == named
    for name in set(trees["vfs"][1]) - named:
        assert trees["vfs"][1][name] == trees["overlay"][1][name], name


def three_path(driver: str) -> Path:
    return Path(tempfile.mkdtemp(prefix="export-", dir=os.environ["PYCONTAINER_ROOT"] + "/..")) / driver


def entries(path: Path) -> dict[str, tuple[object, ...]]:
    """Of a tar, but for what each container is given anew."""
    given = {"etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "proc", "sys", "dev", "."}
    with tarfile.open(path) as tar:
        return {
            one.name: (one.type, one.mode, one.uid, one.gid, one.size, one.linkname, one.mtime)
            for one in tar
            if one.name not in given
        }


def layer_of(image: pc.Image) -> dict[str, tuple[object, ...]]:
    where = Path(tempfile.mkdtemp(dir=os.environ["PYCONTAINER_ROOT"] + "/.."))
    image.save(where / "saved.tar", format="docker")
    with tarfile.open(where / "saved.tar") as saved:
        (manifest,) = json.load(content(saved, "manifest.json"))
        (where / "layer").write_bytes(content(saved, manifest["Layers"][-1]).read())
    found = entries(where / "layer")
    shutil.rmtree(where)
    return found


def content(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    assert file is not None
    return file


def look_at_all(image: pc.Image) -> str:
    script = "find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc*' | sort | xargs ls -dn"
    done = pc.run(["sh", "-c", script], image=image, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    # Without what file systems count in ways of their own: names of directories, and how large those are.
    return "\n".join(" ".join([*line[:1], *line[2 : 4 if line[0][0] == "d" else 5], *line[8:]]) for line in lines)


@pytest.mark.usefixtures("leaves_no_copy")
def test_containers_of_one_image_see_nothing_of_each_other(driver: str, three: pc.Image, store: Path) -> None:
    before = sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in store.glob("layers/*/**/*"))
    with (
        pc.Container(["sleep", "100"], image=three) as one,
        pc.Container(["sleep", "100"], image=three) as other,
    ):
        one.write_bytes("/opt/a", b"changed")
        one.exec(["sh", "-c", "rm -r /opt/gone; echo >> /opt/b"], check=True)
        assert other.read_bytes("/opt/a") == b"a"
        assert other.exec(["cat", "/opt/hard", "/opt/gone/x"], text=True).stdout == "bx"
        assert [line.path for line in other.diff()] == []
        assert len(uppers(store)) == (2 if driver == "vfs" else 0)
        assert all((store / "uppers" / name).stat().st_mode & 0o777 == 0o700 for name in uppers(store))
    after = sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in store.glob("layers/*/**/*"))
    assert after == before


def test_a_run_says_that_its_root_is_a_copy(driver: str, three: pc.Image) -> None:
    rows = pc.run(["id"], image=three).enforced
    kept = pc.run(["id"], image=three, upper="disk").enforced
    assert (rows["root"].state, kept["upper"].state) == ("held", "held")
    if driver == "vfs":
        assert (rows["upper"].state, rows["upper"].by) == ("degraded", "a copy of the image in the store")
    else:
        assert rows["upper"].state == "held" or rows["upper"].fix == "Linux 6.6"


def test_a_directory_is_copied_too(driver: str, fresh_rootfs: Path) -> None:
    image = pc.Image.from_directory(fresh_rootfs)
    with pc.Container(["sh", "-c", "echo x > /x; rm /bin/ls"], image=image) as made:
        made.wait(timeout=patience(10))
        assert [(line.kind, line.path) for line in made.diff()] == [("C", "/bin"), ("D", "/bin/ls"), ("A", "/x")]
    assert (fresh_rootfs / "bin/ls").is_symlink() or (fresh_rootfs / "bin/ls").exists()
    assert not (fresh_rootfs / "x").exists()


def test_a_file_of_two_names_stays_one(driver: str, three: pc.Image) -> None:
    """An overlay makes two of it when it is written; a copy has it as every other file system (docs/storage.md)."""
    done = pc.run(["sh", "-c", "cd /opt; echo x > b; cat hard"], image=three, text=True)
    assert done.stdout == ("b" if driver == "overlay" else "x\n")


# ---- which one ---------------------------------------------------------------------------------------------------


def test_an_unknown_driver_is_named_with_the_variable(image: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "devicemapper")
    with pytest.raises(ValueError, match=f"^{VARIABLE}: .devicemapper. is none of overlay, "):
        pc.run(["true"], image=image)
    row = pc.doctor()["storage"]
    assert (row.state, row.fix) == ("missing", f"unset {VARIABLE}")


def test_an_empty_variable_says_nothing(image: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert pc.run(["true"], image=image).returncode == 0


def test_doctor_tells_where_images_are_and_how_they_are_shown(driver: str, three: pc.Image, store: Path) -> None:
    look(three)
    row = pc.doctor()["storage"]
    assert str(store) in row.by
    assert row.by.startswith(f"{driver} on ")
    assert row.state == ("held" if driver == "overlay" else "degraded")
    used = int(row.by.split()[-4])
    assert used > 1000


@pytest.mark.requires("seams")
def test_without_an_overlay_images_are_copied(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    code = """
import os
import random
image = pc.Image.get("three:1")
done = pc.run(["cat", "/opt/top"], image=image)
tell([done.stdout.decode(), done.enforced["upper"].by])
tell(pc.doctor().to_dict()["storage"])
"""
    monkeypatch.setenv("PYCONTAINER_SEAM", "overlay")
    store = Path(os.environ["PYCONTAINER_ROOT"])
    said, row = in_store(store, code, store)
    assert said == ["top", "a copy of the image in the store"]
    assert row["state"] == "degraded"
    assert "this kernel has no overlay file system" in row["why"]


@pytest.mark.requires("root", "ptrace")
def test_the_kernels_own_word_on_overlay(three: pc.Image, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only fsopen of the host itself asks for an overlay: ENODEV, and the image is copied."""
    monkeypatch.delenv(VARIABLE, raising=False)
    code = "print(pc.run(['cat', '/opt/top'], image=pc.Image.get('three:1')).enforced['upper'].by)"
    inject = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsopen:error=ENODEV:when=1"]
    words = [*inject, *worlds.python(f"import pycontainer as pc\n{code}")]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=patience(60))
    assert done.stdout == "a copy of the image in the store\n"


@pytest.mark.requires("root")
def test_a_store_that_cannot_be_idmapped(
    layout: layouts.Layout, base: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overlay, which takes no whiteouts: layers are copied with the owners of the container, and compared."""
    monkeypatch.delenv(VARIABLE, raising=False)
    entries = {"opt/": None, "opt/gone/": None, "opt/a": b"a"}
    owned = {"opt/his": member("opt/his", uid=7, gid=8, mode=0o4755)}
    layout.image("two:1", [base, layouts.tar({**entries, **owned})])
    code = """
image = pc.Image.load(sys.argv[2])[0]
script = "cd /opt; echo b >> a; chown 9:9 /home; touch new"
with pc.Container(["sh", "-c", script], image=image) as made:
    made.wait()
    committed = made.commit("made:1")
with pc.Container(["sh", "-c", script + "; rm -r gone"], image=image) as made:
    made.wait()
    tell([[line.kind, line.path] for line in made.diff()])
tell(pc.run(["sh", "-c", "cat /opt/a; stat -c '%u %g %a' /opt/his /home"], image=committed, text=True).stdout)
tell(pc.doctor().to_dict()["storage"])
"""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        for name in ("lower", "upper", "work", "point"):
            Path(place, name).mkdir()
        options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"{place}/point"], check=True)
        try:
            lines, seen, row = in_store(Path(place, "point/store"), code, f"{place}/point/store", layout.path)
        finally:
            subprocess.run(["umount", "-l", f"{place}/point"], check=True)
    assert lines == [["C", "/home"], ["C", "/opt"], ["C", "/opt/a"], ["D", "/opt/gone"], ["A", "/opt/new"]]
    assert seen == "ab\n7 8 4755\n9 9 755\n"
    assert "cannot be idmapped" in row["why"]
    assert row["by"].startswith("vfs on overlay, ")


# ---- what copies leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["while it is copied", "while it runs"])
def test_a_killed_host_leaves_no_copy(
    moment: str, layout: layouts.Layout, base: bytes, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    many = layouts.tar({f"many/{n}": bytes(100) for n in range(4000)})
    layout.image("many:1", [base, many])
    pc.Image.load(layout.path)
    code = "import pycontainer as pc\npc.run(['sleep', '1000'], image=pc.Image.get('many:1'))"
    child = subprocess.Popen(worlds.python(code))
    deadline = time.monotonic() + patience(20)
    wanted = {"while it is copied": "upper", "while it runs": "copied"}[moment]
    while not list(store.glob(f"uppers/*/{wanted}")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    while uppers(store):
        in_store(store, "pc.run(['true'], image=pc.Image.get('many:1'))", store)
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("leaves_no_copy")
def test_a_signal_ends_a_copy(
    layout: layouts.Layout, base: bytes, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    layout.image("many:1", [base, layouts.tar({f"many/{n}": b"" for n in range(6000)})])
    image = pc.Image.load(layout.path)[0]
    pc.run(["true"], image=image)  # it is unpacked, and a union of it is there

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Stop):
            pc.run(["sleep", "1000"], image=image)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.requires("root", "loop", "program:mkfs.ext4")
def test_no_room_for_a_copy(
    layout: layouts.Layout, base: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    big = layouts.tar({"big": os.urandom(40 << 20)})
    layout.image("big:1", [base, big])
    code = """
image = pc.Image.load(sys.argv[2])[0]
try:
    with pc.Container(["sleep", "100"], image=image), pc.Container(["sleep", "100"], image=image):
        tell("both run")
except pc.NoSpaceError as error:
    tell(str(error))
tell(os.listdir(root + "/uppers"))
tell(pc.run(["echo", "once more"], image=image).stdout.decode())
"""
    with mounted("ext4", 150, scratch) as place:
        said, left, after = in_store(place, code, place, layout.path)
    assert str(place) in said
    assert (left, after) == ([], "once more\n")


@pytest.mark.requires("root", "loop", "program:mkfs.btrfs", "program:mkfs.xfs")
@pytest.mark.parametrize("kind", ["btrfs", "xfs", "ext4"])
def test_copies_share_blocks_where_the_file_system_can(
    kind: str, layout: layouts.Layout, base: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    layout.image("big:1", [base, layouts.tar({"big": os.urandom(32 << 20)})])
    code = """
image = pc.Image.load(sys.argv[2])[0]
def used():
    os.sync()
    seen = os.statvfs(root)
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize
pc.run(["true"], image=image)  # layers and their union are there
before = used()
with pc.Container(["sleep", "100"], image=image) as one, pc.Container(["sleep", "100"], image=image) as other:
    tell(used() - before)
    one.write_bytes("/big", b"changed")
    tell([len(other.read_bytes("/big")), [line.path for line in other.diff()], [line.path for line in one.diff()]])
tell(pc.doctor().to_dict()["storage"]["by"])
"""
    with mounted(kind, 400, scratch) as place:
        more, kept, by = in_store(place, code, place, layout.path)
    assert kept == [32 << 20, [], ["/big"]]
    assert by.startswith(f"vfs on {kind}, ")
    assert (more > 64 << 20) if kind == "ext4" else (more < 16 << 20), more


@pytest.mark.requires("root", "loop", "program:mkfs.btrfs")
def test_snapshots_of_a_btrfs(
    three: pc.Image, layout: layouts.Layout, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a container may leave in one is removed: deep trees, and subvolumes in subvolumes."""
    monkeypatch.setenv(VARIABLE, "overlay")
    with pc.Container(["sh", "-c", CHANGES + LOOK], image=three, hostname="h") as made:
        made.wait(timeout=patience(20))
        wanted = [made.logs().decode(), [[line.kind, line.path] for line in made.diff()]]
    code = """
import subprocess
image = pc.Image.load(sys.argv[2])[0]
def btrfs(*words):
    return subprocess.run(["btrfs", "subvolume", *words], check=True, capture_output=True, text=True).stdout
with pc.Container(["sh", "-c", sys.argv[3]], image=image, hostname="h") as made:
    made.wait()
    tell([made.logs().decode(), [[line.kind, line.path] for line in made.diff()]])
    committed = made.commit("made:1")
deep = "/deep" + "/d" * 200
with pc.Container(["sh", "-c", f"cat /opt/moved; mkdir -p {deep}; sleep 100"], image=committed) as made:
    while not made.logs():
        pass
    tell(len(btrfs("list", root).splitlines()))
    (upper,) = [os.path.join(root, "uppers", name, "upper") for name in os.listdir(root + "/uppers")]
    at = upper
    for _ in range(5):
        at += "/sub"
        btrfs("create", at)
        os.makedirs(at + "/d" * 80)
    tell(made.exec(["sh", "-c", f"ls -d {deep} | wc -l"]).stdout.decode())
tell(os.listdir(root + "/uppers"))
committed.remove()
image.remove()
tell(btrfs("list", root))
"""
    script = CHANGES + LOOK
    monkeypatch.setenv(VARIABLE, "btrfs")
    with mounted("btrfs", 400, scratch) as place:
        first, volumes, deep, left, after = in_store(place, code, place, layout.path, script)
    assert first == wanted
    assert (volumes, deep.strip()) == (3, "1")  # of both images one, and the container's
    assert (left, after) == ([], "")


def test_snapshots_are_of_a_btrfs(image: pc.Image, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "btrfs")
    with pytest.raises(pc.NotSupported, match=f"{VARIABLE}: btrfs: the store .* does not lie on one"):
        pc.run(["true"], image=image)


@pytest.mark.requires("root", "loop", "program:mkfs.xfs", "project-quota:xfs")
def test_a_copy_is_bounded_by_a_project_quota(
    layout: layouts.Layout, base: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what the image itself takes."""
    monkeypatch.setenv(VARIABLE, "vfs")
    layout.image("app:1", [base, layouts.tar({"big": os.urandom(4 << 20)})])
    code = """
image = pc.Image.load(sys.argv[1 + 1])[0]
write = "dd if=/dev/zero of=/{} bs=64k count=24 2>&-"
script = f"{write.format('one')} && echo yes; {write.format('two')} || echo no"
r = pc.run(["sh", "-c", script], image=image, limits=Limits(disk="2MiB"))
tell(facts(r))
"""
    with mounted("xfs-quota", 400, scratch) as place:
        (found,) = in_store(place, code, place, layout.path)
    assert (found["out"], found["state"], found["by"]) == ("yes\nno\n", "held", "project quota")


def test_what_a_copy_may_take_is_bounded_or_refused(image: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    done = pc.run(["true"], image=image, limits=pc.Limits(disk="1MiB"), degrade=["disk"])
    if done.enforced["disk"].state == "missing":
        with pytest.raises(pc.NotSupported, match=r"^disk: "):
            pc.run(["true"], image=image, limits=pc.Limits(disk="1MiB"))


def test_unions_of_layers_go_when_nobody_stands_on_them(
    three: pc.Image, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    unions: Callable[[], list[str]] = lambda: [path.name for path in (store / "unions").iterdir()]  # noqa: E731
    with pc.Container(["sleep", "100"], image=three) as made:
        assert len(unions()) == 1
        pc.Image.prune()
        assert len(unions()) == 1
        assert made.exec(["cat", "/opt/top"], text=True).stdout == "top"
    three.remove()
    assert unions() == []
    assert list((store / "layers").iterdir()) == []


@pytest.mark.requires("user")
def test_files_that_their_owner_may_not_read(
    layout: layouts.Layout, base: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /etc/shadow of some distributions: root inside reads it, and the copy has it."""
    monkeypatch.setenv(VARIABLE, "vfs")
    layout.image("app:1", [base, closed("etc/shadow", b"secret")])
    image = pc.Image.load(layout.path)[0]
    with pc.Container(["sh", "-c", "cat /etc/shadow; ls -l /etc/shadow; sleep 100"], image=image) as made:
        assert made.exec(["cat", "/etc/shadow"], text=True).stdout == "secret"
        assert [line.path for line in made.diff()] == []
        assert made.exec(["ls", "-ln", "/etc/shadow"], text=True).stdout.startswith("----------")


def closed(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(member(name, mode=0, size=len(content)), io.BytesIO(content))
    return out.getvalue()


def test_many_at_once_share_one_union(three: pc.Image, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "vfs")
    look(three)
    shutil.rmtree(store / "unions")
    code = (
        "import pycontainer as pc\nprint(pc.run(['cat', '/opt/top'], image=pc.Image.get('three:1'), text=True).stdout)"
    )
    children = [subprocess.Popen(worlds.python(code), stdout=subprocess.PIPE) for _ in range(4)]
    assert [child.communicate()[0] for child in children] == [b"top\n"] * len(children)
    assert len(list((store / "unions").iterdir())) == 1


# ---- any stack of layers -------------------------------------------------------------------------------------------


def random_layer(chosen: random.Random) -> bytes:
    """What any layer may say of a few names: directories, files, links, whiteouts, opaque directories."""
    kinds: dict[str, str] = {"t": "directory"}
    made: dict[str, layouts.Content] = {"t/": None}
    for _ in range(chosen.randrange(1, 14)):
        path = "t/" + "/".join(chosen.choice("abc") for _ in range(chosen.randrange(1, 4)))
        above = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        if path in kinds or any(kinds.get(one, "directory") != "directory" for one in above):
            continue
        kinds |= dict.fromkeys(above, "directory")
        parent, _, name = path.rpartition("/")
        kind = chosen.choice(["directory", "file", "file", "link", "hardlink", "whiteout", "opaque"])
        files = [one for one, what in kinds.items() if what == "file"]
        mode, owner = chosen.choice([0o755, 0o644, 0o4711, 0o1777]), chosen.choice([0, 7, 1000])
        if kind == "directory":
            made[path] = member(path, tarfile.DIRTYPE, mode=mode | 0o700, uid=owner, mtime=chosen.randrange(1 << 30))
        elif kind == "link":
            made[path] = chosen.choice(["a", "../b", "/t/c", "nowhere"])
        elif kind == "hardlink" and files:
            made[path] = member(path, tarfile.LNKTYPE, linkname=chosen.choice(files))
        elif kind == "whiteout":
            made[f"{parent}/.wh.{name}"] = b""
        elif kind == "opaque":
            made[f"{path}/.wh..wh..opq"] = b""
            kind = "directory"
        else:
            kind, made[path] = "file", random.Random(path).randbytes(chosen.randrange(3)) + bytes(owner % 3)
        kinds[path] = kind
    return layouts.tar(made)


LISTED = """cd /t && find . | sort | while read -r name; do
stat -c '%A %u %g %Y %N' "$name"; test -f "$name" && ! test -L "$name" && md5sum < "$name"; done; exit 0"""


def test_any_stack_of_layers_is_the_same_on_every_driver(
    request: pytest.FixtureRequest, layout: layouts.Layout, base: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in repetitions(60, request.config.getoption("--quick")):
        chosen = random.Random(seed)
        name = f"random:{seed}"
        layout.image(name, [base, *(random_layer(chosen) for _ in range(chosen.randrange(2, 6)))])
        (image,) = [one for one in pc.Image.load(layout.path) if one.reference == f"docker.io/library/{name}"]
        seen = {}
        for driver in DRIVERS:
            monkeypatch.setenv(VARIABLE, driver)
            with pc.Container(["sh", "-c", LISTED], image=image) as made:
                made.wait(timeout=patience(20))
                seen[driver] = (made.logs(), made.diff())
        assert seen["vfs"] == seen["overlay"], f"seed {seed}"
        assert seen["vfs"][1] == []
