"""Copies into and out of a container that works against them: names that change, links out, traps for who runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import RENAMEAT2, inside, links_out
from hostile.careless import led_astray
from pace import patience
from worlds import python

pytestmark = pytest.mark.timeout(600)

SWAPS = 100_000  # over all races; --quick: a tenth
ROUNDS = 40  # of six errands, at least
SECRET = b"secret of the host\n"

# renameat2(RENAME_EXCHANGE) of a directory and a link, and of a file and a link, as fast as it goes.
SWAP = """
import ctypes, os
libc = ctypes.CDLL(None)
os.makedirs('/share/w/d/deep', exist_ok=True)
os.chdir('/share/w')
for name in ('d/file', 'd/deep/file', 'f'):
    open(name, 'w').write('inside')
os.symlink('TARGET', 'link')
os.symlink('TARGET/file', 'file link')
rounds = 0
while True:
    for _ in range(100):
        for one, other in ((b'd', b'link'), (b'f', b'file link')):
            if libc.syscall(NUMBER, -100, one, -100, other, 2):
                raise SystemError('no swap')
    rounds += 100
    open('/share/count.new', 'w').write(str(rounds))
    os.rename('/share/count.new', '/share/count')
"""


@pytest.fixture(scope="module", autouse=True)
def two_ranges(rootfs: Path) -> None:
    """Two containers at once before the first snapshot: the engine keeps the claims of its id ranges for later ones."""
    with pc.Container(["sleep", "100"], image=rootfs), pc.Container(["sleep", "100"], image=rootfs):
        pass


@contextmanager
def swapping(target: str, where: str, shared: Path) -> Iterator[pc.Container]:
    """A container at work in a directory of its own layer, or in one of this machine that is bound there."""
    code = SWAP.replace("TARGET", target).replace("NUMBER", str(RENAMEAT2))
    mounts = [pc.Mount.bind(shared, "/share")] if where == "bind" else [pc.Mount.tmpfs("/share")] * (where == "tmpfs")
    with pc.Container(["python3", "-c", code], mounts=mounts) as made:
        deadline = time.monotonic() + patience(20)
        while swaps(made) < 100:
            assert made.poll() is None, made.logs()
            assert time.monotonic() < deadline
        yield made
        assert made.poll() is None, made.logs()


def swaps(made: pc.Container) -> int:
    try:
        return int(made.read_bytes("/share/count"))
    except pc.SetupError:
        return 0


def attempt(body: Callable[[], Any], outcomes: dict[str, int]) -> Any:
    """What it gave, or None where it was refused: with an error of ours, whatever happened meanwhile."""
    answer, outcome = None, "done"
    try:
        answer = body()
    except pc.SetupError as error:
        outcome = f"errno {error.errno}"
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return answer


@pytest.mark.parametrize("where", ["layer", "bind", "tmpfs"])
@pytest.mark.parametrize("way", ["absolute", "relative", "proc"])
def test_cve_2018_15664_names_that_change_lead_nowhere(
    where: str, way: str, canary: Path, shared: Path, tmp_path: Path, times: Callable[[int], range]
) -> None:
    """Also CVE-2026-41568, -42306 (in a mount), CVE-2019-18466, CVE-2021-41089, CVE-2023-0778 (a file and a link)."""
    target = {"absolute": "", "relative": "../" * 12, "proc": "/proc/self/root"}[way] + str(canary)
    goal, outcomes = len(times(SWAPS)) // 9, {"done": 0}
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/evil").write_text("evil")
    with swapping(target, where, shared) as made:
        for number in range(10**9):
            out = tmp_path / f"out{number}"
            assert attempt(lambda: made.read_bytes("/share/w/d/file"), outcomes) in (None, b"inside")
            assert attempt(lambda: made.read_bytes("/share/w/f"), outcomes) in (None, b"inside")
            attempt(lambda: made.write_bytes("/share/w/d/evil", b"evil"), outcomes)
            attempt(lambda: made.copy_in(tmp_path / "tree", "/share/w/d/deep"), outcomes)
            attempt(lambda: made.copy_in(tmp_path / "tree", "/share/w/d"), outcomes)
            attempt(lambda: made.copy_out("/share/w", out), outcomes)
            assert not holds_secret(out)
            shutil.rmtree(out, ignore_errors=True)
            if number >= ROUNDS and number % 10 == 0 and swaps(made) >= goal:
                break
    print(f"{where}, {way}: {outcomes}")
    assert outcomes["done"] > 10
    # ENOENT, EAGAIN, EEXIST, ENOTDIR, EISDIR, ELOOP: what names that change can come to.
    assert outcomes.keys() <= {"done", *(f"errno {errno}" for errno in (2, 11, 17, 20, 21, 40))}
    # `canary` is looked at by its fixture: nothing was read into a copy, nothing written there.


def holds_secret(top: Path) -> bool:
    """In a file below; links are not followed."""
    paths = [Path(place) / name for place, _, names in os.walk(top) for name in names]
    files = [path for path in [top, *paths] if not path.is_symlink() and path.is_file()]
    return any(SECRET in path.read_bytes() for path in files)


def test_control_of_cve_2018_15664_a_careless_peer_is_led_astray(shared: Path, scratch: Path) -> None:
    """It looks at a name, and then uses it: the same swaps, on this machine."""
    outside = scratch / "led-astray"
    (outside / "x").mkdir(parents=True)
    (shared / "d/x").mkdir(parents=True)
    (shared / "link").symlink_to(outside)
    code = f"""
