"""What builds keep is pruned: steps, and caches of RUN; what is in use, lately used or named stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontainer as pc
import worlds
from building import Builder
from pace import patience
from pycontainer._build.caches import cache
from pycontainer._build.instructions import Sharing

pytestmark = pytest.mark.requires("userns")

CACHED = "RUN --mount=type=cache,target=/c,id={} {}"


def caches(builder: Builder) -> list[Path]:
    return sorted(builder.store.glob("caches/*"))


def aged(path: Path, seconds: float = 7200) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def nothing_left(builder: Builder) -> None:
    """A plain user's files of other ids are removed by the keeper, a moment later."""
    deadline = time.monotonic() + patience(20)
    while list(builder.store.glob("uppers/*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("builder")
def test_steps_that_begin_a_cache_at_the_same_time_share_it() -> None:
    """What one of them has mounted is replaced by nobody, though it is still empty."""
    together = threading.Barrier(4)

    def begin(number: int) -> int:
        together.wait(patience(10))
        with cache(f"new {number}", Sharing.SHARED, (0, 0, 0o755), lambda: None) as path:
            first = os.stat(path).st_ino
            together.wait(patience(10))
            assert os.stat(path).st_ino == first
            together.wait(patience(10))
        return first

    with ThreadPoolExecutor(4) as four:
        for number in range(100):
            assert len({future.result() for future in [four.submit(begin, number) for _ in range(4)]}) == 1


def test_what_builds_keep_is_pruned_and_images_are_not(builder: Builder) -> None:
    fill = "head -c 2000000 /dev/urandom > /c/x; mkdir -p /c/d/e; chown -R 5:6 /c/d || true; chmod 0 /c/d; cp /c/x /x"
    named = builder.build(CACHED.format("a", fill), tag="named")
    other = builder.build("RUN head -c 1000000 /dev/urandom > /y")
    assert len(caches(builder)) == 1
    report = pc.doctor()["storage"].by
    assert int(report.rpartition(", ")[2].split()[0]) > 2_000_000, report
    assert pc.Image.prune(labels={"no": "such"}) == []
    assert len(caches(builder)) == 1
    freed = pc.Image.prune_cache()
    assert 3_000_000 < freed < 4_000_000, freed
    assert (caches(builder), list(builder.store.glob("steps/*"))) == ([], [])
    assert pc.doctor()["storage"].by.endswith(", 0 of build caches")
    nothing_left(builder)
    named.verify()
    with pytest.raises(pc.ImageError):
        other.verify()  # it had no name
    builder.build(CACHED.format("a", "! test -e /c/x; cp /bin/busybox /x"), tag="named")
    assert builder.kinds() == ["done"]
    assert pc.Image.prune_cache() > 0
    assert pc.Image.prune_cache() == 0


def test_what_was_used_lately_stays(builder: Builder) -> None:
    for name in ("old", "new"):
        builder.build(CACHED.format(name, "echo x > /c/x; echo x > /x"))
    for path in [*caches(builder), *builder.store.glob("steps/*")]:
        aged(path)
    builder.build(CACHED.format("new", "echo y > /c/y"))  # the cache; not the step
    pc.Image.prune_cache(older_than=3600)
    (kept,) = caches(builder)
    assert sorted(path.name for path in (kept / "data").iterdir()) == ["x", "y"]
    assert len(list(builder.store.glob("steps/*"))) == 2  # what the last build came to: its step, and its image
    builder.build(CACHED.format("new", "echo y > /c/y"))
    assert builder.kinds() == ["cached"]
    with pytest.raises(ValueError, match="older_than"):
        pc.Image.prune_cache(older_than=-1)


def test_a_cache_in_use_stays_and_so_do_layers_meanwhile(builder: Builder) -> None:
    told = threading.Event()
    text = CACHED.format("used", "echo first > /c/x; echo up; sleep 1; cat /c/x > /x")

    def heard(event: object) -> None:
        builder.events.append(event)
        if getattr(event, "text", "") == "up\n":
            told.set()

    building = threading.Thread(target=lambda: builder.build(text, tag="used", progress=heard))
    building.start()
    try:
        assert told.wait(patience(30))
        assert pc.Image.prune_cache() == 0
        assert len(caches(builder)) == 1
    finally:
        building.join()
    assert pc.Image.get("used").open("/x").read() == b"first\n"
    assert pc.Image.prune_cache() > 0
    assert caches(builder) == []


def test_builds_and_prunes_at_one_time(builder: Builder) -> None:
    """Whoever gets the lock of a cache that was just pruned takes another: what he writes is there while he uses it."""
    ends = time.monotonic() + 4
    stop = threading.Event()

    def prune() -> None:
        while not stop.is_set():
            pc.Image.prune_cache()

    pruning = threading.Thread(target=prune)
    pruning.start()
    count = 0
    try:
        while time.monotonic() < ends:
            count += 1
            both = f"{CACHED.format('r', f'echo {count} > /c/x')}; sleep 0.01; cat /c/x"
            builder.build(both, cache=False)
            assert builder.output() == f"{count}\n"
    finally:
        stop.set()
        pruning.join()
    assert count > 3


@pytest.mark.parametrize("moment", ["cache_size", "cache_remove"])
def test_a_prune_that_is_killed_leaves_a_whole_cache_or_none(builder: Builder, moment: str) -> None:
    many = "i=0; while [ $i -lt 3000 ]; do : > /c/$i; i=$((i+1)); done"
    builder.build(CACHED.format("k", many))
    code = f"""
import os, threading, time
import pycontainer as pc
from pycontainer._native import core
real = core().{moment}
def last(path):
    if {moment == "cache_remove"}:
        threading.Thread(target=lambda: (time.sleep(0.004), os.kill(os.getpid(), 9))).start()
        real(path)
    os.kill(os.getpid(), 9)
core().{moment} = last
pc.Image.prune_cache()
"""
    done = subprocess.run(worlds.python(code), check=False)
    assert done.returncode == -9
    left = caches(builder)
    assert [len(list((path / "data").iterdir())) for path in left] == ([3000] if left else [])
    assert moment == "cache_remove" or left
    deadline = time.monotonic() + patience(30)
    while list(builder.store.glob("uppers/*")):  # the dead one's keeper, or the next engine
        assert time.monotonic() < deadline
        subprocess.run(worlds.python("import pycontainer as pc; pc.run(['true'], image='base:1')"), check=True)
    builder.build(CACHED.format("k", "ls /c | wc -l"))
    assert builder.output() in ("3000\n", "0\n")


@pytest.mark.parametrize("name", ["data", "notes.txt", "0" * 63, "0" * 64 + "-x"])
def test_what_is_no_cache_is_not_pruned(builder: Builder, name: str) -> None:
    builder.build(CACHED.format("a", "true"))
    stranger = builder.store / "caches" / name
    stranger.mkdir()
    link = builder.store / "caches" / ("1" * 64)
    link.symlink_to(builder.context)
    builder.write(kept="x")
    pc.Image.prune_cache()
    assert caches(builder) == sorted([stranger, link])
    assert (builder.context / "kept").exists()


def test_the_command_line_prunes_what_builds_keep(builder: Builder) -> None:
    def call(*words: str, answer: str = "") -> tuple[int, str]:
        command = [sys.executable, "-m", "pycontainer", "builder", "prune", *words]
        done = subprocess.run(command, input=answer, capture_output=True, check=False, text=True)
        return done.returncode, done.stdout + (done.stderr if done.returncode == 125 else "")

    builder.build(CACHED.format("a", "head -c 1000000 /dev/zero > /c/x"))
    assert call(answer="n\n") == (1, "")
    assert call("--filter", "until=1h30m", "-f") == (0, "Total:\t0B\n")
    assert "--filter" in call("--filter", "type=x", "-f")[1]
    assert len(caches(builder)) == 1
    code, said = call("--format", "json", answer="y\n")
    assert code == 0
    assert json.loads(said)["reclaimed"] > 900_000
    assert caches(builder) == []


def test_of_the_tenth_store_of_a_process_too(
    builder: Builder, rootfs: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper, which alone can remove a plain user's files of other ids, holds few stores: the busy ones."""
    for number in range(10):
        with monkeypatch.context() as patch:
            patch.setenv("PYCONTAINER_ROOT", str(scratch / f"another-{number}"))
            pc.run(["true"], image=rootfs, upper="disk")
    builder.build(CACHED.format("a", "mkdir /c/d; : > /c/d/x; chown -R 5:6 /c/d || true; chmod 0 /c/d"))
    pc.Image.prune_cache()
    nothing_left(builder)
