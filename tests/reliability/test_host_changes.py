"""What the host does to itself after the first run, ids, directory, umask, limits: the next is like the first."""

from __future__ import annotations

from pathlib import Path

import pytest
from pen import Pen

pytestmark = [pytest.mark.requires("pen"), pytest.mark.leaks_by_design]

IDENTITY = """
os.environ["HOME"] = os.environ["XDG_DATA_HOME"] = os.environ["PYCONTAINER_ROOT"] = "/nonexistent"
assert pc.run(["id", "-u"], image=image).stdout == b"0\\n"
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
r = pc.run(["id", "-u"], image=image)
assert r.stdout == b"0\\n", r
assert _core.keeper_pid() not in (keeper, None)
deadline = time.monotonic() + 2
while os.path.exists(f"/proc/{keeper[0]}"):
    assert time.monotonic() < deadline, "the first keeper still lives"
    time.sleep(0.01)
"""


@pytest.mark.requires("root", "userns")
def test_a_host_that_drops_its_ids_gets_another_keeper(pen: Pen, rootfs: Path) -> None:
    pen.tried(IDENTITY, rootfs)


# The old keeper does not listen to the new identity, but a run that it started before ends all the same.
IN_FLIGHT = """
seen = []
def one():
    seen.append(pc.run(["sh", "-c", "sleep 0.5; echo end"], image=image, limits=pc.Limits(pids=20)))
runner = threading.Thread(target=one)
runner.start()
time.sleep(0.2)
os.setresuid(0, 65534, 0)
other = pc.run(["sh", "-c", "echo other"], image=image)
os.setresuid(0, 0, 0)
runner.join()
assert seen[0].stdout == b"end\\n" and other.stdout == b"other\\n"
"""


@pytest.mark.requires("root", "userns")
def test_a_run_that_began_before_the_change_ends_well(pen: Pen, rootfs: Path) -> None:
    pen.tried(IN_FLIGHT, rootfs)


SETTINGS = """
import resource, tempfile
SHOW = "umask; pwd; ulimit -n; ulimit -c; ulimit -u"
first = pc.run(["sh", "-c", SHOW], image=image).stdout
with tempfile.TemporaryDirectory() as gone:
    os.chdir(gone)
os.umask(0o777)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
assert pc.run(["sh", "-c", SHOW], image=image, upper="disk").stdout.split()[:2] == first.split()[:2]
assert pc.run(["sh", "-c", "umask"], image=image, umask=0o27).stdout == b"0027\\n"
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
r = pc.run(["sh", "-c", "ulimit -Hn; ulimit -Hc"], image=image, files={"/in/file": b"data"})
assert r.stdout == b"128\\n0\\n", r
assert pc.run(["cat", "/in/file"], image=image, files={"/in/file": b"data"}).stdout == b"data"
assert _core.keeper_pid() == keeper
"""


def test_directory_umask_and_limits_travel_in_the_plan(pen: Pen, rootfs: Path) -> None:
    pen.tried(SETTINGS, rootfs)


# From the first use on: the store, the skeleton of Image.host(), an archive's directory are made under it.
STRICT = """
import os, subprocess, sys
import pycontainer as pc
image, umask, archive = sys.argv[1], int(sys.argv[2], 8), os.environ["PYCONTAINER_ROOT"] + "/image.tar"
subprocess.run(["tar", "-C", image, "-cf", archive, "."], check=True)
os.environ["PYCONTAINER_ROOT"] += "/not/there/yet"
os.umask(umask)
other = {"user": 65534} if os.geteuid() == 0 else {}
r = pc.run(["sh", "-c", "cat /etc/passwd; stat -c %a / /etc /etc/ssl"], **other)
assert r.stdout.split()[-3:] == [b"755"] * 3 and not r.stderr, r
for options in ({"upper": "disk"}, {"files": {"/in/file": b"data"}}):
    r = pc.run(["sh", "-c", "echo x >/x; stat -c %a / /x"], image=image, **options)
    assert r.stdout.split() == [b"755", b"644"], r
r = pc.run(["true"], image=image, namespaces={"pid": "host"})  # in a group, by which it ends
assert r.returncode == 0, r
if not umask & 0o700:  # without his own bits a plain user unpacks nothing, and is told so
    r = pc.run(["stat", "-c", "%a", "/bin"], image=pc.Image.from_archive(archive))
    assert r.stdout == b"755\\n", r
assert os.umask(0) == umask
"""


@pytest.mark.requires("path:/etc/ssl")
@pytest.mark.parametrize("umask", ["077", "777"])
def test_a_umask_of_the_host_s_takes_nothing_from_the_containers(pen: Pen, rootfs: Path, umask: str) -> None:
    pen.run(STRICT, rootfs, umask, timeout=60)
    assert not pen.left()
