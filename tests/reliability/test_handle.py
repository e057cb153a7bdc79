"""Handles against a small model: any order of calls on a container ends as the model says, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pen import Pen

pytestmark = [
    pytest.mark.requires("pen"),
    pytest.mark.leaks_by_design,
    pytest.mark.timeout(3600),
]

MACHINE = r'''
import os, shutil, subprocess, sys, tempfile, time
import pen
import pycontainer as pc
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pycontainer import _core
image, count = sys.argv[1], int(sys.argv[2])
pc.run(["true"], image=image)
keeper = _core.keeper_pid()
calls = {}
with pc.Container(["sleep", "8000"], image=image) as c:
    try:
        c.pause()
        CAN_PAUSE = True
    except pc.NotSupported:
        CAN_PAUSE = False

# Other interpreters, each a fork of one that has the package and no engine yet: a line in, a host with a container out.
HOSTS = """
import os, signal, sys, time
import pycontainer as pc
from pycontainer import _core
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        print("host", os.getpid(), flush=True)
        c = pc.Container(["sh", "-c", "sleep 8000 & sleep 8000"], image=sys.argv[1], upper=line.strip()).start()
        p = c.popen(["sh", "-c", "setsid sleep 8000 & sleep 8000"])
        c.write_bytes("/tmp/x", b"x")
        print("runs", c.id, c.pid, p.pid, _core.keeper_pid()[0], flush=True)
        time.sleep(8000)
