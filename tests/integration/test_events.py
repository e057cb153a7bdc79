"""events(): what happens to containers is told in order, when it happens, to all who listen, and to nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from programs.loads import Load
from pycontainer import Container, Limits, Reason, StateError, _events, _hub, aio
from pycontainer._events import Event
from pycontainer._listening import Events
from pycontainer._native import core

pytest_plugins = ["programs.loads"]
pytestmark = pytest.mark.requires("userns")
grouped = pytest.mark.requires("pen")  # a group of the unified hierarchy
memory_group = pytest.mark.requires("controller:memory")
SLEEP = ["sleep", "8000"]
LIFE = ["created", "started", "ended", "removed"]
QUIET = 0.1


@pytest.fixture(autouse=True)
def nothing_of_others() -> None:
    """What earlier tests have dropped tells that it is removed when it is collected."""
    gc.collect()


@pytest.fixture
def heard() -> Iterator[Events]:
    with pc.events() as events:
        yield events


def left(events: Events) -> list[Event]:
    """All that waits to be read."""
    found = []
    while (event := events.get(0)) is not None:
        found.append(event)
    return found


def kinds(events: Events) -> list[str]:
    return [event.kind for event in left(events)]


def until(events: Events, kind: str, seconds: float = 20) -> list[Event]:
    """All up to the first of this kind."""
    found: list[Event] = []
    while not found or found[-1].kind != kind:
        event = events.get(patience(seconds))
        assert event is not None, found
        found.append(event)
    return found


def elsewhere(code: str, root: Path, *words: object) -> str:
    """Runs a program with more containers than this interpreter should have at one time."""
    argv = [sys.executable, "-c", code, str(root), *map(str, words)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=patience(120))
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


# ---- in order ----------------------------------------------------------------------------------------------------


@pytest.mark.vm
def test_a_run_from_its_beginning_to_its_end(rootfs: Path, heard: Events) -> None:
    before = time.time()
    result = pc.run(["sh", "-c", "echo out; exit 3"], image=rootfs)
    found = left(heard)
    assert [event.kind for event in found] == LIFE
    assert len({(event.id, event.name) for event in found}) == 1
    assert (len(found[0].id), found[0].name, found[0].labels) == (32, found[0].id[:12], {})
    assert found[0].args == ("sh", "-c", "echo out; exit 3")
    assert before <= found[0].time <= found[1].time <= found[2].time <= found[3].time <= time.time()
    verdict = found[2].result
    assert verdict is not None
    assert (verdict.returncode, verdict.reason, verdict.usage) == (3, Reason.EXITED, result.usage)
    assert (verdict.stdout, verdict.stderr, result.stdout) == (None, None, b"out\n")
    assert verdict.enforced["seccomp"].state == "held"
    assert [event.result for event in found if event.kind != "ended"] == [None] * 3


def test_the_start_of_a_run_is_told_while_it_runs(rootfs: Path, heard: Events) -> None:
    thread = threading.Thread(target=lambda: pc.run(["sleep", str(patience(1))], image=rootfs))
    begun = time.monotonic()
    thread.start()
    until(heard, "started")
    assert time.monotonic() - begun < patience(0.9)
    assert thread.is_alive()
    assert heard.get(QUIET) is None
    thread.join()
    assert kinds(heard) == ["ended", "removed"]


@pytest.mark.parametrize("options", [{"pid1": True}, {"tty": True}, {"timeout": 60}, {"capture_output": False}])
def test_runs_of_all_kinds_tell(rootfs: Path, heard: Events, options: dict[str, Any]) -> None:
    pc.run(["true"], image=rootfs, **options)
    assert kinds(heard) == LIFE


def test_what_raises_after_the_end_has_told(rootfs: Path, heard: Events) -> None:
    with pytest.raises(pc.TimeoutExpired):
        pc.run(SLEEP, image=rootfs, timeout=0.2)
    found = left(heard)
    assert [event.kind for event in found] == LIFE
    assert found[2].result is not None
    assert found[2].result.reason is Reason.TIMEOUT


def test_an_interrupted_run_has_an_end_without_a_result(rootfs: Path, heard: Events) -> None:
    with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
        pc.run(SLEEP, image=rootfs)
    found = left(heard)
    assert [(event.kind, event.result) for event in found] == [(kind, None) for kind in LIFE]


def test_what_did_not_start_was_created_and_removed(rootfs: Path, heard: Events) -> None:
    with pytest.raises(pc.CommandNotFound):
        pc.run(["no-such-command"], image=rootfs)
    assert kinds(heard) == ["created", "removed"]
    container = Container(["no-such-command"], image=rootfs)
    with pytest.raises(pc.CommandNotFound):
        container.start()
    assert kinds(heard) == ["created"]
    container.close()
    assert kinds(heard) == ["removed"]
    with pytest.raises(ValueError, match="umask"):
        Container(["true"], image=rootfs, umask=-1)
    assert kinds(heard) == []
    Container(["true"], image=rootfs)
    gc.collect()
    assert kinds(heard) == ["created", "removed"]
    held = Container(["true"], image=rootfs)
    held.write_bytes("/tmp/x", b"")
    held.close()
    assert kinds(heard) == ["created", "removed"]


def test_a_container_has_its_name_and_labels(rootfs: Path, heard: Events) -> None:
    with Container(SLEEP, image=rootfs, name="events-web", labels={"a": "b"}) as container:
        pass
    found = left(heard)
    assert [event.kind for event in found] == LIFE
    assert {(event.id, event.name, event.labels["a"]) for event in found} == {(container.id, "events-web", "b")}
    assert found[2].result is not None
    assert found[2].result.reason is Reason.KILLED


@grouped
def test_a_pause_is_told_and_its_end(rootfs: Path, heard: Events) -> None:
    with Container(SLEEP, image=rootfs) as container:
        container.pause()
        with pytest.raises(StateError):
            container.pause()
        container.resume()
        container.pause()
        container.stop(grace=patience(5))
    assert kinds(heard) == ["created", "started", "paused", "resumed", "paused", "resumed", "ended", "removed"]


def test_commands_beside_the_first_one_and_found_handles_tell_nothing(rootfs: Path, heard: Events) -> None:
    with Container(SLEEP, image=rootfs) as container:
        assert kinds(heard) == ["created", "started"]
        container.exec(["true"])
        with container.popen(SLEEP):
            pass
        with Container.get(container.id) as found:
            found.exec(["true"])
        assert kinds(heard) == []
        found = Container.get(container.id)
        found.kill()
        found.wait()
        ended = left(heard)
        assert [event.kind for event in ended] == ["ended"]
        assert ended[0].result is not None
        assert container.result is not None
        assert ended[0].result.usage == container.result.usage  # not what a stranger learns
        found.close()
    assert kinds(heard) == ["removed"]


# ---- when it happens ---------------------------------------------------------------------------------------------


@pytest.mark.vm
def test_an_end_comes_without_anybody_who_waits_for_it(rootfs: Path, heard: Events) -> None:
    """By a selector; poll() is asked by nobody."""
    with Container(["sleep", "1"], image=rootfs) as container:
        until(heard, "started")
        begun = time.monotonic()
        poll = select.poll()
        poll.register(heard.fileno(), select.POLLIN)
        found: list[Event] = []
        while not found:
            assert poll.poll(patience(10) * 1000)
            found = left(heard)
        assert 0.5 < time.monotonic() - begun < patience(3)
        assert [event.kind for event in found] == ["ended"]
        assert found[0].time == pytest.approx(time.time(), abs=1)
        assert container.returncode == 0
        assert poll.poll(QUIET * 1000) == []


def test_a_thread_that_waits_and_one_that_iterates_both_learn_of_it(rootfs: Path, heard: Events) -> None:
    for _ in range(5):
        with Container(["sleep", "0.2"], image=rootfs) as container:
            seen: list[str] = []
            thread = threading.Thread(target=lambda into=seen: into.extend(e.kind for e in until(heard, "removed")))
            thread.start()
            assert container.wait(timeout=patience(10)) == 0
        thread.join()
        assert seen == LIFE


def test_a_kill_and_a_drop(rootfs: Path, heard: Events) -> None:
    container = Container(SLEEP, image=rootfs).start()
    container.kill()
    assert until(heard, "ended")[-1].result is not None
    for _ in range(2):
        _events.ended(container)  # as by two threads that learn of it at one time
        _events.changed(container, "paused")  # as by a call that comes back after it
    container.close()
    container.close()
    _events.ended(container)
    assert kinds(heard) == ["removed"]
    dropped = Container(SLEEP, image=rootfs).start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del dropped
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert kinds(heard) == LIFE


def test_a_keeper_that_dies_ends_all_and_that_is_told(rootfs: Path) -> None:
    code = """
