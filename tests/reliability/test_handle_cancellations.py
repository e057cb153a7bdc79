"""Cancellations on asyncio and timeouts on threads, at random moments of every call of a handle: nothing is left.

Each call is timed once to its end; then it is cut off anywhere between its first instruction and a while after its end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pen import PRELUDE, Pen

pytestmark = [
    pytest.mark.requires("pen"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]

# One container is there all the time: what is done beside its command is cut off, and it has to be as it was.
COMMON = (
    PRELUDE
    + """
import gc, random, shutil, tempfile
import pen
import pycontainer.aio as aio
count = int(words[0])
core, first = _core, 0
place = tempfile.mkdtemp(prefix="cut-", dir=os.environ["PYCONTAINER_ROOT"])
tree = os.path.join(place, "tree")
for i in range(40):
    os.makedirs(os.path.join(tree, f"d{i % 5}"), exist_ok=True)
    with open(os.path.join(tree, f"d{i % 5}", f"f{i}"), "wb") as file:
        file.write(b"x" * 5000)
COMMAND = ["sh", "-c", "echo ready; sleep 8000"]
BRIEF = ["sh", "-c", "echo $0; sleep 0.01 & sleep 0.01", "brief"]

def records():
    home = core.registry_home()
    return [] if home is None else sorted(name for name in os.listdir(home) if len(name.lstrip(".")) == 32)

def seen():
    inside = [pid for pid in pen.children(first) if pen.state(pid) != "Z"]
    return pen.children(keeper[0]), inside, records(), os.listdir("/proc/self/fd")

def left():
    at_first, inside, written, fds = seen()
    if (at_first, inside, written) == before[:3] and len(fds) <= len(before[3]):
        return ""
    gc.collect()  # what was cancelled may hold itself
    links = ["/proc/self/fd/" + fd for fd in fds if fd not in before[3]]
    more = [os.readlink(link) for link in links if os.path.lexists(link)]  # one that was collected is closed
    return f"{(at_first, inside, written)}, not {before[:3]}; descriptors: {more}"

def turns(i, what):
    until = time.monotonic() + pen.SETTLE
    while rest := left():
        if time.monotonic() > until:
            raise AssertionError(f"after {what}, the {i}th: {rest}")
        yield

def clean(i, what):
    for _ in turns(i, what):
        time.sleep(0.001)

AT_ONCE = set()
def moment(whole):
    # A third of them in the first three milliseconds, where pipes, groups and messages are made.
    return random.uniform(0, 1.2 * whole if random.random() < 0.7 else 0.003)

cut, whole = {}, {}
def told(what, was_cut):
    counts = cut if was_cut else whole
    counts[what] = counts.get(what, 0) + 1

def summary():
    assert _core.keeper_pid() == keeper
    shutil.rmtree(place)
    print(sum(cut.values()), "cut off,", sum(whole.values()), "came to their end;", ", ".join(sorted(cut)))
    # Every call was cut off, and not each of them so early that nothing had begun.
    assert count < 500 or set(cut) == set(CALLS) - AT_ONCE, set(CALLS) - set(cut)
    assert sum(whole.values()) > count / 50, whole
"""
)

CANCELLED = (
    COMMON
    + """
import asyncio

async def run():
    await aio.run(BRIEF, image=image)

async def run_with_input():
    given = limited(memory="64MiB", pids=20)
    await aio.run(["sh", "-c", "cat; sleep 0.01"], image=image, input=b"x" * 300_000, **given)

async def start():
    async with aio.Container(COMMAND, image=image):
        pass

async def start_with_pipes():
    c = aio.Container(["cat"], image=image, stdin=pc.PIPE, stdout=pc.PIPE)
    try:
        await c.start()
        await c.communicate(b"x" * 200_000)
    finally:
        await c.close()

async def whole_run():
    async with aio.Container(BRIEF, image=image, upper="disk") as c:
        await c.run()

async def exec():
    assert (await c.exec(BRIEF)).stdout == b"brief\\n"

async def exec_with_input():
    assert len((await c.exec(["sh", "-c", "cat; sleep 0.01"], input=b"x" * 300_000)).stdout) == 300_000

async def popen():
    async with await c.popen(["sh", "-c", "cat; sleep 0.01"], stdin=pc.PIPE, stdout=pc.PIPE) as p:
        await p.communicate(b"x" * 100_000)

async def wait():
    async with await c.popen(BRIEF) as p:
        await p.wait()

async def wait_for():
    await c.exec(["rm", "-f", "/tmp/there"])
    async with await c.popen(["sh", "-c", "sleep 0.01; touch /tmp/there; sleep 8000"]):
        await c.wait_for(pc.wait.file("/tmp/there"), pc.wait.log("ready"), pc.wait.exec(["true"]))

async def copy_in():
    await c.copy_in(tree, "/tmp/tree")

async def copy_out():
    await c.copy_out("/etc", os.path.join(place, "out"))

async def bytes_():
    await c.write_bytes("/tmp/bytes", b"x" * 3_000_000)
    await c.read_bytes("/tmp/bytes")

