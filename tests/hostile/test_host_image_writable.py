"""Image.host(writable=True): the container's root changes all of it, in its own layer, and nothing of this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from hostile.attacks import inside, outside, signature
from hostile.test_host_image import CHANGE

pytestmark = pytest.mark.requires("root", "idmap:/usr", "idmap:/opt")
HOST = pc.Image.host(writable=True)
UPPERS = [{}, {"upper": "disk"}, {"upper": "disk", "limits": pc.Limits(disk="64MiB")}]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """The skeleton of these directories lives as long as this interpreter."""
    pc.run(["true"], image=HOST)


@pytest.fixture
def tree() -> Iterator[Path]:
    """A directory of root's below /opt with all kinds of files; whatever happens inside, it stays as it is."""
    with tempfile.TemporaryDirectory(dir="/opt", prefix="pycontainer-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "program").write_text("#!/bin/sh\necho old\n")
        (path / "program").chmod(0o755)
        (path / "secret").write_text("secret of root\n")
        (path / "secret").chmod(0o600)
        (path / "of-1000").write_text("a user's\n")
        os.chown(path / "of-1000", 1000, 1000)
        (path / "directory").mkdir(mode=0o700)
        (path / "directory/file").write_text("x\n")
        (path / "link").symlink_to("program")
        before = signature(path)
        yield path
        assert signature(path) == before, "the container reached the host"


ALL = """
import shutil
path = sys.argv[1]
os.chdir(path)
told = {"owners": {name: os.lstat(name).st_uid for name in sorted(os.listdir("."))}, "secret": open("secret").read()}
open("program.new", "w").write("#!/bin/sh\\necho new\\n")
os.chmod("program.new", 0o755)
os.rename("program.new", "program")
told["program"] = os.popen("./program").read()
told["through the link"] = os.popen("./link").read()
os.unlink("secret")
os.chown("of-1000", 7, 7)
open("of-1000", "a").write("more")
shutil.move("directory", "moved")
os.mkdir("directory")
told["left"] = sorted(os.listdir(".")) + os.listdir("moved") + os.listdir("directory")
tell(told)
"""


@pytest.mark.parametrize("options", UPPERS, ids=["memory", "disk", "bounded"])
def test_root_inside_changes_it_all_and_nothing_outside(tree: Path, options: dict[str, object]) -> None:
    told = inside(ALL, str(tree), image=HOST, **options)
    assert told["owners"] == {"directory": 0, "link": 0, "of-1000": 1000, "program": 0, "secret": 0}
    assert told["secret"] == "secret of root\n"
    assert (told["program"], told["through the link"]) == ("new\n", "new\n")
    assert told["left"] == ["directory", "link", "moved", "of-1000", "program", "file"]


def test_what_is_unreadable_in_the_plain_image_is_the_price(tree: Path) -> None:
    """The control: without `writable` the same file is nobody's."""
    look = "tell(attempt(lambda: open(sys.argv[1]).read()))"
    assert inside(look, str(tree / "secret")) == ["refused", "EACCES"]
    assert inside(look, str(tree / "secret"), image=HOST) == ["done", "secret of root\n"]
    assert inside(look, str(tree / "secret"), image=HOST, user="nobody", security=pc.Security())[0] == "refused"


def test_the_system_s_own_directories(tmp_path: Path) -> None:
    watched = [Path(path) for path in ("/usr/bin/env", "/usr/bin", "/usr", "/etc/passwd", "/etc/ld.so.cache", "/opt")]
    facts = lambda path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.stat().st_size)  # noqa: E731
    before = {path: facts(path) for path in watched}
    script = """
set -e
stat -c '%u %n' / /usr /usr/bin/env /etc /etc/passwd /opt
cp /bin/echo /usr/bin/env; /usr/bin/env replaced
echo '#!/bin/sh' > /usr/bin/pycontainer-new; chmod 755 /usr/bin/pycontainer-new; pycontainer-new
rm -r /usr/share/doc; mkdir /usr/share/doc
echo joe:x:1000:1000::/home/joe:/bin/sh >> /etc/passwd
echo x > /etc/new; mkdir /etc/apt; echo y > /opt/new; mkdir -p /var/lib/x; echo z > /root/z
su -s /bin/sh -c 'id -un' joe || id -un joe
"""
    result = pc.run(["sh", "-c", script], image=HOST, text=True, stderr=pc.STDOUT)
    assert result.returncode == 0, result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[:6]] == ["0"] * 6
    assert "replaced" in result.stdout
    assert result.stdout.splitlines()[-1] == "joe"
    assert {path: facts(path) for path in watched} == before
    assert not Path("/usr/bin/pycontainer-new").exists()
    assert not Path("/etc/new").exists()
    assert (
        Path("/usr/share/doc/base-files").exists()
        or not Path("/usr/share/doc").exists()
        or os.listdir("/usr/share/doc")
    )
    assert {row.name for row in result.enforced.values() if row.state != "held"} == set()


def test_the_next_container_sees_nothing_of_it() -> None:
    assert pc.run(["sh", "-c", "rm /usr/bin/env; echo x > /etc/x"], image=HOST).returncode == 0
    seen = pc.run(["sh", "-c", "ls /usr/bin/env /etc/x"], image=HOST, text=True)
    assert seen.stdout == "/usr/bin/env\n"


