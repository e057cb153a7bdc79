"""A live container: measured, paused, watched, given other limits. Shown by what it does, not by what was written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import requirements
from pace import patience, until
from programs.loads import MIB, Load
from pycontainer import Container, IoLimit, Limits, Reason, StateError
from pycontainer._native import core

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.requires("userns")
grouped = pytest.mark.requires("pen")  # a group of the unified hierarchy
memory_group = pytest.mark.requires("controller:memory", "pen")
MANY = 20
SPIN = ["sh", "-c", "while :; do :; done"]


def of(load: Load, *words: object, **parameters: Any) -> Container:
    return Container(["/bin/load", *map(str, words)], image=load.root, **parameters)


def holder(load: Load, mib: int, seconds: float = 100, **parameters: Any) -> Container:
    """A started container whose one process holds that much."""
    container = of(load, "hold", mib, seconds, **parameters).start()
    next(line for _, line in container.lines(timeout=patience(20)) if int(line) == mib)
    return container


def spent(container: Container, seconds: float) -> float:
    """Processors' worth of time that it uses."""
    first, begun = container.stats().cpu, time.monotonic()
    time.sleep(seconds)
    last = container.stats().cpu
    assert first is not None
    assert last is not None
    return (last - first) / (time.monotonic() - begun)


# ---- measured ----------------------------------------------------------------------------------------------------


def test_two_looks_around_an_allocation_differ_by_it(load: Load) -> None:
    with of(load, "hold", 64, 100) as container:
        before = container.stats()
        first = next(int(line) for _, line in container.lines(timeout=patience(20)))
        assert first == 1
        until(lambda: (container.stats().memory or 0) >= 64 * MIB)
        time.sleep(0.1)
        after = container.stats()
    assert before.memory is not None
    assert after.memory is not None
    assert 40 * MIB < after.memory - before.memory < 72 * MIB
    assert after.memory < 80 * MIB
    assert after.breakdown.anon is not None
    assert 62 * MIB < after.breakdown.anon <= after.memory
    assert after.pids == 1
    assert after.cpu is not None
    assert before.cpu is not None
    assert 0 <= before.cpu <= after.cpu  # without a group in the clock's ticks
    assert "memory=" in repr(after)


def test_an_idle_container_allocates_nothing_between_two_looks(load: Load) -> None:
    with holder(load, 8) as container:
        looks = [container.stats() for _ in range(20)]
    assert max(look.memory or 0 for look in looks) - min(look.memory or 0 for look in looks) < MIB


@pytest.mark.vm
@memory_group
def test_a_group_tells_the_peak_and_what_was_killed(load: Load) -> None:
    script = "/bin/load child_hog 200 100"
    with Container(["sh", "-c", script], image=load.root, limits=Limits(memory="64MiB", oom_group=False)) as container:
        until(lambda: container.stats().oom_kills and (container.stats().memory or 0) < 32 * MIB)
        now = container.stats()
    assert now.oom_kills == 1
    assert now.memory_peak is not None
    assert 60 * MIB < now.memory_peak <= 64 * MIB
    assert now.memory is not None
    assert now.memory < 32 * MIB


def test_tasks_are_counted_without_the_engine_s_own(load: Load) -> None:
    with Container(["sh", "-c", "sleep 100 & sleep 100 & wait"], image=load.root) as container:
        until(lambda: container.stats().pids == 3)


def test_time_is_the_whole_tree_s(load: Load) -> None:
    with of(load, "spin", 2, 2) as container:
        assert container.wait(timeout=patience(20)) == 0
    with Container(["sh", "-c", "/bin/load spin 2 1; sleep 100"], image=load.root) as container:
        # Both have ended and were reaped: what they used stays.
        until(lambda: (container.stats().cpu or 0) >= 1.9, 30)


def test_two_descriptors_are_kept_at_most_and_until_the_end_only(load: Load) -> None:
    begun = set(os.listdir("/proc/self/fd"))
    with holder(load, 1) as container:
        before = set(os.listdir("/proc/self/fd"))
        container.stats()
        after = set(os.listdir("/proc/self/fd"))
        assert before <= after
        assert len(after - before) <= 2
        for _ in range(50):
            container.stats()
        assert set(os.listdir("/proc/self/fd")) == after
    assert set(os.listdir("/proc/self/fd")) <= begun


def test_what_a_monitor_saw_end_has_ended(rootfs: Path, times: Callable[[int], range]) -> None:
    """Also where there was nothing left to measure before the end was told."""
    for _ in times(300):
        with Container(["sleep", "0.02"], image=rootfs) as container:
            for _stats in container.monitor(interval=0.0001):
                pass
            assert container.state == "EXITED"


