"""What a command of popen() prints where nobody asked for it: logged outside this process, read again and again."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import PIPE, Container, aio
from pycontainer._native import core

pytestmark = pytest.mark.requires("userns")
KEPT = 16 << 20


@pytest.fixture
def container(rootfs: Path) -> Iterator[Container]:
    with Container(["sleep", "100000"], image=rootfs) as container:
        yield container


@pytest.mark.vm
def test_it_is_read_as_often_as_wanted(container: Container) -> None:
    process = container.popen(["sh", "-c", "echo out; echo err >&2; exit 3"], text=True)
    assert sorted(process.lines(timeout=patience(10))) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert process.communicate(timeout=patience(10)) == ("out\n", "err\n")
    assert (process.logs(), process.logs("stdout"), process.logs("stderr")) == ("out\nerr\n", "out\n", "err\n")
    assert sorted(process.lines()) == [("stderr", "err\n"), ("stdout", "out\n")]
    result = process.result
    assert result is not None
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert container.logs() == b"", "the container's own is another one"


def test_lines_come_while_it_runs(container: Container) -> None:
    with container.popen(["sh", "-c", "echo first; read x; echo $x"], stdin=PIPE, text=True) as process:
        lines = process.lines(timeout=patience(10))
        assert next(lines) == ("stdout", "first\n")
        assert process.logs() == "first\n"
        process.stdin.write("second\n")
        process.stdin.close()
        assert list(lines) == [("stdout", "second\n")]


def test_what_has_come_is_told_with_a_timeout(container: Container) -> None:
    with container.popen(["sh", "-c", "echo out; echo err >&2; sleep 9000"]) as process:
        assert next(process.lines(timeout=patience(10)))
        with pytest.raises(pc.TimeoutExpired) as expired:
            process.communicate(timeout=0.5)
        assert (expired.value.stdout, expired.value.stderr) == (b"out\n", b"err\n")


def test_all_that_it_wrote_before_its_end_is_there(container: Container, times: Callable[[int], range]) -> None:
    """Also what lay in the pipes when it ended."""
    script = "head -c 50000 /dev/zero; head -c 30000 /dev/zero >&2"
    for _ in times(200):
        process = container.popen(["sh", "-c", script])
        process.wait(timeout=patience(10))
        assert (len(process.logs("stdout")), len(process.logs("stderr"))) == (50_000, 30_000)


def test_what_nobody_reads_neither_blocks_nor_grows_us(container: Container) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = container.popen(["sh", "-c", "head -c 100000000 /dev/zero; echo end"])
    assert process.wait(timeout=patience(60)) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10
    kept = process.logs("stdout")
    assert (len(kept), kept[-5:]) == (KEPT, b"\0end\n")


def test_both_can_be_one(container: Container) -> None:
    process = container.popen(["sh", "-c", "echo out; echo err >&2"], stderr=pc.STDOUT)
    assert process.communicate() == (b"out\nerr\n", None)


def test_one_that_was_asked_for_is_not_logged(container: Container) -> None:
    process = container.popen(["sh", "-c", "echo out; echo err >&2"], stdout=PIPE)
    assert process.communicate() == (b"out\n", b"err\n")
    assert process.logs() == b"err\n"
    with pytest.raises(pc.StateError, match="stdout is not logged: it was asked for elsewhere"):
        process.logs("stdout")
    with pytest.raises(ValueError, match="'stdout' or 'stderr', not 'stdin'"):
        process.logs("stdin")  # type: ignore[arg-type]
    nothing = container.popen(["sh", "-c", "echo out"], stdout=pc.DEVNULL, stderr=pc.DEVNULL)
    assert nothing.communicate() == (None, None)


def test_what_it_leaves_running_writes_on_and_holds_nobody(container: Container) -> None:
    process = container.popen(["sh", "-c", "(sleep 0.5; echo later) & echo now"], text=True)
    assert process.wait(timeout=patience(5)) == 0
    assert process.communicate(timeout=patience(5))[0] == "now\n"
    assert list(process.lines(timeout=patience(10))) == [("stdout", "now\n"), ("stdout", "later\n")]


@pytest.mark.parametrize("tty", [False, True])
def test_what_it_leaves_flooding_holds_up_neither_who_reads_nor_the_keeper(
    container: Container, rootfs: Path, tty: bool
) -> None:
    with container.popen(["sh", "-c", "trap '' HUP; yes & sleep 0.2"], tty=tty) as process:
        assert process.wait(timeout=patience(5)) == 0
        begun = time.monotonic()
        assert process.logs("stdout").startswith(b"y")
        assert pc.run(["true"], image=rootfs, timeout=patience(5)).returncode == 0
        assert time.monotonic() - begun < patience(4)


def test_the_container_s_end_ends_its_lines(rootfs: Path) -> None:
    with Container(["sleep", "100000"], image=rootfs) as container:
        process = container.popen(["sh", "-c", "echo begun; sleep 9000"])
        lines = process.lines(timeout=patience(10))
        assert next(lines) == ("stdout", b"begun\n")
        container.kill()
        assert list(lines) == []
    assert process.logs() == b"begun\n"
    assert process.wait() == -9


def test_a_terminal_is_logged(container: Container) -> None:
    """More than it holds: somebody reads it."""
    script = "test -t 1 && head -c 100000 /dev/zero | tr '\\0' x; stty size"
    process = container.popen(["sh", "-c", script], tty=True)
    assert process.wait(timeout=patience(20)) == 0
    shown = process.logs("stdout")
    assert (len(shown), shown[-9:]) == (100_000 + 7, b"xx24 80\r\n")
    assert process.result.stderr is None  # type: ignore[union-attr]


def test_a_terminal_that_somebody_keeps_open_holds_up_nobody(container: Container, rootfs: Path) -> None:
    process = container.popen(["sh", "-c", "trap '' HUP; sleep 3 & echo now"], tty=True)
    assert process.wait(timeout=patience(2)) == 0
    begun = time.monotonic()
    assert process.logs("stdout") == b"now\r\n"
    assert pc.run(["true"], image=rootfs, timeout=patience(2)).returncode == 0
    assert time.monotonic() - begun < patience(2)


def test_hundreds_at_one_time_are_not_mixed_up(container: Container) -> None:
    processes = [container.popen(["sh", "-c", f"echo {n}; read x; echo {n}"], stdin=PIPE) for n in range(100)]
    for process in processes:
        process.stdin.close()
    for n, process in enumerate(processes):
        assert process.communicate(timeout=patience(20))[0] == b"%d\n%d\n" % (n, n)
    del processes, process
    gc.collect()


def test_of_another_process_s_container_it_is_dropped(container: Container) -> None:
    with Container.get(container.id) as found:
        process = found.popen(["sh", "-c", "echo out; echo err >&2"])
        assert process.communicate(timeout=patience(10)) == (None, None)
        with pytest.raises(pc.StateError, match="not logged"):
            process.logs()


def test_a_keeper_that_is_stopped_holds_a_reader_up_for_a_moment_only(container: Container) -> None:
    process = container.popen(["echo", "out"])
    assert process.wait(timeout=patience(5)) == 0
    keeper = core().keeper_pid()[0]
    os.kill(keeper, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert process.logs("stdout") in (b"", b"out\n")
        assert time.monotonic() - begun < patience(4)
    finally:
        os.kill(keeper, signal.SIGCONT)


def test_the_same_on_asyncio(rootfs: Path) -> None:
    async def main() -> None:
        async with aio.Container(["sleep", "100000"], image=rootfs) as c:
            process = await c.popen(["sh", "-c", "echo out; echo err >&2; sleep 0.1; echo more"], text=True)
            seen: list[Any] = [line async for line in process.lines(timeout=patience(10))]
            assert sorted(seen) == [("stderr", "err\n"), ("stdout", "more\n"), ("stdout", "out\n")]
            assert await process.communicate() == ("out\nmore\n", "err\n")
            assert process.logs("stderr") == "err\n"
            assert process.result is not None
            assert process.result.stdout == "out\nmore\n"

    asyncio.run(main())
