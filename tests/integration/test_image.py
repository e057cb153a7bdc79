"""Root file systems: this machine's programs, a directory, an archive; its tree compared with other unpackers'."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import pycontainer as pc
import ranges
import rawtar
from pycontainer._errors import LayerError

Facts = dict[str, tuple[object, ...]]


@pytest.fixture(autouse=True)
def store(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
    monkeypatch.setenv("PYCONTAINER_ROOT", str(path))
    yield path
    ranges.remove(path)


@pytest.fixture
def work(scratch: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="work-", dir=scratch))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def packed(rootfs: Path, work: Path) -> Path:
    """The small root file system, as GNU tar packs it."""
    subprocess.run(["tar", "-C", rootfs, "--owner=0", "--group=0", "-cf", work / "root.tar", "."], check=True)
    return work / "root.tar"


def shell(image: pc.Image, script: str) -> str:
    return pc.run(["/bin/sh", "-c", script], image=image, text=True, check=True, timeout=60).stdout


def root_of(image: pc.Image) -> Path:
    return Path(image._directory)


# ---- host and directory ------------------------------------------------------------------------------------------


def test_host_has_programs_and_this_interpreter_and_no_data(work: Path) -> None:
    (work / "secret").write_text("not inside")
    script = "import sys, os; print(sys.prefix, *map(os.path.exists, [sys.argv[1], '/etc/shadow', '/var/lib']))"
    done = pc.run([sys.executable, "-c", script, str(work / "secret")], image=pc.Image.host(), text=True, check=True)
    assert done.stdout == f"{sys.prefix} False False False\n"


@pytest.fixture(scope="session")
def shown(scratch: Path) -> Path:
    """A directory of the host that an image has shown before: the engine keeps what it prepared for the last ones."""
    path = scratch / "shown"
    path.mkdir()
    (path / "data").write_text("asked for")
    pc.run(["true"], image=pc.Image.host(paths=[path]), check=True)
    return path


def test_host_shows_more_paths_read_only(shown: Path) -> None:
    script = 'cat "$1"/data; echo x > "$1"/data && echo written'
    done = pc.run(["sh", "-c", script, "sh", str(shown)], image=pc.Image.host(paths=[shown]), text=True)
    assert done.stdout == "asked for"
    assert (shown / "data").read_text() == "asked for"


def test_a_directory_is_never_written_to(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rootfs.parent)
    image = pc.Image.from_directory(rootfs.name)
    monkeypatch.chdir("/")
    before = facts(rootfs)
    assert shell(image, "echo new > /etc/new; rm -r /tmp; cat /etc/new") == "new\n"
    assert facts(rootfs) == before


# ---- archives that run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", ["plain", "gzip", pytest.param("zstd", marks=pytest.mark.requires("program:zstd"))])
def test_an_archive_runs(packed: Path, pack: str) -> None:
    if pack != "plain":
        subprocess.run([pack, "-q", packed], check=True)
        packed = next(packed.parent.glob("root.tar.*"))
    image = pc.Image.from_archive(packed)
    assert shell(image, "id -u; echo new > /etc/new; ls -d /bin/busybox /etc/new") == "0\n/bin/busybox\n/etc/new\n"
    assert not (root_of(image) / "etc/new").exists()
    assert pc.Image.from_archive(str(packed))._directory == image._directory


def test_a_tree_as_debootstrap_makes_it_runs(rootfs: Path, work: Path) -> None:
    """Merged /usr, users of its own, a set-id program, a sticky /tmp, entries that lie behind the links."""
    busybox = (rootfs / "bin/busybox").read_bytes()
    directories = [b"./", b"./usr/", b"./usr/bin/", b"./etc/", b"./proc/", b"./sys/", b"./dev/", b"./home/u/"]
    parts = [rawtar.entry(rawtar.DIRECTORY, name) for name in directories]
    parts += [
        rawtar.entry(rawtar.SYMLINK, b"./bin", b"usr/bin"),
        rawtar.entry(rawtar.FILE, b"./bin/busybox", data=busybox),
        *(
            rawtar.entry(rawtar.LINK, b"./usr/bin/" + name, b"./usr/bin/busybox")
            for name in (b"sh", b"id", b"cat", b"stat")
        ),
        rawtar.entry(
            rawtar.FILE, b"./etc/passwd", data=b"root:x:0:0::/:/bin/sh\nu:x:33:33::/home/u:/bin/sh\n", mode=0o644
        ),
        rawtar.entry(rawtar.FILE, b"./etc/group", data=b"root:x:0:\nu:x:33:\n", mode=0o644),
        rawtar.entry(rawtar.FILE, b"./home/u/own", data=b"own\n", uid=33, mode=0o600),
        rawtar.entry(rawtar.DIRECTORY, b"./tmp", mode=0o1777),
    ]
    path = work / "debian.tar"
    path.write_bytes(gzip.compress(rawtar.archive(*parts), mtime=0))
    script = "stat -c '%a %u %h %n' /usr/bin/sh /tmp /home/u/own; cat /home/u/own; /usr/bin/id -un"
    owner = 0 if ranges.are_missing() else 33
    seen = shell(pc.Image.from_archive(path), script)
    empty = work / "empty"  # two names, or one: btrfs does not count a directory's
    empty.mkdir()
    assert seen == f"755 0 5 /usr/bin/sh\n1777 0 {empty.stat().st_nlink} /tmp\n600 {owner} 1 /home/u/own\nown\nroot\n"


@pytest.mark.requires("ids")
def test_users_of_an_archive(packed: Path, work: Path) -> None:
    image = pc.Image.from_archive(packed)
    done = pc.run(["/bin/sh", "-c", "id -u; ls /bin >/dev/null && echo seen"], image=image, user="12:34", text=True)
    assert done.stdout == "12\nseen\n"


# ---- what comes out ----------------------------------------------------------------------------------------------


def facts(root: Path) -> Facts:
    """Of every name: kind and mode, size, link target, time, hard link group, device, data."""
    groups: dict[int, str] = {}
    found: Facts = {}
    for path in sorted([root, *root.rglob("*")]):
        seen, name = path.lstat(), str(path.relative_to(root))
        group = groups.setdefault(seen.st_ino, name)
        data = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
        target = os.readlink(path) if path.is_symlink() else ""
        size = 0 if stat.S_ISDIR(seen.st_mode) else seen.st_size
        found[name] = (stat.filemode(seen.st_mode), size, target, seen.st_mtime_ns, group, seen.st_rdev, data)
    return found


def unpack_with(tool: str, archive: Path, target: Path) -> Facts:
    target.mkdir()
    # Without it GNU tar sets the time of a directory before the last entry in it.
    late = ["--delay-directory-restore"] if tool == "tar" else []
    subprocess.run([*ranges.inside(), tool, *late, "-xpf", archive, "-C", target], check=True)
    return without_time_of_root(facts(target))


def without_time_of_root(found: Facts) -> Facts:
    """bsdtar leaves the time of "." as it is."""
    return {name: fact[:3] + fact[4:] if name == "." else fact for name, fact in found.items()}


NAMES = st.lists(st.sampled_from(["a", "b", "c", "long" * 30, "ü", "sp ace"]), min_size=1, max_size=3).map("/".join)
MEMBERS = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from(
            [tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
        ),
        st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777]),
        st.integers(0, 1 << 31),
        st.binary(max_size=1500),
    ),
    max_size=8,
)


def valid(members: list[tuple[str, bytes, int, int, bytes]], form: int) -> bytes:
    """An archive in which every name comes once, below directories only, and links go to files that came before."""
    out, taken, files = io.BytesIO(), {}, []
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        root = tarfile.TarInfo("./")
        root.type, root.mode, root.mtime = tarfile.DIRTYPE, 0o755, 1
        archive.addfile(root)
        for name, kind, mode, mtime, data in members:
            parts = name.split("/")
            above = ["/".join(parts[:i]) for i in range(1, len(parts))]
            if name in taken or any(taken.get(path, tarfile.DIRTYPE) != tarfile.DIRTYPE for path in above):
                continue
            if any(path not in taken for path in above) or (kind == tarfile.LNKTYPE and not files):
                last = tarfile.DIRTYPE
            else:
                last = kind
            for path in [path for path in [*above, name] if path not in taken]:
                info = tarfile.TarInfo(path)
                info.type, info.mode, info.mtime = (last if path == name else tarfile.DIRTYPE), mode | 0o700, mtime
                # bsdtar drops set-id bits with another's owner.
                info.uid, info.gid = (0, 0) if ranges.inside() else (os.geteuid(), os.getegid())
                info.linkname = {tarfile.SYMTYPE: "../" + name, tarfile.LNKTYPE: files[-1] if files else ""}.get(
                    info.type, ""
                )
                info.size = len(data) if info.type == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(data))
                taken[path] = info.type
                files += [path] if info.type == tarfile.REGTYPE else []
    return out.getvalue()


@pytest.mark.parametrize(
    "tool", [pytest.param(name, marks=pytest.mark.requires(f"program:{name}")) for name in ("tar", "bsdtar")]
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS, form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_the_same_tree_as_other_unpackers(
    work: Path, tool: str, members: list[tuple[str, bytes, int, int, bytes]], form: int
) -> None:
    with tempfile.TemporaryDirectory(dir=work) as directory:
        path = Path(directory, "a.tar")
        path.write_bytes(valid(members, form))
        ours = without_time_of_root(facts(root_of(pc.Image.from_archive(path))))
        assert ours == unpack_with(tool, path, Path(directory, "other"))


@pytest.mark.parametrize(
    "tool", [pytest.param(name, marks=pytest.mark.requires(f"program:{name}")) for name in ("tar", "bsdtar")]
)
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_what_other_packers_write_comes_back(work: Path, tool: str, form: str) -> None:
    """Long names, hard links, holes, times with fractions: whatever this packer has a form for."""
    source = work / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/file").write_bytes(os.urandom(3000))
    os.link(source / "d/file", source / "hard")
    os.symlink("../d/file", source / "d/link")
    if form in ("gnu", "pax"):
        (source / ("n" * 200)).write_text("long name")
        os.symlink("t" * 250, source / "long-target")
        with (source / "holes").open("wb") as file:
            for offset in range(0, 40 << 16, 1 << 16):
                file.seek(offset)
                file.write(b"data at %d" % offset)
            file.truncate(50 << 16)
    for path in [*source.rglob("*"), source]:
        fraction = 123_456_789 if form == "pax" else 0
        os.utime(path, ns=(0, 1_700_000_000_000_000_000 + fraction), follow_symlinks=False)
    options = {
        "tar": [f"--format={form}", *(["--sparse"] if form in ("gnu", "pax") else [])],
        "bsdtar": ["--format", {"gnu": "gnutar"}.get(form, form)],
    }[tool]
    subprocess.run([*ranges.inside(), tool, *options, "-C", source, "-cf", work / "a.tar", "."], check=True)
    root = root_of(pc.Image.from_archive(work / "a.tar"))
    assert facts(root) == facts(source)
    if form == "pax" or (tool == "tar" and form == "gnu"):
        assert (root / "holes").stat().st_blocks <= (source / "holes").stat().st_blocks


@pytest.mark.requires("root")
def test_as_root_owners_devices_and_capabilities_are_the_archives(work: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    path = work / "a.tar"
    path.write_bytes(
        rawtar.archive(
            rawtar.pax((b"SCHILY.xattr.security.capability", capability), (b"SCHILY.xattr.user.x", b"y")),
            rawtar.entry(rawtar.FILE, b"ping", data=b"x", uid=7, mode=0o4755),
            rawtar.entry(rawtar.CHAR, b"null", device=(1, 3), mode=0o666),
            rawtar.entry(rawtar.SYMLINK, b"link", b"x", uid=8),
            rawtar.entry(rawtar.DIRECTORY, b"./", uid=9, mode=0o711),
        )
    )
    root = root_of(pc.Image.from_archive(path))
    assert [root.joinpath(name).lstat().st_uid for name in ("ping", "link", ".")] == [7, 8, 9]
    assert (root / "ping").stat().st_mode == stat.S_IFREG | 0o4755
    assert os.getxattr(root / "ping", "security.capability") == capability
    assert os.getxattr(root / "ping", "user.x") == b"y"
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "null").stat().st_mode & 0o777 == 0o666
    assert root.stat().st_mode & 0o7777 == 0o711


@pytest.mark.requires("user")
def test_as_a_user_devices_are_left_out_and_closed_directories_go(work: Path) -> None:
    """Whose everything is where the user has one id."""
    path = work / "a.tar"
    unreadable = rawtar.entry(rawtar.DIRECTORY, b"closed", mode=0, uid=7)
    within = rawtar.entry(rawtar.FILE, b"closed/f", data=b"x", uid=8)
    path.write_bytes(rawtar.archive(unreadable, within, rawtar.entry(rawtar.CHAR, b"null", device=(1, 3))))
    root = root_of(pc.Image.from_archive(path))
    assert sorted(os.listdir(root)) == ["closed"]
    assert (root / "closed").stat().st_mode & 0o7777 == 0
    assert ((root / "closed").stat().st_uid == os.geteuid()) == ranges.are_missing()
    (root.parent / "complete").write_text("damaged")  # what is unpacked instead takes the closed directory away
    assert root_of(pc.Image.from_archive(path)) == root
    assert len(os.listdir(root.parent.parent)) == 1


# ---- bad input ---------------------------------------------------------------------------------------------------


def test_what_is_no_readable_archive(work: Path, store: Path) -> None:
    os.mkfifo(work / "fifo")
    for path, number in [
        (work / "missing", errno.ENOENT),
        (work, errno.EISDIR),
        (work / "fifo", errno.EINVAL),
        ("/dev/zero", errno.EINVAL),
    ]:
        with pytest.raises(pc.SetupError) as caught:
            pc.Image.from_archive(path)
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert os.listdir(store) == []


NO_TARS = {
    "empty": (b"", "end marker"),
    "text": (b"hello, world\n" * 100, "not a number"),
    "bzip2": (bz2.compress(b"x"), "bzip2"),
    "xz": (lzma.compress(b"x"), "xz"),
    "text in gzip": (gzip.compress(b"no tar" * 200), "not a number"),
    "half a gzip": (b"\x1f\x8bgarbage", "end of file|gzip|header"),
    "half a zstd": (b"\x28\xb5\x2f\xfdgarbage", "Dictionary|frame|corrupt|descriptor|Unsupported"),
}


@pytest.mark.parametrize("name", NO_TARS)
def test_what_is_no_tar(work: Path, store: Path, name: str) -> None:
    data, text = NO_TARS[name]
    path = work / "bad.tar"
    path.write_bytes(data)
    with pytest.raises(LayerError, match=text) as caught:
        pc.Image.from_archive(path)
    assert str(path) in str(caught.value)
    assert os.listdir(store / "archives") == []


def test_a_callers_mistakes() -> None:
    for bad, error in [("", ValueError), ("a\0b", ValueError), (7, TypeError), (None, TypeError)]:
        with pytest.raises(error):
            pc.Image.from_archive(bad)  # type: ignore[arg-type]


def test_a_store_that_others_can_write_to_is_refused(packed: Path, store: Path) -> None:
    store.chmod(0o777)
    with pytest.raises(pc.SetupError, match="nobody else can write"):
        pc.Image.from_archive(packed)


@pytest.mark.requires("root")
def test_a_full_disk(packed: Path, store: Path, on_tmpfs: Callable[[Path, str], None]) -> None:
    on_tmpfs(store, "size=1m")
    with pytest.raises(pc.Error, match="No space left") as caught:
        pc.Image.from_archive(packed)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(store)
    assert os.listdir(store / "archives") == []


@pytest.fixture
def on_tmpfs() -> Iterator[Callable[[Path, str], None]]:
    mounted: list[Path] = []

    def mount(path: Path, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", path], check=True)
        mounted.append(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)