async def stop():
    async with aio.Container(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"], image=image) as other:
        await other.wait_for(pc.wait.log("up"))
        await other.stop(grace=0.01)

async def lines():
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.003; done"
    async with aio.Container(["sh", "-c", script], image=image, stdout=pc.PIPE) as other:
        async for _ in other.lines():
            pass

CALLS = {body.__name__: body for body in (
    run, run_with_input, start, start_with_pipes, whole_run, exec, exec_with_input, popen, wait, wait_for, copy_in,
    copy_out, bytes_, stop, lines,
)}

# They are done before the loop goes on: there is no moment at which they could be cut off.
AT_ONCE = {"copy_in", "copy_out", "bytes_"}

async def main():
    global c, first, before
    loop = asyncio.get_running_loop()
    failures = []
    loop.set_exception_handler(lambda loop, context: failures.append(context))
    async with aio.Container(COMMAND, image=image) as c:
        first = int(pen.status(c.pid)["PPid"])
        took = {}
        for name, body in CALLS.items():
            for _ in range(2):  # the first one makes what stays
                begin = time.monotonic()
                await body()
                took[name] = time.monotonic() - begin
        await asyncio.sleep(0.3)
        before = seen()
        for i in range(count):
            name = list(CALLS)[i % len(CALLS)]
            task = asyncio.create_task(CALLS[name]())
            await asyncio.sleep(moment(took[name]))
            task.cancel()
            try:
                await task
                told(name, False)
            except asyncio.CancelledError:
                told(name, True)
            for _ in turns(i, name):
                await asyncio.sleep(0.001)  # calls that the loop has yet to make hold what they are about
            assert c.state == "RUNNING"
        assert (await c.exec(["echo", "after"])).stdout == b"after\\n"
        assert not failures, failures
        assert len(os.listdir("/proc/self/task")) == 1

asyncio.run(main(), debug=False)
summary()
"""
)


def test_a_thousand_cancellations(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    tell(pen.run(CANCELLED, rootfs, len(times(1000)), timeout=1800).strip())
    assert not pen.left()


TIMED_OUT = (
    COMMON
    + """
def made(command=BRIEF, **options):
    return pc.Container(command, image=image, **options)

def run(t):
    with made() as other:
        other.run(timeout=t)

def run_with_input(t):
    with made(["sh", "-c", "cat; sleep 0.01"], stdin=pc.PIPE, stdout=pc.PIPE) as other:
        other.run(input=b"x" * 300_000, timeout=t)

def run_on_disk(t):
    with made(upper="disk", **limited(memory="64MiB", pids=20)) as other:
        other.run(timeout=t)

def exec(t):
    assert c.exec(BRIEF, timeout=t).stdout == b"brief\\n"

def exec_with_input(t):
    c.exec(["sh", "-c", "cat; sleep 0.01"], input=b"x" * 300_000, timeout=t)

def exec_on_a_terminal(t):
    c.exec(BRIEF, tty=True, timeout=t)

def wait(t):
    with made() as other:
        other.wait(timeout=t)

def communicate(t):
    with made(["sh", "-c", "cat; sleep 0.01"], stdin=pc.PIPE, stdout=pc.PIPE) as other:
        other.communicate(b"x" * 200_000, timeout=t)

def wait_of_a_command(t):
    with c.popen(BRIEF) as p:
        p.wait(timeout=t)

def communicate_with_a_command(t):
    with c.popen(["sh", "-c", "cat; sleep 0.01"], stdin=pc.PIPE, stdout=pc.PIPE) as p:
        p.communicate(b"x" * 200_000, timeout=t)

def lines_of_a_command(t):
    with c.popen(["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.003; done"], stdout=pc.PIPE) as p:
        for _ in p.lines(timeout=t):
            pass

def wait_for(t):
    c.exec(["rm", "-f", "/tmp/there"])
    with c.popen(["sh", "-c", "sleep 0.01; touch /tmp/there; sleep 8000"]):
        c.wait_for(pc.wait.file("/tmp/there"), pc.wait.log("ready"), pc.wait.exec(["true"]), timeout=t)

def wait_for_a_port(t):
    with c.popen(["sh", "-c", "sleep 0.01; exec busybox nc -l -p 7000"]):
        c.wait_for(pc.wait.port(7000), timeout=t)

def stop(t):
    with made(["sh", "-c", "trap 'sleep 0.01; exit' TERM; echo up; while :; do sleep 0.01; done"]) as other:
        other.wait_for(pc.wait.log("up"))
        other.stop(grace=t)
        if other.returncode == -9:
            raise pc.TimeoutExpired([], t)

def wall_time(t):
    with made(limits=pc.Limits(wall_time=max(t, 1e-6))) as other:
        other.wait()
        if other.result.reason is pc.Reason.TIMEOUT:
            raise pc.TimeoutExpired([], t)

CALLS = {body.__name__: body for body in (
    run, run_with_input, run_on_disk, exec, exec_with_input, exec_on_a_terminal, wait, communicate, wait_of_a_command,
    communicate_with_a_command, lines_of_a_command, wait_for, wait_for_a_port, stop, wall_time,
)}
c = made(COMMAND)
with c:
    first = int(pen.status(c.pid)["PPid"])
    took = {}
    for name, body in CALLS.items():
        for _ in range(2):
            begin = time.monotonic()
            body(20)
            took[name] = time.monotonic() - begin
    time.sleep(0.3)
    before = seen()
    for i in range(count):
        name = list(CALLS)[i % len(CALLS)]
        try:
            CALLS[name](moment(took[name]))
            told(name, False)
        except pc.TimeoutExpired:
            told(name, True)
        clean(i, name)
        assert c.state == "RUNNING"
    assert c.exec(["echo", "after"]).stdout == b"after\\n"
summary()
"""
)


def test_a_thousand_timeouts(
    pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    tell(pen.run(TIMED_OUT, rootfs, len(times(1000)), timeout=1800).strip())
    assert not pen.left()
