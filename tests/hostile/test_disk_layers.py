"""Attacks on what bounds a writable layer on the disk: a file's project, the device, the file system's switches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.attacks import PRELUDE
from programs.stores import in_store, mounted

pytestmark = [pytest.mark.vm, pytest.mark.requires("root", "loop", "program:mkfs.ext4")]
MEANS = {"ext4": "loop file", "ext4-quota": "project quota", "xfs-quota": "project quota"}
KINDS = [
    "ext4",
    pytest.param("ext4-quota", marks=pytest.mark.requires("project-quota:ext4")),
    pytest.param("xfs-quota", marks=pytest.mark.requires("project-quota:xfs")),
]


@pytest.fixture
def store(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    with mounted(request.param, 600, scratch) as path:
        yield path


# Runs inside, with Python of Image.host().
ATTACK = (
    PRELUDE
    + """
import fcntl
GET, SET, SHUTDOWN, SETFLAGS, RESIZE = 0x801C581F, 0x401C5820, 0x8004587D, 0x40086602, 0x40086610
open("/tmp/mine", "w").write("x")
def ask(path, number, argument):
    fd = os.open(path, os.O_RDONLY)
    try:
        return fcntl.ioctl(fd, number, argument)
    finally:
        os.close(fd)
def move(path, project, flags):
    # A file that cannot say its project has none to leave.
    extents = bytearray(28)
    try:
        extents = bytearray(ask(path, GET, bytes(28)))
    except OSError:
        pass
    struct.pack_into("I", extents, 12, project)
    struct.pack_into("I", extents, 0, flags)
    return ask(path, SET, bytes(extents))
answers = {f"project {path} {project} {flags:#x}": attempt(move, path, project, flags)
           for path in ("/tmp/mine", "/tmp", "/") for project in (0, 1, 0x70630001) for flags in (0, 0x200)}
for path in ("/tmp", "/"):
    answers[f"shutdown {path}"] = attempt(ask, path, SHUTDOWN, struct.pack("I", 2))
    answers[f"resize {path}"] = attempt(ask, path, RESIZE, struct.pack("Q", 1 << 30))
PRJQUOTA = 2
for number in (0x5804, 0x5802, 0x800003):  # Q_XSETQLIM, Q_XQUOTAOFF, Q_QUOTAOFF
    answer = call(443, os.open("/tmp", os.O_RDONLY), number << 8 | PRJQUOTA, 0x70630000, room(112))
    answers[f"quotactl {number:#x}"] = ["refused" if answer < 0 else "done", str(answer)]
answers["loop device"] = attempt(os.mknod, "/tmp/loop", stat.S_IFBLK | 0o600, os.makedev(7, 0))
answers["loop control"] = attempt(os.open, "/dev/loop-control", os.O_RDWR)
answers["devices"] = ["refused" if not [n for n in os.listdir("/dev") if "loop" in n] else "done", ""]
written = 0
with open("/tmp/fill", "wb") as file:
    try:
        while True:
            written += os.write(file.fileno(), bytes(65536))
    except OSError:
        pass
tell([answers, written])
"""
)
PROGRAM = """
r = pc.run(["python3", "-c", sys.argv[2]], upper="disk", limits=Limits(disk="8MiB"), check=True,
           security=pc.Security(seccomp="unconfined"))
tell(json.loads(r.stdout))
tell(r.enforced["disk"].by)
"""


@pytest.mark.parametrize("store", KINDS, indirect=True)
def test_the_container_s_root_cannot_leave_its_bound(request: pytest.FixtureRequest, store: Path) -> None:
    """Without the system call filter: the kernel itself asks for the first user namespace, and for privileges that
    the container's root has over nothing of this.
    """
    (answers, written), by = in_store(store, PROGRAM, "-", ATTACK)
    done = {name for name, answer in answers.items() if answer[0] != "refused"}
    # Of a file system without projects: to set none is to change nothing.
    assert done <= {name for name in answers if name.startswith("project") and name.endswith(" 0 0x0")}, answers
    assert by == MEANS[request.node.callspec.params["store"]]
    assert 0.9 <= written / (8 << 20) <= 1.1


@pytest.mark.parametrize("store", KINDS[1:], indirect=True)
def test_root_that_is_root_outside_is_bound_by_a_file_system_of_its_own(store: Path) -> None:
    """It could give its files to another project; so a quota is not what holds it."""
    program = """
r = pc.run(["sh", "-c", "true"], upper="disk", limits=Limits(disk="8MiB"), security=pc.Security(user_namespace="host"))
tell(facts(r))
"""
    (seen,) = in_store(store, program, "-")
    assert seen["by"] == "loop file"
