"""Many threads run containers while others allocate, log, import and encode: no deadlock, no crossed output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

PROGRAM = """
import faulthandler, importlib, json, logging, os, sys, threading
import pycontainer as pc

faulthandler.dump_traceback_later(float(sys.argv[4]), exit=True)
image, count, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
stop, wrong = threading.Event(), []
logging.basicConfig(stream=open(os.devnull, "w"), level=logging.DEBUG)

def allocate():
    while not stop.wait(0.001):
        [bytearray(4096) for _ in range(200)]

def log():
    while not stop.wait(0.001):
        logging.debug("%s", "a line")

def load():
    while not stop.wait(0.01):
        importlib.reload(importlib.import_module("colorsys"))

def encode():
    while not stop.wait(0.001):
        json.loads(json.dumps([{"a": i} for i in range(200)]))

SCRIPT = 'i=0; while [ $i -lt 64 ]; do echo "$1 $i"; echo "$1 e $i" >&2; i=$((i+1)); done'

def work(thread):
    for i in range(each):
        mark = f"{thread}.{i}"
        try:
            r = pc.run(["sh", "-c", SCRIPT, "sh", mark], image=image, text=True, limits=pc.Limits(output="1MiB"))
        except BaseException as error:
            wrong.append(f"{mark}: {error!r}")
            continue
        if r.returncode or r.stdout != "".join(f"{mark} {n}\\n" for n in range(64)):
            wrong.append(f"{mark}: {r}")
        if r.stderr != "".join(f"{mark} e {n}\\n" for n in range(64)):
            wrong.append(f"{mark}: {r}")

noise = [threading.Thread(target=f) for f in (allocate, log, load, encode) for _ in range(2)]
workers = [threading.Thread(target=work, args=(n,)) for n in range(count)]
for t in noise + workers:
    t.start()
for t in workers:
    t.join()
stop.set()
for t in noise:
    t.join()
assert not wrong, (len(wrong), wrong[:3])
"""


@pytest.mark.requires("pen")
@pytest.mark.leaks_by_design
@pytest.mark.timeout(1200)
def test_sixty_four_threads_among_noise(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    each = len(times(50))
    pen.run(PROGRAM, rootfs, 64, each, 600, timeout=700)
    tell(f"64 threads x {each} runs")
    assert not pen.left()
