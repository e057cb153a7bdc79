"""An error from any system call of the host, the keeper or inside: typed or success, in time, nothing left."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pen import Pen, state, status

pytestmark = [
    pytest.mark.requires("root", "unified", "program:strace", "ptrace"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]

# It talks by recv and send, so that an injected read or write hits the engine and not the conversation.
PROGRAM = """
import os, socket, sys
import pycontainer as pc
from pycontainer import _core
image, talk = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
KINDS = {
    "plain": {}, "limited": {"limits": pc.Limits(memory="64MiB", pids=20, cpus=1, cpu_time=5)},
    "disk": {"upper": "disk"},
    "files": {"files": {"/in/f": b"x"}, "input": b"y" * 9000, "hostname": "h"}, "terminal": {"tty": True},
}
while kind := talk.recv(100).decode():
    try:
        r = pc.run(["sh", "-c", "echo out; exit 4"], image=image, **KINDS[kind])
        right = r.returncode == 4 and r.stdout.split() == [b"out"]
        answer = "right" if right else "killed" if r.returncode < 0 else f"WRONG {r}"
    except (pc.Error, OSError, MemoryError) as error:
        answer = f"typed {type(error).__name__}: {error}"
    except BaseException as error:
        answer = f"UNTYPED {error!r}"
    talk.send(f"{(_core.keeper_pid() or [0])[0]} {answer}"[:900].encode())
"""
PATIENCE = 20  # seconds

HOST = [
    "socketpair", "sendmsg", "recvmsg", "pipe2", "fcntl", "poll", "openat", "mkdir", "mkdirat", "statx", "newfstatat",
    "unlinkat", "rmdir", "memfd_create", "flock", "write", "read", "eventfd2", "readlink", "getdents64", "pidfd_open",
    "clone3", "wait4", "execveat", "setsockopt", "mmap", "dup", "chown", "fchown",
]  # fmt: skip
KEEPER = [
    "recvmsg", "sendmsg", "epoll_pwait", "epoll_ctl", "clone3", "wait4", "socketpair", "fsopen", "fsconfig",
    "fsmount", "open_tree", "mount_setattr", "openat", "openat2", "statx", "mkdirat", "mknodat", "symlinkat", "write",
    "read", "setresuid", "setresgid", "prlimit64", "fcntl", "fchown", "pidfd_send_signal", "close_range", "setsid",
    "prctl", "setgroups", "move_mount", "pivot_root", "unshare", "sethostname", "umount2", "mount", "fchdir",
    "chroot", "capset", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "keyctl",
    "execve", "mmap", "signalfd4", "ppoll", "fstatfs", "dup3", "umask", "ioctl", "socket", "pread64", "sendfile",
]  # fmt: skip
ERRORS = ["EINTR", "ENOMEM", "EPERM", "ENOSYS", "EMFILE", "ENOSPC", "EIO"]
KINDS = ["plain", "limited", "disk", "files", "terminal"]


class Host:
    """The interpreter under test, and the conversation with it."""

    def __init__(self, pen: Pen, rootfs: Path) -> None:
        self.talk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child = pen.start(PROGRAM, rootfs, theirs.fileno(), pass_fds=[theirs.fileno()])
        theirs.close()
        self.talk.settimeout(PATIENCE)
        self.keeper = 0

    def run(self, kind: str) -> str:
        self.talk.send(kind.encode())
        keeper, _, answer = self.talk.recv(1000).decode().partition(" ")
        if not keeper:
            raise AssertionError(f"the host ended: {self.child.communicate()}")
        self.keeper = int(keeper)
        return answer

    def end(self) -> None:
        self.talk.close()
        _, err = self.child.communicate(timeout=PATIENCE)
        assert self.child.returncode == 0, err


@contextmanager
def injected(pids: list[int], rule: str) -> Iterator[None]:
    """The rule counts in each thread by itself, and follows whatever these start."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={rule}"]
    command += [word for pid in pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        for pid in pids:
            wait_for_tracer(pid, tracer)
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=PATIENCE)


