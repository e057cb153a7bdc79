"""Container: its life from creation to removal, its end, who may use it; subprocess.Popen where that has a word."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Limits, Reason

pytestmark = pytest.mark.requires("userns")
SLEEP = ["sleep", "100"]


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_making_one_touches_nothing_and_a_block_starts_and_removes_it(rootfs: Path) -> None:
    made = Container(SLEEP, image=rootfs, name="one", labels={"a": "b"})
    assert (made.state, made.name, made.labels, made.args, made.returncode) == (
        "CREATED",
        "one",
        {"a": "b"},
        SLEEP,
        None,
    )
    assert len(made.id) == 32
    assert made.result is None
    with made as container:
        assert container is made
        assert made.state == "RUNNING"
        assert lives(made.pid)
        levels = next(line for line in Path(f"/proc/{made.pid}/status").read_text().splitlines() if "NSpid" in line)
        assert levels.split()[-1] == "2"
    assert (made.state, made.returncode) == ("REMOVED", -9)
    assert made.result is not None
    assert made.result.reason is Reason.KILLED
    assert not lives(made.pid)


@pytest.mark.vm
def test_an_end_is_popen_s(rootfs: Path) -> None:
    with Container(["sh", "-c", "echo out; echo err >&2; exit 3"], image=rootfs) as container:
        assert container.wait(timeout=patience(5)) == 3
        assert container.poll() == container.returncode == 3
        assert container.state == "EXITED"
        assert container.result is not None
        assert (container.result.stdout, container.result.stderr) == (b"out\n", b"err\n")
        assert container.result.reason is Reason.EXITED
        assert container.result.usage.wall is not None
    assert container.logs() == b"out\nerr\n"  # also when it is removed


def test_a_wait_that_expires_kills_nothing(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        begun = time.monotonic()
        with pytest.raises(pc.TimeoutExpired) as expired:
            container.wait(timeout=0.2)
        assert 0.2 <= time.monotonic() - begun < patience(2)
        assert expired.value.result is None
        assert container.state == "RUNNING"
        assert container.exec(["true"]).returncode == 0


def test_its_pidfd_is_readable_at_the_end(rootfs: Path) -> None:
    import select

    with Container(["sleep", "0.3"], image=rootfs) as container:
        poll = select.poll()
        poll.register(container.fileno(), select.POLLIN)
        assert not poll.poll(0)
        assert poll.poll(patience(5) * 1000)
        assert container.wait(timeout=patience(5)) == 0


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda c: c.send_signal("TERM"), -15),
        (lambda c: c.send_signal("sigint"), -2),
        (lambda c: c.send_signal(signal.SIGHUP), -1),
        (lambda c: c.terminate(), -15),
        (lambda c: c.stop(), -15),
    ],
    ids=["TERM", "sigint", "SIGHUP", "terminate", "stop"],
)
def test_signals_mean_inside_what_they_mean_outside(
    rootfs: Path, send: Callable[[Container], None], status: int
) -> None:
    with Container(SLEEP, image=rootfs) as container:
        send(container)
        assert container.wait(timeout=patience(5)) == status
        assert container.result is not None
        assert container.result.reason is Reason.STOPPED


def test_a_crash_is_not_what_was_asked_for(rootfs: Path) -> None:
    with Container(["sh", "-c", "kill -SEGV $$"], image=rootfs) as container:
        assert container.wait(timeout=patience(5)) == -11
        assert container.result is not None
        assert container.result.reason is Reason.SIGNALED


def test_a_handled_signal_ends_nothing(rootfs: Path) -> None:
    script = "trap 'echo usr' USR1; echo ready; while :; do sleep 0.1; done"
    with Container(["sh", "-c", script], image=rootfs, text=True) as container:
        lines = container.lines(timeout=patience(10))
        assert next(lines) == ("stdout", "ready\n")
        container.send_signal("USR1")
        assert next(lines) == ("stdout", "usr\n")
        assert container.state == "RUNNING"


@pytest.mark.vm
def test_stop_gives_time_and_then_kills_the_whole_tree(rootfs: Path) -> None:
    script = "trap 'echo asked' TERM; echo ready; sleep 100 & while :; do sleep 0.1; done"
    with Container(["sh", "-c", script], image=rootfs) as container:
        assert next(container.lines(timeout=patience(10))) == ("stdout", b"ready\n")
        begun = time.monotonic()
        container.stop(grace=0.5)
        assert 0.5 <= time.monotonic() - begun < patience(5)
        assert (container.state, container.returncode) == ("EXITED", -9)
        assert container.result is not None
        assert container.result.reason is Reason.STOPPED
        assert b"asked" in container.logs()


def test_a_stop_that_is_obeyed_does_not_wait(rootfs: Path) -> None:
    script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with Container(["sh", "-c", script], image=rootfs) as container:
        next(container.lines(timeout=patience(10)))
        begun = time.monotonic()
        container.stop(grace=60)
        assert time.monotonic() - begun < patience(5)
        assert container.returncode == 0
        assert container.result is not None
        assert container.result.reason is Reason.STOPPED


def test_signals_after_the_end_go_to_nobody(rootfs: Path) -> None:
    with Container(["true"], image=rootfs) as container:
        container.wait(timeout=patience(5))
        container.send_signal("KILL")
        container.terminate()
        container.kill()
        container.stop()
        assert container.returncode == 0
        assert container.result is not None
        assert container.result.reason is Reason.EXITED


def test_run_starts_waits_and_leaves_its_logs(rootfs: Path) -> None:
    container = Container(["sh", "-c", "read line; echo got $line; exit 4"], image=rootfs, stdin=pc.PIPE, text=True)
    with pytest.raises(pc.CalledProcessError) as failed:
        container.run(input="this\n", timeout=patience(10), check=True)
    assert failed.value.result.stdout == "got this\n"
    assert container.state == "EXITED"
    assert container.logs() == "got this\n"
    container.close()


def test_a_run_that_expires_is_killed(rootfs: Path) -> None:
    container = Container(["sh", "-c", "echo begun; sleep 100"], image=rootfs)
    with pytest.raises(pc.TimeoutExpired) as expired:
        container.run(timeout=0.5)
    assert expired.value.stdout == b"begun\n"
    assert expired.value.result is not None
    assert expired.value.result.reason is Reason.TIMEOUT
    assert container.state == "EXITED"
    container.close()


def test_wall_time_needs_nobody_who_waits(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs, limits=Limits(wall_time=0.3)) as container:
        time.sleep(0.3 + patience(1))
        assert container.state == "EXITED"
        assert container.result is not None
        assert container.result.reason is Reason.TIMEOUT


@pytest.mark.vm
@pytest.mark.requires("controller:memory")
def test_memory_is_a_verdict(rootfs: Path) -> None:
    script = "x=0123456789abcdef; while :; do x=$x$x; done"
    with Container(["sh", "-c", script], image=rootfs, limits=Limits(memory="32MiB")) as container:
        container.wait(timeout=patience(30))
        assert container.result is not None
        assert container.result.reason is Reason.MEMORY


def test_what_cannot_be_started_leaves_a_container_that_was_not(rootfs: Path) -> None:
    container = Container(["no-such-command"], image=rootfs)
    with pytest.raises(pc.CommandNotFound):
        container.start()
    assert container.state == "CREATED"
    with pytest.raises(pc.SetupError):
        Container(["true"], image=rootfs, user="nobody-knows").start()
    with pytest.raises(pc.CommandNotFound), Container(["no-such-command"], image=rootfs):
        pass


STATES: dict[str, Callable[[Path], Container]] = {
    "CREATED": lambda root: Container(SLEEP, image=root),
    "REMOVED": lambda root: closed(Container(SLEEP, image=root).start()),
}
CALLS: dict[str, Callable[[Container], Any]] = {
    "exec": lambda c: c.exec(["true"]),
    "popen": lambda c: c.popen(["true"]),
    "stop": lambda c: c.stop(),
    "kill": lambda c: c.kill(),
    "terminate": lambda c: c.terminate(),
}


def closed(container: Container) -> Container:
    container.close()
    return container


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_in_a_wrong_state_says_what_helps(rootfs: Path, state: str, call: str) -> None:
    container = STATES[state](rootfs)
    with pytest.raises(pc.StateError, match=state):
        CALLS[call](container)
    assert container.state == state
    container.close()


@pytest.mark.parametrize("call", ["wait", "poll", "lines", "communicate", "fileno", "logs"])
def test_one_that_was_not_started_has_no_end(rootfs: Path, call: str) -> None:
    with pytest.raises(pc.StateError, match=r"start\(\)"):
        getattr(Container(SLEEP, image=rootfs), call)()


def test_an_ended_one_runs_nothing_more(rootfs: Path) -> None:
    with Container(["true"], image=rootfs) as container:
        container.wait(timeout=patience(5))
        with pytest.raises(pc.StateError, match="EXITED"):
            container.exec(["true"])
        with pytest.raises(pc.StateError, match="EXITED"):
            container.start()


def test_signals_that_do_not_exist_are_refused(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        for wrong in ("NOPE", 0, 65, -9):
            with pytest.raises(ValueError, match="signal"):
                container.send_signal(wrong)
        with pytest.raises(TypeError, match="signal"):
            container.send_signal(9.0)  # type: ignore[arg-type]
        assert container.state == "RUNNING"


def test_a_dropped_one_is_removed_with_a_warning(rootfs: Path) -> None:
    container = Container(SLEEP, image=rootfs).start()
    pid = container.pid
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del container
        gc.collect()
    assert [str(warning.category) for warning in caught] == [str(ResourceWarning)]
    assert not lives(pid)


def test_one_that_the_interpreter_s_end_drops_is_removed_without_a_traceback(rootfs: Path) -> None:
    # What nobody catches keeps the frames of its traceback, and so the container, until nothing can be imported.
    made = f"pc.Container({SLEEP}, image={str(rootfs)!r}).start()"
    code = f"import pycontainer as pc; c = {made}; print(c.pid, flush=True); c.kill(); c.wait_for(pc.wait.port(1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("pycontainer._errors.ContainerEnded: ")
    assert not lives(int(done.stdout))


ENDS: dict[str, Callable[[Container], None]] = {
    "os._exit": lambda container: os._exit(0),
    "sys.exit": lambda container: os._exit(0) if container.__del__() is None else None,  # type: ignore[func-returns-value]
    "a signal": lambda container: os.kill(os.getpid(), signal.SIGKILL),
    "its block": lambda container: container.__exit__(None, None, None),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_forked_copy_owns_nothing(rootfs: Path, how: str) -> None:
    with Container(SLEEP, image=rootfs) as container:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                container.exec(["true"])
            except pc.StateError:
                status = 0
            if status == 0:
                ENDS[how](container)
            os._exit(status)
        ended = os.waitpid(pid, 0)[1]
        assert ended == (signal.SIGKILL if how == "a signal" else 0)
        assert container.state == "RUNNING"
        assert container.exec(["true"]).returncode == 0


def test_many_threads_start_it_once(rootfs: Path) -> None:
    container = Container(SLEEP, image=rootfs)
    answers: list[str] = []

    def start() -> None:
        try:
            container.start()
            answers.append("started")
        except pc.StateError:
            answers.append("StateError")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(20))
    assert sorted(answers) == ["StateError"] * 7 + ["started"]
    container.close()


def test_many_threads_end_it_once(rootfs: Path) -> None:
    container = Container(SLEEP, image=rootfs).start()
    answers: list[str] = []

    def call(name: str) -> None:
        try:
            getattr(container, name)()
            answers.append(name)
        except pc.StateError:
            answers.append("StateError")

    threads = [threading.Thread(target=call, args=(name,)) for name in ("stop", "kill", "wait", "close") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(20))
    assert len(answers) == len(threads)
    assert container.state == "REMOVED"
    assert container.returncode in (-9, -15)


def test_guarantees_are_there_while_it_runs(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        assert container.enforced["seccomp"].state == "held"
        assert container.enforced["namespace:pid"].state == "held"
