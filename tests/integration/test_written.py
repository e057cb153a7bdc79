"""What a caller wrote is enforced or refused by name, and given up by `degrade=` only; nothing is left out silently."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import worlds
from pycontainer import Limits, Mount, Security

ADMIN = Security(landlock=True, capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
EOPNOTSUPP, ENOSYS = 95, 38


# ---- Landlock ----------------------------------------------------------------------------------------------------


@pytest.mark.requires("landlock>=2")
@pytest.mark.refuses("security.landlock")
def test_landlock_is_not_left_out_for_sys_admin(rootfs: Path) -> None:
    with pytest.raises(pc.NotSupported, match=r"landlock: .* CAP_SYS_ADMIN") as caught:
        pc.run(["true"], image=rootfs, security=ADMIN)
    assert caught.value.requirement == "landlock"
    assert "SYS_ADMIN" in caught.value.fix
    for how in ({"security": ADMIN, "degrade": ["landlock"]}, {"security": Security(capabilities=ADMIN.capabilities)}):
        done = pc.run(["true"], image=rootfs, check=True, **how)
        assert done.enforced["landlock"].state == "missing"
        assert "CAP_SYS_ADMIN" in done.enforced["landlock"].why
    assert pc.run(["true"], image=rootfs, security=Security(landlock=True)).enforced["landlock"].state == "held"


# Behind the filter: what run() came to for each way to say it.
WITHOUT_LANDLOCK = """
import json, sys, worlds
worlds.install("landlock_create_ruleset", {errno})
import pycontainer as pc
def look(**said):
    try:
        row = pc.run(["true"], image={image!r}, check=True, **said).enforced["landlock"]
    except pc.NotSupported as error:
        return ["refused", error.requirement, error.fix]
    return [row.state, row.why, row.fix]
needed = pc.Security(landlock=True)
print(json.dumps([look(security=needed), look(security=needed, degrade=["landlock"]), look()]))
"""


@pytest.mark.requires("userns", "landlock>=2")
@pytest.mark.parametrize("code", [ENOSYS, EOPNOTSUPP])
def test_landlock_can_be_given_up_where_there_is_none(rootfs: Path, code: int) -> None:
    argv = worlds.python(WITHOUT_LANDLOCK.format(errno=code, image=str(rootfs)))
    needed, degraded, unsaid = worlds.report(argv)
    assert needed[:2] == ["refused", "landlock"]
    assert "lsm=" in needed[2]
    assert degraded == unsaid
    assert degraded[0] == "missing"


# ---- whose files -------------------------------------------------------------------------------------------------


@pytest.mark.requires("user")
def test_an_owner_that_a_plain_user_cannot_give_is_refused(rootfs: Path, tmp_path: Path) -> None:
    def touch(owner: int | None, **said: Any) -> int:
        mounts = [Mount.bind(tmp_path, "/m", owner=owner)]
        pc.run(["touch", "/m/x"], image=rootfs, mounts=mounts, check=True, **said)
        return (tmp_path / "x").stat().st_uid

    assert touch(None) == touch(os.getuid()) == os.getuid()
    for other in (0, os.getuid() + 1, 4444):
        with pytest.raises(pc.NotSupported, match=rf"owner.*/m belongs to uid {os.getuid()}") as caught:
            touch(other)
        assert "root" in caught.value.fix


@pytest.mark.requires("user", "subuid")
def test_the_owner_is_who_root_inside_is_by_the_caller_s_map(rootfs: Path, tmp_path: Path) -> None:
    first = int(next(line.split(":")[1] for line in Path("/etc/subuid").read_text().splitlines() if mine(line)))
    tmp_path.chmod(0o777)
    security = Security(user_namespace=pc.IdMap(0, first, 10))
    bound = [Mount.bind(tmp_path, "/m", owner=first)]
    pc.run(["touch", "/m/x"], image=rootfs, mounts=bound, security=security, check=True)
    assert (tmp_path / "x").stat().st_uid == first
    with pytest.raises(pc.NotSupported, match=f"owner.* belongs to uid {first}"):
        pc.run(["true"], image=rootfs, mounts=[Mount.bind(tmp_path, "/m", owner=os.getuid())], security=security)


def mine(line: str) -> bool:
    import pwd

    return line.partition(":")[0] in (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()))


# ---- files of this machine ---------------------------------------------------------------------------------------

READ = """
import os, sys
from pathlib import Path
import pycontainer as pc
try:
    pc.run(["true"], image=sys.argv[1], files={"/in": Path(sys.argv[2])})
    print("taken")
