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

MACHINE = """
import os, sys, time
import pen
import pycontainer as pc
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pycontainer import _core
image, count = sys.argv[1], int(sys.argv[2])
pc.run(["true"], image=image)
keeper = _core.keeper_pid()
fds = len(os.listdir("/proc/self/fd"))
calls = {}
with pc.Container(["sleep", "8000"], image=image) as c:
    try:
        c.pause()
        CAN_PAUSE = True
    except pc.NotSupported:
        CAN_PAUSE = False

class Life(RuleBasedStateMachine):
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

run_state_machine_as_test(Life, settings=settings(
    max_examples=count, stateful_step_count=20, deadline=None, database=None,
    suppress_health_check=list(HealthCheck)))
import gc; gc.collect()
assert _core.keeper_pid() == keeper
left = len(os.listdir("/proc/self/fd")) - fds
assert left <= 2, f"{left} descriptors more"
print(len(calls), "kinds of call,", sum(calls.values()), "calls")
"""


def test_any_order_of_calls(pen: Pen, rootfs: Path, times: Callable[[int], range], tell: Callable[[str], None]) -> None:
    tell(pen.run(MACHINE, rootfs, len(times(300)), timeout=1800).strip())
    assert not pen.left()
