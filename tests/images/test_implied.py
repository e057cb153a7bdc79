"""Directories that a layer has only in the names of its files: what they are where a lower layer describes them.

No specification says it, and engines differ: containerd takes owner and mode from below, docker's overlay2 and podman's
overlay make them root's with 0755, so that an image whose /tmp is implied has one that nobody can write to. Here an
image is what the union of its layers says.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
import ranges
from layouts import Layout

IS_ROOT = os.geteuid() == 0
WHO = "0:0" if ranges.are_missing() else "1000:1001"


def directory(name: str, mode: int, owner: tuple[int, int] = (0, 0)) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.mtime = tarfile.DIRTYPE, mode, 1_000_000_000
    made.uid, made.gid = owner
    return made


def lower(base: bytes) -> list[bytes]:
    """The base, and what it describes: nothing of it is 0755 and root's."""
    private = directory("a", 0o700, (1000, 1001))
    private.pax_headers = {"SCHILY.xattr.user.note": "kept"}
    own = {"a": private, "a/b": directory("a/b", 0o2770, (1000, 1001)), "a/b/low": b"low"}
    return [base, layouts.tar({**own, "open": directory("open", 0o1777), "open/low": b""})]


UPPER = layouts.tar({"a/b/file": b"file", "open/new/file": b"", "other/file": b""})


def look(image: pc.Image, *names: str) -> list[str]:
    """Mode, owner and time of each."""
    said = pc.run(["stat", "-c", "%a %u:%g %Y", *names], image=image, text=True, check=True).stdout
    return str(said).splitlines()


@pytest.mark.requires("userns")
def test_a_directory_that_is_only_implied_is_what_it_is_below(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [*lower(base), UPPER])
    (image,) = pc.Image.load(layout.path)
    seen = look(image, "/a", "/a/b", "/open", "/open/new", "/other")
    assert seen[:3] == [f"700 {WHO} 1000000000", f"2770 {WHO} 1000000000", "1777 0:0 1000000000"]
    assert [line.rpartition(" ")[0] for line in seen[3:]] == ["755 0:0", "755 0:0"]  # nobody describes these
    assert set(image.files()) >= {"/a/b/low", "/a/b/file", "/open/low", "/open/new/file"}
    image.verify()


@pytest.mark.requires("userns", "root")
def test_who_may_write_below_may_write(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [*lower(base), UPPER])
    (image,) = pc.Image.load(layout.path)
    pc.run(["sh", "-c", "echo x > /open/mine"], image=image, user="12:12", check=True)
    pc.run(["sh", "-c", "cat /a/b/file; echo x > /a/b/mine"], image=image, user="1000:1001", check=True)
    assert pc.run(["ls", "/a"], image=image, user="12:12").returncode


@pytest.mark.requires("userns")
def test_what_is_described_higher_up_stays(layout: Layout, base: bytes) -> None:
    described = layouts.tar({"a": directory("a", 0o711), "open/x": b""})
    layout.image("app:1", [*lower(base), UPPER, described])
    (image,) = pc.Image.load(layout.path)
    assert look(image, "/a", "/a/b", "/open") == [
        "711 0:0 1000000000",
        f"2770 {WHO} 1000000000",
        "1777 0:0 1000000000",
    ]


@pytest.mark.requires("userns")
def test_what_was_removed_or_hidden_below_says_nothing(layout: Layout, base: bytes) -> None:
    gone = layouts.tar({".wh.open": b"", "a/.wh.b": b""})
    layout.image("removed:1", [*lower(base), gone, UPPER])
    layout.image("file:1", [*lower(base), layouts.tar({"open": b"a file"}), layouts.tar({"open/x": b""})])
    removed, file = pc.Image.load(layout.path)
    seen = look(removed, "/a", "/a/b", "/open")
    assert [line.rpartition(" ")[0] for line in seen] == [f"700 {WHO}", "755 0:0", "755 0:0"]
    assert look(file, "/open")[0].startswith("755 0:0")


@pytest.mark.requires("userns")
def test_shared_layers_mean_another_thing_in_each_image(layout: Layout, base: bytes, store: Path) -> None:
    layout.image("one:1", [*lower(base), UPPER])
    layout.image("two:1", [base, layouts.tar({"open": directory("open", 0o750)}), UPPER])
    layout.image("three:1", [base, UPPER])
    images = pc.Image.load(layout.path)
    modes = [look(image, "/open")[0].split()[0] for image in images]
    assert modes == ["1777", "750", "755"]
    assert len(list((store / "layers").glob("?" * 64))) == 4
    kept = list((store / "attributes").glob("*/complete"))
    assert len(kept) == 3
    # They go with the names of those who need them.
    images[0].remove()
    images[2].remove()
    assert len(list((store / "attributes").glob("*/complete"))) == 1
    assert look(images[1], "/open")[0].split()[0] == "750"


@pytest.mark.requires("userns")
def test_the_root_of_a_base_is_the_root_of_what_stands_on_it(layout: Layout, base: bytes) -> None:
    closed = layouts.tar({".": directory(".", 0o711)})
    layout.image("app:1", [base, closed, layouts.tar({"file": b""})])
    (image,) = pc.Image.load(layout.path)
    assert look(image, "/")[0].startswith("711 ")


def test_a_hard_link_to_a_file_of_a_lower_layer_is_refused_by_its_name(layout: Layout, base: bytes) -> None:
    """As docker's overlay2 and podman's overlay do: layers are unpacked apart from each other."""
    link = tarfile.TarInfo("d/link")
    link.type, link.linkname = tarfile.LNKTYPE, "low"
    upper = layouts.tar({"d/link": link})
    layout.image("app:1", [base, layouts.tar({"low": b"low"}), upper], compress=False)
    with pytest.raises(pc.LayerError) as caught:
        pc.Image.load(layout.path)
    for word in (layouts.digest(upper), '"d/link"', '"low"', "lower layer", "Image.from_directory"):
        assert word in str(caught.value)


@pytest.mark.requires("userns")
def test_a_build_on_it_sees_the_same(layout: Layout, base: bytes) -> None:
    layout.image("app:1", [*lower(base), UPPER])
    pc.Image.load(layout.path)
    text = pc.Dockerfile("app:1").copy({"inline": "x\n"}, "/a/b/").run("stat -c '%a %u:%g' /a/b && touch /open/run")
    image = pc.Image.build(dockerfile=text)
    assert [line.rpartition(" ")[0] for line in look(image, "/a/b", "/open")] == [f"2770 {WHO}", "1777 0:0"]


@pytest.mark.requires("userns", "root", "program:umoci")
def test_umoci_s_tree_is_the_same(layout: Layout, base: bytes, tmp_path: Path) -> None:
    """umoci unpacks layers over each other, and so needs no rule."""
    layout.image("app", [*lower(base), UPPER])
    (image,) = pc.Image.load(layout.path)
    words = ["umoci", "unpack", "--image", f"{layout.path}:app", str(tmp_path / "bundle")]
    subprocess.run(words, check=True, capture_output=True)
    theirs = []
    for name in ("a", "a/b", "open", "open/new", "other"):
        seen = (tmp_path / "bundle/rootfs" / name).lstat()
        theirs.append(f"{seen.st_mode & 0o7777:o} {seen.st_uid}:{seen.st_gid}")
    ours = [line.rpartition(" ")[0] for line in look(image, "/a", "/a/b", "/open", "/open/new", "/other")]
    assert ours == theirs