def test_monitor_goes_on_until_the_end(load: Load) -> None:
    with of(load, "sleep", 1) as container:
        begun = time.monotonic()
        seen = list(container.monitor(interval=0.1))
        assert 0.7 < time.monotonic() - begun < patience(4)
        assert container.state == "EXITED"
    assert 5 <= len(seen) <= 11
    assert all(isinstance(one.memory, int) for one in seen)


def test_monitor_ends_where_the_container_is_closed(load: Load) -> None:
    with holder(load, 1) as container:
        looks = container.monitor(0.01)
        next(looks)
        threading.Timer(0.2, container.close).start()
        assert sum(1 for _ in looks) >= 3


def test_intervals_that_are_none_are_refused(load: Load) -> None:
    with holder(load, 1) as container:
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="interval"):
                container.monitor(wrong)


# ---- paused ------------------------------------------------------------------------------------------------------


@pytest.mark.vm
@grouped
def test_what_is_paused_uses_no_time_and_prints_nothing(load: Load) -> None:
    with Container(["sh", "-c", "while :; do echo x; done"], image=load.root) as container:
        until(container.logs)
        assert spent(container, 0.3) > 0.1
        container.pause()
        assert container.state == "PAUSED"
        time.sleep(patience(0.1))  # what it had written is in its pipe until the keeper has it
        printed, used = len(container.logs()), container.stats().cpu
        time.sleep(0.5)
        assert (len(container.logs()), container.stats().cpu) == (printed, used)
        with pytest.raises(StateError, match=r"PAUSED: resume\(\)"):
            container.exec(["true"])
        with pytest.raises(StateError, match=r"PAUSED: resume\(\)"):
            container.pause()
        with pytest.raises(pc.TimeoutExpired):
            container.wait(timeout=0.2)
        container.resume()
        assert container.state == "RUNNING"
        assert container.exec(["true"]).returncode == 0
        assert spent(container, 0.3) > 0.1
        with pytest.raises(StateError, match="RUNNING: it is not paused"):
            container.resume()


@grouped
@pytest.mark.parametrize("way", ["kill", "stop", "close", "wall_time"])
def test_what_is_paused_can_be_ended(load: Load, way: str) -> None:
    limits = Limits(wall_time=1) if way == "wall_time" else Limits()
    with Container(["sh", "-c", "sleep 100 & while :; do :; done"], image=load.root, limits=limits) as container:
        container.pause()
        begun = time.monotonic()
        if way != "wall_time":
            getattr(container, way)()
        container.wait(timeout=patience(10))
        assert time.monotonic() - begun < patience(5)
        result = container.result
    expected = {"stop": Reason.STOPPED, "wall_time": Reason.TIMEOUT}.get(way, Reason.KILLED)
    assert result is not None
    assert result.reason is expected


@grouped
@pytest.mark.parametrize("way", ["kill", "close", "found", "wall_time"])
def test_what_is_paused_is_not_waited_for(load: Load, way: str) -> None:
    """Its PID 1 cannot be asked to end the rest, and has half a second for that otherwise. The best of three tries."""
    took = []
    for _ in range(3):
        limits = Limits(wall_time=0.3) if way == "wall_time" else Limits()
        with Container(["sh", "-c", "trap '' TERM; sleep 100 & wait"], image=load.root, limits=limits) as container:
            container.pause()
            begun = time.monotonic() + (0.3 if way == "wall_time" else 0)
            if way == "close":
                container.close()
            elif way != "wall_time":
                found = Container.get(container.id) if way == "found" else container
                found.kill()
                found.close()
            container.wait(timeout=patience(10))
            took.append(time.monotonic() - begun)
            assert container.returncode == -9
    assert min(took) < patience(0.25), took


@pytest.fixture(scope="module")
def many_at_once(load: Load) -> None:
    """The engine keeps a range of ids for each that ran beside another: taken before leaks are looked for."""
    made = [of(load, "sleep", 100).start() for _ in range(MANY)]
    for container in made:
        container.close()


@grouped
def test_time_limits_go_on_in_one_that_is_paused_as_soon_as_it_runs(load: Load, many_at_once: None) -> None:
    made = [of(load, "sleep", 100, limits=Limits(wall_time=0.3)) for _ in range(MANY)]
    for container in made:
        container.start().pause()
    for container in made:
        container.wait(timeout=patience(5))
        assert container.result is not None
        assert container.result.reason is Reason.TIMEOUT
        container.close()


