"""Mount.image: the files of an image beside the root, read-only, with the container's owners, on each driver."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
from layouts import Layout
from pycontainer import aio

SCRIPT = "cd /m; cat opt/top opt/old/*; ls opt/gone; stat -c '%u %g %a' opt/suid opt/dir; ls bin/true"


def out(words: list[str], root: pc.Image | Path, *mounts: pc.Mount, **options: object) -> str:
    done = pc.run(words, image=root, mounts=mounts, text=True, **options)  # type: ignore[call-overload]
    return str(done.stdout + done.stderr)


@pytest.mark.vm
@pytest.mark.usefixtures("driver", "leaves_no_copy")
def test_it_shows_what_a_container_of_that_image_sees(three: pc.Image, rootfs: Path) -> None:
    """What the layers delete is not there, owners and modes are the image's."""
    own = out(["sh", "-c", SCRIPT.replace("/m", "/")], three)
    assert own.startswith("topnew" + "x\n")
    assert out(["sh", "-c", SCRIPT], rootfs, pc.Mount.image(three, "/m")).replace("/m/", "/") == own
    assert out(["sh", "-c", SCRIPT], three, pc.Mount.image(three, "/m")).replace("/m/", "/") == own


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("more", [set(), {"SYS_ADMIN"}])
def test_nobody_writes_to_it(more: set[str], three: pc.Image) -> None:
    """Not even who may mount."""
    security = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | more)
    mount = pc.Mount.image(three, "/m")
    changes = "true > /m/new; true > /m/opt/a; chmod 0 /m/opt; rm /m/opt/b"
    refused = out(["sh", "-c", changes], three, mount, security=security)
    assert refused.count("Read-only file system") == 4
    again = "mount -o remount,rw /m; mount -o remount,bind,rw /m; echo x > /m/opt/a"
    assert "Read-only file system" in out(["sh", "-c", again], three, mount, security=security)
    flags = [line for line in out(["cat", "/proc/self/mountinfo"], three, mount).splitlines() if " /m " in line]
    assert {"ro", "nosuid", "nodev"} <= set(flags[-1].split()[5].split(","))
    three.verify()
    assert three.open("/opt/a").read() == b"a"


def test_one_layer_and_several_images(layout: Layout, base: bytes, rootfs: Path) -> None:
    """A whiteout of the only layer hides nothing, and is no file either."""
    layout.image("one:1", [layouts.tar({"a": b"1", ".wh.gone": b"", "d/": None, "d/.wh..wh..opq": b""})])
    layout.image("empty:1", [])
    layout.image("two:1", [base, layouts.tar({"a": b"2"})])
    pc.Image.load(layout.path)
    mounts = [pc.Mount.image(name, f"/{name.partition(':')[0]}") for name in ("one:1", "two:1")]
    script = "ls -A /one; ls -A /one/d; cat /one/a /two/a; ls /two/bin/sh"
    assert out(["sh", "-c", script], rootfs, *mounts) == "a\nd\n12/two/bin/sh\n"
    assert out(["ls", "-A", "/empty"], rootfs, pc.Mount.image("empty:1", "/empty")) == ""


def test_a_directory_and_an_archive_can_be_mounted(rootfs: Path, base: bytes, store: Path) -> None:
    archive = store.parent / "root.tar"
    archive.write_bytes(base)
    for image in (pc.Image.from_directory(rootfs), pc.Image.from_archive(archive), rootfs, str(rootfs)):
        mount = pc.Mount.image(image, "/m")
        assert out(["sh", "-c", "ls /m/bin/sh; true > /m/x"], rootfs, mount).startswith("/m/bin/sh\n"), image
    assert not (rootfs / "x").exists()


@pytest.mark.usefixtures("driver")
def test_it_is_held_as_long_as_the_container_is_there(three: pc.Image, rootfs: Path, store: Path) -> None:
    with pc.Container(["sleep", "100"], image=rootfs, mounts=[pc.Mount.image(three, "/m")]) as made:
        three.remove()
        pc.Image.prune()
        assert made.exec(["cat", "/m/opt/top", "/m/opt/old/new"], text=True).stdout == "topnew"
        assert made.diff() == []
    pc.Image.prune()
    left = {name: os.listdir(store / name) for name in os.listdir(store) if (store / name).is_dir()}
    assert {name: left.get(name, []) for name in ("layers", "unions", "apart", "shifted")} == {
        "layers": [], "unions": [], "apart": [], "shifted": [],
    }  # fmt: skip


@pytest.mark.usefixtures("driver")
def test_on_asyncio(three: pc.Image, rootfs: Path) -> None:
    async def look() -> bytes:
        async with aio.Container(["sleep", "100"], image=rootfs, mounts=[pc.Mount.image(three, "/m")]) as made:
            return bytes((await made.exec(["cat", "/m/opt/top"])).stdout)

    assert asyncio.run(look()) == b"top"


def test_what_cannot_be_mounted_is_refused_by_name(
    three: pc.Image, rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYCONTAINER_OFFLINE", "1")
    cases = [
        (pc.Mount.image("nowhere.example/none:1", "/m"), pc.ImageNotFound, "nowhere.example/none"),
        (pc.Mount.image("UPPER", "/m"), pc.InvalidReference, "UPPER"),
        (pc.Mount.image(pc.Image.host(), "/m"), ValueError, "mounts: .*Image.host"),
        (pc.Mount.image(3, "/m"), TypeError, "image"),
    ]
    for mount, error, message in cases:
        with pytest.raises(error, match=message):
            pc.Container(["true"], image=rootfs, mounts=[mount])
    for path, message in (("/nowhere", "/nowhere"), (rootfs / "bin" / "busybox", "root file system")):
        with pytest.raises(pc.SetupError) as caught:
            pc.run(["true"], image=rootfs, mounts=[pc.Mount.image(pc.Image.from_directory(path), "/m")])
        assert message in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    removed = pc.Mount.image(three, "/m")
    three.remove()
    with pytest.raises(pc.ImageNotFound):
        pc.run(["true"], image=rootfs, mounts=[removed])


def test_too_many_layers_are_counted(layout: Layout, rootfs: Path) -> None:
    layout.image("tall:1", [layouts.tar({f"f{n}": b"%d" % n}) for n in range(130)])
    (tall,) = pc.Image.load(layout.path)
    assert out(["sh", "-c", "ls /m | wc -l; cat /m/f0 /m/f129"], rootfs, pc.Mount.image(tall, "/m")) == "130\n0129"
    with pytest.raises(ValueError, match=r"256 .*an image one and its layers"):
        pc.run(["true"], image=rootfs, mounts=[pc.Mount.image(tall, f"/m{n}") for n in range(2)])
