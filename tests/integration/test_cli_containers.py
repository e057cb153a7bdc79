"""`ps`, `stats` and `exec` from a second process, and what `run` gives them to find: words, columns and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pace import patience
from terminals import CTRL_C, CTRL_D, Terminal
from worlds import command

pytestmark = pytest.mark.requires("userns")


def cli(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), check=False, capture_output=True, text=True, timeout=patience(60), **options
    )  # fmt: skip


@pytest.fixture
def running(rootfs: Path) -> Iterator[subprocess.Popen[str]]:
    """`run --name web`, in a process of its own; a line ends it, with the status 4."""
    words = command("run", "-i", "--name", "web", "-p", "0:80", str(rootfs), "sh", "-c", "echo up; read line; exit 4")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        if process.poll() is None:
            process.communicate("\n", timeout=patience(30))


def test_ps_shows_what_other_processes_run(rootfs: Path, running: subprocess.Popen[str]) -> None:
    done = cli("ps")
    heads, *lines = done.stdout.splitlines()
    assert re.split(r" {3,}", heads) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    (line,) = [line for line in lines if line.endswith("   web")]
    id, image, shown, created, status, ports, name = re.split(r" {3,}", line)
    assert re.fullmatch(r"[0-9a-f]{12}", id)
    assert (image, shown, name) == (str(rootfs), '"sh -c \'echo up; rea…"', "web")
    assert re.fullmatch(r"(Less than a second|\d+ seconds?) ago", created)
    assert re.fullmatch(r"Up (Less than a second|\d+ seconds?)", status)
    assert re.fullmatch(r"127\.0\.0\.1:\d+->80", ports)
    assert id in cli("ps", "-q").stdout.split()
    whole = next(line for line in cli("ps", "-a", "--no-trunc").stdout.splitlines() if line.endswith("   web"))
    assert re.match(rf"{id}[0-9a-f]{{20}} ", whole)
    assert "'echo up; read line; exit 4'" in whole
    (row,) = [row for row in json.loads(cli("ps", "--format", "json").stdout) if row["name"] == "web"]
    assert (row["id"][:12], row["state"], row["args"][0]) == (id, "RUNNING", "sh")
    running.communicate("\n", timeout=patience(30))
    assert running.returncode == 4
    assert "web" not in cli("ps", "-a").stdout


def test_exec_runs_a_command_in_it(running: subprocess.Popen[str]) -> None:
    done = cli("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert cli("exec", "-i", "web", "cat", input="text").stdout == "text"
    assert cli("exec", "web", "cat", input="text").stdout == ""
    words = ["-e", "A=b", "-w", "/tmp", "-u", "0"]
    assert cli("exec", *words, "web", "sh", "-c", "echo $A; pwd; id -u").stdout == "b\n/tmp\n0\n"
    assert cli("exec", "web", "--", "echo", "-n", "it").stdout == "it"
    assert cli("exec", "web", "sh", "-c", "kill -TERM $$").returncode == 143


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["web", "no-such-command"], 127, "command not found in the container: no-such-command"),
        (["web", "/etc"], 126, "cannot execute /etc"),
        (["no-such-container", "true"], 1, "there is no container 'no-such-container'"),
        (["web"], 1, "CONTAINER or COMMAND is missing"),
        (["-u", "nobody-here", "web", "true"], 126, "nobody-here"),
        (["-w", "/no-such-place", "web", "true"], 126, "/no-such-place"),
        (["-d", "web", "true"], 125, "ends with this process"),
        (["--privileged", "web", "true"], 125, "unrecognized arguments: --privileged"),
        (["-i", "-t", "web", "true"], 1, "the input device is not a TTY"),
    ],
)
def test_what_cannot_be_run_in_it(running: subprocess.Popen[str], words: list[str], code: int, message: str) -> None:
    done = cli("exec", *words, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_one_of_the_name_is_refused(running: subprocess.Popen[str]) -> None:
    done = cli("run", "--name", "web", "host", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert "name: 'web' is the name of another container" in done.stderr


def test_a_name_is_free_when_its_command_line_was_killed(rootfs: Path, running: subprocess.Popen[str]) -> None:
    running.kill()
    running.wait()
    for _ in range(100):
        done = cli("run", "--name", "web", str(rootfs), "echo", "again")
        if done.returncode == 0:
            break
    assert (done.returncode, done.stdout) == (0, "again\n")


def test_a_terminal_for_a_command_in_it(running: subprocess.Popen[str]) -> None:
    script = "test -t 0 && test -t 2 && echo ready; trap 'stty size' WINCH; while read line; do echo got $line; done"
    with Terminal(command("exec", "-i", "-t", "web", "sh", "-c", script), 33, 77) as terminal:
        before = terminal.settings()
        terminal.until("ready\r\n")
        assert terminal.is_raw()
        terminal.type("one\r")
        terminal.until("got one\r\n")
        terminal.resize(10, 20)
        terminal.type("two\r")
        terminal.until("10 20\r\n")
        terminal.type("\r" + CTRL_D)
        code, _ = terminal.end()
        assert code == 0
        assert terminal.settings() == before
    # From its first instruction on, unlike docker's.
    with Terminal(command("exec", "-it", "web", "stty", "size"), 33, 77) as terminal:
        assert terminal.end() == (0, "33 77\r\n")
    with Terminal(command("exec", "-it", "web", "sh", "-c", "echo ready; exec sleep 60"), 24, 80) as terminal:
        terminal.until("ready\r\n")
        terminal.type(CTRL_C)
        assert terminal.end()[0] == 128 + signal.SIGINT
    # The container's own command has heard nothing of it.
    assert cli("exec", "web", "true").returncode == 0


def test_ctrl_c_without_a_terminal_ends_the_command_and_not_the_container(running: subprocess.Popen[str]) -> None:
    words = command("exec", "web", "sh", "-c", "echo up; exec sleep 654.25")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(patience(20)) == 130
    lives = cli("exec", "web", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "654.25" not in lives
    assert "read line" in lives
    assert running.poll() is None


def test_much_output_comes_through_a_terminal_whole(rootfs: Path) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    with Terminal(command("run", str(rootfs), "sh", "-c", script), 24, 80) as terminal:
        code, shown = terminal.end()
    lines = shown.replace("\r\n", "\n").splitlines()
    assert code == 0
    assert lines == [f"line {number}" for number in range(20000)]


def test_stats_of_what_other_processes_run(rootfs: Path, running: subprocess.Popen[str]) -> None:
    done = cli("stats", "--no-stream")
    heads, *lines = done.stdout.splitlines()
    names = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS"]
    assert re.split(r" {3,}", heads) == names
    (line,) = [line for line in lines if "   web   " in line]
    id, name, cpu, memory, share, _, tasks = re.split(r" {3,}", line)
    assert re.fullmatch(r"[0-9a-f]{12}", id)
    assert (name, tasks) == ("web", "1")
    assert re.fullmatch(r"\d+\.\d\d%", cpu)
    assert re.fullmatch(r"[\d.]+[KM]iB / [\d.]+GiB", memory)
    assert re.fullmatch(r"0\.\d\d%", share)
    # Where nobody sees it being repainted there is one table, of those who are named.
    assert len(cli("stats", "web").stdout.splitlines()) == 2
    assert re.match(rf"{id}[0-9a-f]{{20}}  ", cli("stats", "--no-trunc", "web").stdout.splitlines()[1])
    (row,) = json.loads(cli("stats", "web", "--no-stream", "--format", "json", id).stdout)
    assert (row["id"][:12], row["name"], row["pids"]) == (id, "web", 1)
    assert row["memory"] > 0
    assert row["cpu_percent"] >= 0
    for words in (["no-such-container"], ["web", "no-such-container"]):
        done = cli("stats", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no container 'no-such-container'" in done.stderr


def test_stats_as_lines_until_nobody_reads_them(running: subprocess.Popen[str]) -> None:
    words = command("stats", "--format", "json", "web")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        assert first["cpu_percent"] is None
        assert second["cpu_percent"] is not None
        assert 0.5 < second["time"] - first["time"] < patience(3)
        process.stdout.close()
        assert process.wait(patience(20)) == 141
        assert process.stderr.read() == ""


def test_stats_end_with_what_was_named(running: subprocess.Popen[str]) -> None:
    words = command("stats", "--format", "json", "web")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["name"] == "web"
        running.communicate("\n", timeout=patience(30))
        rest = process.stdout.read().splitlines()
        assert process.wait(patience(20)) == 0
        assert len(rest) < 5


def test_ctrl_c_ends_stats_as_docker_s(running: subprocess.Popen[str]) -> None:
    words = command("stats", "--format", "json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(patience(20)) == 130
        assert process.stderr.read() == ""
