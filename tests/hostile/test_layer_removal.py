"""A writable layer on the disk that was made hard to remove: deeper than a descriptor table, closed to its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pace import patience
from programs.stores import PRELUDE, in_store

DEPTH = 3000  # more than the host below may open, and than a path can name
# What each program leaves in its layer; run inside, with Python of Image.host().
LEFT = {
    "deep": f"for i in range({DEPTH}): os.mkdir('d'); os.chdir('d'); open('f', 'w').close()",
    "deep, in the way": "os.mkdir('.pycontainer-lifted-1'); os.mkdir('.pycontainer-lifted-1/x')\n"
    "open('.pycontainer-lifted-2', 'w').close()\n"
    "for i in range(200): os.mkdir('d'); os.chdir('d'); open('f', 'w').close()",
    "closed": "for m in (0, 0o500, 0o100, 0o300):\n"
    "    os.makedirs(f'{m}/below'); open(f'{m}/below/f', 'w').close(); os.chmod(f'{m}/below', m); os.chmod(f'{m}', m)",
    "links": "os.symlink('/', 'root'); os.symlink('root', 'again'); os.mkfifo('pipe'); os.mkdir('x' * 255)",
}
# How deep it may be is the same on every kernel.
EACH = [name if "deep" in name else pytest.param(name, marks=pytest.mark.vm) for name in LEFT]
PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
code = "import os, time; os.makedirs('/home/x'); os.chdir('/home/x')\\n" + sys.argv[2] + "\\nprint(1)\\n" + sys.argv[3]
r = pc.run(["python3", "-uc", code], upper="disk", stdout=pc.INHERIT, stderr=pc.INHERIT)
tell([r.returncode, r.enforced["upper"].by])
"""


@pytest.fixture
def store(scratch: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        path = Path(directory, "store")
        path.mkdir(mode=0o700)
        yield path
        assert os.listdir(path / "uppers") == []


@pytest.mark.parametrize("left", EACH)
def test_whatever_a_container_leaves_is_removed_with_it(store: Path, left: str) -> None:
    assert in_store(store, PROGRAM, "-", LEFT[left], "") == [1, [0, "a directory in the store"]]


@pytest.mark.leaks_by_design
@pytest.mark.parametrize("left", EACH)
def test_the_keeper_removes_it_when_the_interpreter_was_killed(store: Path, left: str) -> None:
    argv = [sys.executable, "-c", PRELUDE + PROGRAM, "-", LEFT[left], "time.sleep(600)"]
    environment = {**os.environ, "PYCONTAINER_ROOT": str(store)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "1\n"
        assert len(os.listdir(store / "uppers")) == 1
        host.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + patience(10)
    while os.listdir(store / "uppers") and time.monotonic() < deadline:
        time.sleep(0.02)