import os, sys, pycontainer as pc
from pycontainer._native import core
events = pc.events()
containers = [pc.Container(["sleep", "8000"], image=sys.argv[1]).start() for _ in range(3)]
os.kill(core().keeper_pid()[0], 9)
found = []
while [event.kind for event in found].count("ended") < 3:
    found.append(events.get(20))
print([event.kind for event in found[:6]], [event.result for event in found[6:]], flush=True)
os._exit(0)
"""
    assert elsewhere(code, rootfs) == f"{['created', 'started'] * 3} [None, None, None]\n"


# ---- the OOM killer ----------------------------------------------------------------------------------------------


@pytest.mark.vm
@memory_group
def test_what_the_oom_killer_ends(load: Load, heard: Events) -> None:
    with Container(["/bin/load", "child_hog", "64", "20"], image=load.root, limits=Limits(memory="24MiB")):
        found = until(heard, "ended")
    assert once([event.kind for event in found]) == ["created", "started", "oom", "ended"]
    assert found[-1].result is not None
    assert found[-1].result.reason is Reason.MEMORY
    assert kinds(heard) == ["removed"]
    load("child_hog", 64, 20, limits=Limits(memory="24MiB"))
    assert once(kinds(heard)) == ["created", "started", "oom", "ended", "removed"]


def once(kinds: list[str]) -> list[str]:
    """Version 2 takes several processes of a group, and counts them one after the other."""
    return [kind for kind, _ in itertools.groupby(kinds)]


@pytest.mark.vm
@memory_group
def test_what_it_takes_of_one_that_runs_on(load: Load, heard: Events) -> None:
    hog = ["sh", "-c", "for i in 1 2; do /bin/load child_hog 64 0.1; sleep 0.5; done; sleep 8000"]
    with Container(hog, image=load.root, limits=Limits(memory="24MiB", oom_group=False)) as container:
        until(heard, "oom")
        assert (container.state, container.stats().oom_kills) == ("RUNNING", 1)
        assert [event.kind for event in until(heard, "oom")] == ["oom"]
        with pc.events() as late:
            assert container.stats().oom_kills == 2
            assert late.get(QUIET) is None  # they were before
    assert kinds(heard) == ["ended", "removed"]


@memory_group
def test_what_it_takes_of_a_run_that_goes_on(load: Load, heard: Events) -> None:
    words = ["sh", "-c", f"/bin/load child_hog 64 0.1; sleep {patience(1)}"]
    limits = Limits(memory="24MiB", oom_group=False)
    thread = threading.Thread(target=lambda: pc.run(words, image=load.root, limits=limits))
    thread.start()
    assert [event.kind for event in until(heard, "oom")] == ["created", "started", "oom"]
    assert thread.is_alive()
    thread.join()
    assert kinds(heard) == ["ended", "removed"]


@memory_group
@grouped
def test_a_limit_that_comes_later_is_watched_too(load: Load, heard: Events) -> None:
    script = "sleep 0.5; /bin/load child_hog 64 0.1; sleep 8000"
    with Container(["sh", "-c", script], image=load.root, limits=Limits(oom_group=False)) as container:
        container.update(Limits(memory="24MiB"))
        assert [event.kind for event in until(heard, "oom")] == ["created", "started", "oom"]
        assert container.state == "RUNNING"


@memory_group
def test_an_oom_kill_comes_to_asyncio(load: Load) -> None:
    async def main() -> list[str]:
        limits = Limits(memory="24MiB", oom_group=False)
        script = "/bin/load child_hog 64 0.1; sleep 8000"
        async with aio.events() as events, aio.Container(["sh", "-c", script], image=load.root, limits=limits):
            found: list[str] = []
            async for event in events:
                found.append(event.kind)
                if event.kind == "oom":
                    return found
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(main(), patience(20)), debug=True) == ["created", "started", "oom"]


# ---- many --------------------------------------------------------------------------------------------------------

MANY = """
import collections, sys, threading, pycontainer as pc
root, count = sys.argv[1], int(sys.argv[2])
mine, events, after = set(), pc.events(), [pc.events() for _ in range(3)]
def work(number):
    for turn in range(count // 8):
        if (number + turn) % 2:
            with pc.Container(["true"], image=root) as c:
                mine.add(c.id)
                if turn % 3:
                    c.wait()
        else:
            pc.run(["true"], image=root)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[thread.start() for thread in threads]
heard, order, removed = collections.defaultdict(list), [], 0
while removed < count:
    event = next(events)
    heard[event.id].append(event.kind)
    order.append((event.id, event.kind))
    removed += event.kind == "removed"
[thread.join() for thread in threads]
assert events.get(0) is None
assert mine <= set(heard)
for other in after:
    assert [(e.id, e.kind) for e in iter(lambda: other.get(0), None)] == order
expected = {("created", "started", "ended", "removed"): count}
print(len(heard), collections.Counter(map(tuple, heard.values())) == expected)
"""


def test_each_of_many_has_exactly_its_events_and_all_listeners_the_same(
    rootfs: Path, times: Callable[[int], range]
) -> None:
    count = max(40, len(times(200)) // 8 * 8)
    assert elsewhere(MANY, rootfs, count) == f"{count} True\n"


RACE = """
import random, sys, threading, pycontainer as pc
events = pc.events()
for turn in range(int(sys.argv[2])):
    c = pc.Container(["sleep", "8000"], image=sys.argv[1]).start()
    other = pc.events()
    go = threading.Barrier(17)
    def end(what):
        go.wait()
        try:
            what()
        except pc.StateError:
            pass
    def listen():
        go.wait()
        for event in other:
            if event.kind == "removed":
                return
    ways = [lambda: c.stop(0.01), c.kill, c.wait, c.close, c.poll, lambda: c.result, lambda: c.send_signal(9)] * 2
    threads = [threading.Thread(target=end, args=(way,)) for way in [*ways, c.wait, c.kill]]
    threads.append(threading.Thread(target=listen))
    random.shuffle(threads)
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]
    assert not any(thread.is_alive() for thread in threads), "somebody hangs"
    assert [e.kind for e in iter(lambda: events.get(0), None)] == ["created", "started", "ended", "removed"]