def test_etc_is_the_allow_list() -> None:
    look = "tell({name: os.path.exists(name) for name in sys.argv[1:]})"
    names = ["/etc/shadow", "/etc/sudoers", "/etc/ssh", "/etc/machine-id", "/home/pycontainer-test", "/var/lib/dpkg"]
    assert set(inside(look, *names, image=HOST).values()) == {False}


@pytest.mark.requires("program:dpkg-deb")
def test_a_package_is_unpacked_over_it(tmp_path: Path) -> None:
    """A file of this machine is replaced by a package's, as dpkg does it: unpack, chown, rename."""
    package = tmp_path / "root"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: pycontainer-test\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: a test\n"
    )
    (package / "usr/bin").mkdir(parents=True)
    (package / "usr/bin/pycontainer-test").write_text("#!/bin/sh\necho installed\n")
    (package / "usr/bin/pycontainer-test").chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", str(package), str(tmp_path / "p.deb")], check=True, capture_output=True)
    script = (
        "cd /var; mkdir -p lib/dpkg/updates lib/dpkg/info log; touch lib/dpkg/status; "
        "dpkg -i /in/p.deb && pycontainer-test"
    )
    done = pc.run(
        ["sh", "-c", script], image=HOST, files={"/in/p.deb": tmp_path / "p.deb"}, text=True, stderr=pc.STDOUT
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("installed\n")
    assert not Path("/usr/bin/pycontainer-test").exists()


@pytest.mark.leaks_by_design  # the engine keeps a skeleton of these directories
def test_what_is_mounted_below_is_there_and_writable_too(tree: Path) -> None:
    """An overlay shows one mount: each one below is laid over by itself, files as well."""
    with tempfile.TemporaryDirectory(dir="/opt", prefix="pycontainer-test-") as place:
        mounts_below(Path(place), tree / "program")


def mounts_below(place: Path, program: Path) -> None:
    place.chmod(0o755)
    for name in ("outer", "outer/inner"):
        (place / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "t", str(place / name)], check=True)
    (place / "outer/inner/file").write_text("deep\n")
    (place / "outer/target").write_text("")
    subprocess.run(["mount", "--bind", str(program), str(place / "outer/target")], check=True)
    try:
        code = """
os.chdir(sys.argv[1])
told = [open("inner/file").read(), open("target").read()]
open("inner/file", "w").write("changed"); open("new", "w").write("x")
tell(told + [open("inner/file").read(), attempt(lambda: open("target", "w"))])
"""
        told = inside(code, str(place / "outer"), image=HOST)
        assert told == ["deep\n", "#!/bin/sh\necho old\n", "changed", ["refused", "EROFS"]]
        assert (place / "outer/inner/file").read_text() == "deep\n"
        assert not (place / "outer/new").exists()
    finally:
        unmount_when_let_go(place)


def unmount_when_let_go(place: Path) -> None:
    """The keeper keeps idmapped layers for a second after its last container."""
    for name in ("outer/target", "outer/inner", "outer"):
        for _ in range(50):
            if subprocess.run(["umount", str(place / name)], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", str(place / name)], check=True)


def test_read_only_is_read_only(tree: Path) -> None:
    answers = inside(CHANGE, image=HOST, read_only=True)
    assert {name: answer for name, answer in answers.items() if answer[0] != "refused"} == {}
    assert inside("tell(attempt(lambda: open(sys.argv[1] + '/x', 'w')))", str(tree), image=HOST, read_only=True) == [
        "refused",
        "EROFS",
    ]


def test_the_layer_s_bound_holds_for_all_of_it() -> None:
    script = "for x in /usr/x /opt/x; do dd if=/dev/zero of=$x bs=64k 2>/dev/null; done; du -cb /usr/x /opt/x | tail -1"
    for upper in ("memory", "disk"):
        result = pc.run(["sh", "-c", script], image=HOST, limits=pc.Limits(disk="8MiB"), upper=upper, text=True)
        assert 0.9 <= int(result.stdout.split()[0]) / (8 << 20) <= 1.1, (upper, result.stdout)
        assert result.usage.disk_full is True


def test_device_nodes_and_set_id_files_do_nothing_more_than_elsewhere(tree: Path) -> None:
    code = """
told = [attempt(os.mknod, "/usr/bin/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))]
import shutil
shutil.copy("/bin/sh", "/usr/bin/set-id"); os.chmod("/usr/bin/set-id", 0o4755)
told.append(os.popen("setpriv --reuid 65534 --clear-groups /usr/bin/set-id -c 'id -u'").read())
tell(told)
"""
    told = inside(code, image=HOST)
    assert told[0] == ["refused", "EPERM"]
    assert told[1] in ("65534\n", "")


def test_the_control_shows_the_same_program_outside(tree: Path) -> None:
    """On a copy, without an engine: it does change what it is pointed at."""
    copy = tree.parent / f"{tree.name}-copy"
    subprocess.run(["cp", "-a", str(tree), str(copy)], check=True)
    try:
        told = outside(ALL, str(copy))
        assert told["program"] == "new\n"
        assert (copy / "program").read_text().endswith("new\n")
    finally:
        subprocess.run(["rm", "-r", str(copy)], check=True)
