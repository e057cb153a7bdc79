"""The command line as a user sees it: streams, exit codes, JSON, Ctrl-C, a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import worlds
from worlds import command

pytestmark = pytest.mark.requires("userns")


def cli(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), check=False, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.vm
def test_streams_pass_through_and_the_status_is_the_command_s(rootfs: Path) -> None:
    done = cli("run", str(rootfs), "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_output_comes_while_the_command_runs(rootfs: Path) -> None:
    words = command("run", "-i", str(rootfs), "sh", "-c", "echo ready; read line; echo got $line")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("it\n")
        process.stdin.flush()
        assert process.stdout.readline() == "got it\n"
        assert process.wait(30) == 0


def test_stdin_is_given_with_i_only(rootfs: Path) -> None:
    assert cli("run", "-i", str(rootfs), "cat", input="text").stdout == "text"
    assert cli("run", str(rootfs), "cat", input="text").stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["Alpine:3.20", "true"], 125, "is no reference"),
        (["./no-such-directory", "true"], 125, "no-such-directory"),
        (["host", "no-such-program"], 127, "command not found in the container: no-such-program"),
        (["host", "/etc/passwd"], 126, "cannot execute /etc/passwd"),
        (["host"], 125, "args is required"),
        (["-v", "vol:/v", "host", "true"], 125, "not built yet"),
        (["--network", "private", "host", "true"], 125, "not built yet"),
        (["-d", "host", "true"], 125, "end with this process"),
        (["--user", "nobody-here", "host", "true"], 125, "nobody-here"),
    ],
)
def test_what_cannot_be_started_is_125_126_or_127(words: list[str], code: int, message: str) -> None:
    done = cli("run", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("pycontainer: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_is_128_and_its_number(rootfs: Path) -> None:
    assert cli("run", str(rootfs), "sh", "-c", "kill -9 $$").returncode == 137
    assert cli("run", str(rootfs), "sh", "-c", "kill -15 $$").returncode == 143


def test_a_timeout_kills_and_says_so(rootfs: Path) -> None:
    done = cli("run", "--timeout", "0.2", str(rootfs), "sleep", "60")
    assert done.returncode == 137
    assert "ended by its time limit" in done.stderr


@pytest.mark.vm
@pytest.mark.requires("controller:memory")
def test_a_memory_limit_kills_and_says_so() -> None:
    done = cli("run", "--memory", "16mb", "--stats", "host", sys.executable, "-c", "x = b'1' * 10**8")
    assert done.returncode == 137
    assert "ended by its memory limit: peak 16.0 MiB of 16 MiB" in done.stderr
    lines = dict(line.split(None, 1) for line in done.stderr.splitlines() if not line.startswith("pycontainer:"))
    assert lines["reason"] == "memory"
    assert lines["memory_peak"] == "16.0 MiB"
    assert int(lines["oom_kills"]) >= 1  # version 2 takes the whole group, and counts each


@pytest.mark.vm
def test_stats_print_the_verdict_to_stderr(rootfs: Path) -> None:
    done = cli("run", "--stats", str(rootfs), "sh", "-c", "echo out")
    assert done.stdout == "out\n"
    lines = dict(line.split(None, 1) for line in done.stderr.splitlines())
    assert lines["reason"] == "exited"
    assert lines.keys() >= {"status", "wall", "cpu", "memory_peak", "enforced"}


def test_flags_reach_the_container(rootfs: Path) -> None:
    words = ["-h", "box", "-e", "A=b", "-w", "/tmp", "-u", "0:0", "--ulimit", "nofile=99", "--read-only", "--rm"]
    script = "hostname; echo $A; pwd; ulimit -n; touch /x 2>/dev/null || echo refused"
    done = cli("run", *words, str(rootfs), "--", "sh", "-c", script)
    assert done.stdout.split() == ["box", "b", "/tmp", "99", "refused"]


def test_a_bind_can_be_read_only(rootfs: Path, scratch: Path) -> None:
    source = scratch / "bound"
    source.mkdir(mode=0o755, exist_ok=True)
    (source / "file").write_text("here")
    done = cli(
        "run", "-v", f"{source}:/in:ro", str(rootfs), "sh", "-c", "cat /in/file; echo x >/in/file || echo refused"
    )
    assert done.stdout == "hererefused\n"


def test_json_is_one_object(rootfs: Path) -> None:
    done = cli("run", "--format", "json", str(rootfs), "sh", "-c", "echo out; echo err >&2; exit 4")
    seen = json.loads(done.stdout)
    assert done.returncode == 4
    assert (seen["returncode"], seen["reason"], seen["stdout"], seen["stderr"]) == (4, "exited", "out\n", "err\n")
    assert seen["enforced"]["seccomp"]["state"] == "held"
    assert seen["usage"]["wall"] > 0
    failed = cli("run", "--format", "json", "host", "no-such-program")
    assert failed.returncode == 127
    assert json.loads(failed.stdout) == {
        "error": "CommandNotFound",
        "message": "command not found in the container: no-such-program",
        "exit_code": 127,
    }


def test_ctrl_c_kills_and_is_130(rootfs: Path) -> None:
    words = command("run", str(rootfs), "sh", "-c", "echo ready; exec sleep 60")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""


def test_t_gives_a_terminal(rootfs: Path) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && echo yes"
    done = cli("run", "-t", str(rootfs), "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "yes\r\n".replace("\r\n", "\n"))


def test_output_reaches_a_terminal_of_the_caller_s(rootfs: Path) -> None:
    """The caller's terminal itself is never handed on: inside, without -t, there is a pipe."""
    outer, inner = pty.openpty()
    words = command("run", str(rootfs), "sh", "-c", "test -t 1 || echo copied")
    done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=inner, stderr=inner, timeout=60)
    time.sleep(0.05)
    assert done.returncode == 0
    assert os.read(outer, 1000) == b"copied\r\n"
    os.close(outer)
    os.close(inner)


def test_doctor_tells_by_its_status_whether_a_default_run_works() -> None:
    done = cli("doctor", "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["seccomp"]["state"] == "held"
    table = cli("doctor")
    assert table.returncode == 0
    assert table.stdout.startswith("namespace:cgroup")


def test_doctor_s_status_is_1_where_nothing_starts() -> None:
    words = ["import worlds; worlds.install('clone3', 38)", "import sys; from pycontainer.cli import main"]
    code = "\n".join([*words, "sys.exit(main(['doctor']))"])
    done = subprocess.run(worlds.python(code), check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "clone3 answers ENOSYS" in done.stdout


def test_the_module_runs_too(rootfs: Path) -> None:
    words = [sys.executable, "-m", "pycontainer", "run", str(rootfs), "true"]
    environ = {**os.environ, "PYTHONPATH": worlds.package_path()}
    assert subprocess.run(words, check=False, env=environ, timeout=60).returncode == 0