print("ok")
"""


def test_threads_that_race_for_its_end_make_one_end(rootfs: Path, times: Callable[[int], range]) -> None:
    assert elsewhere(RACE, rootfs, len(times(100))) == "ok\n"


# ---- listeners ---------------------------------------------------------------------------------------------------


def test_who_comes_later_hears_from_then_on(rootfs: Path, heard: Events) -> None:
    with Container(["sleep", "1"], image=rootfs) as container, Container(["true"], image=rootfs) as ended:
        ended.wait()
        thread = threading.Thread(target=lambda: pc.run(["sleep", str(patience(1))], image=rootfs))
        with pc.events() as late:
            thread.start()
            until(late, "started")
            with pc.events() as latest:
                thread.join()
                container.wait()
                assert sorted(kinds(latest)) == ["ended", "ended", "removed"]
            ended.close()
            assert [event.kind for event in left(late) if event.id == ended.id] == ["removed"]


def test_nobody_listens_and_nothing_is_kept(rootfs: Path) -> None:
    assert _events.hub is None
    before = sorted(os.listdir("/proc/self/fd"))
    with Container(["true"], image=rootfs) as container:
        first, second = pc.events(), pc.events()
        assert len(os.listdir("/proc/self/fd")) > len(before)
        first.close()
        del second
        assert _events.hub is None
        container.wait()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert container.id not in _events.containers
    assert _hub.hub().records == _hub.hub().watched == {}


def test_a_listener_that_nobody_reads_is_bounded(rootfs: Path, heard: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hub.BOUND == 65536
    monkeypatch.setattr(_hub, "BOUND", 10)
    for number in range(6):
        pc.run(["sh", "-c", "head -c 1000000 /dev/zero", str(number)], image=rootfs)
    assert heard.lost == 14
    found = left(heard)
    assert [event.kind for event in found] == [*LIFE[2:], *LIFE, *LIFE]
    assert [event.args[-1] for event in found] == ["3"] * 2 + ["4"] * 4 + ["5"] * 4
    assert sum(len(pickle.dumps(event)) for event in found) < 100_000
    pc.run(["true"], image=rootfs)
    assert (kinds(heard), heard.lost) == (LIFE, 14)


def test_no_listener_keeps_a_container_alive(rootfs: Path, heard: Events) -> None:
    container = Container(SLEEP, image=rootfs, files={"/x": b"x" * 1000}).start()
    container.kill()
    found = until(heard, "ended")
    assert container.result is not None
    gone = weakref.ref(container)
    container.close()
    del container
    assert gone() is None  # without the help of the collector
    assert found[-1].result is not None
    assert found[-1].result.enforced["seccomp"].state == "held"


def test_closing_ends_the_iteration(rootfs: Path) -> None:
    events = pc.events()
    closer = threading.Timer(0.3, events.close)
    closer.start()
    assert list(events) == []
    closer.join()
    assert list(events) == []
    for call in (events.get, events.fileno):
        with pytest.raises(StateError, match="closed"):
            call()
    events.close()
    with pc.events() as block:
        pc.run(["true"], image=rootfs)
        assert next(block).kind == "created"
        assert next(iter(block)).kind == "started"
    assert list(block) == []


def test_waiting_has_an_end(heard: Events) -> None:
    begun = time.monotonic()
    assert heard.get(0) is None
    assert heard.get(-1) is None
    assert time.monotonic() - begun < patience(5)
    assert heard.get(0.3) is None
    assert time.monotonic() - begun > 0.3
    with pytest.raises(TypeError, match="timeout"):
        heard.get("soon")  # type: ignore[arg-type]


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_ctrl_c_ends_the_waiting(rootfs: Path, heard: Events) -> None:
    with interrupted_after(0.2), pytest.raises(KeyboardInterrupt):
        next(heard)
    pc.run(["true"], image=rootfs)
    assert kinds(heard) == LIFE


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """So many numbers are free, and no more to be had."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_descriptor_is_a_typed_error() -> None:
    """A listener takes three: an eventfd and two epolls."""
    pc.events().close()  # what is imported on the way is there
    before = sorted(os.listdir("/proc/self/fd"))
    for count in range(3):
        with descriptors_left(count), pytest.raises(pc.SetupError, match="listen to events"):
            pc.events()
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert _events.hub is None
    with descriptors_left(3):
        pc.events().close()


