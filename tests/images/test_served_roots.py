"""Storage drivers: roots that fuse-overlayfs shows, the program behind each, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
import worlds
from drivers import VARIABLE
from pace import patience, repetitions, until
from programs.stores import in_store
from pycontainer import _core

pytestmark = pytest.mark.requires("fuse-overlayfs")
ENOTCONN = 107
# In the order of the kernel's numbers: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP.
LIBRARIES = {"usr", "bin", "lib", "lib32", "lib64"}
POWER = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fuse-overlayfs")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def keeper() -> int:
    found = _core.keeper_pid()
    assert found is not None
    return found[0]


def daemons(of: int | None = None) -> list[int]:
    """The programs that the keeper has now."""
    return [child for child in children(keeper() if of is None else of) if name_of(child) == "fuse-overlayfs"]


# ---- its life ------------------------------------------------------------------------------------------------------


def test_runs_leave_no_program(request: pytest.FixtureRequest, three: pc.Image) -> None:
    """Not for a moment: the run has ended when its program has."""
    for number in repetitions(100, request.config.getoption("--quick")):
        done = pc.run(["cat", "/opt/top"], image=three, upper="disk" if number % 10 == 0 else "memory")
        assert done.stdout == b"top"
        assert daemons() == []


def test_it_lives_as_long_as_the_files_are_asked_for(three: pc.Image) -> None:
    with pc.Container(["sh", "-c", "echo x > /opt/new"], image=three) as made:
        made.wait(timeout=patience(10))
        assert len(daemons()) == 1
        assert made.read_bytes("/opt/new") == b"x\n"
        assert [(line.kind, line.path) for line in made.diff()] == [("C", "/opt"), ("A", "/opt/new")]
    until(lambda: daemons() == [])


def test_containers_that_are_killed_leave_none(three: pc.Image) -> None:
    with pytest.raises(pc.TimeoutExpired):
        pc.run(["sh", "-c", "while :; do echo x > /opt/a; done"], image=three, timeout=0.2)
    assert daemons() == []
    with pc.Container(["sleep", "100"], image=three) as made:
        made.kill()
        made.wait(timeout=patience(10))
        assert made.read_bytes("/opt/top") == b"top"
    until(lambda: daemons() == [])


HELD = """
import os
from pycontainer import _core
held = [pc.Container(["sleep", "1000"], image=pc.Image.get("three:1"), upper=upper) for upper in ("memory", "disk")]
[one.start() for one in held]
tell([os.getpid(), _core.keeper_pid()[0]])
import time
time.sleep(1000)
"""


@pytest.mark.parametrize("victim", ["host", "keeper"])
def test_the_death_of_the_host_or_of_its_keeper_is_theirs(victim: str, three: pc.Image, store: Path) -> None:
    del three
    code = f"import pycontainer as pc, json\ndef tell(value): print(json.dumps(value), flush=True)\n{HELD}"
    with subprocess.Popen(worlds.python(code), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        host, its_keeper = json.loads(child.stdout.readline())
        found = daemons(its_keeper)
        assert len(found) == 2
        os.kill(host if victim == "host" else its_keeper, signal.SIGKILL)
        until(lambda: not any(name_of(pid) == "fuse-overlayfs" for pid in found))
        child.kill()
    in_store(store, "pc.run(['id'], image=pc.Image.get('three:1'))", store)
    until(lambda: list(store.glob("uppers/*")) == [])


# ---- what it may -----------------------------------------------------------------------------------------------------


def test_it_has_no_more_than_it_needs(three: pc.Image) -> None:
    with pc.Container(["sleep", "100"], image=three) as made:
        (daemon,) = daemons()
        inside = made.exec(["sh", "-c", "ps -o comm; ls /proc"], text=True).stdout
        assert "fuse-overlayfs" not in inside
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{daemon}/status").read_text().splitlines())
        for which in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
            assert int(status[which], 16) == POWER, which
        assert status["NoNewPrivs"] == "1"
        if os.geteuid():
            return  # what is in it can be looked at by root alone
        assert Path(f"/proc/{daemon}/environ").read_bytes() == b""
        targets = [os.readlink(f"/proc/{daemon}/fd/{number}") for number in range(4)]
        assert [targets[place].rpartition("/")[2] for place in (0, 1, 3)] == ["null", "null", "fuse"]
        assert targets[2].startswith("pipe:")
        # Those that it opened itself: layers and what is in them, and a pipe to splice through.
        others = {os.readlink(link) for link in Path(f"/proc/{daemon}/fd").iterdir() if int(link.name) > 3}
        assert sum(not one.startswith(("/lower", "/upper")) for one in others) <= 1, others
        assert sorted(os.listdir(f"/proc/{daemon}/root")) == [
            "bin",
            "etc",
            "lib",
            "lib64",
            "lower",
            "proc",
            "upper",
            "usr",
        ]
        spaces = {name: os.readlink(f"/proc/{daemon}/ns/{name}") for name in ("mnt", "pid", "net", "user", "ipc")}
        for name, space in spaces.items():
            assert (space == os.readlink(f"/proc/self/ns/{name}")) == (name != "mnt"), name
        if int(status["Uid"].split()[0]):
            assert made.exec(["id", "-u"], text=True).stdout == "0\n"


def test_a_bound_on_tasks_does_not_count_it(three: pc.Image) -> None:
    script = "i=0; while [ $i -lt 9 ]; do sleep 5 & i=$((i+1)); done; echo all"
    done = pc.run(["sh", "-c", script + "; kill $(jobs -p)"], image=three, text=True, limits=pc.Limits(pids=10))
    assert done.stdout == "all\n"


# ---- where it fails --------------------------------------------------------------------------------------------------


def test_one_that_stands_still_holds_no_kill_up(three: pc.Image) -> None:
    with pc.Container(["sh", "-c", "while :; do cat /opt/a; done"], image=three) as made:
        (daemon,) = daemons()
        os.kill(daemon, signal.SIGSTOP)
        time.sleep(0.1)
        made.kill()
        made.wait(timeout=patience(10))
    until(lambda: daemons() == [])


def test_to_who_is_inside_a_dead_one_is_an_error_of_its_files(three: pc.Image) -> None:
    with pc.Container(["sleep", "100"], image=three) as made:
        (daemon,) = daemons()
        os.kill(daemon, signal.SIGKILL)
        until(lambda: daemons() == [])
        with pytest.raises(OSError) as raised:
            made.read_bytes("/opt/top")
        assert raised.value.errno == ENOTCONN
    assert pc.run(["cat", "/opt/top"], image=three).stdout == b"top"


@pytest.mark.requires("root")
def test_what_it_says_at_last_is_in_the_error(three: pc.Image, scratch: Path) -> None:
    del three
    program = scratch / "fuse-overlayfs"
    program.write_text("#!/bin/sh\necho first >&2\necho 'fuse-overlayfs: no such thing' >&2\nexit 1\n")
    program.chmod(0o755)
    code = """
