"""pids and rlimits: the task, the descriptor, the byte too many fails inside, with the kernel's own error."""

from __future__ import annotations

import resource
import sys
import threading
from typing import Any

import pytest

import pycontainer as pc
from programs.loads import Load
from pycontainer import Limits, Reason

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.vm


@pytest.mark.parameter("limits.pids")
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_the_65th_task_fails(load: Load, kind: str) -> None:
    result = load("tasks", kind, limits=Limits(pids=64))
    assert (result.stdout, result.reason) == (b"64 EAGAIN\n", Reason.EXITED)
    assert result.enforced["pids"].state == "held"


@pytest.mark.requires("controller:pids")
def test_refused_forks_are_counted(load: Load) -> None:
    usage = load("tasks", "process", limits=Limits(pids=20)).usage
    assert usage.pids_peak in (20, None)
    assert usage.pids_denied
    assert load("exit", 0, limits=Limits(pids=20)).usage.pids_denied == 0


@pytest.mark.parametrize("uid", [0, 1000, 4242])
@pytest.mark.requires("ids", "kernel>=5.14")
def test_nobody_said_anything_and_yet_there_is_a_bound(load: Load, uid: int) -> None:
    """2048 by the user namespace itself: root, and another uid inside, count together."""
    result = load("tasks", "process", uid)
    count, error = result.stdout.split()
    # Tasks of an earlier container with the same range may still be leaving.
    assert 2040 <= int(count) <= 2048, result.stdout
    assert error == b"EAGAIN"
    assert result.enforced["pids"].state == "held"


@pytest.mark.requires("ids", "kernel>=5.14")
def test_two_users_inside_do_not_get_a_bound_each(load: Load) -> None:
    script = "/bin/load tasks process 1000 & /bin/load tasks process 2000; wait; wait"
    done = pc.run(["sh", "-c", script], image=load.root)
    counts = [int(line.split()[0]) for line in done.stdout.splitlines()]
    assert sum(counts) <= 2048


# Forks until it is refused, and holds what it has until all beside it have done so too.
HOLD = """
import os, time
count, end = 1, time.time() + 2
while count < 500:
    try:
        child = os.fork()
    except OSError as error:
        break
    if not child:
        break
    count += 1
time.sleep(max(0, end - time.time()))
if child:
    print(count)
"""


@pytest.mark.parameter("limits.pids")
@pytest.mark.requires("ids", "kernel>=5.14")
def test_containers_of_one_user_at_once_have_a_bound_each(two_at_once: None) -> None:
    """A plain user's too: the kernel counts by the uid that made the user namespace, so each has another one."""
    wanted = [60, 45]
    results: dict[int, pc.Result[bytes]] = {}

    def start(index: int) -> None:
        argv = [sys.executable, "-c", HOLD]
        results[index] = pc.run(argv, limits=Limits(pids=wanted[index]))

    threads = [threading.Thread(target=start, args=(index,)) for index in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int(results[index].stdout) for index in range(len(wanted))] == wanted
    assert {result.enforced["pids"].state for result in results.values()} == {"held"}


@pytest.mark.requires("controller:pids")
@pytest.mark.parameter("limits.pids")
def test_max_lifts_the_default_bound(load: Load) -> None:
    result = load("tasks", "thread", 0, 2500, limits=Limits(pids=10) | Limits(pids="max"))
    assert int(result.stdout.split()[0]) == 2500
    assert result.enforced["pids"].state == "held"


# ---- rlimits -----------------------------------------------------------------------------------------------------

EFFECTS = {
    "cpu": (1, -24, b""),
    "fsize": ("1MiB", -25, b""),
    "nofile": (40, 0, b"40 EMFILE\n"),
    "as": ("32MiB", 1, b"mmap ENOMEM\n"),
    "data": ("16MiB", 1, b"mmap ENOMEM\n"),
    "stack": ("1MiB", -11, b""),
    "memlock": ("64KiB", 1, b"mlock ENOMEM\n"),
    "sigpending": (12, 0, b"12 EAGAIN\n"),
    "msgqueue": ("4KiB", 1, b"mq_open EMFILE\n"),
    "nice": (18, 1, b"setpriority EACCES\n"),
    "rtprio": (0, 1, b"sched_setscheduler EPERM\n"),
    # Of these three Linux enforces none for an ordinary process: what getrlimit says inside is all that there is.
    "rss": ("5MiB", 0, b"5242880 5242880\n"),
    "locks": (7, 0, b"7 7\n"),
    "rttime": (900, 0, b"900 900\n"),
}