def test_an_event_is_a_value(rootfs: Path, heard: Events) -> None:
    pc.run(["true"], image=rootfs)
    found = left(heard)
    again = pickle.loads(pickle.dumps(found[0]))
    assert again == found[0] != found[1]
    assert len({*found, again}) == 4
    with pytest.raises(AttributeError, match="frozen"):
        found[0].kind = "ended"
    assert repr(found[0]) == f"Event(kind='created', name={found[0].name!r})"
    assert "reason=EXITED" in repr(found[2])
    ended = pickle.loads(pickle.dumps(found[2]))
    assert ended.result.usage == found[2].result.usage  # type: ignore[union-attr]


def test_a_forked_copy_listens_for_itself(rootfs: Path, heard: Events) -> None:
    with Container(SLEEP, image=rootfs) as container:
        assert kinds(heard) == ["created", "started"]
        pid = os.fork()
        if pid == 0:
            os._exit(in_a_fork(container, heard, rootfs))
        assert os.waitpid(pid, 0)[1] == 0
        assert heard.get(QUIET) is None
        container.kill()
        assert until(heard, "ended")[-1].id == container.id
    assert kinds(heard) == ["removed"]


def in_a_fork(container: Container, heard: Events, rootfs: Path) -> int:
    """0 where the copy hears nothing of its parent's, and all of its own."""
    refused = 0
    if _events.hub is not None or _hub.hub().queues or _hub.hub().records or _events.containers:
        return 2
    for call in (heard.get, heard.fileno, lambda: next(heard), container.close):
        try:
            call()
        except StateError:
            refused += 1
    heard.close()
    mine = pc.events()
    pc.run(["true"], image=rootfs)
    return 0 if (refused, kinds(mine)) == (4, LIFE) and core().keeper_pid() else 1


