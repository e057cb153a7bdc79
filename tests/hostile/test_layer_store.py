"""The store of unpacked layers: shared by processes, whole after kills and on a full disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pycontainer as pc
from pycontainer import _core
from rawtar import FILE, archive, entry

UNPACK = """
import json, os, sys
from pycontainer import _core, _errors
store, *paths = map(os.fsencode, sys.argv[1:])
try:
    print(json.dumps(_core.unpack_layer_files(paths, store)))
except _errors.NoSpaceError as error:
    print(json.dumps(str(error)))
"""


def start(store: Path, paths: list[Path]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", UNPACK, str(store), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(pc.__file__).parent.parent), *sys.path])}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


def layers(arena: Path, count: int, files: int = 200) -> list[Path]:
    paths = []
    for number in range(count):
        path = arena / f"{number}.tar"
        inside = [entry(FILE, b"%d/f%d" % (number, i), data=os.urandom(20_000)) for i in range(files)]
        path.write_bytes(archive(*inside, entry(FILE, b"%d/.wh.gone" % number)))
        paths.append(path)
    return paths


def whole(found: list[str], files: int = 200) -> bool:
    return all(len(os.listdir(Path(path) / str(number))) == files + 1 for number, path in enumerate(found))


def test_processes_that_want_the_same_layers_in_other_orders(arena: Path) -> None:
    """None waits for another that waits for it."""
    paths = layers(arena, 6)
    orders = [random.Random(seed).sample(paths, len(paths)) for seed in range(4)]
    processes = [start(arena / "store", order) for order in orders]
    found = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    by_layer = [dict(zip(order, rows, strict=True)) for order, rows in zip(orders, found, strict=True)]
    assert all(rows == by_layer[0] for rows in by_layer)
    assert whole([by_layer[0][path] for path in paths])
    assert len(os.listdir(arena / "store/layers")) == len(paths)


def test_what_a_killed_process_leaves_is_no_layer_and_is_swept(arena: Path, times: Callable[[int], range]) -> None:
    paths = layers(arena, 3)
    store = arena / "store"
    process = start(store, paths)
    started = time.monotonic()
    process.communicate(timeout=60)
    took = time.monotonic() - started
    killed = 0
    for number in times(60):
        shutil.rmtree(store)
        process = start(store, paths)
        time.sleep(took * random.Random(number).uniform(0.3, 1.1))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        place = store / "layers"
        complete = [name for name in os.listdir(place) if len(name) == 64] if place.exists() else []
        assert all((place / name / "complete").read_text().endswith("end\n") for name in complete)
        found = _core.unpack_layer_files([os.fsencode(path) for path in paths], os.fsencode(store))
        assert whole(found)
        assert sorted(os.listdir(place)) == sorted(Path(path).parent.name for path in found)
    assert killed > 0


@pytest.mark.requires("root")
@pytest.mark.parametrize("room", ["size=3m", "size=6m", "size=9m", "nr_inodes=100", "nr_inodes=300"])
def test_a_full_store_has_no_half_layer(arena: Path, room: str) -> None:
    """Of bytes and of inodes: NoSpaceError, nothing half there, and with room the same works."""
    paths = layers(arena, 3, files=100)
    store = arena / "store"
    store.mkdir(mode=0o700)
    script = """
        mount -t tmpfs -o "mode=0700,$1" none "$2" && "$3" -c "$4" "$2" "$5" "$6" "$7" || exit 1
        ls -A "$2/layers" 2>/dev/null # not there where the blobs were too much
        mount -o remount,size=100m,nr_inodes=9000 "$2" && "$3" -c "$4" "$2" "$5" "$6" "$7"
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(pc.__file__).parent.parent), *sys.path])}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", room, str(store), sys.executable, UNPACK, *map(str, paths)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *left, last = done.stdout.splitlines()
    assert json.loads(first) == f"[Errno 28] No space left on device: {str(store)!r}"
    assert all(len(name) == 64 for name in left)
    assert len(json.loads(last)) == 3