"""
fds = len(os.listdir("/proc/self/fd"))
hosts = subprocess.Popen([sys.executable, "-c", HOSTS, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
PLACE = pen.own()

def processes():
    return pen.processes_below(PLACE)

def said(word):
    words = hosts.stdout.readline().split()
    assert words[0] == word, words
    return words[1:]

def gone(them, since):
    """Within the two seconds of the promise."""
    while left := them & processes():
        assert time.monotonic() - since < pen.SETTLE, [pen.name(pid) for pid in left]
        time.sleep(0.005)

class Life(RuleBasedStateMachine):
    host = found = None

    @initialize(script=st.sampled_from(["sleep 8000", "trap '' TERM; while :; do sleep 0.05; done"]))
    def make(self, script):
        self.stubborn = "trap" in script
        self.c, self.model = pc.Container(["sh", "-c", script], image=image), "CREATED"
        self.commands = []

    def refused(self, call, *args):
        try:
            getattr(self.c, call)(*args)
        except pc.StateError:
            calls[call, self.model, "refused"] = calls.get((call, self.model, "refused"), 0) + 1
            return
        raise AssertionError(f"{call} of a container that is {self.model} was not refused")

    def did(self, call):
        calls[call, self.model] = calls.get((call, self.model), 0) + 1

    @rule()
    def start(self):
        if self.model != "CREATED":
            return self.refused("start")
        self.did("start")
        self.c.start()
        self.model = "RUNNING"

    @rule()
    def exec(self):
        if self.model != "RUNNING":
            return self.refused("exec", ["true"])
        self.did("exec")
        assert self.c.exec(["sh", "-c", "exit 3"]).returncode == 3

    @rule()
    def popen(self):
        if self.model != "RUNNING":
            return self.refused("popen", ["true"])
        self.did("popen"); self.commands.append(self.c.popen(["sleep", "8000"]))

    @rule()
    def end_a_command(self):
        if self.model == "RUNNING" and self.commands:
            self.did("end_a_command")
            with self.commands.pop() as process:
                assert process.poll() is None
            assert process.returncode == -9

    @rule()
    def pause(self):
        if not CAN_PAUSE:
            return
        if self.model != "RUNNING":
            return self.refused("pause")
        self.did("pause"); self.c.pause(); self.model = "PAUSED"

    @rule()
    def resume(self):
        if not CAN_PAUSE:
            return
        if self.model != "PAUSED":
            return self.refused("resume")
        self.did("resume"); self.c.resume(); self.model = "RUNNING"

    @rule()
    def write_and_read(self):
        if self.model == "REMOVED":
            return self.refused("write_bytes", "/tmp/x", b"x")
        self.did("write_and_read")
        self.c.write_bytes("/tmp/x", b"x"); assert self.c.read_bytes("/tmp/x") == b"x"

    @rule()
    def copy_in_and_out(self):
        if self.model == "REMOVED":
            return self.refused("copy_in", TREE, "/tmp/tree")
        self.did("copy_in_and_out")
        self.c.copy_in(TREE, "/tmp/tree")
        with tempfile.TemporaryDirectory(dir=SCRATCH) as place:
            self.c.copy_out("/tmp/tree", f"{place}/tree")
            assert os.listdir(f"{place}/tree") == ["file"]
        assert "/tmp/tree/file" in [change.path for change in self.c.diff()]

    @rule()
    def found_by_others(self):
        self.did("found_by_others")
        lives = self.model in ("RUNNING", "PAUSED")
        assert (self.c.id in [one.id for one in pc.Container.all()]) == lives or self.model == "EXITED"
        if lives:
            with pc.Container.get(self.c.id) as found:
                assert found.poll() is None
        if self.model in ("CREATED", "REMOVED"):
            try:
                pc.Container.get(self.c.id)
            except pc.StateError:
                return
            raise AssertionError(f"one that is {self.model} was found")

    @rule(upper=st.sampled_from(["memory", "disk"]))
    def another_host(self, upper):
        if self.host is not None:
            return
        self.did("another_host")
        self.before = processes()
        hosts.stdin.write(upper + "\n"); hosts.stdin.flush()
        self.host = int(said("host")[0])
        id, *pids = said("runs")
        self.found, self.others = pc.Container.get(id), set(map(int, pids))

    @rule()
    def exec_of_the_other_hosts(self):
        if self.found is not None:
            self.did("exec_of_the_other_hosts")
            assert self.found.exec(["cat", "/tmp/x"]).stdout == b"x"

    @rule()
    def kill_of_the_other_hosts(self):
        if self.found is not None:
            self.did("kill_of_the_other_hosts")
            self.found.kill(); assert self.found.wait(timeout=30) == -9
            self.found.close(); self.found = None

    @rule()
    def the_other_host_is_killed(self):
        if self.host is None:
            return
        self.did("the_other_host_is_killed")
        host, self.host, found, self.found = self.host, None, self.found, None
        os.kill(host, 9)
        gone(self.others | {host}, time.monotonic())
        if found is not None:
            try:
                assert found.wait(timeout=30) == -9
            except pc.StateError as error:  # its keeper had nobody to tell
                assert "has ended" in str(error), error
            assert found.state == "EXITED"
            found.close()

    @rule(delay=st.floats(0, 0.02))
    def a_host_is_killed_before_it_is_ready(self, delay):
        if self.host is not None:
            return
        self.did("a_host_is_killed_before_it_is_ready")
        before = processes()
        hosts.stdin.write("memory\n"); hosts.stdin.flush()
        host = int(said("host")[0])
        time.sleep(delay)
        os.kill(host, 9)
        since = time.monotonic()
        while processes() - before:
            assert time.monotonic() - since < pen.SETTLE, [pen.name(pid) for pid in processes() - before]
            time.sleep(0.005)
        os.set_blocking(hosts.stdout.fileno(), False)
        hosts.stdout.readline()  # it may have been so far
        os.set_blocking(hosts.stdout.fileno(), True)

    @rule()
    def stats(self):
        if self.model not in ("RUNNING", "PAUSED"):
            return self.refused("stats")
        self.did("stats"); assert self.c.stats().cpu is None or self.c.stats().cpu >= 0

    @rule()
    def update(self):
        if self.model not in ("RUNNING", "PAUSED"):
            return self.refused("update", pc.Limits(wall_time=7000))
        self.did("update"); assert self.c.update(pc.Limits(wall_time=7000)).wall_time == 7000

    @rule()
    def stop(self):
        if self.model in ("CREATED", "REMOVED"):
            return self.refused("stop")
        self.did("stop"); self.c.stop(grace=0.2)
        if self.model != "EXITED":
            assert self.c.returncode == (-9 if self.stubborn else -15), self.c.returncode
        self.model = "EXITED"

    @rule()
    def kill(self):
        if self.model in ("CREATED", "REMOVED"):
            return self.refused("kill")
        self.did("kill"); self.c.kill(); self.c.wait(timeout=30); self.model = "EXITED"

    @rule()
    def close(self):
        self.did("close"); self.c.close(); self.model = "REMOVED"

    @invariant()
    def is_what_the_model_says(self):
        if hasattr(self, "c"):
            assert self.c.state == self.model, (self.c.state, self.model)

    def teardown(self):
        if hasattr(self, "c"):
            self.commands.clear()
            self.c.close()
            assert self.c.state == "REMOVED"
            # An agent that served its files ends by itself, a moment later.
            deadline = time.monotonic() + pen.SETTLE
            while pen.children(keeper[0]) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert pen.children(keeper[0]) == [], "something lives"
        self.the_other_host_is_killed()

SCRATCH = tempfile.mkdtemp(dir=os.environ["PYCONTAINER_ROOT"])
TREE = os.path.join(SCRATCH, "tree")
os.mkdir(TREE)
open(os.path.join(TREE, "file"), "w").close()
run_state_machine_as_test(Life, settings=settings(
    max_examples=count, stateful_step_count=20, deadline=None, database=None,
    suppress_health_check=list(HealthCheck)))
hosts.communicate(); shutil.rmtree(SCRATCH)
import gc; gc.collect()
assert _core.keeper_pid() == keeper
left = len(os.listdir("/proc/self/fd")) - fds
assert left <= 2, f"{left} descriptors more"
killed = sum(n for (name, *_), n in calls.items() if "host_is_killed" in name)
print(len(calls), "kinds of call,", sum(calls.values()), "calls,", killed, "hosts killed")
'''


def test_any_order_of_calls(pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]) -> None:
    tell(pen.run(MACHINE, rootfs, len(times(300)), timeout=1800).strip())
    assert not pen.left()