# ---- on asyncio --------------------------------------------------------------------------------------------------

ON_ASYNCIO = """
import asyncio, collections, os, sys, threading
from pycontainer import aio
root, count = sys.argv[1], int(sys.argv[2])

async def listen(events, tasks):
    heard, removed = collections.defaultdict(list), 0
    async for event in events:
        heard[event.id].append(event.kind)
        tasks.add(len(os.listdir("/proc/self/task")))
        removed += event.kind == "removed"
        if removed == count:
            return heard

async def live(number):
    async with aio.Container(["sleep", "0.2"], image=root) as c:
        if number % 2:
            await c.wait()
        elif number % 3:
            await c.kill()

async def main():
    tasks = set()
    first, second = aio.events(), aio.events()
    before = len(os.listdir("/proc/self/fd"))
    async with asyncio.timeout(100):
        async with asyncio.TaskGroup() as group:
            listeners = [group.create_task(listen(events, tasks)) for events in (first, second)]
            [group.create_task(live(n)) for n in range(count - 10)]
            [group.create_task(aio.run(["true"], image=root)) for n in range(10)]
    heard = listeners[0].result()
    assert heard == listeners[1].result()
    expected = {("created", "started", "ended", "removed"): count}
    print(len(heard), collections.Counter(map(tuple, heard.values())) == expected, tasks)
    first.close()
    second.close()

asyncio.run(main())
"""