@grouped
def test_pausing_again_and_again(load: Load) -> None:
    with Container(["sh", "-c", "while :; do true | true; done"], image=load.root) as container:
        for _ in range(20):
            container.pause()
            container.resume()
        assert container.exec(["true"]).returncode == 0


@pytest.mark.requires("user", "hybrid")
def test_a_plain_user_without_groups_is_told_what_would_hold_a_later_limit(load: Load) -> None:
    with holder(load, 1) as container:
        for limits in (Limits(memory="64MiB"), Limits(cpus=0.5), Limits(pids=30)):
            (field,) = limits._said()
            with pytest.raises(pc.NotSupported, match=field) as refused:
                container.update(limits)
            assert refused.value.fix
        assert container.limits == Limits()
        assert container.update(Limits(wall_time=100)).wall_time == 100


@pytest.mark.requires("user", "hybrid")
def test_without_a_group_there_is_no_pause_and_it_says_why(load: Load) -> None:
    if requirements.missing("pen") is None:
        return
    with holder(load, 1) as container:
        with pytest.raises(pc.NotSupported, match="pause") as refused:
            container.pause()
        assert refused.value.fix
        assert container.state == "RUNNING"
        with pytest.raises(pc.NotSupported, match="pressure"):
            container.pressure("cpu", some=0.1)
        assert container.stats().pressure is None
        assert container.stats().pids == 1


# ---- other limits ------------------------------------------------------------------------------------------------


@memory_group
def test_a_memory_limit_that_came_later_stops_a_hog(load: Load) -> None:
    script = "read go; exec /bin/load hog 200"
    with Container(["sh", "-c", script], image=load.root, stdin=pc.PIPE) as container:
        assert container.update(Limits(memory="64MiB")) == container.limits == Limits(memory="64MiB")
        assert container.enforced["memory"].state == "held"
        container.stdin.write(b"go\n")
        container.stdin.close()
        container.wait(timeout=patience(20))
        result = container.result
    assert result is not None
    assert result.reason is Reason.MEMORY
    last = int(result.stdout.split()[-1])
    assert 48 <= last <= 64
    with pytest.raises(pc.LimitExceeded, match=r"memory limit.* of 64\.0 MiB|memory limit.* of 64 MiB"):
        result.check_returncode()


@memory_group
def test_a_memory_limit_goes_up(load: Load) -> None:
    script = "read go; exec /bin/load hog 100"
    limits = Limits(memory="32MiB", swap=0) if requirements.missing("swap") is None else Limits(memory="32MiB")
    with Container(["sh", "-c", script], image=load.root, stdin=pc.PIPE, limits=limits) as container:
        container.update(Limits(memory="256MiB"))
        container.stdin.write(b"go\n")
        container.stdin.close()
        assert container.wait(timeout=patience(20)) == 0


@pytest.mark.vm
@memory_group
@pytest.mark.parametrize("limited", [True, False])
def test_a_limit_below_its_use_is_refused_with_both_numbers(load: Load, limited: bool) -> None:
    limits = Limits(memory="256MiB") if limited else Limits()
    with holder(load, 64, limits=limits) as container:
        before = container.enforced["memory"] if limited else None
        for _ in range(3):
            with pytest.raises(pc.SetupError, match=r"lower memory to \d+ with \d+ bytes in use") as refused:
                container.update(Limits(memory="32MiB", cpus=0.5))
            asked, used = map(int, re.findall(r"\d{6,}", str(refused.value)))
            assert asked == 32 * MIB
            assert 62 * MIB < used < 80 * MIB
            assert refused.value.errno == errno.EBUSY
        assert container.limits == limits
        assert container.state == "RUNNING"
        assert container.exec(["true"]).returncode == 0
        assert not container.stats().oom_kills
        assert (container.enforced["memory"] if limited else None) == before
        assert "cpus" not in container.enforced
        container.update(Limits(memory="128MiB"))
        container.exec(["/bin/load", "hog", "200"])
        container.wait(timeout=patience(10))
        assert container.result is not None
        assert container.result.reason is Reason.MEMORY


@pytest.mark.requires("controller:cpu", "pen")
def test_processors_are_taken_and_given_back(load: Load) -> None:
    with Container(SPIN, image=load.root) as container:
        # What is too much shows at once; on a busy machine what is given is not had at once.
        container.update(Limits(cpus=0.1))
        assert spent(container, 1) < 0.15
        container.update(Limits(cpus=0.3))
        until(lambda: spent(container, 0.5) > 0.2, 30)
        assert spent(container, 1) < 0.4
        container.update(Limits(cpus="max"))
        until(lambda: spent(container, 0.5) > 0.4, 30)
        assert container.limits.cpus == float("inf")