import pycontainer as pc
try:
    pc.run(["id"], image=pc.Image.get("three:1"))
except pc.SetupError as error:
    print(error)
"""
    words = ["unshare", "-m", "sh", "-c", f'mount --bind {program} /usr/bin/fuse-overlayfs && exec "$@"', "sh"]
    done = subprocess.run(
        [*words, *worlds.python(code)], check=True, capture_output=True, text=True, timeout=patience(60)
    )
    program.unlink()
    assert "fuse-overlayfs, which shows the image, has ended: fuse-overlayfs: no such thing" in done.stdout


@pytest.mark.requires("seams")
def test_without_the_program_it_is_refused_with_the_cure(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_SEAM", "fuse-overlayfs")
    with pytest.raises(pc.NotSupported, match=f"^{VARIABLE}: fuse-overlayfs is in none of .*; apt-get install"):
        pc.run(["id"], image=three)


@pytest.mark.requires("seams")
def test_without_an_overlay_it_is_the_next_one(three: pc.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    del three
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PYCONTAINER_SEAM", "overlay")
    store = Path(os.environ["PYCONTAINER_ROOT"])
    code = """
done = pc.run(["cat", "/opt/top"], image=pc.Image.get("three:1"))
tell([done.stdout.decode(), done.enforced["upper"].by])
tell(pc.doctor().to_dict()["storage"])
"""
    (out, by), row = in_store(store, code, store)
    assert out == "top"
    assert by in (
        "tmpfs, by fuse-overlayfs",
        "a directory in the store, by fuse-overlayfs",
    )  # before 6.6, a plain user's
    assert row["by"].startswith("fuse-overlayfs on ")
    assert row["why"].endswith("this kernel has no overlay file system")


@pytest.mark.requires("root", "ptrace", "program:strace")
def test_before_6_15_the_layers_themselves_are_attached_for_it(three: pc.Image) -> None:
    """Each process's fourth open_tree and later ones: in the program's set-up those of the two layers."""
    del three
    code = """