def test_a_loop_listens_without_a_thread(rootfs: Path) -> None:
    assert elsewhere(ON_ASYNCIO, rootfs, 50) == "50 True {1}\n"


def test_asyncio_hears_of_threads_and_a_cancelled_listener_lets_go(rootfs: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with aio.events() as events:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.05)
            ran = loop.run_in_executor(None, lambda: pc.run(["true"], image=rootfs))
            assert [(await anext(events)).kind for _ in range(4)] == LIFE
            await ran
            waiting = asyncio.create_task(anext(events))
            await asyncio.sleep(0.05)
            events.close()
            with pytest.raises(StopAsyncIteration):
                await waiting
            assert [event async for event in events] == []
            with pytest.raises(StateError):
                events.fileno()

    asyncio.run(asyncio.wait_for(main(), patience(30)), debug=True)


def test_a_cancelled_run_has_all_its_events(rootfs: Path) -> None:
    async def main() -> None:
        async with aio.events() as events:
            task = asyncio.create_task(aio.run(SLEEP, image=rootfs))
            assert [(await anext(events)).kind for _ in range(2)] == LIFE[:2]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            found = [await anext(events) for _ in range(2)]
            assert [event.kind for event in found] == LIFE[2:]
            assert found[0].result is not None
            assert found[0].result.reason is Reason.KILLED
            for delay in (0.0, 0.001, 0.003):
                task = asyncio.create_task(aio.run(SLEEP, image=rootfs))
                await asyncio.sleep(delay)
                task.cancel()
                with pytest.raises(asyncio.CancelledError) as cancelled:
                    await task
                heard = []
                while (event := await no_wait(events)) is not None:
                    heard.append(event.kind)
                assert heard in ([], ["created", "removed"], LIFE), cancelled  # which still holds the frames

    asyncio.run(asyncio.wait_for(main(), patience(30)), debug=True)


async def no_wait(events: Any) -> Event | None:
    try:
        return await asyncio.wait_for(anext(events), 0.05)  # type: ignore[no-any-return]
    except TimeoutError:
        return None
