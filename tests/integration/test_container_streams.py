"""A container's streams: what is logged is kept and taken from nobody, a PIPE is its reader's."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import PIPE, Container, Limits, Reason

pytestmark = pytest.mark.requires("userns")
KEPT = 16 << 20


def test_what_nobody_reads_neither_blocks_nor_grows(rootfs: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = "head -c 1073741824 /dev/zero; echo; echo done"
    with Container(["sh", "-c", script], image=rootfs) as container:
        assert container.wait(timeout=patience(60)) == 0
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
        kept = container.logs("stdout")
        assert len(kept) == KEPT
        assert kept.endswith(b"\0\ndone\n")


def test_a_pipe_that_nobody_reads_makes_it_wait(rootfs: Path) -> None:
    with Container(["sh", "-c", "head -c 3000000 /dev/zero; echo done >&2"], image=rootfs, stdout=PIPE) as container:
        with pytest.raises(pc.TimeoutExpired):
            container.wait(timeout=0.5)
        assert container.logs("stderr") == b""
        assert len(container.stdout.read()) == 3_000_000
        assert container.wait(timeout=patience(5)) == 0
        assert container.logs("stderr") == b"done\n"


def test_communicate_feeds_and_reads(rootfs: Path) -> None:
    text = "äöü\n" * 300_000
    with Container(["cat"], image=rootfs, stdin=PIPE, stdout=PIPE, text=True) as container:
        assert container.communicate(text, timeout=patience(30)) == (text, "")
        assert container.returncode == 0


def test_communicate_can_be_called_again(rootfs: Path) -> None:
    script = "echo one; sleep 0.6; echo two"
    with Container(["sh", "-c", script], image=rootfs, stdout=PIPE) as container:
        with pytest.raises(pc.TimeoutExpired) as expired:
            container.communicate(timeout=0.3)
        assert expired.value.stdout == b"one\n"
        assert container.communicate(timeout=patience(10)) == (b"one\ntwo\n", b"")


def test_input_that_is_not_read_is_no_error(rootfs: Path) -> None:
    with Container(["true"], image=rootfs, stdin=PIPE) as container:
        container.communicate(b"x" * 1_000_000, timeout=patience(10))
        assert container.returncode == 0


def test_closing_stdin_is_its_end(rootfs: Path) -> None:
    with Container(["sh", "-c", "cat; echo end"], image=rootfs, stdin=PIPE) as container:
        container.stdin.write(b"some\n")
        container.stdin.close()
        assert container.wait(timeout=patience(5)) == 0
        assert container.logs() == b"some\nend\n"


@pytest.mark.vm
def test_readers_of_a_log_take_nothing_from_each_other(rootfs: Path) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.05; done; printf rest"
    seen: list[list[tuple[str, bytes]]] = []
    with Container(["sh", "-c", script], image=rootfs) as container:
        threads = [threading.Thread(target=lambda: seen.append(list(container.lines(patience(10))))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(patience(15))
        assert len(seen) == 4
        for lines in seen:
            assert [line for name, line in lines if name == "stdout"] == [b"out 1\n", b"out 2\n", b"out 3\n", b"rest"]
            assert [line for name, line in lines if name == "stderr"] == [b"err 1\n", b"err 2\n", b"err 3\n"]
        assert container.logs("stdout") == b"out 1\nout 2\nout 3\nrest"


def test_lines_come_as_they_are_written(rootfs: Path) -> None:
    with Container(["sh", "-c", "echo first; sleep 100"], image=rootfs) as container:
        lines = container.lines(timeout=patience(5))
        assert next(lines) == ("stdout", b"first\n")
        with pytest.raises(pc.TimeoutExpired):
            list(container.lines(timeout=0.2))
        assert container.state == "RUNNING"


def test_lines_of_a_pipe_are_taken(rootfs: Path) -> None:
    script = "echo a; echo b >&2; echo c"
    with Container(["sh", "-c", script], image=rootfs, stdout=PIPE, stderr=PIPE, text=True) as container:
        lines = list(container.lines(timeout=patience(5)))
        assert [line for name, line in lines if name == "stdout"] == ["a\n", "c\n"]
        assert [line for name, line in lines if name == "stderr"] == ["b\n"]


def test_a_line_of_more_than_a_mebibyte_comes_in_pieces(rootfs: Path) -> None:
    with Container(["sh", "-c", "head -c 2500000 /dev/zero; echo"], image=rootfs) as container:
        pieces = [line for _, line in container.lines(timeout=patience(10))]
    assert sum(map(len, pieces)) == 2_500_001
    assert max(map(len, pieces)) <= 1 << 20


def test_stderr_may_go_where_stdout_goes(rootfs: Path) -> None:
    with Container(["sh", "-c", "echo 1; echo 2 >&2; echo 3"], image=rootfs, stderr=pc.STDOUT) as container:
        container.wait(timeout=patience(5))
        assert container.logs() == b"1\n2\n3\n"
        with pytest.raises(pc.StateError, match="stderr is not logged"):
            container.logs("stderr")


def test_a_stream_that_is_no_pipe_says_how_it_would_be(rootfs: Path) -> None:
    with Container(["sleep", "100"], image=rootfs) as container:
        for name in ("stdin", "stdout", "stderr"):
            with pytest.raises(pc.StateError, match=f"{name}=PIPE"):
                getattr(container, name)
        with pytest.raises(ValueError, match="stdin=PIPE"):
            container.communicate(b"x")
        with pytest.raises(ValueError, match="stream"):
            container.logs("stdin")  # type: ignore[arg-type]


def test_a_file_takes_the_output(rootfs: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("wb") as file, Container(["echo", "there"], image=rootfs, stdout=file) as container:
        container.wait(timeout=patience(5))
    assert target.read_bytes() == b"there\n"


@pytest.mark.parametrize(("mode", "reason"), [("kill", Reason.OUTPUT), ("truncate", Reason.EXITED)])
def test_output_has_a_limit_also_where_nobody_reads(rootfs: Path, mode: str, reason: Reason) -> None:
    limits = Limits(output="64KiB", output_mode=mode)  # type: ignore[arg-type]
    with Container(["sh", "-c", "head -c 5000000 /dev/zero"], image=rootfs, limits=limits) as container:
        container.wait(timeout=patience(10))
        assert container.result is not None
        assert (container.result.reason, container.result.truncated) == (reason, ("stdout",))
        assert len(container.logs()) == 64 << 10


def test_a_terminal_has_input_output_and_a_size(rootfs: Path) -> None:
    script = "stty size; read line; stty size; echo got $line; test -t 0 -a -t 1 -a -t 2; exit $?"
    with Container(["sh", "-c", script], image=rootfs, tty=True, stdin=PIPE) as container:
        lines = container.lines(timeout=patience(10))
        assert next(lines) == ("stdout", b"24 80\r\n")
        container.resize(50, 132)
        container.stdin.write(b"this\n")
        container.stdin.flush()
        assert container.wait(timeout=patience(5)) == 0
        assert container.logs().splitlines()[1:] == [b"this", b"50 132", b"got this"]


def test_there_is_no_terminal_to_resize_where_there_is_none(rootfs: Path) -> None:
    with Container(["sleep", "100"], image=rootfs) as container:
        with pytest.raises(pc.StateError, match="tty=True"):
            container.resize(10, 10)
        with pytest.raises(ValueError, match="rows"):
            container.resize(0, 10)


def test_a_reader_that_goes_away_hurts_nobody(rootfs: Path) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done; sleep 0.2; echo end"
    with Container(["sh", "-c", script], image=rootfs) as container:
        for _ in range(20):
            next(container.lines(timeout=patience(5)))  # left in the middle
        assert container.wait(timeout=patience(10)) == 0
        assert container.logs().endswith(b"199\nend\n")
        fds = len(os.listdir("/proc/self/fd"))
        list(container.lines(timeout=patience(5)))
        time.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) == fds
