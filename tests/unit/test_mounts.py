"""Mounts and files as values: what they keep, which targets and which overlaps are refused."""

from __future__ import annotations

import os
import pathlib
import pickle

import pytest

from pycontainer._mounts import File, Mount, plan_files, plan_mounts


def test_bind_makes_a_relative_source_absolute_when_it_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mount = Mount.bind("data/", "/in/", read_only=True)
    monkeypatch.chdir("/")
    assert (mount.kind, mount.source, mount.target) == ("bind", f"{tmp_path}/data", "/in")
    assert (mount.read_only, mount.owner, mount.size, mount.mode) == (True, None, None, None)


@pytest.mark.parametrize("source", ["/a", b"/a", pathlib.Path("/a"), "/a/", "//a", "/./a"])
def test_sources_of_every_type(source):
    assert Mount.bind(source, b"/t").source == "/a"


def test_dotdot_in_a_source_is_left_to_the_kernel():
    # With a symbolic link before it, "link/.." is not the directory that holds the link.
    assert Mount.bind("/a/link/../b", "/t").source == "/a/link/../b"


def test_a_name_that_is_not_utf8_survives():
    mount = Mount.bind(b"/\xff", b"/t\xfe")
    assert os.fsencode(mount.source) == b"/\xff"
    assert os.fsencode(mount.target) == b"/t\xfe"
    assert "\\udcff" in repr(mount)


def test_the_other_kinds():
    assert Mount.overlay("/src", "/t").source == "/src"
    tmpfs = Mount.tmpfs("/scratch", size="8m")
    assert (tmpfs.kind, tmpfs.source, tmpfs.size, tmpfs.mode) == ("tmpfs", None, 8 << 20, 0o1777)
    volume = Mount.volume("pg-data", "/var/lib/pg")
    assert (volume.kind, volume.source, volume.read_only) == ("volume", "pg-data", False)
    image = Mount.image("alpine:3.20", "/alpine")
    assert (image.kind, image.source, image.read_only) == ("image", "alpine:3.20", True)


@pytest.mark.parametrize("target", ["", "in", "./in", "../in", "/a/../b", "/..", "/a\0b"])
def test_targets_that_are_not_absolute_paths_are_refused(target):
    for make in (Mount.tmpfs, lambda t: Mount.bind("/a", t), lambda t: Mount.volume("v", t)):
        with pytest.raises(ValueError, match="target"):
            make(target)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/./", "/"),
        ("/proc", "/proc"),
        ("/proc/sys/kernel", "/proc"),
        ("//proc/", "/proc"),
        ("/sys", "/sys"),
        ("/sys/fs/cgroup", "/sys"),
        ("/dev", "/dev"),
    ],
)
def test_what_is_the_engines_own_is_refused_and_both_are_named(target, place):
    with pytest.raises(ValueError, match="the engine's own") as caught:
        Mount.bind("/a", target)
    assert str(caught.value).endswith(f" {place}")


@pytest.mark.parametrize("target", ["/process", "/system", "/dev/shm", "/devices", "/a/proc"])
def test_neighbours_of_what_is_the_engines_own_are_fine(target):
    assert Mount.tmpfs(target).target == target


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: Mount.bind(5, "/t"), TypeError, "source"),
        (lambda: Mount.bind("", "/t"), ValueError, "source"),
        (lambda: Mount.bind("/a\0", "/t"), ValueError, "source"),
        (lambda: Mount.bind("/a", None), TypeError, "target"),
        (lambda: Mount.bind("/a", "/t", read_only="no"), TypeError, "read_only"),
        (lambda: Mount.bind("/a", "/t", owner=-1), ValueError, "owner"),
        (lambda: Mount.bind("/a", "/t", owner=2**32 - 1), ValueError, "owner"),
        (lambda: Mount.bind("/a", "/t", owner="root"), TypeError, "owner"),
        (lambda: Mount.bind("/a", "/t", owner=True), TypeError, "owner"),
        (lambda: Mount.tmpfs("/t", size=0), ValueError, "size"),
        (lambda: Mount.tmpfs("/t", size="max"), ValueError, "size"),
        (lambda: Mount.tmpfs("/t", size="big"), ValueError, "size"),
        (lambda: Mount.tmpfs("/t", mode=0o10000), ValueError, "mode"),
        (lambda: Mount.tmpfs("/t", mode="755"), TypeError, "mode"),
        (lambda: Mount.bind("/a", "/t", read_only=True, owner=5), ValueError, "owner.*read_only=True"),
        (lambda: Mount.bind("/a", "/t", read_only=True, owner=0), ValueError, "owner.*read_only=True"),
        (lambda: Mount.volume("../v", "/t"), ValueError, "name"),
        (lambda: Mount.volume("v\n", "/t"), ValueError, "name"),
        (lambda: Mount.volume(5, "/t"), TypeError, "name"),
        (lambda: Mount.image("", "/t"), ValueError, "image"),
        (Mount, TypeError, "Mount.bind"),
        (lambda: File("text"), TypeError, "encode"),
        (lambda: File(5), TypeError, "data"),
        (lambda: File(b"", mode=-1), ValueError, "mode"),
        (lambda: File(b"", mode=True), TypeError, "mode"),
    ],
)
def test_bad_arguments_are_named(make, error, word):
    with pytest.raises(error, match=word):
        make()