import ctypes
libc = ctypes.CDLL(None)
while True:
    libc.syscall({RENAMEAT2}, -100, {os.fsencode(shared / "d")!r}, -100, {os.fsencode(shared / "link")!r}, 2)
"""
    swapper = subprocess.Popen([sys.executable, "-c", code])
    try:
        print(f"led astray in round {led_astray('write', shared, outside)}")
    finally:
        swapper.kill()
        swapper.wait()
        shutil.rmtree(outside)


# ---- the same, at the one moment that counts -----------------------------------------------------------------------

seam = pytest.mark.requires("seams")


@pytest.fixture
def swapped(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[pc.Container, Callable[[], None]]]:
    """/seam/one is a directory and /seam/two a link to /other; from the moment of the call on, each errand swaps them
    once its path is resolved.
    """
    script = "mkdir -p /seam/one /other; echo one > /seam/one/file; echo other > /other/file; ln -s /other /seam/two"
    with pc.Container(["sleep", "100"], image=rootfs) as made:
        made.exec(["sh", "-c", script], check=True)
        yield made, lambda: monkeypatch.setenv("PYCONTAINER_SEAM", "swap_resolved")


Swapped = tuple[pc.Container, Callable[[], None]]


@seam
def test_what_is_written_goes_where_the_path_led(
    swapped: Swapped, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, begin = swapped
    begin()
    made.write_bytes("/seam/one/file", b"new")
    monkeypatch.delenv("PYCONTAINER_SEAM")
    # The control: the name leads elsewhere by now, and a second look would have.
    assert made.read_bytes("/seam/one/file") == b"other\n"
    assert made.read_bytes("/seam/two/file") == b"new"
    made.exec(["sh", "-c", "mv /seam/one /seam/x; mv /seam/two /seam/one; mv /seam/x /seam/two"], check=True)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("tree")
    begin()
    made.copy_in(tmp_path / "tree", "/seam/one/t")
    monkeypatch.delenv("PYCONTAINER_SEAM")
    assert made.read_bytes("/seam/two/t/file") == b"tree"
    assert [line.path for line in made.diff() if line.path.startswith("/other")] == ["/other", "/other/file"]


@seam
def test_what_is_read_is_what_was_looked_at(swapped: Swapped, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, begin = swapped
    begin()
    made.copy_out("/seam/one/file", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "one\n"
    monkeypatch.delenv("PYCONTAINER_SEAM")
    assert made.read_bytes("/seam/one/file") == b"other\n"
    made.exec(
        ["sh", "-c", "rm /other/file; mkfifo /other/file; mv /seam/one /seam/x; mv /seam/two /seam/one"], check=True
    )
    made.exec(["mv", "/seam/x", "/seam/two"], check=True)
    begin()
    # Another object under the name, when it is opened: looked at anew, and then refused as what it is.
    with pytest.raises(pc.SetupError) as refused:
        made.read_bytes("/seam/one/file")
    assert refused.value.errno == 6


# ---- links, as they lie --------------------------------------------------------------------------------------------


def test_cve_2019_10152_links_of_the_container_s_lead_nowhere(rootfs: Path, canary: Path, tmp_path: Path) -> None:
    """Each way out, as a link in the path, as its end, as what is replaced, and in a tree that is copied."""
    with pc.Container(["sleep", "100"], image=rootfs) as made:
        for number, (name, target) in enumerate(links_out(canary).items()):
            link = f"/tmp/l{number}"
            made.exec(["ln", "-s", target, link], check=True)
            outcomes: dict[str, int] = {}
            for path in (link, f"{link}/", f"{link}/.", f"{link}/file", f"{link}/../file", f"/tmp/../{link}/file"):
                content = refused_or(lambda path=path: made.read_bytes(path))
                assert content is None or SECRET not in content, name
                refused_or(lambda path=path: made.copy_out(path, tmp_path / f"out{number}"))
                assert not holds_secret(tmp_path), name
            refused_or(lambda: made.write_bytes(f"{link}/file", b"evil"))
            refused_or(lambda: made.copy_in(rootfs / "etc", f"{link}/directory"))
            refused_or(lambda: made.copy_in(rootfs / "etc", link))
            made.write_bytes(f"/tmp/{number}", b"x")
            assert outcomes == {}
        made.copy_out("/tmp", tmp_path / "whole")
        assert not holds_secret(tmp_path)


def refused_or(body: Callable[[], Any]) -> Any:
    try:
        return body()
    except pc.SetupError:
        return None


def test_what_was_copied_out_leads_no_later_copy_astray(rootfs: Path, canary: Path, tmp_path: Path) -> None:
    """First a link, then a directory or a file of that name: on this machine too nothing is written through it."""
    with pc.Container(["sleep", "100"], image=rootfs) as made:
        made.exec(["sh", "-c", f"mkdir /tmp/t; ln -s {canary} /tmp/t/d; ln -s {canary}/file /tmp/t/f"], check=True)
        made.copy_out("/tmp/t", tmp_path / "t")
        made.copy_out("/tmp/t/d", tmp_path / "top")
        made.exec(
            ["sh", "-c", "rm /tmp/t/*; mkdir /tmp/t/d; echo evil > /tmp/t/d/file; echo evil > /tmp/t/f"], check=True
        )
        for source, target in (("/tmp/t", "t"), ("/tmp/t/d", "top")):
            with pytest.raises(pc.SetupError) as refused:
                made.copy_out(source, tmp_path / target)
            assert refused.value.errno in (20, 40)
        made.copy_out("/tmp/t/f", tmp_path / "t/f")
    assert (tmp_path / "t/f").read_text() == "evil\n"
    assert not (tmp_path / "t/f").is_symlink()


def test_ten_thousand_names_in_one_directory(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(10_000):
        (tmp_path / "many" / f"{number}\n*{'x' * (number % 200)}").touch()
    with pc.Container(["sleep", "100"], image=rootfs) as made:
        made.copy_in(tmp_path / "many", "/tmp/many")
        made.copy_out("/tmp/many", tmp_path / "back")
        assert len(made.diff()) == 10_002
    assert sorted(os.listdir(tmp_path / "back")) == sorted(os.listdir(tmp_path / "many"))


# ---- nothing of the container is run, nothing is opened by an absolute path ----------------------------------------

TRAPS = [
    "bin/sh", "bin/tar", "bin/xz", "bin/gzip", "bin/unpigz", "bin/zstd", "bin/cp", "usr/bin/env", "lib/libc.so.6",
    "lib64/ld-linux-x86-64.so.2", "lib/libnss_files.so.2", "etc/ld.so.preload", "etc/ld.so.cache", "etc/nsswitch.conf",
]  # fmt: skip
ERRANDS = """
import os, sys
import pycontainer as pc
root, place = sys.argv[1:]
made = pc.Container(["/bin/busybox", "sleep", "100"], image=root)
def errands():
    made.write_bytes("/tmp/a", b"a")
    made.read_bytes("/etc/passwd")
    made.copy_in(root, "/tmp/tree")
    made.copy_out("/tmp/tree", place + "/" + made.state)
    made.copy_in(place + "/archive.tar.xz", "/tmp/archive.tar.xz")
    made.diff()
