"""What run()'s parameters for files do: mounts, files, the root and its writable layer, seen from both sides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pycontainer as pc
from probing import EACCES, ENOENT, EPERM, EROFS, PROGRAM, Probe, mount_at, read

parameter = pytest.mark.parameter
TMPFS = 0x01021994
RDONLY, NOSUID, NODEV = 1, 2, 4  # statfs(2)'s ST_*


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory, scratch: Path) -> Path:
    """A directory that belongs to a plain user, whoever runs the tests."""
    path = scratch / f"shared-{os.urandom(4).hex()}"
    path.mkdir()
    (path / "old").write_text("old")
    if os.geteuid() == 0:
        for name in (path, path / "old"):
            os.chown(name, 4444, 4444)
    return path


@parameter("run.mounts")
def test_a_bind_is_seen_and_changed_from_both_sides(probe_root: Path, shared: Path) -> None:
    script = "cat /m/old; echo new > /m/new; chmod 640 /m/new; stat -c %u:%g /m/old /m/new"
    result = pc.run(["/bin/sh", "-c", script], image=probe_root, mounts=[pc.Mount.bind(shared, "/m")])
    assert (result.returncode, result.stdout, result.stderr) == (0, b"old0:0\n0:0\n", b"")
    owner, made = shared.stat(), (shared / "new").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (owner.st_uid, owner.st_gid, 0o640)


@parameter("run.mounts")
def test_a_read_only_bind_cannot_be_written(inside: Probe, shared: Path) -> None:
    seen = inside("path=/m", "path=/m/old", mounts=[pc.Mount.bind(shared, "/m", read_only=True)])
    assert seen["paths"]["/m"]["write"] == EROFS
    assert seen["paths"]["/m/old"]["read"] == 0
    assert seen["paths"]["/m/old"]["write"] == EROFS
    flags = mount_at(seen, "/m")[5].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(flags)
    assert [entry.name for entry in shared.iterdir()] == ["old"]


@pytest.mark.requires("root")
def test_owner_is_who_owns_what_the_container_writes(probe_root: Path, scratch: Path) -> None:
    source = scratch / f"owned-{os.urandom(4).hex()}"
    source.mkdir(mode=0o755)
    mine = pc.Mount.bind(source, "/m", owner=4445)
    os.chown(source, 4445, 4445)
    assert pc.run(["/bin/touch", "/m/a"], image=probe_root, mounts=[mine]).returncode == 0
    assert (source / "a").stat().st_uid == 4445
    os.chown(source, 0, 0)
    with pytest.raises(pc.SetupError, match="owner=uid") as caught:
        pc.run(["/bin/touch", "/m/b"], image=probe_root, mounts=[pc.Mount.bind(source, "/m")])
    assert caught.value.errno == EPERM
    aloud = pc.Mount.bind(source, "/m", owner=0)
    assert pc.run(["/bin/touch", "/m/c"], image=probe_root, mounts=[aloud]).returncode == 0
    assert (source / "c").stat().st_uid == 0
    assert not (source / "b").exists()


def test_no_set_id_bit_can_be_left_in_a_writable_bind(probe_root: Path, shared: Path) -> None:
    """Control: the same in the writable layer, which nobody outside sees, is allowed."""
    script = "cp /bin/true /m/t && chmod 4755 /m/t; echo $?; cp /bin/true /tmp/t && chmod 4755 /tmp/t; echo $?"
    bind = pc.Mount.bind(shared, "/m")
    assert pc.run(["/bin/sh", "-c", script], image=probe_root, mounts=[bind]).stdout.split()[0] == b"1"
    assert not (shared / "t").exists() or (shared / "t").stat().st_mode & 0o6000 == 0
    control = pc.run(["/bin/sh", "-c", "cp /bin/true /tmp/t && chmod 4755 /tmp/t; echo $?"], image=probe_root)
    assert control.stdout == b"0\n"


def test_a_file_can_be_bound(inside: Probe, shared: Path) -> None:
    seen = inside("path=/etc/new/file", mounts=[pc.Mount.bind(shared / "old", "/etc/new/file", read_only=True)])
    assert seen["paths"]["/etc/new/file"]["content"] == "old"


def test_what_is_mounted_below_comes_after(inside: Probe, shared: Path, tmp_path: Path) -> None:
    (shared / "below").mkdir()
    mounts = [pc.Mount.tmpfs("/m/below", size="1MiB"), pc.Mount.bind(shared, "/m", read_only=True)]
    seen = inside("path=/m/below", "path=/m", mounts=mounts)
    assert seen["paths"]["/m/below"]["fs_type"] == TMPFS
    assert (seen["paths"]["/m/below"]["write"], seen["paths"]["/m"]["write"]) == (0, EROFS)


def test_an_overlay_can_be_changed_and_the_directory_never_is(probe_root: Path, shared: Path) -> None:
    script = "cat /o/old; echo changed > /o/old; echo x > /o/more; cat /o/old; rm /o/more; ls /o"
    result = pc.run(["/bin/sh", "-c", script], image=probe_root, mounts=[pc.Mount.overlay(shared, "/o")], user=0)
    assert (result.stdout, result.stderr) == (b"oldchanged\nold\n", b"")
    assert {entry.name: entry.read_text() for entry in shared.iterdir()} == {"old": "old"}


def test_a_tmpfs_has_the_size_and_mode_that_were_said(inside: Probe) -> None:
    mounts = [pc.Mount.tmpfs("/t", size="1MiB", mode=0o700), pc.Mount.tmpfs("/u")]
    seen = inside("path=/t", "path=/u", mounts=mounts)["paths"]
    assert (seen["/t"]["fs_type"], seen["/t"]["fs_size"], seen["/t"]["mode"]) == (TMPFS, 1 << 20, 0o700)
    assert (seen["/u"]["fs_type"], seen["/u"]["mode"], seen["/u"]["entries"]) == (TMPFS, 0o1777, 0)
    for path in ("/t", "/u"):
        assert seen[path]["flags"] & (NOSUID | NODEV) == NOSUID | NODEV


@pytest.mark.parametrize("kind", ["bind", "overlay", "tmpfs"])
def test_sixty_mounts(probe_root: Path, shared: Path, kind: str) -> None:
    made = {
        "bind": lambda target: pc.Mount.bind(shared, target, read_only=True),
        "overlay": lambda target: pc.Mount.overlay(shared, target),
        "tmpfs": lambda target: pc.Mount.tmpfs(target, size="1MiB"),
    }[kind]
    mounts = [made(f"/m/{i}") for i in range(60)]
    done = pc.run(["grep", "-c", " /m/", "/proc/self/mountinfo"], image=probe_root, mounts=mounts, text=True)
    assert (done.stdout, done.stderr) == ("60\n", "")


@parameter("run.files")
@pytest.mark.requires("ids")
def test_files_are_there_before_the_command_and_belong_to_its_user(inside: Probe, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("of a path")
    (tmp_path / "conf").chmod(0o600)
    files = {"/in/a": b"data", "/in/deep/run": pc.File(b"#!", mode=0o750), "/etc/conf": tmp_path / "conf"}
    seen = inside(*(f"path={path}" for path in files), files=files, user="worker")["paths"]
    found = {path: [seen[path][key] for key in ("content", "mode", "uid", "gid")] for path in files}
    assert found == {
        "/in/a": ["data", 0o644, 1000, 1000],
        "/in/deep/run": ["#!", 0o750, 1000, 1000],
        "/etc/conf": ["of a path", 0o600, 1000, 1000],
    }


def test_a_file_can_stand_in_for_one_of_the_image(inside: Probe, probe_root: Path) -> None:
    before = (probe_root / "etc/passwd").read_text()
    seen = inside("path=/etc/passwd", files={"/etc/passwd": b"root:x:0:0::/elsewhere:/bin/sh\n"})
    assert seen["paths"]["/etc/passwd"]["content"].startswith("root:x:0:0::/elsewhere")
    assert "HOME=/elsewhere" in seen["env"]
    assert (probe_root / "etc/passwd").read_text() == before


@pytest.mark.requires("ids")
def test_the_user_is_looked_up_in_a_passwd_and_group_of_the_files(inside: Probe) -> None:
    files = {"/a": b"", "/etc/passwd": b"me:x:12:34::/:/bin/sh\n", "/etc/group": b"us:x:56:\n"}
    seen = inside("path=/a", "path=/etc/passwd", files=files, user="me:us")
    assert (seen["uid"][0], seen["gid"][0]) == (12, 56)
    assert [seen["paths"][path]["uid"] for path in files if path != "/etc/group"] == [12, 0]


def test_many_and_large_files(probe_root: Path) -> None:
    big = os.urandom(3 << 20)
    files: dict[str, bytes] = {f"/data/{n}": b"%d" % n for n in range(300)}
    result = pc.run(["/bin/sh", "-c", "ls /data | wc -l; cat /big"], image=probe_root, files={**files, "/big": big})
    count, _, content = result.stdout.partition(b"\n")
    assert (int(count), content == big) == (300, True)


@parameter("run.read_only")
def test_read_only_leaves_three_small_tmpfs(inside: Probe) -> None:
    seen = inside(read_only=True)
    assert "ro" in mount_at(seen, "/")[5].split(",")
    assert {path: seen["paths"][path]["write"] for path in ("/", "/tmp", "/run", "/dev/shm")} == {
        "/": EROFS, "/tmp": 0, "/run": 0, "/dev/shm": 0,
    }  # fmt: skip
    for path in ("/tmp", "/run", "/dev/shm"):
        assert (seen["paths"][path]["fs_type"], seen["paths"][path]["fs_size"]) == (TMPFS, 64 << 20)
    plain = inside()
    assert (plain["paths"]["/"]["write"], plain["paths"]["/tmp"]["fs_type"] == TMPFS) == (0, False)


def test_files_and_mounts_in_a_read_only_root(inside: Probe, shared: Path) -> None:
    seen = inside(
        "path=/a/b",
        "path=/m",
        read_only=True,
        files={"/a/b": b"x"},
        mounts=[pc.Mount.bind(shared, "/m", read_only=True)],
    )["paths"]
    assert (seen["/a/b"]["content"], seen["/a/b"]["write"], seen["/m"]["entries"]) == ("x", EROFS, 1)


@parameter("run.upper")
def test_upper_is_in_memory_or_in_a_directory(inside: Probe, monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    store = scratch / "store"
    store.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("PYCONTAINER_ROOT", str(store))
    memory = inside(limits=pc.Limits(disk="8MiB"))
    assert memory["paths"]["/"]["fs_size"] == 8 << 20
    assert memory.result.enforced["upper"].by == "tmpfs"
    disk = inside(upper="disk")
    underneath = os.statvfs(scratch)
    assert disk["paths"]["/"]["fs_size"] == underneath.f_blocks * underneath.f_frsize
    assert disk["paths"]["/"]["write"] == 0
    assert [path for path in store.rglob("*") if path.name == ".probe"] == []
    assert disk.result.enforced["upper"].by == "a directory in the store"


def test_the_image_is_never_written(probe_root: Path) -> None:
    before = sorted((path.name, path.lstat().st_mtime_ns) for path in probe_root.rglob("*"))
    pc.run(["/bin/sh", "-c", "rm -rf /bin/ls /etc; echo x > /new"], image=probe_root)
    assert sorted((path.name, path.lstat().st_mtime_ns) for path in probe_root.rglob("*")) == before


def test_a_missing_source_is_named(probe_root: Path) -> None:
    with pytest.raises(pc.SetupError, match="/does/not/exist") as caught:
        pc.run([PROGRAM], image=probe_root, mounts=[pc.Mount.bind("/does/not/exist", "/m")])
    assert (caught.value.errno, caught.value.filename) == (ENOENT, "/does/not/exist")


@pytest.mark.requires("root")
@pytest.mark.leaks_by_design  # the skeleton of an Image.host() is kept for the next container of it
def test_what_only_one_user_of_the_host_may_read_stays_unread_in_the_host_image(probe: Path, scratch: Path) -> None:
    """Host files belong to nobody inside. Control: the same file where everyone may read it."""
    place = scratch / f"place-{os.urandom(4).hex()}"
    place.mkdir()
    for name, mode in (("secret", 0o600), ("public", 0o644)):
        (place / name).write_text(name)
        (place / name).chmod(mode)
    bound = pc.Mount.bind(probe, "/run/probe", read_only=True)
    words = [f"path={place}/secret", f"path={place}/public"]
    seen = read(pc.run(["/run/probe", *words], image=pc.Image.host(paths=[place]), mounts=[bound]))["paths"]
    assert [seen[f"{place}/secret"][key] for key in ("read", "content", "uid")] == [EACCES, None, 65534]
    assert [seen[f"{place}/public"][key] for key in ("read", "content", "uid")] == [0, "public", 65534]
