"""An error from any system call of the host, the keeper or inside: typed or success, in time, nothing left."""

from __future__ import annotations

import os
import platform
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

import pace
import requirements
from faults.injecting import KINDS, PATIENCE, Host, injected, traced

pytestmark = [
    pytest.mark.requires("pen", "program:strace", "ptrace"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]

X86, ROOT = platform.machine() == "x86_64", os.geteuid() == 0
# What a run makes once its engine is there. A call that no run makes any more fails the test, and so does a new one.
HOST = [
    "socketpair", "sendmsg", "recvmsg", "pipe2", "fcntl", "ppoll", "openat", "mkdirat", "statx", "newfstatat",
    "unlinkat", "memfd_create", "write", "read", "getdents64", "lseek", "prlimit64", "flock",
    "socket", "bind", "listen", "setsockopt", "getsockname", "ioctl",
    *(["open", "mkdir", "readlink", "chmod"] if X86 else ["readlinkat", "fchmodat"]),
    *(["chown" if X86 else "fchownat"] if ROOT else ["fchmodat"]),
    *(["eventfd2"] if ROOT and requirements.cgroup2() else []),  # groups of version 1
]  # fmt: skip
KEEPER = [
    "recvmsg", "sendmsg", "epoll_pwait", "epoll_ctl", "clone3", "wait4", "socketpair", "fsopen", "fsconfig",
    "fsmount", "open_tree", "mount_setattr", "openat", "openat2", "statx", "mkdirat", "mknodat", "symlinkat", "write",
    "read", "setresuid", "setresgid", "prlimit64", "fcntl", "fchown", "fchmod", "pidfd_send_signal", "close_range",
    "setsid", "prctl", "setgroups", "move_mount", "pivot_root", "unshare", "sethostname", "umount2", "mount", "fchdir",
    "capset", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "keyctl",
    "execve", "mmap", "signalfd4", "ppoll", "fstatfs", "dup3", "umask", "ioctl", "socket", "pread64", "sendfile",
    "kill", "readlinkat", "rt_sigprocmask", "setns", "epoll_create1",
]  # fmt: skip
LISTED = {"host": HOST, "keeper": KEEPER}
# Not injected: what cannot fail; close(2), which closes whatever it answers, where an injected error leaves it open;
NEVER_FAILS = {
    "clock_gettime", "close", "exit_group", "getegid", "geteuid", "getgid", "getpid", "getppid", "gettid", "getuid",
}  # fmt: skip
# the interpreter's own, and the test's conversation with it; and what the command does by itself after exec. recvfrom
# is an answer of the keeper's that is late now and then: it belongs to the start below.
OTHERS = {
    "host": {"brk", "futex", "madvise", "mmap", "munmap", "readv", "recvfrom", "writev"},
    "keeper": {
        "access", "arch_prctl", "brk", "clock_nanosleep", "exit", "getcwd", "getrandom", "mprotect", "munmap",
        "newfstatat", "readlink", "rseq", "rt_sigaction", "set_robust_list", "set_tid_address",
    },
}  # fmt: skip
ERRORS = ["EINTR", "EAGAIN", "ENOMEM", "EPERM", "ENOSYS", "EMFILE", "ENOSPC", "EIO"]
SPREAD = ERRORS[:3]  # --quick: these for every call, and one of the others
WHEN = (1, 2, 4)
# EAGAIN of a pipe that is read without waiting is no error but the word that it is empty: where it is not, that word
# would be the only one, and the output lost.
NO_ERROR = {("host", "read", "EAGAIN")}

Case = tuple[str, str, int, str]  # call, error, which of a thread's calls, kind of run


def road(host: Host, target: str) -> dict[str, Counter[str]]:
    """The calls of each kind of run, as they are without an error."""
    seen = {}
    for kind in KINDS:
        with traced(host.pid(target)) as trace:
            assert host.run(kind) == "right", kind
        seen[kind] = trace.most()
    return seen


def drawn(seen: dict[str, Counter[str]], target: str, quick: bool, count: int) -> list[Case]:
    """A case for each pair of call and error, those of SPREAD and one more with --quick; then any, up to the count."""
    chance = random.Random(os.environ.get("PYCONTAINER_SEED", target))
    cases = [
        (call, error, when, kind) for call in LISTED[target] for error in ERRORS for when in WHEN for kind in KINDS
        if seen[kind][call] >= when and (target, call, error) not in NO_ERROR
    ]  # fmt: skip
    chance.shuffle(cases)
    pairs = {case[:2]: case for case in cases}
    if quick:
        other = {call: chance.choice(ERRORS[len(SPREAD) :]) for call, _ in pairs}
        pairs = {(call, error): case for (call, error), case in pairs.items() if error in (*SPREAD, other[call])}
    first = list(pairs.values())
    if pace.PACE > 1:  # there it is seen that it holds, not how often
        return first[:count]
    return first + [case for case in cases if case not in first][: max(0, count - len(first))]


def one(pen: Pen, host: Host, target: str, case: Case) -> tuple[str, int]:
    """The answer of a run with that error, and how often it was injected."""
    call, error, when, kind = case
    told = f"{call}:error={error}:when={when} in the {target}, {kind}"
    try:
        with injected(host.pid(target), call, error, when) as trace:
            answer = host.run(kind)
            assert answer.startswith(("right", "typed", "killed")), f"{told}: {answer}"
            assert not (left := pen.left({host.child.pid, host.keeper})), f"{told}: {answer}: {left}"
        assert (again := host.run(kind)) == "right", f"{told}: {answer}; then {again}"
    except TimeoutError:
        raise AssertionError(f"{told}: no answer within {PATIENCE} s") from None
    return answer.split()[0], trace.hits()


@pytest.mark.parametrize("target", ["host", pytest.param("keeper", marks=pytest.mark.requires("root"))])
def test_each_system_call_may_fail(
    pen: Pen, rootfs: Path, target: str, times: Callable[[int], range], pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    host = Host(pen, rootfs)
    assert host.run("plain") == "right"
    seen = road(host, target)
    made = {call for kind in KINDS for call in seen[kind]}
    if pace.PACE == 1:  # an emulated machine's older kernel has another road here and there
        assert made - NEVER_FAILS - OTHERS[target] == set(LISTED[target])
    answers: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    cases = drawn(seen, target, pytestconfig.getoption("--quick"), len(times(1000)))
    for case in cases:
        answer, injections = one(pen, host, target, case)
        answers[answer] += 1
        hits[case[0]] += injections
    host.end()
    with capsys.disabled():
        pairs = len({case[:2] for case in cases})
        print(f"\n  {target}: {len(cases)} cases, {pairs} pairs, {hits.total()} injections: {dict(answers)}", end=" ")
    assert not [call for call in {case[0] for case in cases} if not hits[call]], "no injection hit these calls"
    assert answers["typed"] > len(cases) // 20, "the injections did not hit"
    assert not pen.left()


# What only the first run makes, to start the keeper; and the keeper's own first calls.
START = [
    "clone3", "execveat", "memfd_create", "socketpair", "setsockopt", "sendmsg", "recvmsg", "recvfrom", "pidfd_open",
    "wait4", "ppoll", "fchmod", "write", "close_range", "dup3", "setsid", "prctl", "umask", "epoll_create1",
    "epoll_ctl", "epoll_pwait",
    pytest.param("flock", marks=pytest.mark.requires("root")),  # of a range of ids
]  # fmt: skip


@pytest.mark.parametrize("call", START)
def test_the_start_of_the_keeper_may_fail(pen: Pen, rootfs: Path, call: str, pytestconfig: pytest.Config) -> None:
    hits = 0
    for error in SPREAD if pytestconfig.getoption("--quick") else ERRORS:
        told = f"{call}:error={error}"
        host = Host(pen, rootfs)
        try:
            with injected(host.child.pid, call, error, 1) as trace:
                answer = host.run("plain")
                assert answer.startswith(("right", "typed", "killed")), f"{told}: {answer}"
                assert not (left := pen.left({host.child.pid, host.keeper})), f"{told}: {answer}: {left}"
            assert (again := host.run("plain")) == "right", f"{told}: {answer}; then {again}"
        except TimeoutError:
            raise AssertionError(f"{told}: no answer within {PATIENCE} s") from None
        host.end()
        hits += trace.hits()
    assert hits, "no injection hit this call"
    assert not pen.left()


def one_start(pen: Pen, host: Host, rule: str) -> str:
    try:
        with traced(host.child.pid, "-e", f"trace={rule.partition(':')[0]}", "-e", f"inject={rule}"):
            answer = host.run("plain")
    except TimeoutError:
        raise AssertionError(f"{rule}: no answer within {PATIENCE} s") from None
    assert not (left := pen.left({host.child.pid, host.keeper})), f"{rule}: {answer}: {left}"
    return answer


# ---- a start that takes too long ---------------------------------------------------------------------------------

LATE = 20_000_000  # microseconds: well beyond the ten seconds of each deadline


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
    # Of a plain user there are two: a traced newuidmap has no rights, so the second one takes one id.
    assert 5 <= time.monotonic() - begun < (9 if ROOT else 14)
    host.end()
    assert not pen.left()