errands()
made.start()
errands()
made.kill()
made.wait()
errands()
made.close()
"""
LINE = re.compile(
    r"^(\d+) +(\w+)\((.*)$"
)  # as a call begins; the rest of an interrupted one says nothing of its arguments


@pytest.mark.requires("program:strace", "ptrace", "traced-root")
def test_cve_2019_14271_no_program_runs_and_no_path_is_absolute(fresh_rootfs: Path, tmp_path: Path) -> None:
    """Also CVE-2026-41567 (an archive is a file) and CVE-2026-41568 (nothing is mounted)."""
    for name in TRAPS:
        path = fresh_rootfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text("#!/bin/busybox sh\necho trapped > /trapped\n")
        path.chmod(0o755)
    (tmp_path / "archive.tar.xz").write_bytes(b"\xfd7zXZ\0 not really")
    trace = tmp_path / "trace"
    argv = ["strace", "-f", "-s", "4096", "-o", str(trace), *python(ERRANDS), str(fresh_rootfs), str(tmp_path)]
    subprocess.run(argv, check=True, timeout=240)
    calls = [(m[1], m[2], m[3]) for m in map(LINE.match, trace.read_text().splitlines()) if m]
    agents = {pid for pid, call, _ in calls if call == "chroot"}
    assert len(agents) == 18
    started = [rest for _, call, rest in calls if call in ("execve", "execveat")]
    # The interpreter, its keeper, the command; and where a plain user has a range, newuidmap and newgidmap.
    assert len(started) in ({3} if os.geteuid() == 0 else {3, 5}), started
    begun: set[str] = set()
    for pid, call, rest in calls:
        if pid in agents and pid in begun:
            assert not call.startswith(("exec", "mount", "move_mount", "open_tree", "fsopen", "pivot", "umount")), rest
            assert "setns" not in call or "CLONE_NEWUSER" in rest, rest
            assert not re.match(r'(?:[^"]*)"/', rest) or call in ("sendto", "sendmsg", "read", "recvfrom"), (call, rest)
        if call == "chroot":
            begun.add(pid)
    assert not any((place / "trapped").exists() for place in tmp_path.iterdir() if place.is_dir())


# ---- agents as targets ---------------------------------------------------------------------------------------------

LOOK = """
import time
answers, seen = {}, 0
until = time.monotonic() + 10
while time.monotonic() < until and seen < 50:
    for pid in os.listdir('/proc'):
        try:
            name = pid.isdigit() and open(f'/proc/{pid}/comm').read()
        except OSError:
            continue
        if name == 'pycontainer-fs\\n':
            seen += 1
            for what in ('mem', 'environ', 'maps', 'fd', 'root', 'cwd', 'exe'):
                look = attempt(os.readlink if what in ('root', 'cwd', 'exe') else os.listdir if what == 'fd' else
                               lambda path: len(open(path, 'rb').read(16)), f'/proc/{pid}/{what}')
                if look != ['done', '0']:  # one that has just ended has no memory any more
                    answers.setdefault(what, set()).add(tuple(look))
            got = call(101, 0x4206, int(pid), 0, 0)
            answers.setdefault('seize', set()).add(('refused', errno.errorcode[-got]) if got < 0 else ('done', got))
tell([seen, {what: sorted(those) for what, those in answers.items()}])
"""


@pytest.mark.requires("root")
def test_an_agent_is_closed_to_a_container_that_sees_it(rootfs: Path) -> None:
    """One that shares the host's pid namespace, and whose root has the uid that the agents of its own kind have."""
    import threading

    stop = threading.Event()
    with pc.Container(["sleep", "100"], image=rootfs) as other:
        other.write_bytes("/tmp/big", os.urandom(8 << 20))

        def errands() -> None:
            while not stop.is_set():
                other.read_bytes("/tmp/big")

        thread = threading.Thread(target=errands)
        thread.start()
        try:
            security = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_PTRACE"})
            seen, answers = inside(LOOK, namespaces={"pid": "host"}, security=security)
        finally:
            stop.set()
            thread.join()
    assert seen > 0
    gone = {"ENOENT", "ESRCH"}
    assert {answer[1] for those in answers.values() for answer in those if answer[0] == "refused"} - gone <= {
        "EACCES",
        "EPERM",
    }
    assert {what: done for what, those in answers.items() if (done := [a for a in those if a[0] == "done"])} == {}