import pycontainer as pc
bare = pc.Security(masked_paths=[], readonly_paths=[])  # those take clones of detached mounts too
words = ["sh", "-c", "cd /opt; echo new > a; rm -r gone; cat a b"]
with pc.Container(words, image=pc.Image.get("three:1"), security=bare) as made:
    made.wait()
    print(made.logs(), [line.path for line in made.diff()])
"""
    rules = ["-e", "trace=open_tree", "-e", "inject=open_tree:error=EINVAL:when=4+"]
    words = ["strace", "-f", "-qq", "-o", "/dev/null", *rules, *worlds.python(code)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=patience(60))
    assert done.stdout == "b'new\\nb' ['/opt', '/opt/a', '/opt/gone']\n"


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_any_number_of_layers(layout: layouts.Layout, base: bytes) -> None:
    layers = [layouts.tar({f"n{number}": b"x", "top": b"%d" % number}) for number in range(60)]
    layout.image("tall:1", [base, *layers])
    (image,) = pc.Image.load(layout.path)
    done = pc.run(["sh", "-c", "cat /top; ls -d /n* | wc -l"], image=image, text=True)
    assert done.stdout == "5960\n"


def test_a_directory_whose_name_is_none_of_its_words(fresh_rootfs: Path) -> None:
    """Commas, colons and backslashes mean something in its options: it hears no name of ours."""
    odd = fresh_rootfs.with_name("a,b:c\\d=e")
    fresh_rootfs.rename(odd)
    done = pc.run(["sh", "-c", "echo x > /x; cat /x"], image=pc.Image.from_directory(odd), text=True)
    assert done.stdout == "x\n"
    assert not (odd / "x").exists()
    odd.rename(fresh_rootfs)


@pytest.mark.requires("tmpfs-upper")
def test_a_full_layer_is_full(three: pc.Image) -> None:
    """The write that fills it is cut short by the program, which to the kernel is an error of its own."""
    script = "head -c 20000000 /dev/zero > /opt/big; wc -c < /opt/big; cat /bin/busybox > /opt/c 2>&-; echo x > /opt/d"
    done = pc.run(["sh", "-c", script], image=three, text=True, limits=pc.Limits(disk="8MiB"))
    first, second = done.stderr.splitlines()
    assert first.endswith("I/O error")
    assert second.endswith("No space left on device")
    assert 6 << 20 < int(done.stdout) <= 8 << 20
    assert done.usage.disk_full


def test_a_program_of_names_that_it_keeps_for_itself(three: pc.Image) -> None:
    """Names of whiteouts: docs/storage.md has the row."""
    done = pc.run(["touch", "/opt/.wh.x"], image=three, text=True)
    assert done.returncode
    assert "Invalid argument" in done.stderr
