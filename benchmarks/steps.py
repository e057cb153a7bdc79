"""What each step of the road costs, in microseconds: runs with one feature off, or one more on, against the full run.

    steps.py [--rounds N] [--json FILE]

Needs root and pycontainer installed for this interpreter. All variants run once in each round, so that each difference
holds within one moment: machines are shared. A row is the difference of two medians; quartiles tell how far to trust
it. On a busy machine put `chrt -f 10` in front: then only what the kernel itself does for others is in the way.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycontainer as pc
from pycontainer import _run

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))
import rootfs  # noqa: E402

TRUE = ["/bin/true"]
ROAD: Any = _run  # whose one crossing is timed


@dataclass(frozen=True)
class Variant:
    """A change to the full run. `off` says that the change takes the step away, so that its cost is full minus this."""

    name: str
    off: bool
    change: dict[str, Any]


def security(**said: Any) -> dict[str, Any]:
    return {"security": pc.Security(**said)}


def limits(**said: Any) -> dict[str, Any]:
    return {"limits": pc.Limits(**said)}


def variants(scratch: Path) -> list[Variant]:
    """Everything that can be switched by a public parameter."""
    return [
        Variant("seccomp filter", True, security(seccomp="unconfined")),
        Variant("Landlock domain", True, security(landlock=False)),
        Variant("masked and read-only paths", True, security(masked_paths=(), readonly_paths=())),
        Variant("user namespace and idmapped layer", True, security(user_namespace="host")),
        Variant("net namespace, loopback, its sysctls", True, {"network": "host"}),
        Variant("ipc namespace and mqueue", True, {"namespaces": {"ipc": "host"}}),
        Variant("uts namespace and host name", True, {"namespaces": {"uts": "host"}}),
        Variant("time namespace", True, {"namespaces": {"time": "host"}}),
        Variant("cgroup namespace", True, {"namespaces": {"cgroup": "host"}}),
        Variant("our own PID 1 and the command's fork", True, {"pid1": True}),
        Variant("capture of stdout and stderr", True, {"stdout": pc.DEVNULL, "stderr": pc.DEVNULL}),
        Variant("Image.host() instead of a directory", False, {"image": None}),
        Variant("a read-only root, with /tmp and /run", False, {"read_only": True}),
        Variant("a terminal", False, {"tty": True}),
        Variant("a user by name", False, {"user": "worker"}),
        Variant("one file of 4 KiB", False, {"files": {"/in/a": b"x" * 4096}}),
        Variant("one read-only bind", False, {"mounts": [pc.Mount.bind(scratch, "/data", read_only=True)]}),
        Variant("one writable bind", False, {"mounts": [pc.Mount.bind(scratch, "/data", owner=65534)]}),
        Variant("one overlay of a directory", False, {"mounts": [pc.Mount.overlay(scratch, "/data")]}),
        Variant("a layer on the disk", False, {"upper": "disk"}),
        Variant("a wall_time", False, limits(wall_time=60)),
        Variant("a memory limit", False, limits(memory="256MiB")),
        Variant("a cpus limit", False, limits(cpus=1)),
        Variant("a pids limit by group", False, limits(pids=64)),
        Variant("all three of them", False, limits(memory="256MiB", cpus=1, pids=64)),
    ]


@dataclass
class Clock:
    """The parts of one call, in nanoseconds, taken around the native module's one function."""

    native: int = 0
    parts: dict[str, list[float]] = field(default_factory=dict)

    def core(self, real: Callable[[], Any]) -> Callable[[], Any]:
        """A stand-in for `_run.core`, which times `run` and keeps what the outcome says of itself."""
        clock = self

        class Timed:
            def run(self, spec: Any) -> Any:
                before = time.perf_counter_ns()
                outcome = real().run(spec)
                clock.native = time.perf_counter_ns() - before
                start, end = outcome.overhead()
                clock.add("native, until the command runs", start)
                clock.add("native, after its end", end)
                clock.add("the command itself", clock.native - start - end)
                return outcome

        return Timed

    def full_run(self, image: Path) -> None:
        """One run with everything on, taken apart."""
        real = ROAD.core
        ROAD.core = self.core(real)
        try:
            total = once(image, {})
        finally:
            ROAD.core = real
        self.add("Python, before and after", total * 1000 - self.native)

    def add(self, part: str, nanoseconds: float) -> None:
        self.parts.setdefault(part, []).append(nanoseconds / 1000)


def once(image: Path, change: dict[str, Any]) -> float:
    """One run, in microseconds."""
    before = time.perf_counter_ns()
    pc.run(TRUE, **{"image": image, **change})
    return (time.perf_counter_ns() - before) / 1000


def measure(image: Path, rounds: int, scratch: Path) -> tuple[dict[str, list[float]], Clock, list[Variant]]:
    wanted = possible(image, variants(scratch))
    samples: dict[str, list[float]] = {"full": [], **{variant.name: [] for variant in wanted}}
    clock = Clock()
    everything = Variant("full", True, {})
    order = [everything, *wanted]
    for _ in range(rounds):
        random.shuffle(order)  # what ran just before leaves its traces: caches, a group's grace period
        for variant in order:
            samples[variant.name].append(once(image, variant.change))
        clock.full_run(image)
    return samples, clock, wanted


def possible(image: Path, wanted: list[Variant]) -> list[Variant]:
    """Runs each once: what this machine cannot do is said, and left out."""
    kept = []
    for variant in wanted:
        try:
            once(image, variant.change)
        except pc.Error as error:
            print(f"left out: {variant.name}: {error}", file=sys.stderr)
        else:
            kept.append(variant)
    return kept


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def rows(samples: dict[str, list[float]], clock: Clock, wanted: list[Variant]) -> Iterator[tuple[str, float, str]]:
    """(what, microseconds, remark)."""
    low, full, high = quartiles(samples["full"])
    yield "one run, everything on", full, f"quartiles {low:.0f} to {high:.0f}"
    for part, values in clock.parts.items():
        yield f"  {part}", statistics.median(values), ""
    for variant in wanted:
        low, middle, high = quartiles(samples[variant.name])
        cost = full - middle if variant.off else middle - full
        yield variant.name, cost, f"{'without' if variant.off else 'with'} it {middle:.0f} ({low:.0f} to {high:.0f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        image = rootfs.build(Path(directory, "rootfs"))
        scratch = Path(directory, "scratch")
        scratch.mkdir()
        samples, clock, wanted = measure(image, options.rounds, scratch)
    print(f"{'microseconds':>44}   {options.rounds} rounds, medians")
    for what, cost, remark in rows(samples, clock, wanted):
        print(f"{what:<36}{cost:8.0f}   {remark}")
    if options.json:
        options.json.write_text(json.dumps(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