def wait_for_tracer(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    while status(pid).get("TracerPid") != str(tracer.pid):
        if tracer.poll() is not None:
            # Attaching woke it, and the first call that it made was one that it cannot do without.
            assert state(pid) in ("Z", "X", None), tracer.communicate()
            return
        os.sched_yield()


def one(pen: Pen, host: Host, rule: str, target: str, kind: str) -> str:
    case = f"{rule} in the {target}, {kind}"
    pids = [host.child.pid] if target == "host" else [host.keeper]
    try:
        with injected(pids, rule):
            answer = host.run(kind)
        assert answer.startswith(("right", "typed", "killed")), f"{case}: {answer}"
        assert not (left := pen.left({host.child.pid, host.keeper})), f"{case}: {answer}: {left}"
        assert (again := host.run(kind)) == "right", f"{case}: {answer}; then {again}"
    except TimeoutError:
        raise AssertionError(f"{case}: no answer within {PATIENCE} s") from None
    return answer.split()[0]


@pytest.mark.parametrize("target", ["host", "keeper"])
def test_each_system_call_may_fail(
    pen: Pen, rootfs: Path, target: str, times: Callable[[int], range], capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(os.environ.get("PYCONTAINER_SEED", target))
    calls = HOST if target == "host" else KEEPER
    cases = [(call, error, when, kind) for call in calls for error in ERRORS for when in (1, 2, 4) for kind in KINDS]
    chosen = chance.sample(cases, len(times(1000)))
    host = Host(pen, rootfs)
    assert host.run("plain") == "right"
    seen: dict[str, int] = {}
    for call, error, when, kind in chosen:
        answer = one(pen, host, f"{call}:error={error}:when={when}", target, kind)
        seen[answer] = seen.get(answer, 0) + 1
    host.end()
    with capsys.disabled():
        print(f"\n  {target}: {len(chosen)} injections: {seen}", end=" ")
    assert seen.get("typed", 0) > len(chosen) // 20, "the injections did not hit"
    assert not pen.left()


@pytest.mark.parametrize("error", ["ENOMEM", "EPERM", "ENOSYS", "EMFILE", "EIO"])
@pytest.mark.parametrize(
    "call", ["clone3", "execveat", "memfd_create", "socketpair", "sendmsg", "recvmsg", "pidfd_open", "wait4"]
)
def test_the_start_of_the_keeper_may_fail(pen: Pen, rootfs: Path, call: str, error: str) -> None:
    host = Host(pen, rootfs)
    assert one_start(pen, host, f"{call}:error={error}:when=1").startswith(("right", "typed"))
    assert host.run("plain") == "right"
    host.end()
    assert not pen.left()


def one_start(pen: Pen, host: Host, rule: str) -> str:
    try:
        with injected([host.child.pid], rule):
            answer = host.run("plain")
    except TimeoutError:
        raise AssertionError(f"{rule}: no answer within {PATIENCE} s") from None
    assert not (left := pen.left({host.child.pid, host.keeper})), f"{rule}: {answer}: {left}"
    return answer


# ---- a start that takes too long ---------------------------------------------------------------------------------

LATE = 13_000_000  # microseconds: beyond the ten seconds of each deadline


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        # The keeper does not come to its exec, or who clones it does not come to its end: rust/src/sys/host.rs.
        (f"execveat:delay_enter={LATE}:when=1", "typed SetupError: start the keeper: Connection timed out"),
        (f"exit_group:delay_enter={LATE}:when=1", "typed SetupError: start the keeper: Connection timed out"),
        # It has been executed, and does not answer the first message: rust/src/spawn/keeper.rs.
        (f"recvmsg:delay_enter={LATE}:when=1", "typed SetupError: wait for the keeper: it does not answer"),
    ],
    ids=["exec", "clone", "hello"],
)
def test_a_keeper_that_is_not_there_in_time_is_given_up(pen: Pen, rootfs: Path, rule: str, said: str) -> None:
    """Within the deadline, not when it comes; who was late never comes, and the next call starts another one."""
    host = Host(pen, rootfs)
    begun = time.monotonic()
    answer = one_start(pen, host, rule)
    assert answer.startswith(said)
    assert 9 <= time.monotonic() - begun < LATE / 1e6
    assert host.keeper == 0
    assert host.run("plain") == "right"
    host.end()
    assert not pen.left()


def test_a_keeper_that_is_stopped_at_its_start_is_woken(pen: Pen, rootfs: Path) -> None:
    """At a call that nobody else on the road makes."""
    host = Host(pen, rootfs)
    begun = time.monotonic()
    assert one_start(pen, host, "epoll_ctl:signal=STOP:when=1") == "right"
    assert 5 <= time.monotonic() - begun < 9
    host.end()
    assert not pen.left()
