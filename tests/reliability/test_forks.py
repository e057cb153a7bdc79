"""Forks of the host at every moment: they keep no container alive, no pipe open, and end nothing of their parent's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

pytestmark = [
    pytest.mark.requires("pen"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(1800),
]

# Copies are made as fast as they can be while four threads run containers; each copy outlives the runs of its time.
STORM = """
import faulthandler, multiprocessing
count, how = int(words[0]), words[1]
faulthandler.dump_traceback_later(float(words[2]), exit=True)
LIFE = 0.5
stop, wrong, slowest, runs = threading.Event(), [], [0.0], [0]

def work(number):
    i = 0
    while not stop.is_set():
        i += 1
        begin = time.monotonic()
        r = pc.run(["sh", "-c", "cat; echo $0", f"{number}.{i}"], image=image, input=b"in ", text=False,
                   **limited(pids=50) if number % 2 else {})
        took = time.monotonic() - begin
        runs[0] += 1
        slowest[0] = max(slowest[0], took)
        if r.returncode or r.stdout != f"in {number}.{i}\\n".encode():
            wrong.append(str(r))

def live(_=None):
    time.sleep(LIFE)

def leave(n):
    if n % 4 == 0:
        os._exit(0)
    if n % 4 == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if n % 4 == 2:
        try:
            sys.exit(0)
        finally:
            os._exit(0)
    os.abort()

def fork(n):
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        live()
        leave(n)
    return lambda: os.waitpid(pid, 0)

def process(n):
    p = multiprocessing.get_context("fork").Process(target=live)
    p.start()
    return p.join

threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for t in threads:
    t.start()
pending = []
for n in range(count):
    pending.append((fork if how == "fork" else process)(n))
    if len(pending) > 20:
        pending.pop(0)()
    time.sleep(0.002)
for end in pending:
    end()
stop.set()
for t in threads:
    t.join()
assert not wrong, wrong[:3]
assert _core.keeper_pid() == keeper, "a copy's end ended the keeper"
print(runs[0], slowest[0])
"""


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_forks_while_containers_run(
    pen: Pen, rootfs: Path, how: str, times: Callable[[int], range], tell: Callable[[str], None]
) -> None:
    count = len(times(1000))
    runs, slowest = pen.tried(STORM, rootfs, count, how, 600, timeout=620).split()
    tell(f"{count} copies, {runs} containers, the slowest took {float(slowest):.2f} s")
    assert int(runs) > 10


# A copy that lives as long as the container must not hold the ends of its pipes: the run ends with the container.
HOLD = """
took = []
def one():
    begin = time.monotonic()
    r = pc.run(["sh", "-c", "sleep 0.5; echo end"], image=image)
    assert r.stdout == b"end\\n"
    took.append(time.monotonic() - begin)
threads = [threading.Thread(target=one) for _ in range(8)]
for t in threads:
    t.start()
pids = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    pids.append(pid)
    time.sleep(0.01)
for t in threads:
    t.join()
links = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in pids for fd in os.listdir(f"/proc/{pid}/fd")]
for pid in pids:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
own = {os.readlink(f"/proc/self/fd/{n}") for n in range(3)}
print(max(took), sum(link.startswith(("pipe", "socket")) and link not in own for link in links))
"""


def test_a_copy_holds_no_pipe_and_no_socket(pen: Pen, rootfs: Path) -> None:
    slowest, held = pen.tried(HOLD, rootfs).split()
    assert float(slowest) < 10  # the copies live 20 s
    assert int(held) == 0


COPY = """
results = []
running = threading.Thread(target=lambda: results.append(pc.run(["sh", "-c", "sleep 1; echo mine"], image=image)))
running.start()
time.sleep(0.2)
pid = os.fork()
if pid == 0:
    try:
        assert _core.keeper_pid() is None
        r = pc.run(["sh", "-c", "echo copy"], image=image, **limited(pids=20))
        assert r.stdout == b"copy\\n", r
        assert _core.keeper_pid() != keeper
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(pc.run(["sh", "-c", "exit 9"], image=image).returncode)
        assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 9
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
running.join()
assert results[0].stdout == b"mine\\n", results
assert _core.keeper_pid() == keeper
assert pc.run(["true"], image=image).returncode == 0
"""


def test_a_copy_has_a_keeper_of_its_own(pen: Pen, rootfs: Path) -> None:
    pen.tried(COPY, rootfs)


# A signal handler forks in the middle of the wait, and the copy comes out of run() by itself.
HANDLER = """
way, = words
parent, copies = os.getpid(), []
def handler(*_):
    pid = os.fork()
    if pid:
        copies.append(pid)
    elif way == "raises":
        raise KeyError("in the copy")
signal.signal(signal.SIGUSR1, handler)
threading.Timer(0.3, lambda: os.kill(parent, signal.SIGUSR1)).start()
try:
    r = pc.run(["sh", "-c", "echo a; sleep 1; echo b"], image=image, upper="disk", **limited(pids=20))
except (KeyError, pc.StateError) as error:
    assert os.getpid() != parent
    assert pc.run(["sh", "-c", "echo copy"], image=image).stdout == b"copy\\n"
    os._exit(5 if isinstance(error, KeyError) == (way == "raises") else 6)
assert os.getpid() == parent
assert r.stdout == b"a\\nb\\n" and r.returncode == 0, r
assert os.waitstatus_to_exitcode(os.waitpid(copies[0], 0)[1]) == 5
"""


@pytest.mark.parametrize("way", ["raises", "returns"])
def test_a_fork_in_a_signal_handler(pen: Pen, rootfs: Path, way: str) -> None:
    pen.tried(HANDLER, rootfs, way)