except pc.SetupError as error:
    print(error.errno, error.filename)
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    print("a terminal was taken")
except OSError:
    pass
"""


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Things that are no files, by what they are."""
    found = {kind: tmp_path / kind for kind in ("fifo", "socket", "directory")}
    os.mkfifo(found["fifo"])
    found["directory"].mkdir()
    outer, inner = os.openpty()
    found["terminal"] = Path(os.ttyname(inner))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(found["socket"]))
        yield found
    os.close(outer)
    os.close(inner)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("fifo", errno.EINVAL), ("socket", errno.ENXIO), ("terminal", errno.EINVAL), ("directory", errno.EISDIR),
    ],
)  # fmt: skip
def test_a_source_of_files_that_is_no_file_is_refused_at_once(
    rootfs: Path, sources: dict[str, Path], kind: str, code: int
) -> None:
    """A FIFO would wait for its writer, with no signal and no timeout; a terminal would become this session's own."""
    argv = [sys.executable, "-c", READ, str(rootfs), str(sources[kind])]
    environ = {**os.environ, "PYTHONPATH": worlds.package_path()}
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, timeout=30, env=environ, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{code} {sources[kind]}\n"


def test_control_a_fifo_hangs_who_opens_it(sources: dict[str, Path]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["cat", str(sources["fifo"])], timeout=0.3, check=False)