@pytest.mark.requires("controller:cpuset", "pen", "cpus>=2")
def test_a_cpuset_moves_what_runs(load: Load) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with Container(SPIN, image=load.root) as container:
        for cpu in allowed[:2]:
            container.update(Limits(cpuset=[cpu]))
            assert os.sched_getaffinity(container.pid) == {cpu}


@pytest.mark.requires("controller:pids", "pen")
@pytest.mark.parametrize("most", [(20,), (30, 20), (10, 40)])
def test_tasks_are_bounded_from_now_on_and_so_are_those_of_exec(load: Load, most: tuple[int, ...]) -> None:
    with Container(["sleep", "100"], image=load.root) as container:
        for one in most:
            container.update(Limits(pids=one))
        started = int(container.exec(["/bin/load", "tasks", "process"]).stdout.split()[0])
        assert most[-1] - 3 <= started < most[-1]  # and the sleeper, and what exec itself takes
        assert container.stats().pids in (most[-1], most[-1] - 1, most[-1] - 2)


@pytest.mark.requires("controller:pids", "pen", "ids")
def test_more_tasks_than_its_user_namespace_was_made_for_are_refused(load: Load) -> None:
    with Container(["sleep", "100"], image=load.root) as container:
        container.update(Limits(pids=30))
        with pytest.raises(pc.NotSupported, match="pids"):
            container.update(Limits(pids=5000))
        with pytest.raises(pc.NotSupported, match="pids"):
            container.update(Limits(pids="max"))
        assert container.limits.pids == 30


@pytest.mark.requires("controller:pids", "pen")
def test_fewer_tasks_than_there_are_is_refused(load: Load) -> None:
    with Container(["sh", "-c", "sleep 100 & sleep 100 & wait"], image=load.root) as container:
        until(lambda: container.stats().pids == 3)
        with pytest.raises(pc.SetupError, match="lower pids to 2 with 3 tasks in use"):
            container.update(Limits(pids=2))
        container.update(Limits(pids=3))


def test_the_wall_time_counts_from_the_start(load: Load) -> None:
    with of(load, "sleep", 100, limits=Limits(wall_time=100)) as container:
        time.sleep(0.5)
        with pytest.raises(pc.SetupError, match=r"lower wall_time to 0\.200 with \d\.\d{3} seconds passed") as refused:
            container.update(Limits(wall_time=0.2))
        assert refused.value.errno == errno.EBUSY
        assert container.limits.wall_time == 100
        container.update(Limits(wall_time=1))
        container.wait(timeout=patience(10))
        assert container.result is not None
        assert container.result.reason is Reason.TIMEOUT
        assert container.result.usage.wall is not None
        assert 0.9 < container.result.usage.wall < patience(3)


def test_a_wall_time_is_put_off_or_lifted(load: Load) -> None:
    with of(load, "sleep", 1.5, limits=Limits(wall_time=1)) as container:
        container.update(Limits(wall_time="max"))
        assert container.wait(timeout=patience(10)) == 0


@grouped
def test_a_budget_of_cpu_time_that_came_later(load: Load) -> None:
    with of(load, "spin", 1, 100) as container:
        until(lambda: (container.stats().cpu or 0) > 0.3, 30)
        with pytest.raises(pc.SetupError, match=r"lower cpu_time to 0\.100 with \d\.\d{3} seconds spent"):
            container.update(Limits(cpu_time=0.1))
        container.update(Limits(cpu_time=1))
        container.wait(timeout=patience(30))
        result = container.result
    assert result is not None
    assert result.reason is Reason.CPU_TIME
    assert result.usage.cpu is not None
    assert 0.9 < result.usage.cpu < patience(2)


@pytest.mark.requires("tmpfs-upper")
def test_the_layer_in_memory_grows_and_shrinks(load: Load) -> None:
    fill = ["/bin/load", "fill", "/x"]
    with Container(["sleep", "100"], image=load.root, limits=Limits(disk="8MiB")) as container:
        room = lambda: int(container.exec(fill).stdout.split()[0])  # noqa: E731
        assert 7 * MIB < room() <= 8 * MIB
        container.exec(["rm", "/x"])
        container.update(Limits(disk="24MiB"))
        assert 23 * MIB < room() <= 24 * MIB
        with pytest.raises(pc.SetupError, match=r"lower disk to 16777216 with \d{8} bytes in use"):
            container.update(Limits(disk="16MiB"))
        container.exec(["rm", "/x"])
        container.update(Limits(disk="16MiB"))
        assert 15 * MIB < room() <= 16 * MIB
        assert container.limits.disk == 16 * MIB


