"""Storage drivers: the same containers on each, and how one is picked."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import pytest

import layouts
import pycontainer as pc
import requirements
import worlds
from drivers import CHANGES, LOOK, VARIABLE, member, there, uppers
from pace import patience, repetitions
from programs.stores import in_store

IS_ROOT = os.geteuid() == 0


def look(image: pc.Image) -> str:
    done = pc.run(["sh", "-c", LOOK], image=image, hostname="h", text=True, check=True, degrade=["disk"])
    assert isinstance(done.stdout, str)
    return done.stdout


def with_one_name(seen: str) -> str:
    """Without what tells that a file has several: where fuse-overlayfs shows them, those of an image have one each. A
    directory has two there, and on a btrfs one.
    """
    return re.sub(r"(?m)^([-d]\S{9}) +\d+ ", r"\1 ", seen).replace("newasame\n", "newa")


@pytest.mark.usefixtures("leaves_no_copy")
def test_a_container_sees_the_same_on_every_driver(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for driver in there():
        monkeypatch.setenv(VARIABLE, driver)
        seen[driver] = look(three)
    assert seen["vfs"] == seen["overlay"]
    assert all(with_one_name(one) == with_one_name(seen["overlay"]) for one in seen.values())
    lines = seen["vfs"].splitlines()
    assert lines[-3:] == ["abtopnewasame", "0", "h"]
    if IS_ROOT:
        assert any(line.startswith("-rwsr-xr-x") and line.split()[2:4] == ["7", "8"] for line in lines)


@pytest.mark.vm
@pytest.mark.usefixtures("leaves_no_copy")
def test_what_changed_is_told_alike_and_committed_alike(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    told, trees, exported = {}, {}, {}
    for driver in there():
        monkeypatch.setenv(VARIABLE, driver)
        with pc.Container(["sh", "-c", CHANGES], image=three) as made:
            made.wait(timeout=patience(20))
            told[driver] = [(line.kind, line.path) for line in made.diff()]
            committed = made.commit(f"made:{driver}")
            made.export(out := three_path(driver))
        exported[driver] = entries(out)
        trees[driver] = [look_at_all(committed), layer_of(committed)]
        out.unlink()
    assert ("C", "/opt/a") in told["vfs"]
    assert ("D", "/opt/gone") in told["vfs"]
    for driver in there():
        assert told[driver] == told["overlay"], driver
        if driver == "fuse-overlayfs":  # the image's files of several names are several files
            links = [name for name, entry in exported["overlay"].items() if entry[0] == tarfile.LNKTYPE]
            exported[driver] |= {name: exported["overlay"][name] for name in links if name != "opt/c"}
        assert exported[driver] == exported["overlay"], driver
        assert trees[driver][0] == trees["overlay"][0], driver
    assert trees.get("fuse-overlayfs", trees["overlay"])[1] == trees["overlay"][1]
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
        on_disk = driver == "vfs" or requirements.tmpfs_upper() is not None
        assert len(uppers(store)) == (2 if on_disk else 0)
        assert all((store / "uppers" / name).stat().st_mode & 0o777 == 0o700 for name in uppers(store))
    after = sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in store.glob("layers/*/**/*"))
    assert after == before


def test_a_run_says_that_its_root_is_a_copy(driver: str, three: pc.Image) -> None:
    rows = pc.run(["id"], image=three).enforced
    kept = pc.run(["id"], image=three, upper="disk").enforced
    assert (rows["root"].state, kept["upper"].state) == ("held", "held")
    if driver == "vfs":
        assert (rows["upper"].state, rows["upper"].by) == ("degraded", "a copy of the image in the store")
    elif driver == "fuse-overlayfs":
        assert rows["upper"].by in ("tmpfs, by fuse-overlayfs", "a directory in the store, by fuse-overlayfs")
        assert kept["upper"].by == "a directory in the store, by fuse-overlayfs"
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
    """An overlay makes two of it when it is written; a copy has it as every other file system (docs/storage.md). Where
    fuse-overlayfs shows it, it is two from the start, and never one with the size of the other."""
    done = pc.run(["sh", "-c", "cd /opt; echo x > b; cat hard"], image=three, text=True)
    assert done.stdout == ("x\n" if driver == "vfs" else "b")


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
    used, cached = map(int, re.findall(r" (\d+) (?:bytes )?of ", row.by))
    assert cached == 0
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
    monkeypatch.setenv("PYCONTAINER_SEAM", "overlay,fuse-overlayfs")
    store = Path(os.environ["PYCONTAINER_ROOT"])
    said, row = in_store(store, code, store)
    assert said == ["top", "a copy of the image in the store"]
    assert row["state"] == "degraded"
    assert "this kernel has no overlay file system" in row["why"]


@pytest.mark.requires("root", "ptrace")
def test_the_kernels_own_word_on_overlay(three: pc.Image, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only fsopen of the host itself asks for an overlay: ENODEV, and the next driver is taken."""
    monkeypatch.delenv(VARIABLE, raising=False)
    code = "print(pc.run(['cat', '/opt/top'], image=pc.Image.get('three:1')).enforced['upper'].by)"
    inject = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsopen:error=ENODEV:when=1"]
    words = [*inject, *worlds.python(f"import pycontainer as pc\n{code}")]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=patience(60))
    served = "fuse-overlayfs" in there()
    assert done.stdout == ("tmpfs, by fuse-overlayfs\n" if served else "a copy of the image in the store\n")


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


# An overlay lists a whiteout that hides nothing, and finds no file of that name: find says so, and it is not looked at.
LISTED = """cd /t && find . 2> /dev/null | sort | while read -r name; do
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
        for driver in there():
            monkeypatch.setenv(VARIABLE, driver)
            with pc.Container(["sh", "-c", LISTED], image=image) as made:
                made.wait(timeout=patience(20))
                seen[driver] = (made.logs(), made.diff())
        for driver in there():
            assert seen[driver] == seen["overlay"], f"{driver}, seed {seed}"
        assert seen["vfs"][1] == []