# ---- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.refuses("run.stdin", "run.stdout", "run.stderr")
@pytest.mark.parametrize(
    ("name", "flags", "way"),
    [
        ("stdin", os.O_WRONLY, "reading"), ("stdin", os.O_PATH, "reading"), ("stdin", os.O_RDONLY, None),
        ("stdin", os.O_RDWR, None),
        *((name, flags, "writing") for name in ("stdout", "stderr") for flags in (os.O_RDONLY, os.O_PATH)),
        *((name, flags, None) for name in ("stdout", "stderr") for flags in (os.O_WRONLY, os.O_RDWR, os.O_APPEND | 1)),
    ],
)  # fmt: skip
def test_a_stream_is_open_for_its_direction_or_refused(
    rootfs: Path, tmp_path: Path, name: str, flags: int, way: str | None
) -> None:
    """The command would meet EBADF at its first read or write, and nobody would get the output."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", flags)
    try:
        if way is None:
            assert pc.run(["true"], image=rootfs, **{name: fd}).returncode == 0
        else:
            with pytest.raises(ValueError, match=f"^{name}: {fd} is not open for {way}"):
                pc.run(["true"], image=rootfs, **{name: fd})
    finally:
        os.close(fd)


def test_sockets_and_pipes_are_open_for_what_they_are(rootfs: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pc.run(["echo", "out"], image=rootfs, stdin=theirs, stdout=theirs, stderr=theirs, check=True)
        assert ours.recv(10) == b"out\n"
    read, write = os.pipe()
    try:
        pc.run(["true"], image=rootfs, stdin=read, stdout=write, check=True)
        with pytest.raises(ValueError, match="stdin"):
            pc.run(["true"], image=rootfs, stdin=write)
        with pytest.raises(ValueError, match="stderr"):
            pc.run(["true"], image=rootfs, stderr=read)
    finally:
        os.close(read)
        os.close(write)


def test_what_is_inherited_is_as_it_is(rootfs: Path) -> None:
    """nohup leaves a stdin that is open for writing only."""
    script = f"import pycontainer as pc; print(pc.run(['true'], image={str(rootfs)!r}, stdin=pc.INHERIT).returncode)"
    argv = ["sh", "-c", 'exec "$@" 0> /dev/null', "sh", *worlds.python(script)]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).stdout == "0\n"


# ---- limits that two words set, or that are lifted ---------------------------------------------------------------


@pytest.mark.parameter("limits.cpu_time", "limits.rlimits")
@pytest.mark.parametrize(
    ("budget", "said", "expected"),
    [
        (2, 1000, "2 3"), (1000, 2, "2 2"), (1000, (2, 3000), "2 1001"), (7, (2, 3), "2 3"), (2.5, "max", "3 4"),
        (9, None, "9 10"),
    ],
)  # fmt: skip
def test_of_two_limits_of_cpu_time_the_stronger_holds(rootfs: Path, budget: float, said: Any, expected: str) -> None:
    limits = Limits(cpu_time=budget, rlimits=None if said is None else {"cpu": said})
    script = "echo $(ulimit -St) $(ulimit -Ht)"
    done = pc.run(["sh", "-c", script], image=rootfs, limits=limits, degrade=["cpu_time", "rlimits"], text=True)
    assert done.stdout.strip() == expected


def test_a_signal_of_the_caller_s_own_cpu_limit_is_no_verdict_on_cpu_time(rootfs: Path) -> None:
    limits = Limits(cpu_time=1000, rlimits={"cpu": (1, 3)})
    done = pc.run(["sh", "-c", "while :; do :; done"], image=rootfs, limits=limits, degrade=["cpu_time"], timeout=60)
    assert (done.returncode, done.reason) == (-signal.SIGXCPU, pc.Reason.SIGNALED)


@pytest.mark.requires("controller:pids")
@pytest.mark.parameter("limits.pids")
@pytest.mark.parametrize("pid1", [False, True])
def test_the_most_tasks_that_the_kernel_has_a_number_for(rootfs: Path, pid1: bool) -> None:
    """Our own PID 1 is not counted against them, and there is no number above."""
    done = pc.run(["true"], image=rootfs, limits=Limits(pids=2**22), pid1=pid1, check=True)
    assert done.enforced["pids"].state == "held"
    with pytest.raises(ValueError, match="pids must be from 1 to 4194304, not 4194305"):
        Limits(pids=2**22 + 1)


@pytest.mark.parametrize("name", ["disk", "output", "wall_time", "cpu_time"])
def test_a_limit_that_was_lifted_is_held_by_nobody(rootfs: Path, name: str) -> None:
    row = pc.run(["true"], image=rootfs, limits=Limits(**{name: "max"})).enforced[name]
    assert (row.state, row.by) == ("held", "lifted, as asked")


def test_rates_that_were_lifted_have_a_row_too(rootfs: Path) -> None:
    lifted = pc.IoLimit(read_bps="max", write_iops="max")
    row = pc.run(["true"], image=rootfs, limits=Limits(io={"8:0": lifted, "8:16": lifted})).enforced["io"]
    assert (row.state, row.by) == ("held", "lifted, as asked")
    assert "io" not in pc.run(["true"], image=rootfs, limits=Limits(io={})).enforced


# ---- mounts that are mapped where that is possible ---------------------------------------------------------------

LOOK = """
import json, pycontainer as pc
row = pc.run(["true"], mounts=[pc.Mount.bind(path, path, read_only=True) for path in {paths!r}], check=True).enforced
row = row.get("idmapped_mounts")
print(json.dumps(None if row is None else [row.state, row.by, row.why, row.fix]))
"""


@pytest.mark.requires("root", "idmap", "kernel>=6.3")
def test_a_read_only_bind_that_cannot_be_mapped_is_told() -> None:
    """/mnt/m is an overlay, which cannot be; /mnt/l lies on a tmpfs, which can."""
    make = (
        "mount -t tmpfs none /mnt; mkdir /mnt/l /mnt/u /mnt/w /mnt/m; "
        "mount -t overlay none -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"
    )

    def look(*paths: str) -> Any:
        return worlds.private(make, worlds.python(LOOK.format(paths=paths)))

    assert look() is None
    assert look("/mnt/l")[0] == "held"
    for paths in (["/mnt/m"], ["/mnt/l", "/mnt/m"], ["/mnt/m", "/mnt/l"]):
        state, by, why, fix = look(*paths)
        assert (state, "owners" in by) == ("degraded", True)
        assert "cannot be idmapped" in why
        assert "ext4" in fix


@pytest.mark.requires("user")
def test_a_plain_user_s_binds_need_no_map(rootfs: Path, tmp_path: Path) -> None:
    done = pc.run(["true"], image=rootfs, mounts=[Mount.bind(tmp_path, "/m", read_only=True)], check=True)
    assert "idmapped_mounts" not in done.enforced