def test_values_are_frozen_hashable_and_pickle():
    mounts = [
        Mount.bind("/a", "/t", owner=5),
        Mount.bind("/a", "/t", read_only=True),
        Mount.overlay("/a", "/t"),
        Mount.tmpfs("/t", size="1m", mode=0o700),
        Mount.volume("v", "/t"),
        Mount.image("i", "/t"),
    ]
    assert len(set(mounts)) == 6
    for mount in mounts:
        assert pickle.loads(pickle.dumps(mount)) == mount
        assert eval(repr(mount)) == mount
    with pytest.raises(AttributeError, match="frozen"):
        mounts[0].target = "/x"


def test_a_file_never_shows_its_content():
    assert "secret" not in repr(File(b"secret", mode=0o600))
    assert repr(File(b"secret", mode=0o600)) == "<File of 6 bytes, mode 0o600>"
    assert File(bytearray(b"x")) == File(b"x")
    assert File(b"x") != File(b"x", mode=0o755)


def test_mounts_are_ordered_parents_first_and_otherwise_as_said():
    a, b, c = Mount.tmpfs("/a/b"), Mount.tmpfs("/z"), Mount.tmpfs("/a")
    assert plan_mounts([a, b, c]) == (b, c, a)
    assert plan_mounts(()) == ()


@pytest.mark.parametrize("bad", [None, Mount.tmpfs("/a"), {"/a": "/b"}, "/a:/b", ["/a:/b"], iter(())])
def test_mounts_must_be_a_sequence_of_mount(bad):
    with pytest.raises(TypeError, match="mounts"):
        plan_mounts(bad)


def test_two_mounts_with_one_target_are_refused_and_both_named():
    with pytest.raises(ValueError, match="two for one target") as caught:
        plan_mounts([Mount.bind("/one", "/t"), Mount.bind("/two", "/t/.")])
    assert "/one" in str(caught.value)
    assert "/two" in str(caught.value)


def test_files_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan_files({"/in/a": b"data", "/in//b": File(b"", mode=0o755), "/c": pathlib.Path("app.toml")})
    assert planned == (("/in/a", File(b"data")), ("/in/b", File(b"", mode=0o755)), ("/c", f"{tmp_path}/app.toml"))
    assert plan_files(None) == plan_files({}) == ()


@pytest.mark.parametrize("bad", ["text", 5, None, ["x"]])
def test_a_value_of_another_type_is_named(bad):
    with pytest.raises(TypeError, match=r"files\['/in/a'\]"):
        plan_files({"/in/a": bad})


def test_files_must_be_a_mapping():
    with pytest.raises(TypeError, match="files"):
        plan_files([("/a", b"")])


@pytest.mark.parametrize("target", ["a", "", "/", "/a/../b", "/proc/x", "/sys/x", "/dev", "/a/", "/a\0"])
def test_file_targets_that_are_refused(target):
    with pytest.raises(ValueError, match="files"):
        plan_files({target: b""})


@pytest.mark.parametrize(
    ("files", "first", "second"),
    [
        (["/a", "//a"], "/a", "twice"),
        (["/a", "/a/b"], "/a/b", "/a"),
        (["/a/b/c", "/a"], "/a/b/c", "/a"),
    ],
)
def test_files_that_exclude_each_other(files, first, second):
    with pytest.raises(ValueError, match="files") as caught:
        plan_files(dict.fromkeys(files, b""))
    assert repr(first) in str(caught.value)
    assert second in str(caught.value)


@pytest.mark.parametrize(("file", "mount"), [("/data", "/data"), ("/data/x/y", "/data"), ("/data", "/data/sub")])
def test_a_file_at_in_or_around_a_mount_is_refused_and_both_named(file, mount):
    with pytest.raises(ValueError, match="overlaps") as caught:
        plan_files({file: b""}, (Mount.bind("/src", mount),))
    assert f"{file!r}" in str(caught.value)
    assert f"Mount.bind('/src', {mount!r})" in str(caught.value)


def test_a_file_beside_a_mount_is_fine():
    assert plan_files({"/database": b""}, (Mount.bind("/src", "/data"),)) == (("/database", File(b"")),)
