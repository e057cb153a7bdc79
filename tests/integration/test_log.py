"""logging.getLogger("pycontainer"), by interpreters of their own: what it is told, and that nothing else is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycontainer

# The warning of a keeper that somebody killed, between two runs.
KILLED = """
import os, signal, sys, time
import pycontainer as pc
from pycontainer import _core
{set_up}
def run():
    return pc.run(["true"], image=sys.argv[1])
run()
died = _core.keeper_pid()[0]
os.kill(died, signal.SIGKILL)
while _core.keeper_pid():
    time.sleep(0.01)
run()
run()
print(died, _core.keeper_pid()[0])
"""
TO_STDOUT = "import logging; logging.basicConfig(level='DEBUG', stream=sys.stdout, format='%(levelname)s %(message)s')"


def python(script: str, rootfs: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(pycontainer.__file__).parents[1])}
    argv = [sys.executable, "-c", script, str(rootfs)]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=True, timeout=100)


def test_a_keeper_that_died_is_told_once(rootfs: Path) -> None:
    done = python(KILLED.format(set_up=TO_STDOUT), rootfs)
    *told, pids = done.stdout.splitlines()
    died, keeper = pids.split()
    warning = f"WARNING the keeper (pid {died}) died, and its containers with it; pid {keeper} stands in for it"
    assert [line for line in told if not line.startswith("DEBUG swept")] == [warning]
    assert done.stderr == ""


@pytest.mark.parametrize("set_up", ["", "import logging"], ids=["not imported", "imported"])
def test_who_set_up_no_logging_is_printed_nothing(rootfs: Path, set_up: str) -> None:
    done = python(KILLED.format(set_up=set_up), rootfs)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_run_does_not_import_logging(rootfs: Path) -> None:
    script = (
        "import sys, pycontainer as pc\npc.run(['true'], image=sys.argv[1], degrade=['memory'])\n"
        "print('logging' in sys.modules)"
    )
    assert python(script, rootfs).stdout == "False\n"


# More than any process may have: the kernel's own bound of the hard limit.
BEYOND = "int(open('/proc/sys/fs/nr_open').read()) + 1"


def test_a_limit_that_degrade_gave_up_is_told(rootfs: Path) -> None:
    script = (
        f"import sys\nimport pycontainer as pc\n{TO_STDOUT}\n"
        f"limits = pc.Limits(rlimits={{'nofile': {BEYOND}}})\n"
        "pc.run(['true'], image=sys.argv[1], limits=limits, degrade=['rlimits', 'memory'])"
    )
    done = python(script, rootfs)
    (line,) = [line for line in done.stdout.splitlines() if not line.startswith("DEBUG swept")]
    assert line.startswith("DEBUG rlimits is degraded: this process's hard limit is ")
    assert line.endswith("; degrade= allows it")


SWEPT = """
import os, sys
import pycontainer as pc
{set_up}
# A keeper of this pid and start time there never was.
uppers = os.path.join(os.environ["PYCONTAINER_ROOT"], "uppers")
left = os.path.join(uppers, "pycontainer-4194303-1-1")
os.mkdir(uppers, 0o700)
os.mkdir(left, 0o700)
pc.run(["true"], image=sys.argv[1])
print(os.path.exists(left))
"""


def test_what_was_swept_is_told(rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_ROOT", str(tmp_path))
    told, left = python(SWEPT.format(set_up=TO_STDOUT), rootfs).stdout.splitlines()
    assert told.startswith("DEBUG swept what dead keepers had left: ")
    assert told.endswith(", writable layers: 1")
    assert left == "False"
