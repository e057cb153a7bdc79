"""A process that cannot die, for a file system that does not answer: neither caller nor keeper waits for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pen import PRELUDE, Pen, state

from pace import patience

pytestmark = [
    pytest.mark.requires("root", "unified", "path:/dev/fuse"),
    pytest.mark.leaks_by_design,
]
SERVER = Path(__file__).parent.parent / "programs/silent.py"


@pytest.fixture
def silent(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """The server of the file system at `args[-1]`; its end lets all who wait go."""
    place = scratch / "silent"
    place.mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, SERVER, place], text=True, **pipes) as server:  # type: ignore[call-overload]
        assert server.stdout.readline() == "mounted\n"
        yield server
    subprocess.run(["umount", "-l", place], check=True)
    place.rmdir()


# The words say how a run is to end; each line of the answer is how it did, and after how many seconds.
STUCK = """
mounts = [pc.Mount.bind(words[0], "/mnt", read_only=True)]
def interrupt(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
for word in words[1:]:
    began = time.monotonic()
    try:
        if word != "timeout":
            interrupt(0.5)
        if word == "twice":
            interrupt(1.5)
        limit = 0.5 if word == "timeout" else None
        print(pc.run(["cat", "/mnt/silent"], image=image, mounts=mounts, upper="disk", timeout=limit).reason)
    except (pc.SetupError, KeyboardInterrupt) as error:
        print(type(error).__name__, time.monotonic() - began, str(error).replace("\\n", " "), flush=True)
    assert _core.keeper_pid() == keeper
    assert pc.run(["echo", "on"], image=image).stdout == b"on\\n"
"""


def test_a_caller_gets_away(pen: Pen, rootfs: Path, silent: subprocess.Popen[str]) -> None:
    place = silent.args[-1]  # type: ignore[index]
    child = pen.start(PRELUDE + STUCK, rootfs, place, "twice", "once", "timeout")
    assert child.stdout is not None
    twice, once, timeout = (child.stdout.readline().split(maxsplit=2) for _ in range(3))
    assert (twice[0], once[0], timeout[0]) == ("KeyboardInterrupt", "KeyboardInterrupt", "SetupError"), timeout
    assert float(twice[1]) < patience(6)
    assert 10 < float(once[1]) < patience(20)
    assert 10 < float(timeout[1]) < patience(20)
    assert "does not die" in timeout[2]
    assert len(in_the_kernel(pen)) >= 3, "nobody was stuck"
    assert not list(pen.store.glob("uppers/*"))
    end(silent)
    _, err = child.communicate(timeout=patience(60))
    assert child.returncode == 0, err
    assert not pen.left(settle=patience(5))


TWO = """
mounts = [pc.Mount.bind(words[0], "/mnt", read_only=True)]
for argv in (["cat", "/mnt/silent"], ["sleep", "60"]):
    given = {"image": image, "mounts": mounts, "upper": "disk"}
    threading.Thread(target=pc.run, args=(argv,), kwargs=given, daemon=True).start()
    time.sleep(0.3)
print("both", flush=True)
time.sleep(60)
"""


def test_what_cannot_die_does_not_keep_what_others_have_left(
    pen: Pen, rootfs: Path, silent: subprocess.Popen[str]
) -> None:
    child = pen.start(PRELUDE + TWO, rootfs, silent.args[-1])  # type: ignore[index]
    assert child.stdout is not None
    assert child.stdout.readline() == "both\n"
    assert len(list(pen.store.glob("uppers/*"))) == 2
    child.kill()
    child.communicate()
    deadline = time.monotonic() + patience(8)
    while list(pen.store.glob("uppers/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(pen.store.glob("uppers/*"))
    assert in_the_kernel(pen), "nobody was stuck"
    end(silent)
    assert not pen.left(settle=patience(5))


def in_the_kernel(pen: Pen) -> list[int]:
    return [pid for pid in pen.processes() if state(pid) == "D"]


def end(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
