"""Images of layers: loaded, named, found, saved, verified, removed; what containers take from their configs."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import layouts
import pycontainer as pc
from layouts import Layout
from pace import PACE


def out(image: pc.Image, *args: str, **options: Any) -> str:
    return str(pc.run(list(args) or None, image=image, text=True, check=True, **options).stdout)


def test_an_image_says_what_it_is(layout: Layout, base: bytes) -> None:
    history = [{"created": "2026-01-02T03:04:05Z", "created_by": "base"}]
    made = layout.image("app:1", [base], {"Cmd": ["true"], "Labels": {"a": "b"}}, history=history)
    (image,) = pc.Image.load(layout.path)
    assert (image.reference, image.digest, image.platform) == ("docker.io/library/app:1", made, "linux/amd64")
    assert image.id is not None
    assert image.id.startswith("sha256:")
    assert image.layers == (layouts.digest(base),)
    assert (dict(image.config), dict(image.labels)) == ({"Cmd": ["true"], "Labels": {"a": "b"}}, {"a": "b"})
    assert [dict(entry) for entry in image.history] == history
    assert image.size > 1000
    assert (str(image), repr(image)) == ("docker.io/library/app:1", f"<Image docker.io/library/app:1@{made}>")
    for again in (pickle.loads(pickle.dumps(image)), copy.deepcopy(image), pc.Image("app:1"), pc.Image.get("app:1")):
        assert (again, hash(again), again.reference) == (image, hash(image), image.reference)
    assert pc.Image.all() == [image]


def test_what_is_no_image_of_layers_says_nothing_of_one(rootfs: Path) -> None:
    for image in (pc.Image.host(), pc.Image.from_directory(rootfs)):
        assert (image.reference, image.digest, image.id, image.size, image.platform) == (None, None, None, 0, None)
        assert (dict(image.config), image.history, image.layers, dict(image.labels)) == ({}, (), (), {})
        for call in (
            image.remove,
            image.verify,
            lambda image=image: image.tag("x"),
            lambda image=image: image.save("/x"),
        ):
            with pytest.raises(pc.StateError, match="no image of layers"):
                call()


COMMANDS = [
    ({"Cmd": ["echo", "cmd"]}, None, None, "cmd"),
    ({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}, None, None, "entry cmd"),
    ({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}, ["mine"], None, "entry mine"),
    ({"Entrypoint": ["echo", "entry"], "Cmd": ["echo", "cmd"]}, None, [], "cmd"),
    ({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}, ["echo", "mine"], [], "mine"),
    ({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}, None, ["echo", "other"], "other"),
    ({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}, ["mine"], ["echo", "other"], "other mine"),
]


def test_commands_are_put_together_as_docker_does(layout: Layout, base: bytes) -> None:
    for number, (config, args, entrypoint, expected) in enumerate(COMMANDS):
        layout.image(f"command:{number}", [base], config)
    layout.image("silent:1", [base])
    pc.Image.load(layout.path)
    for number, (config, args, entrypoint, expected) in enumerate(COMMANDS):
        result = pc.run(args, entrypoint=entrypoint, image=f"command:{number}", text=True)
        assert result.stdout.strip() == expected, config
    with pytest.raises(ValueError, match="args is required"):
        pc.run(image="silent:1")


def test_the_environment_the_directory_and_the_user_are_the_image_s(layout: Layout, base: bytes) -> None:
    config = {"Env": ["PATH=/bin:/mine", "A=image", "B=image", "B=twice", "NAMELESS", "=x", "*"],
              "WorkingDir": "/made/for it", "User": "worker:extra"}  # fmt: skip
    layout.image("says:1", [base], config)
    (image,) = pc.Image.load(layout.path)
    os.environ["NAMELESS"] = "of this machine"
    try:
        seen = out(image, "env").splitlines()
    finally:
        del os.environ["NAMELESS"]
    assert {"PATH=/bin:/mine", "A=image", "B=twice"} <= set(seen)
    assert not [line for line in seen if line.startswith(("NAMELESS", "=", "*"))]
    assert out(image, "sh", "-c", "echo $A $B", env={"A": "mine", "B": None}).strip() == "mine"
    assert out(image, "pwd").strip() == "/made/for it"
    assert out(image, "pwd", cwd="/tmp").strip() == "/tmp"


@pytest.mark.requires("ids")
def test_the_user_is_the_image_s(layout: Layout, base: bytes) -> None:
    layout.image("user:1", [base], {"User": "worker:extra"})
    (image,) = pc.Image.load(layout.path)
    assert out(image, "sh", "-c", "id -u; id -g").split() == ["1000", "2000"]
    assert out(image, "id", "-u", user=0).strip() == "0"


def test_stop_sends_the_image_s_signal(layout: Layout, base: bytes) -> None:
    layout.image("stops:1", [base], {"StopSignal": "SIGUSR1"})
    (image,) = pc.Image.load(layout.path)
    script = "trap 'exit 7' USR1; trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done"
    with pc.Container(["sh", "-c", script], image=image) as container:
        container.wait_for(pc.wait.log("ready"), timeout=30)
        container.stop()
        assert container.returncode == 7
    with pc.Container(["sleep", "1000"], image=image) as container:
        container.stop()
        assert container.returncode == -signal.SIGUSR1


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"Env": "A=b"}, "Env"),
    ({"Env": [1]}, "Env"),
    ({"Cmd": "true"}, "Cmd"),
    ({"Entrypoint": [["x"]]}, "Entrypoint"),
    ({"User": 5}, "User"),
    ({"User": "2147483648:99999999999"}, "User"),
    ({"User": "a:b:c"}, "User"),
    ({"WorkingDir": []}, "WorkingDir"),
    ({"WorkingDir": "/a/../../b"}, "WorkingDir"),
    ({"StopSignal": "SIGNOTHING"}, "StopSignal"),
    ({"StopSignal": "65"}, "StopSignal"),
    ({"Cmd": ["a\0b"]}, "Cmd"),
]


def test_a_config_that_no_container_can_have_is_refused_by_its_field(layout: Layout, base: bytes) -> None:
    for config, field in CONFIGS:
        layout.manifests.clear()
        layout.image("bad:1", [base], config)
        (image,) = pc.Image.load(layout.path)
        for start in (pc.run, pc.Container):
            with pytest.raises(pc.ImageError, match=field):
                start(["true"], image=image)
        # It stands in nobody's way: it is listed, and can be removed.
        assert [one.reference for one in pc.Image.all()] == ["docker.io/library/bad:1"]
        pc.Image.get("bad:1").remove()


def test_labels_and_annotations_do_nothing(layout: Layout, base: bytes) -> None:
    labels = {"containerd.io/restart.loguri": "binary:///bin/sh", "io.podman.annotations.seccomp": "unconfined"}
    layout.image("labels:1", [base], {"Labels": labels, "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}}})
    (image,) = pc.Image.load(layout.path)
    assert dict(image.labels) == labels
    assert "Seccomp:\t2" in out(image, "cat", "/proc/self/status")


def test_names_of_hosts_are_there_and_are_no_change(image: pc.Image) -> None:
    read = "cat /etc/hostname; cat /etc/hosts; ls -ln /etc/resolv.conf"
    with pc.Container(["sleep", "1000"], image=image, hostname="here") as container:
        hostname, *hosts, resolver = container.exec(["sh", "-c", read], text=True, check=True).stdout.splitlines()
        assert (hostname, hosts[0].split()) == ("here", ["127.0.0.1", "localhost"])
        assert "127.0.0.1\there" in hosts
        assert resolver.split()[2:4] == ["0", "0"]
        assert container.diff() == []
    mine = {"/etc/hosts": b"mine\n"}
    assert out(image, "cat", "/etc/hosts", files=mine) == "mine\n"
    with open("/etc/hosts") as file:
        assert out(image, "cat", "/etc/hosts", network="host") == file.read()


def test_links_in_place_of_these_files_lead_nowhere(layout: Layout, base: bytes, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    links = layouts.tar(
        {"etc/hosts": str(canary), "etc/resolv.conf": "/proc/sys/kernel/hostname", "etc/hostname": "/bin/busybox"}
    )
    layout.image("links:1", [base, links])
    (image,) = pc.Image.load(layout.path)
    assert out(image, "cat", "/etc/hostname").strip() == "container"
    assert canary.read_text() == "untouched"


@pytest.mark.vm  # without layers by descriptor
def test_layers_lie_upon_each_other(layout: Layout, base: bytes) -> None:
    second = layouts.tar({"a/": None, "a/kept": b"2", "a/gone": b"2", "b/": None, "b/hidden": b"2", "c": b"2"})
    third = layouts.tar({"a/.wh.gone": b"", "b/": None, "b/.wh..wh..opq": b"", "b/new": b"3", "c/": None, "c/d": b"3"})
    layout.image("upon:1", [base, second, third])
    (image,) = pc.Image.load(layout.path)
    assert out(image, "sh", "-c", "cd /; find a b c | sort").split() == ["a", "a/kept", "b", "b/new", "c", "c/d"]
    assert [path for path in image.files() if path.startswith(("/a", "/b/", "/c"))] == [
        "/a",
        "/a/kept",
        "/b/new",
        "/c",
        "/c/d",
    ]
    with image.open("c/d") as file:
        assert file.read() == b"3"
    for path in ("/a/gone", "/b/hidden"):
        with pytest.raises(pc.SetupError, match="No such file"):
            image.open(path)


def test_files_are_opened_as_a_container_would_see_them(layout: Layout, base: bytes, tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("canary")
    targets = {"up": "../../../../etc/passwd", "abs": "/etc/passwd", "loop": "loop", "out": str(tmp_path / "canary")}
    links = {"l/": None, "l/x": b"x", "l/dir": "/etc", **{f"l/{name}": target for name, target in targets.items()}}
    fifo = tarfile.TarInfo("l/fifo")
    fifo.type = tarfile.FIFOTYPE
    layout.image("links:1", [base, layouts.tar({**links, "l/fifo": fifo})])
    (image,) = pc.Image.load(layout.path)
    for path in ("/l/up", "/l/abs", "/l/dir/passwd", "/l/./../l/dir/../etc/passwd"):
        with image.open(path) as file:
            assert file.read().startswith(b"root:"), path
    refused = {"loop": "symbolic links", "out": "No such", "fifo": "Invalid", "": "directory", "x/y": "Not a dir"}
    for path, why in refused.items():
        with pytest.raises(pc.SetupError, match=why):
            image.open(f"/l/{path}")


@pytest.mark.vm  # more than 84 are mounted in another way there (rust/keeper/overlay.rs)
def test_many_layers(layout: Layout, base: bytes) -> None:
    count = 200 if PACE == 1 else 100
    layout.image(
        "deep:1", [base, *(layouts.tar({f"n{number}": b"x", "last": b"%d" % number}) for number in range(count))]
    )
    (image,) = pc.Image.load(layout.path)
    assert out(image, "sh", "-c", "ls -d /n* | wc -l; cat /last").split() == [str(count), str(count - 1)]


def test_an_image_without_layers(layout: Layout) -> None:
    layout.image("scratch:1", [])
    (image,) = pc.Image.load(layout.path)
    with pytest.raises(pc.CommandNotFound):
        pc.run(["true"], image=image)
    assert list(image.files()) == []


# ---- names ---------------------------------------------------------------------------------------------------------


def test_names_are_given_taken_and_found(image: pc.Image) -> None:
    copied = image.tag("localhost:5000/other/name:2")
    assert (copied.reference, copied) == ("localhost:5000/other/name:2", image)
    assert [one.reference for one in pc.Image.all()] == ["docker.io/library/base:1", "localhost:5000/other/name:2"]
    image.remove()
    with pytest.raises(pc.ImageNotFound, match="base:1"):
        pc.Image.get("base:1")
    assert out(pc.Image.get("localhost:5000/other/name:2"), "echo", "still").strip() == "still"
    with pytest.raises(pc.ImageNotFound):
        image.remove()
    assert pc.Image.get(f"any@{image.digest}") == image


def test_references_that_are_none(store: Path) -> None:
    for text in ("", "A:b", "a b", "http://x/y", "a:", "a@sha256:1", "x" * 300):
        for call in (pc.Image, pc.Image.get):
            with pytest.raises(pc.InvalidReference):
                call(text)
    with pytest.raises(TypeError, match="reference must be a str"):
        pc.Image(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="policy must be one of"):
        pc.Image("a", policy="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="platform"):
        pc.Image("a", platform="linux/amd64/v1/x", policy="never")


def test_offline_nobody_is_asked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_OFFLINE", "1")
    with pytest.raises(pc.ImageNotFound, match="PYCONTAINER_OFFLINE"):
        pc.run(["true"], image="nothing.invalid/x:1")


def test_another_platform_is_not_this_one(layout: Layout, base: bytes) -> None:
    layout.image(None, [base], {"Cmd": ["echo", "native"]})
    (one,) = layout.manifests
    other = {**one, "platform": {"os": "linux", "architecture": "s390x"}}
    native = {
        **one,
        "platform": {
            "os": "linux",
            "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        },
    }
    layout.manifests.clear()
    import json

    layout.add(
        "many:1",
        json.dumps({"schemaVersion": 2, "mediaType": layouts.INDEX, "manifests": [other, native]}).encode(),
        layouts.INDEX,
    )
    (image,) = pc.Image.load(layout.path)
    assert pc.run(image=image).stdout == b"native\n"
    with pytest.raises(pc.ImageNotFound, match=r"linux/riscv64.*s390x"):
        pc.Image.get("many:1", platform="linux/riscv64")


# ---- out of the store, and out of the world --------------------------------------------------------------------------


def test_what_is_removed_is_gone_unless_somebody_stands_on_it(image: pc.Image, store: Path) -> None:
    with pc.Container(["sleep", "1000"], image=image) as container:
        assert pc.Image.prune() == []
        image.remove()
        assert container.exec(["true"]).returncode == 0
        assert len(list((store / "layers").iterdir())) == 1
        with pytest.raises(pc.ImageNotFound):
            pc.Image.get("base:1")
    pc.Image.prune()
    assert list((store / "layers").iterdir()) == []
    assert not any((store / "images/blobs/sha256").iterdir())
    with pytest.raises(pc.ImageError):
        pc.run(["true"], image=image)


def test_prune_by_age_and_labels(layout: Layout, base: bytes) -> None:
    for name, keep, year in (("old:1", "no", 2001), ("new:1", "no", 2999), ("other:1", "yes", 2001)):
        layout.image(name, [base], {"Labels": {"keep": keep}}, created=f"{year}-01-01T00:00:00Z")
    pc.Image.load(layout.path)
    assert pc.Image.prune(older_than=3600, labels={"keep": "no"}) == ["docker.io/library/old:1"]
    assert pc.Image.prune(labels={"absent": ""}) == []
    assert sorted(pc.Image.prune()) == ["docker.io/library/new:1", "docker.io/library/other:1"]


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_what_is_saved_is_loaded_again(image: pc.Image, form: Any, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    image.save(path, form)
    with tarfile.open(path) as file:
        assert ("manifest.json" in file.getnames()) == (form == "docker")
    first = path.read_bytes()
    image.save(path, form)
    assert path.read_bytes() == first
    assert [name for name in os.listdir(tmp_path) if name != "image.tar"] == []
    image.remove()
    assert pc.Image.load(path) == [image]
    assert pc.run(["echo", "again"], image="base:1").stdout == b"again\n"


def test_an_archive_of_an_older_docker(image: pc.Image, base: bytes, tmp_path: Path) -> None:
    """Before 25: a directory for each layer, an uncompressed tar or a link to one in it, and a manifest.json alone."""
    again = json.loads(image._config)
    again["rootfs"]["diff_ids"] *= 2
    text = json.dumps(again).encode()
    manifest = [{"Config": "c.json", "RepoTags": ["older:1", "older:2"], "Layers": ["one/layer.tar", "two/layer.tar"]}]
    entries = {"one/": None, "one/layer.tar": base, "two/": None, "two/layer.tar": "../one/layer.tar", "c.json": text,
               "manifest.json": json.dumps(manifest).encode()}  # fmt: skip
    (tmp_path / "older.tar").write_bytes(layouts.tar(entries))
    loaded = pc.Image.load(tmp_path / "older.tar")
    assert [one.reference for one in loaded] == ["docker.io/library/older:1", "docker.io/library/older:2"]
    assert pc.run(["echo", "older"], image="older:2").stdout == b"older\n"


BAD_ARCHIVES: dict[str, Callable[[dict[str, Any], bytes], Any]] = {
    "nothing": lambda entries, base: {"x": b"y"},
    "no manifest": lambda entries, base: {name: data for name, data in entries.items() if name != "manifest.json"},
    "manifest is no JSON": lambda entries, base: {**entries, "manifest.json": b"{"},
    "lacks a layer": lambda entries, base: {name: data for name, data in entries.items() if name != "layer.tar"},
    "config is no JSON": lambda entries, base: {**entries, "c.json": b"x"},
    "another layer": lambda entries, base: {**entries, "layer.tar": layouts.tar({"x": b"y"})},
    "leads out": lambda entries, base: {**entries, "../x": b"y"},
    "a device": lambda entries, base: {**entries, "dev": device()},
}


def device() -> tarfile.TarInfo:
    info = tarfile.TarInfo("dev")
    info.type = tarfile.CHRTYPE
    return info


@pytest.mark.parametrize("what", BAD_ARCHIVES)
def test_a_damaged_archive_is_refused_and_nothing_is_listed(
    what: str, image: pc.Image, base: bytes, tmp_path: Path
) -> None:
    image.remove()
    good = {"layer.tar": base, "c.json": image._config,
            "manifest.json": b'[{"Config": "c.json", "RepoTags": ["bad:1"], "Layers": ["layer.tar"]}]'}  # fmt: skip
    (tmp_path / "bad.tar").write_bytes(layouts.tar(BAD_ARCHIVES[what](good, base)))
    with pytest.raises(pc.ImageError):
        pc.Image.load(tmp_path / "bad.tar")
    pc.Image.prune()
    assert pc.Image.all() == []
    (tmp_path / "good.tar").write_bytes(layouts.tar(good))
    assert pc.Image.load(tmp_path / "good.tar")[0].reference == "docker.io/library/bad:1"


def test_a_truncated_archive_and_what_is_none(image: pc.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "image.tar")
    whole = (tmp_path / "image.tar").read_bytes()
    image.remove()
    for length in (0, 100, 600, len(whole) // 2, len(whole) - 600):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(pc.ImageError, match=r"cut\.tar"):
            pc.Image.load(tmp_path / "cut.tar")
    with pytest.raises(pc.SetupError, match="No such file"):
        pc.Image.load(tmp_path / "absent")
    with pytest.raises(pc.ImageError, match=r"no index\.json"):
        pc.Image.load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(pc.SetupError):
        pc.Image.load(tmp_path / "fifo")
    assert pc.Image.all() == []


def test_save_where_nothing_can_be_written(image: pc.Image, tmp_path: Path) -> None:
    for path in (tmp_path / "absent/x", tmp_path):
        with pytest.raises(pc.SetupError):
            image.save(path)
    with pytest.raises(ValueError, match="format must be"):
        image.save(tmp_path / "x", "zip")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


# ---- the store -------------------------------------------------------------------------------------------------------


def test_changed_content_is_found_out(image: pc.Image, store: Path) -> None:
    image.verify()
    blobs = {path.name: path for path in (store / "images/blobs/sha256").iterdir()}
    for name, path in blobs.items():
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(pc.DigestMismatch, match=name[:12]):
            image.verify()
        path.write_bytes(data)
    image.verify()
    for path in blobs.values():
        path.rename(path.with_suffix(".away"))
        with pytest.raises(pc.ImageError):
            image.verify()
        path.with_suffix(".away").rename(path)


def test_a_layer_that_is_not_what_its_config_says(layout: Layout, base: bytes) -> None:
    layout.image("lies:1", [base], rootfs={"type": "layers", "diff_ids": [layouts.digest(b"other")]})
    with pytest.raises(pc.DigestMismatch):
        pc.Image.load(layout.path)


def test_a_store_of_a_newer_version_is_not_touched(image: pc.Image, store: Path) -> None:
    (store / "version").write_text("2\n")
    for call in (pc.Image.all, pc.Image.prune, lambda: pc.Image.get("base:1"), image.verify):
        with pytest.raises(pc.ImageError, match="newer"):
            call()


@pytest.mark.requires("user")
def test_a_store_that_cannot_be_written(image: pc.Image, store: Path, shared_place: Path) -> None:
    (store / "partial").chmod(0o500)
    try:
        with pytest.raises(pc.SetupError, match="Permission denied"):
            pc.Image.load(shared_place / "layout")
        assert pc.Image.get("base:1") == image
    finally:
        (store / "partial").chmod(0o700)


def test_the_store_is_private_whatever_the_umask(shared_place: Path, store: Path) -> None:
    before = os.umask(0)
    try:
        pc.Image.load(shared_place / "layout")
    finally:
        os.umask(before)
    for top in (store, *store.iterdir()):
        assert top.stat().st_mode & 0o077 == 0 or not top.is_dir(), top
    for path in (store / "images").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.requires("userns")
def test_pruning_removes_unpacked_archives_that_nobody_stands_on(store: Path, base: bytes, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(base)
    image = pc.Image.from_archive(tmp_path / "root.tar")
    archives = store / "archives"
    with pc.Container(["sleep", "60"], image=image) as box:
        pc.Image.prune()
        assert box.exec(["ls", "/bin/sh"], check=True).stdout == b"/bin/sh\n"
    pc.Image.prune(older_than=3600)
    pc.Image.prune(labels={"a": "b"})
    assert len(list(archives.iterdir())) == 1
    pc.Image.prune()
    assert list(archives.iterdir()) == []
    with pytest.raises(pc.ImageError, match=r"removed meanwhile .*unpack the image again"):
        pc.run(["true"], image=image)
    pc.run(["true"], image=pc.Image.from_archive(tmp_path / "root.tar"), check=True)
