"""COPY, ADD and WORKDIR: where things go, whose they are, what is refused; the same layer from the same input."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import resource
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import rawtar
from pycontainer import _core
from pycontainer._build.commands import set_mode
from pycontainer._errors import ImageError, LayerError, SetupError

ROOT = os.geteuid() == 0
Layer = tuple[str, int, str, str]


class Room:
    """A store, layers below and a context."""

    def __init__(self, path: Path) -> None:
        self.path, self.store = path, path / "store"
        self.base, self.context = path / "base", path / "context"
        for directory in (self.base, self.context):
            directory.mkdir()

    def below(self, *upper: Path) -> _core.Tree:
        return _core.Tree.layers([self.base, *upper])

    def tree(self) -> _core.Tree:
        return _core.Tree.context(self.context)

    def copy(self, to: str, *sources: object, **options: object) -> Layer | None:
        """Sources: paths in the context, or what `layer_copy` takes."""
        tree = self.tree()
        given = [(tree, os.fsencode(one), None, False) if isinstance(one, str) else one for one in sources]
        below = options.pop("below", None) or self.below()
        directory = to.endswith("/")
        return _core.layer_copy(self.store, below, given, os.fsencode(to), directory=directory, **options)  # type: ignore[arg-type]

    def blob(self, layer: Layer | None) -> Path:
        assert layer is not None
        return self.store / "images/blobs/sha256" / layer[0].removeprefix("sha256:")

    def members(self, layer: Layer | None) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.blob(layer), "r:gz") as tar:
            return {member.name: member for member in tar}

    def data(self, layer: Layer | None, name: str) -> bytes:
        with tarfile.open(self.blob(layer), "r:gz") as tar:
            found = tar.extractfile(name)
            assert found is not None
            return found.read()

    def unpacked(self, layer: Layer | None) -> Path:
        (found,) = _core.unpack_layer_files([os.fsencode(self.blob(layer))], os.fsencode(self.store))
        return Path(found)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def archive_of(*entries: bytes) -> bytes:
    return rawtar.archive(*entries)


# ---- where it goes -----------------------------------------------------------------------------------------------


def test_directories_on_the_way_come_as_they_are_below(room: Room) -> None:
    (room.base / "tmp").mkdir()
    (room.base / "tmp").chmod(0o1777)
    os.utime(room.base / "tmp", (5, 5))
    (room.context / "f").write_text("x")
    found = room.members(room.copy("/tmp/new/f", "f", made=7, owner="3:4"))
    assert (found["tmp"].mode, found["tmp"].mtime) == (0o1777, 5)
    assert (found["tmp/new"].mode, found["tmp/new"].mtime) == (0o755, 7)
    assert (found["tmp/new"].uid, found["tmp/new"].gid, found["tmp/new/f"].uid) == (3, 4, 3)


def test_a_root_of_another_mode_keeps_it(room: Room) -> None:
    room.base.chmod(0o711)
    (room.context / "f").write_text("x")
    assert room.members(room.copy("/f", "f"))["."].mode == 0o711


def test_the_destination_leads_where_it_would_inside(room: Room) -> None:
    (room.base / "usr/bin").mkdir(parents=True)
    for name, target in (("bin", "usr/bin"), ("abs", "/usr/bin"), ("up", "../../../usr"), ("lost", "/srv/none")):
        (room.base / name).symlink_to(target)
    (room.context / "f").write_text("x")
    for to, expected in (
        ("/bin/f", "usr/bin/f"), ("/abs/", "usr/bin/f"), ("/up/bin", "usr/bin/f"), ("/lost", "srv/none"),
        ("/lost/", "srv/none/f"), ("/bin/../lib", "usr/lib"), ("/new/../x", "x"),
    ):  # fmt: skip
        found = room.members(room.copy(to, "f"))
        assert [name for name, member in found.items() if member.isreg()] == [expected], to


def test_upper_layers_decide(room: Room) -> None:
    """A link that an upper layer has put in the place of a directory is the one that counts."""
    (room.base / "data").mkdir()
    upper = room.path / "upper"
    (upper / "real").mkdir(parents=True)
    (upper / "data").symlink_to("real")
    (room.context / "f").write_text("x")
    below = room.below(upper)
    assert "real/f" in room.members(room.copy("/data/", "f", below=below))
    assert "data/f" in room.members(room.copy("/data/", "f"))


def test_a_link_among_the_names_is_replaced_not_followed(room: Room) -> None:
    (room.base / "d").mkdir()
    (room.base / "d/f").symlink_to("/etc/passwd")
    (room.context / "f").write_text("x")
    found = room.members(room.copy("/d/", "f"))
    assert found["d/f"].isreg()
    assert not any(name.startswith("etc") for name in found)


def test_link_knows_nothing_of_what_is_below(room: Room) -> None:
    (room.base / "real").mkdir()
    (room.base / "d").symlink_to("real")
    (room.context / "f").write_text("x")
    with_link = room.copy("/d/", "f", link=True)
    assert list(room.members(with_link)) == ["d", "d/f"]
    (room.base / "d").unlink()
    assert room.copy("/d/", "f", link=True) == with_link


def test_what_is_listed_is_taken_and_nothing_else(room: Room) -> None:
    for path in ("a/b/c", "a/b/d", "a/e", "f"):
        (room.context / path).parent.mkdir(parents=True, exist_ok=True)
        (room.context / path).write_text(path)
    (room.context / "a/b").chmod(0o710)
    found = room.members(room.copy("/x/", (room.tree(), b"", [b"a/b/c", b"f"], False)))
    assert list(found) == ["x", "x/a", "x/a/b", "x/a/b/c", "x/f"]
    assert found["x/a/b"].mode == 0o710
    for bad in (b"../f", b"/f", b"a/../f", b"", b"a//e", b"./f"):
        with pytest.raises(ValueError, match="no path beneath"):
            room.copy("/x/", (room.tree(), b"", [bad], False))


def test_nothing_to_do_is_no_layer(room: Room) -> None:
    (room.base / "d").mkdir()
    (room.context / "empty").mkdir()
    assert room.copy("/d", "empty") is None
    assert room.copy("/d", (room.tree(), b"", [], False)) is None
    assert room.copy("/new", "empty") is not None
    assert _core.layer_directory(room.store, room.below(), b"/d") is None


def test_workdir(room: Room) -> None:
    (room.base / "real").mkdir()
    (room.base / "a").symlink_to("/real")
    (room.base / "file").touch()
    assert _core.layer_directory(room.store, room.below(), b"/a") is None
    found = room.members(_core.layer_directory(room.store, room.below(), b"/a/b/c", owner="9", made=3))
    assert list(found) == ["real", "real/b", "real/b/c"]
    assert (found["real"].uid == 9, found["real/b"].uid, found["real/b/c"].gid) == (False, 9, 9)
    for bad in (b"/file", b"/file/x"):
        with pytest.raises(LayerError, match="file"):
            _core.layer_directory(room.store, room.below(), bad)


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_a_file_takes_no_directory_s_place_nor_a_directory_a_file_s(room: Room) -> None:
    (room.base / "d/sub").mkdir(parents=True)
    (room.base / "file").touch()
    (room.context / "sub").write_text("x")
    (room.context / "tree/sub").mkdir(parents=True)
    (room.context / "other/d").mkdir(parents=True)
    (room.context / "other/file").mkdir()
    with pytest.raises(LayerError, match="cannot replace the directory /d/sub with a file"):
        room.copy("/d", "sub")
    with pytest.raises(LayerError, match="cannot copy a directory to /file, which is none"):
        room.copy("/", "other")
    for to in ("/file", "/file/"):
        with pytest.raises(LayerError, match="/file is there, and is no directory"):
            room.copy(to, "tree")
    with pytest.raises(LayerError, match="a file is in its way"):
        room.copy("/file/x", "sub")
    assert "d/sub" in room.members(room.copy("/d", "tree"))


def test_sockets_and_names_of_whiteouts_are_refused_by_name(room: Room) -> None:
    (room.context / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(room.context / "d")
        server.bind("s")
        os.chdir(here)
        with pytest.raises(LayerError, match="d/s is a socket"):
            room.copy("/x", "d")
    (room.context / "d/s").unlink()
    (room.context / "d/.wh.x").touch()
    with pytest.raises(LayerError, match=r"/x/.wh.x: in a layer"):
        room.copy("/x", "d")


@pytest.mark.requires("root")
def test_devices_of_a_context_are_refused_by_name(room: Room) -> None:
    os.mknod(room.context / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with pytest.raises(LayerError, match="null is a device"):
        room.copy("/x", "null")


def test_what_is_not_there_is_named(room: Room) -> None:
    for path in ("none", "../none", "/none", "a/b"):
        with pytest.raises(SetupError, match=f"copy {path}: No such file"):
            room.copy("/x", path)
    with pytest.raises(SetupError, match="open the context"):
        _core.Tree.context(room.path / "nowhere")


def test_bad_arguments(room: Room) -> None:
    (room.context / "f").touch()
    for options in ({"owner": ""}, {"owner": "a:"}, {"owner": "4294967295"}, {"chmod": "9"}, {"chmod": "u+q"}):
        with pytest.raises(ValueError, match="is no"):
            room.copy("/x", "f", **options)
    for name in (b"", b"a/b", b"..", b"a\0"):
        with pytest.raises(ValueError, match="no name of a file"):
            room.copy("/x/", (name, b"", 0o644, None, False))
    with pytest.raises(ValueError, match="no descriptor"):
        room.copy("/x", (b"n", -1, 0o644, None, False))


# ---- owners and modes --------------------------------------------------------------------------------------------


def accounts(base: Path) -> None:
    (base / "etc").mkdir(exist_ok=True)
    (base / "etc/passwd").write_text(
        "# x\nroot:x:0:0::/:/bin/sh\napp:x:12:34::/:/bin/sh\nodd:x:-1:zz::\n99:x:5:5::/:\n"
    )
    (base / "etc/group").write_text("root:x:0:\ngrp:x:77:app\n")


def test_owners_are_looked_up_in_the_image(room: Room) -> None:
    accounts(room.base)
    (room.context / "f").write_text("x")
    for owner, expected in (
        ("app", (12, 34)), ("app:grp", (12, 77)), ("5", (5, 5)), ("5:grp", (5, 77)), ("app:0", (12, 0)),
        ("99", (99, 99)), ("root", (0, 0)), ("0:root", (0, 0)),
    ):  # fmt: skip
        found = room.members(room.copy("/x", "f", owner=owner))["x"]
        assert (found.uid, found.gid) == expected, owner
    for owner in ("nobody", "odd", "app:none", "0:app"):
        with pytest.raises(ImageError, match=r"has no (user|group)"):
            room.copy("/x", "f", owner=owner)
    (room.base / "etc/passwd").unlink()
    with pytest.raises(ImageError, match="no /etc/passwd"):
        room.copy("/x", "f", owner="app")


def test_account_files_are_read_inside_and_within_bounds(room: Room) -> None:
    accounts(room.base)
    (room.context / "f").write_text("x")
    passwd = room.base / "etc/passwd"
    passwd.unlink()
    passwd.symlink_to("/etc/../../real")
    (room.base / "real").write_text("inside:x:1:2::/:\n")
    assert room.members(room.copy("/x", "f", owner="inside"))["x"].gid == 2
    passwd.unlink()
    os.mkfifo(passwd)
    with pytest.raises(SetupError, match="etc/passwd"):
        room.copy("/x", "f", owner="app")
    passwd.unlink()
    with passwd.open("w") as file:
        file.truncate(5 << 20)
    with pytest.raises(ImageError, match="more than"):
        room.copy("/x", "f", owner="app")


@pytest.mark.requires("root")
def test_layers_keep_their_owners_and_a_context_has_none(room: Room) -> None:
    for where in (room.base, room.context):
        (where / "f").write_text("x")
        os.chown(where / "f", 33, 44)
    assert room.members(room.copy("/x", "f"))["x"].uid == 0
    found = room.members(room.copy("/x", (room.below(), b"f", None, False)))["x"]
    assert (found.uid, found.gid) == (33, 44)


def test_chmod_is_for_files_and_directories_not_for_those_on_the_way(room: Room) -> None:
    (room.context / "d/sub").mkdir(parents=True)
    (room.context / "d/f").write_text("x")
    (room.context / "d/l").symlink_to("f")
    found = room.members(room.copy("/a/b/", "d", chmod="u=rwX,go="))
    assert {name: member.mode for name, member in found.items()} == {
        "a": 0o755, "a/b": 0o755, "a/b/sub": 0o700, "a/b/f": 0o600, "a/b/l": 0o777,
    }  # fmt: skip


CHANGES = st.lists(
    st.tuples(
        st.text("ugoa", max_size=3), st.sampled_from("+-="), st.text("rwxXst", max_size=4) | st.sampled_from("ugo")
    ),
    min_size=1,
    max_size=3,
).map(lambda parts: ",".join("".join(part) for part in parts))


@settings(max_examples=30, deadline=None)
@given(change=CHANGES, mode=st.integers(0, 0o777))
def test_chmod_is_the_dockerfile_s(tmp_path_factory: pytest.TempPathFactory, change: str, mode: int) -> None:
    room = Room(tmp_path_factory.mktemp("room"))
    inline = room.copy("/x", (b"x", b"", mode, None, False), chmod=change)
    assert room.members(inline)["x"].mode == set_mode(mode, change, directory=False), (change, oct(mode))


# ---- contents ----------------------------------------------------------------------------------------------------


def test_links_holes_and_sizes(room: Room) -> None:
    (room.context / "a").write_bytes(os.urandom(700_000))
    os.link(room.context / "a", room.context / "b")
    (room.context / "empty").touch()
    os.mkfifo(room.context / "fifo")
    (room.context / "l").symlink_to("../../../../etc/passwd")
    layer = room.copy("/d/", "")
    found = room.members(layer)
    assert room.data(layer, "d/a") == (room.context / "a").read_bytes()
    assert (found["d/b"].islnk(), found["d/b"].linkname) == (True, "d/a")
    assert (found["d/empty"].size, found["d/fifo"].isfifo()) == (0, True)
    assert found["d/l"].linkname == "../../../../etc/passwd"
    assert found["d/a"].mtime == int((room.context / "a").stat().st_mtime)


def test_inline_files(room: Room) -> None:
    with (room.path / "outside").open("w+b") as file:
        file.write(b"from a descriptor")
        file.flush()
        layer = room.copy(
            "/etc/", (b"a", b"text", 0o600, 5, False), (b"b", file.fileno(), 0o644, None, False), made=9, latest=7
        )
        assert not file.closed
    found = room.members(layer)
    assert (room.data(layer, "etc/a"), found["etc/a"].mode, found["etc/a"].mtime) == (b"text", 0o600, 5)
    assert (room.data(layer, "etc/b"), found["etc/b"].mtime, found["etc"].mtime) == (b"from a descriptor", 7, 7)


def test_the_same_input_is_the_same_layer(room: Room) -> None:
    def fill(context: Path, names: list[str]) -> None:
        context.mkdir()
        for name in names:
            (context / name).write_text(name)
            os.utime(context / name, (1_000_000, 1_000_000))
        os.utime(context, (2_000_000, 2_000_000))

    names = [f"n{number}" for number in range(40)]
    fill(room.path / "one", names)
    fill(room.path / "two", names[::-1])
    layers = [
        room.copy("/d/", (_core.Tree.context(room.path / which), b"", None, False)) for which in ("one", "two", "one")
    ]
    assert layers[0] == layers[1] == layers[2]
    os.utime(room.path / "one/n3", (5_000_000, 5_000_000))
    changed = room.copy("/d/", (_core.Tree.context(room.path / "one"), b"", None, False))
    assert changed != layers[0]
    clamped = [
        room.copy("/d/", (_core.Tree.context(room.path / which), b"", None, False), latest=1000)
        for which in ("one", "two")
    ]
    assert clamped[0] == clamped[1]


def test_the_digest_of_sources(room: Room) -> None:
    for path in ("d/a", "d/b", "f"):
        (room.context / path).parent.mkdir(exist_ok=True)
        (room.context / path).write_text(path)
    (room.context / "d/l").symlink_to("a")

    def digest(taken: list[bytes] | None = None) -> str:
        return room.tree().digest([(b"d", taken), (b"f", None)])

    first = digest()
    for path in ("d/a", "d", "f"):
        os.utime(room.context / path, (1, 1))
    assert digest() == first
    assert digest([b"a"]) != first
    changes: list[Callable[[], object]] = [
        lambda: (room.context / "d/a").chmod(0o600),
        lambda: (room.context / "d").chmod(0o700),
        lambda: (room.context / "d/a").write_text("d/A"),
        lambda: (room.context / "d/a").rename(room.context / "d/c"),
        lambda: ((room.context / "d/l").unlink(), (room.context / "d/l").symlink_to("b")),
        (room.context / "d/new").mkdir,
        lambda: (room.context / "f").write_text(""),
    ]
    seen = {first}
    for change in changes:
        change()
        assert digest() not in seen
        seen.add(digest())
    assert room.tree().digest([(b"f", None), (b"d", None)]) != digest()


# ---- ADD of archives ---------------------------------------------------------------------------------------------


def add(room: Room, to: str, data: bytes, **options: object) -> Layer | None:
    (room.context / "tar").write_bytes(data)
    return room.copy(to, (room.tree(), b"tar", None, True), **options)


def test_archives_are_known_by_their_content(room: Room) -> None:
    import gzip

    plain = archive_of(
        rawtar.entry(rawtar.DIRECTORY, b"d", uid=5, mode=0o700),
        rawtar.entry(rawtar.FILE, b"d/f", data=b"text", uid=6, mode=0o4755),
        rawtar.entry(rawtar.LINK, b"g", b"d/f"),
    )
    layers = [
        add(room, "/x", data) for data in (plain, gzip.compress(plain), gzip.compress(plain) + gzip.compress(b""))
    ]
    assert layers[0] == layers[1] == layers[2]
    found = room.members(layers[0])
    assert (found["x/d"].mode, found["x/d"].uid, found["x/d/f"].mode, found["x/d/f"].uid) == (0o700, 5, 0o4755, 6)
    assert found["x/g"].islnk()
    assert found["x"].uid == 0
    assert room.members(add(room, "/x", plain, owner="9"))["x/d/f"].uid == 6  # as docker and buildah do
    for data in (b"", b"text", bytes(2048), gzip.compress(b"text"), b"\x1f\x8bno gzip", plain[:300]):
        layer = add(room, "/x", data)
        assert room.data(layer, "x") == data
    for data, word in ((bz2.compress(plain), "bzip2"), (lzma.compress(plain), "xz")):
        with pytest.raises(LayerError, match=rf"tar: {word} is not supported.*COPY"):
            add(room, "/x", data)
    with pytest.raises(LayerError, match="cut short"):
        add(room, "/x", plain[:-1500])


def test_entries_lead_where_they_would_in_a_container(room: Room) -> None:
    (room.base / "usr/bin").mkdir(parents=True)
    (room.base / "bin").symlink_to("usr/bin")
    (room.base / "here").write_text("below")
    data = archive_of(
        rawtar.entry(rawtar.FILE, b"bin/a", data=b"1"),
        rawtar.entry(rawtar.SYMLINK, b"out", b"/../../../../tmp/away"),
        rawtar.entry(rawtar.FILE, b"out/b", data=b"2"),
        rawtar.entry(rawtar.LINK, b"there", b"here"),
    )
    layer = add(room, "/", data)
    found = room.members(layer)
    assert {"usr/bin/a", "out", "tmp/away/b", "there", "here"} <= set(found)
    assert found["out"].issym()
    assert {found["here"].isreg(), found["there"].islnk()} == {True}
    assert room.data(layer, "here") == b"below"


def test_what_an_archive_replaces(room: Room) -> None:
    """A directory that comes where the archive had put a file shows nothing of the one below."""
    (room.base / "d").mkdir()
    (room.base / "d/old").write_text("x")
    steps = [rawtar.entry(rawtar.FILE, b"d"), rawtar.entry(rawtar.DIRECTORY, b"d"), rawtar.entry(rawtar.FILE, b"d/new")]
    layer = add(room, "/", archive_of(*steps))
    assert {"d", "d/.wh..wh..opq", "d/new"} == set(room.members(layer))
    upper = room.unpacked(layer)
    assert [path for path, *_ in _core.Tree.layers([room.base, upper]).paths(b"")] == [b"d", b"d/new"]
    assert set(room.members(add(room, "/", archive_of(steps[0])))) == {"d"}
    assert set(room.members(add(room, "/", archive_of(*steps[1:])))) == {"d", "d/new"}
    made = add(room, "/", archive_of(steps[0], rawtar.entry(rawtar.FILE, b"d", data=b"second")))
    assert room.data(made, "d") == b"second"


def test_an_archive_of_a_descriptor_and_sparse_files(room: Room) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo("f")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"data"))
    path = room.path / "download"
    path.write_bytes(raw.getvalue())
    with path.open("rb") as file:
        assert "x/f" in room.members(room.copy("/x", (b"name", file.fileno(), 0o600, 5, True)))
        found = room.members(room.copy("/x", (b"name", file.fileno(), 0o600, 5, False)))
    assert (found["x"].mode, found["x"].mtime, found["x"].size) == (0o600, 5, len(raw.getvalue()))


def test_more_directories_than_descriptors(room: Room) -> None:
    """What waits to be listed holds none open."""
    for number in range(150):
        (room.base / f"d{number}/sub").mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, hard))
    try:
        below = room.below()
        assert len(below.paths(b"")) == len(_core.image_paths([str(room.base)])) == 300
        layer = room.copy("/x", (below, b"", None, False), below=below)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(room.members(layer)) == 301


# ---- trees -------------------------------------------------------------------------------------------------------


def test_trees_tell_what_is_in_them(room: Room) -> None:
    (room.context / "d").mkdir()
    (room.context / "d/f").write_text("text")
    (room.context / "l").symlink_to("/d")
    (room.context / "d").chmod(0o710)
    tree = room.tree()
    assert tree.paths(b"") == [(b"d", "d", 0o710), (b"d/f", "f", 0o644), (b"l", "l", 0o777)]
    assert tree.paths(b"l") == tree.paths(b"/d/") == [(b"f", "f", 0o644)]
    assert tree.paths(b"none") == tree.paths(b"d/f") == []
    assert (tree.kind(b"l"), tree.kind(b"l/f"), tree.kind(b"none"), tree.kind(b"")) == ("d", "f", None, "d")
    assert (tree.real(b"/l/../l/f"), tree.real(b"l/none"), tree.real(b"")) == (b"d/f", None, b"")
    assert (tree.read(b"l/f", 4), tree.read(b"none", 4)) == (b"text", None)
    with pytest.raises(ValueError, match="more than 3 bytes"):
        tree.read(b"d/f", 3)
    with pytest.raises(SetupError):
        tree.read(b"d", 100)