@pytest.mark.parameter("limits.rlimits")
@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_each_rlimit_bites(load: Load, name: str) -> None:
    limit, returncode, said = EFFECTS[name]
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}", 10))[1]
    if name == "nice" and hard == 0:
        limit, said = 0, b"setpriority EACCES\n"
    pair = (1, 2) if name == "cpu" else (limit, limit)
    result = load("limited", name, limits=Limits(rlimits={name: pair}))
    assert (result.returncode, result.stdout) == (returncode, said)
    assert result.enforced["rlimits"].state == "held"


@pytest.mark.requires("ids")
@pytest.mark.parameter("limits.rlimits")
def test_rlimit_nproc_bites_for_another_user(load: Load) -> None:
    result = load("limited", "nproc", limits=Limits(rlimits={"nproc": 30}))
    count, error = result.stdout.split()
    assert int(count) <= 30
    assert error == b"EAGAIN"


@pytest.mark.parameter("limits.rlimits")
@pytest.mark.parametrize("count", [10, 3, 0])
@pytest.mark.parametrize(
    "parameters", [{}, {"pid1": True}, {"tty": True}, {"security": pc.Security(no_new_privileges=False)}]
)
def test_a_limit_too_small_for_the_set_up_is_the_command_s_alone(
    load: Load, count: int, parameters: dict[str, Any]
) -> None:
    """As `prlimit` after exec: what set it up needed more descriptors, what runs has so few."""
    limits = Limits(rlimits={"nofile": (count, count)})
    result = pc.run(["/bin/sh", "-c", "ulimit -n"], image=load.root, limits=limits, cwd="/tmp", **parameters)
    assert (result.returncode, result.stdout.strip()) == (0, b"%d" % count)


@pytest.mark.parameter("limits.rlimits")
def test_no_core_is_dumped_unless_it_was_said(load: Load) -> None:
    script = "cd /tmp; ulimit -c; /bin/load limited core; ls /tmp"
    assert pc.run(["sh", "-c", script], image=load.root).stdout == b"0\n"
    said = pc.run(["sh", "-c", "ulimit -c"], image=load.root, limits=Limits(rlimits={"core": ("1MiB", "1MiB")}))
    assert said.stdout == b"2048\n"


@pytest.mark.parameter("limits.rlimits")
def test_soft_and_hard_and_max(load: Load) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    script = "ulimit -Sn; ulimit -Hn"
    both = pc.run(["sh", "-c", script], image=load.root, limits=Limits(rlimits={"nofile": (100, 200)}))
    assert both.stdout.split() == [b"100", b"200"]
    default = pc.run(["sh", "-c", script], image=load.root)
    assert default.stdout.split() == [b"1024", str(min(hard, 524288)).encode()]
    if resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY:
        lifted = pc.run(["sh", "-c", "ulimit -v"], image=load.root, limits=Limits(rlimits={"as": "max"}))
        assert lifted.stdout == b"unlimited\n"


@pytest.mark.refuses("limits.rlimits")
def test_more_than_the_host_s_hard_limit_is_not_supported_unless_degraded(load: Load) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = Limits(rlimits={"nofile": (100, hard + 1)})
    with pytest.raises(pc.NotSupported, match=f"rlimits.*{hard}.*ulimit -H"):
        load("exit", 0, limits=limits)
    cut = pc.run(["sh", "-c", "ulimit -Sn; ulimit -Hn"], image=load.root, limits=limits, degrade=["rlimits"])
    assert cut.stdout.split() == [b"100", str(hard).encode()]
    assert cut.enforced["rlimits"].state == "degraded"