@pytest.mark.requires("tmpfs-upper", "controller:memory", "pen")
def test_the_layer_in_memory_holds_half_of_the_memory(load: Load) -> None:
    with Container(["sleep", "100"], image=load.root, limits=Limits(memory="512MiB")) as container:
        container.update(Limits(memory="64MiB"))
        result = container.exec(["/bin/load", "fill", "/x"])
        assert 30 * MIB < int(result.stdout.split()[0]) <= 32 * MIB
        assert container.state == "RUNNING"


@pytest.mark.requires("root", "disk")
def test_a_layer_on_the_disk_keeps_its_bound_and_says_so(load: Load) -> None:
    with Container(["sleep", "100"], image=load.root, upper="disk") as container:
        with pytest.raises(pc.NotSupported, match="disk"):
            container.update(Limits(disk="8MiB"))
        assert container.limits.disk is None


@memory_group
def test_all_or_nothing(load: Load) -> None:
    start = Limits(memory="128MiB", wall_time=100)
    with holder(load, 16, limits=start) as container:
        rows = dict(container.enforced)
        for wrong in (
            Limits(memory="100MiB", cpus=0.5, wall_time=0.001),
            Limits(memory="100MiB", cpus=0.5, disk=4096, cpu_time=0.001),
            Limits(memory="8MiB", cpus=0.5, wall_time=200),
        ):
            with pytest.raises(pc.SetupError, match="no limit was changed"):
                container.update(wrong)
            assert container.limits == start
            assert dict(container.enforced) == rows
        with pytest.raises(ValueError, match="cpuset"):
            container.update(Limits(memory="100MiB", cpuset=[4000]))
        assert dict(container.enforced) == rows


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output", 1), ("output_mode", "kill"), ("io_weight", 5), ("rlimits", {"core": 0}), ("oom_group", True),
        ("oom_score_adj", 5),
    ],
)  # fmt: skip
def test_another_field_is_refused_by_name(load: Load, field: str, value: Any) -> None:
    with holder(load, 1) as container:
        with pytest.raises(ValueError, match=rf"limits\.{field} cannot be changed"):
            container.update(Limits(**{field: value, "cpus": 0.5}))
        assert container.limits == Limits()


def test_what_is_no_limits_is_refused(load: Load) -> None:
    with holder(load, 1) as container:
        with pytest.raises(TypeError, match="must be Limits, not int"):
            container.update(5)  # type: ignore[arg-type]
        assert container.update(Limits()) == Limits()


@pytest.mark.requires("root", "cgroup2:io")
def test_rates_of_a_disk_are_changed_and_lifted(load: Load) -> None:
    block = next(place for place in Path("/sys/block").iterdir() if (place / "device").exists())
    disk = (block / "dev").read_text().strip()

    def rules(container: Container) -> str:
        lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        group = next(line[3:] for line in lines if line.startswith("0::"))
        return Path(f"/sys/fs/cgroup{group}/io.max").read_text()

    with holder(load, 1, limits=Limits(io={disk: IoLimit(read_bps="1MiB")})) as container:
        container.update(Limits(io={disk: IoLimit(write_bps="2MiB")}))
        assert f"{disk} rbps=max wbps=2097152" in rules(container)
        container.update(Limits(io={disk: IoLimit(write_bps="max")}))
        assert rules(container).strip() == ""


# ---- watched -----------------------------------------------------------------------------------------------------


@pytest.mark.requires("pen", "kernel>=6.5")
def test_a_trigger_tells_of_a_shortage_and_of_nothing_else(load: Load) -> None:
    with holder(load, 1) as idle, idle.pressure("memory", some=0.1) as trigger:
        assert not trigger.wait(timeout=0.5)
    words = "for i in 1 2 3 4 5 6 7 8; do /bin/load spin 1 100 & done; wait"
    with Container(["sh", "-c", words], image=load.root) as container:
        with container.pressure("cpu", some=0.1, window=2) as trigger:
            assert trigger.wait(timeout=patience(20))
            poll = select.poll()
            poll.register(trigger, select.POLLPRI)
            assert poll.poll(patience(20) * 1000)
        with pytest.raises(StateError, match="closed"):
            trigger.fileno()


