"""Many containers that live at one time, on each of the two roads to an overlay."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import worlds
from pace import patience

EOPNOTSUPP, FSCONFIG_SET_FD = 95, 5
MANY = 64

# All are there before the first one may end.
PROGRAM = f"""
import os, threading
import pycontainer as pc
ready, go = os.pipe(), os.pipe()
answers = []
def one():
    try:
        argv = ["sh", "-c", "echo; read line; exit 7"]
        answers.append(pc.run(argv, image=IMAGE, stdin=go[0], stdout=ready[1], stderr=pc.DEVNULL).returncode)
    except Exception as error:
        answers.append(repr(error))
        os.write(ready[1], b"x")
threads = [threading.Thread(target=one) for _ in range({MANY})]
for thread in threads: thread.start()
came = b""
while len(came) < {MANY}: came += os.read(ready[0], {MANY})
os.close(go[1])
for thread in threads: thread.join()
print(sorted(set(map(str, answers))), came.count(b"x"))
"""


@pytest.mark.vm
@pytest.mark.requires("userns")
@pytest.mark.parametrize("road", ["of this kernel", "before 6.13"])
def test_sixty_four_live_at_one_time(rootfs: Path, road: str) -> None:
    """Without layers by descriptor each overlay is made by a child of the keeper's, which has to hand it over."""
    refuse = f"import worlds; worlds.install('fsconfig', {EOPNOTSUPP}, (1, {FSCONFIG_SET_FD}))\n"
    code = ("" if road == "of this kernel" else refuse) + f"IMAGE = {str(rootfs)!r}\n{PROGRAM}"
    done = subprocess.run(worlds.python(code), check=False, capture_output=True, text=True, timeout=patience(60))
    assert (done.stdout.strip(), done.returncode) == ("['7'] 0", 0), done.stderr[-2000:]
