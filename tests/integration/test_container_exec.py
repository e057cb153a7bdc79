"""Commands beside the first one of a container: exec() and popen(), their walls, their ends, what is left of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import PIPE, Container, Limits, Reason

pytestmark = pytest.mark.requires("userns")
MANY = 64
# Every way to get away from a parent that a shell knows.
RUNAWAY = "setsid sh -c '(setsid sleep 9000 &) ; sleep 9000' & (sleep 9000 &) ; sleep 9000"


@pytest.fixture
def container(rootfs: Path) -> Iterator[Container]:
    with Container(["sleep", "100000"], image=rootfs, env={"FIRST": "1"}) as container:
        yield container


def sleepers(container: Container) -> int:
    """How many of them live inside."""
    shown = container.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null"]).stdout
    return shown.count(b"sleep\x009000")


@pytest.mark.vm
def test_it_answers_as_run_does(container: Container) -> None:
    result = container.exec(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in\n")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"in\n", b"err\n")
    assert result.reason is Reason.EXITED
    assert result.usage.wall is not None
    assert result.usage.wall > 0
    assert container.exec(["echo", "ä"], text=True).stdout == "ä\n"


def test_what_is_said_of_it_counts_and_the_rest_is_the_container_s(container: Container) -> None:
    script = "id -u; id -g; pwd; echo $FIRST $SECOND; umask"
    said = container.exec(["sh", "-c", script], user="1000:1001", cwd="/tmp", env={"SECOND": "2"}, text=True)
    assert said.stdout.split() == ["1000", "1001", "/tmp", "1", "2", "0022"]
    unsaid = container.exec(["sh", "-c", script], env={"FIRST": None}, text=True)
    assert unsaid.stdout.splitlines() == ["0", "0", "/", "", "0022"]


def test_its_streams_can_be_opened_again(container: Container) -> None:
    for user in (0, 1000) if os.geteuid() == 0 else (0,):
        result = container.exec(["sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr"], user=user)
        assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 0)


@pytest.mark.vm
def test_its_walls_are_the_container_s(container: Container) -> None:
    names = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    walls = "grep -E 'Seccomp:|NoNewPrivs|Cap(Eff|Bnd)' /proc"
    script = f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done; {walls}/self/status"
    inside = container.exec(["sh", "-c", script], text=True).stdout
    first = (
        "".join(os.readlink(f"/proc/{container.pid}/ns/{name}") + "\n" for name in names) if os.geteuid() == 0 else ""
    )
    assert inside.startswith(first)
    status = container.exec(["sh", "-c", f"{walls}/2/status"], text=True).stdout
    assert status
    assert inside.endswith(status)
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status


def test_it_has_no_descriptor_of_ours(container: Container) -> None:
    assert container.exec(["sh", "-c", "ls /proc/self/fd"]).stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own


def test_what_is_missing_is_told_and_the_container_runs_on(container: Container) -> None:
    with pytest.raises(pc.CommandNotFound) as missing:
        container.exec(["no-such-command"])
    assert missing.value.filename == "no-such-command"
    with pytest.raises(pc.CommandNotExecutable):
        container.exec(["/etc/passwd"])
    with pytest.raises(pc.SetupError, match="nobody-knows"):
        container.exec(["true"], user="nobody-knows")
    with pytest.raises(pc.SetupError, match="/no/such"):
        container.exec(["true"], cwd="/no/such")
    with pytest.raises(pc.CommandNotFound):
        container.popen(["no-such-command"])
    assert container.exec(["true"]).returncode == 0


def test_bad_arguments_name_themselves(container: Container) -> None:
    with pytest.raises(TypeError, match="args"):
        container.exec("true")
    with pytest.raises(ValueError, match="args"):
        container.exec([])
    with pytest.raises(TypeError, match="input"):
        container.exec(["cat"], input="text")
    with pytest.raises(TypeError, match="timeout"):
        container.exec(["true"], timeout="soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cwd"):
        container.exec(["true"], cwd="relative")
    with pytest.raises(TypeError, match="check"):
        container.exec(["true"], check=1)  # type: ignore[arg-type]


def test_a_status_can_be_an_exception(container: Container) -> None:
    with pytest.raises(pc.CalledProcessError) as failed:
        container.exec(["sh", "-c", "echo why >&2; exit 2"], check=True)
    assert failed.value.returncode == 2
    assert "why" in str(failed.value)


@pytest.mark.vm
def test_a_timeout_kills_this_command_and_all_that_came_of_it(container: Container) -> None:
    rest = container.popen(["sleep", "8000"])
    with pytest.raises(pc.TimeoutExpired) as expired:
        container.exec(["sh", "-c", f"echo begun; {RUNAWAY}"], timeout=0.5)
    assert expired.value.stdout == b"begun\n"
    assert expired.value.result is not None
    assert expired.value.result.reason is Reason.TIMEOUT
    assert sleepers(container) == 0
    assert rest.poll() is None
    assert container.state == "RUNNING"
    rest.kill()
    rest.wait(timeout=patience(5))


def test_a_timeout_that_has_passed_starts_nothing(container: Container) -> None:
    with pytest.raises(pc.TimeoutExpired):
        container.exec(["touch", "/tmp/there"], timeout=0)
    assert container.exec(["test", "-e", "/tmp/there"]).returncode == 1


@pytest.mark.parametrize("how", ["its block", "kill()", "the drop"])
def test_the_end_of_a_process_is_the_end_of_its_tree(
    container: Container, how: str, times: Callable[[int], range]
) -> None:
    alone = container.stats().pids
    for _ in times(50):
        process = container.popen(["sh", "-c", f"echo begun; {RUNAWAY}"], stdout=PIPE)
        assert process.stdout.readline() == b"begun\n"
        if how == "its block":
            with process:
                pass
        elif how == "kill()":
            process.kill()
        else:
            del process
        deadline = time.monotonic() + patience(5)
        # Tasks, its supervisor among them: no sleeper may mean that none has begun yet.
        while container.stats().pids != alone and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (container.stats().pids, sleepers(container)) == (alone, 0)


def test_a_fork_bomb_in_an_exec_can_be_killed(rootfs: Path) -> None:
    with Container(["sleep", "100000"], image=rootfs, limits=Limits(pids=64), degrade=["pids"]) as container:
        bomb = "f() { (exec 3>&-; f) & (exec 3>&-; f) & sleep 0.01; }; f; sleep 100"
        process = container.popen(["sh", "-c", bomb])
        time.sleep(0.5)
        process.kill()
        process.wait(timeout=patience(20))
        deadline = time.monotonic() + patience(20)
        while time.monotonic() < deadline:
            try:
                if container.exec(["sh", "-c", "echo /proc/[0-9]*"], timeout=patience(5)).stdout.count(b"/proc/") <= 5:
                    break
            except (pc.SetupError, pc.TimeoutExpired):
                pass
            time.sleep(0.1)
        assert container.exec(["sh", "-c", "echo /proc/[0-9]*"]).stdout.count(b"/proc/") <= 5


def test_what_a_command_leaves_running_stays(container: Container) -> None:
    container.exec(["sh", "-c", "sleep 9000 >/dev/null 2>&1 &"])
    time.sleep(0.2)
    assert sleepers(container) == 1


def test_a_background_child_that_holds_the_output_does_not_hold_us(container: Container) -> None:
    begun = time.monotonic()
    assert container.exec(["sh", "-c", "sleep 9000 & echo done"]).stdout == b"done\n"
    assert time.monotonic() - begun < patience(5)


def test_a_process_is_popen_s(container: Container) -> None:
    with container.popen(["cat"], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.poll() is None
        assert process.result is None
        assert Path(f"/proc/{process.pid}").exists()
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "one\n"
        assert process.communicate("two\n", timeout=patience(5)) == ("two\n", "")
        assert process.returncode == process.poll() == process.wait() == 0
    assert process.result is not None
    assert process.result.stdout == "two\n"
    assert container.state == "RUNNING"


def test_signals_reach_it_alone(container: Container) -> None:
    process = container.popen(["sleep", "8000"])
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=patience(5)) == -2
    assert process.result is not None
    assert process.result.reason is Reason.STOPPED
    process.terminate()  # to nobody
    assert container.state == "RUNNING"


def test_a_wait_for_it_may_expire(container: Container) -> None:
    with container.popen(["sleep", "8000"]) as process:
        with pytest.raises(pc.TimeoutExpired):
            process.wait(timeout=0.1)
        assert process.poll() is None


def test_lines_of_a_process(container: Container) -> None:
    with container.popen(["sh", "-c", "echo a; echo b >&2"], stdout=PIPE, stderr=PIPE) as process:
        assert sorted(process.lines(timeout=patience(5))) == [("stderr", b"b\n"), ("stdout", b"a\n")]


def test_a_terminal_of_its_own(container: Container) -> None:
    result = container.exec(["sh", "-c", "tty; test -t 2; echo $?"], tty=True)
    assert result.stdout.splitlines() == [b"/dev/pts/0", b"0"]
    assert result.stderr == b""
    with container.popen(["sh", "-c", "stty size; read x; stty size"], tty=True, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout.readline() == b"24 80\r\n"
        process.resize(11, 22)
        assert b"11 22\r\n" in process.communicate(b"\n", timeout=patience(5))[0]


def test_sixty_four_at_once(container: Container) -> None:
    answers: list[bytes] = []

    def one(number: int) -> None:
        answers.append(container.exec(["sh", "-c", "sleep 0.5; cat"], input=str(number).encode()).stdout)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(MANY)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(30))
    assert sorted(map(int, answers)) == list(range(MANY))
    assert time.monotonic() - begun < patience(15)  # one after another they would sleep 32 s


def test_the_container_s_end_is_theirs(container: Container) -> None:
    process = container.popen(["sleep", "8000"])
    threading.Timer(0.3, container.kill).start()
    result = container.exec(["sleep", "8000"])
    assert (result.returncode, result.reason) == (-9, Reason.KILLED)
    assert process.wait(timeout=patience(5)) == -9
    with pytest.raises(pc.StateError):
        container.exec(["true"])


def test_a_command_longer_than_a_message(container: Container) -> None:
    text = "x" * 100_000
    assert container.exec(["echo", text], text=True).stdout == text + "\n"


@pytest.mark.parametrize("pid1", [True])
def test_a_command_that_is_pid_1_starts_nothing_of_ours(rootfs: Path, pid1: bool) -> None:
    with Container(["sleep", "100"], image=rootfs, pid1=pid1) as container:
        assert container.state == "RUNNING"
        with pytest.raises(pc.NotSupported, match="pid1"):
            container.exec(["true"])
        container.stop(grace=0.1)
        assert container.returncode == -9