@pytest.mark.requires("pen", "kernel>=6.5")
def test_a_trigger_ends_with_its_container(load: Load) -> None:
    with of(load, "sleep", 0.5) as container, container.pressure("io", full=0.1) as trigger:
        begun = time.monotonic()
        assert not trigger.wait()
        assert time.monotonic() - begun < patience(5)
        assert container.state == "EXITED"


@pytest.mark.requires("pen", "kernel<6.5")
def test_an_old_kernel_has_no_trigger_and_says_so(load: Load) -> None:
    with holder(load, 1) as container:
        if requirements.missing("cap:SYS_RESOURCE") is None:
            container.pressure("io", some=0.1).close()
        else:
            with pytest.raises(pc.NotSupported, match="CAP_SYS_RESOURCE"):
                container.pressure("io", some=0.1)


def test_what_a_trigger_cannot_be_is_refused(load: Load) -> None:
    with holder(load, 1) as container:
        for message, resource, words in (
            ("resource", "disk", {"some": 1}),
            ("some or full", "cpu", {}),
            ("some or full", "cpu", {"some": 1, "full": 1}),
            ("window", "cpu", {"some": 0.1, "window": 0.2}),
            ("window", "cpu", {"some": 0.1, "window": 11}),
            ("full must be at most", "io", {"full": 3, "window": 2}),
            ("some", "io", {"some": 0}),
        ):
            with pytest.raises(ValueError, match=message):
                container.pressure(resource, **words)  # type: ignore[arg-type]


@memory_group
def test_the_oom_killer_can_be_watched(load: Load) -> None:
    script = "sleep 1; /bin/load child_hog 200 100"
    with Container(["sh", "-c", script], image=load.root, limits=Limits(memory="64MiB", oom_group=False)) as container:
        watched = core().container_oom(container._native)
        assert watched is not None
        events, fd, counter = watched
        with contextlib.ExitStack() as opened:
            for number in {fd, counter} - {-1}:
                opened.enter_context(open(number, "rb"))
            poll = select.poll()
            poll.register(fd, events)
            assert poll.poll(100) == []
            assert poll.poll(patience(20) * 1000)
            until(lambda: container.stats().oom_kills == 1)
            assert b"oom_kill 1\n" in os.pread(fd if counter < 0 else counter, 4096, 0)


def test_without_a_memory_limit_there_is_nothing_to_watch_on_version_1(load: Load) -> None:
    with holder(load, 1) as container:
        watched = core().container_oom(container._native)
        if watched is not None:
            for number in set(watched[1:]) - {-1}:
                os.close(number)
        counted = requirements.missing("cgroup2:memory") is None
        assert (watched is not None, container.stats().oom_kills is not None) == (counted, counted)


# ---- states ------------------------------------------------------------------------------------------------------

METHODS: dict[str, Callable[[Container], object]] = {
    "stats": lambda container: container.stats(),
    "monitor": lambda container: container.monitor(),
    "update": lambda container: container.update(Limits(cpus=0.5)),
    "pause": lambda container: container.pause(),
    "resume": lambda container: container.resume(),
    "pressure": lambda container: container.pressure("cpu", some=0.1),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_there_cannot_be_controlled(load: Load, name: str) -> None:
    container = of(load, "exit", 3)
    method = METHODS[name]
    with pytest.raises(StateError, match=r"CREATED: start\(\)"):
        method(container)
    with container:
        container.wait(timeout=patience(10))
        with pytest.raises(StateError, match="EXITED: what it left are its result"):
            method(container)
        assert container.returncode == 3
    with pytest.raises(StateError, match="REMOVED: its facts, result and logs remain"):
        method(container)


@pytest.mark.parametrize("name", METHODS)
def test_a_forked_copy_controls_nothing(load: Load, name: str) -> None:
    with holder(load, 1) as container:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                METHODS[name](container)
            except StateError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        assert b"forked copy" in said, said
        assert container.state == "RUNNING"
        assert container.stats().pids == 1


@grouped
def test_from_many_threads(load: Load) -> None:
    errors: list[BaseException] = []
    with Container(["sh", "-c", "while :; do true | true; done"], image=load.root) as container:

        def work(turn: int) -> None:
            try:
                for step in range(10):
                    container.stats()
                    if turn == step % 4:
                        container.update(Limits(wall_time=100 + step))
                    if turn == 0:
                        container.pause()
                        container.resume()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert container.state == "RUNNING"
