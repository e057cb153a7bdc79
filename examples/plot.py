"""Runs a container whose load changes, and draws what it used over time with matplotlib: plot.py OUT.png"""

import sys
import time

import matplotlib
from matplotlib import pyplot

import pycontainer as pc

matplotlib.use("agg")  # draws into files, needs no screen
SECONDS = 0.2  # over which the CPU's use is averaged
PROGRAM = b"""
import subprocess, time
end = time.monotonic() + 0.8
while time.monotonic() < end: pass                       # one CPU, fully
held = []
for _ in range(20):                                      # memory grows
    held.append(bytearray(b"x") * (4 << 20))
    time.sleep(0.03)
children = [subprocess.Popen(["sleep", "0.6"]) for _ in range(8)]
for child in children: child.wait()
del held
time.sleep(0.6)                                          # idle
"""


def watch(command: list[str], files: dict[str, bytes]) -> dict[str, list[float]]:
    """Run it; what it used, sampled every 20 ms, and the seconds since its start."""
    seen: dict[str, list[float]] = {"seconds": [], "CPU time": [], "memory, MiB": [], "tasks": []}
    with pc.Container(command, files=files, limits=pc.Limits(memory="256MiB"), degrade=["memory"]) as c:
        began = time.monotonic()
        for stats in c.monitor(interval=0.02):
            row = time.monotonic() - began, stats.cpu or 0, (stats.memory or 0) / 2**20, stats.pids or 0
            for values, value in zip(seen.values(), row, strict=True):
                values.append(value)
    return seen


def cpus(times: list[float], used: list[float]) -> list[float]:
    """How many CPUs it kept busy, over the SECONDS before each sample."""
    found, first = [], 0
    for now, seconds in zip(times, used, strict=True):
        while times[first] < now - SECONDS:
            first += 1
        found.append((seconds - used[first]) / SECONDS)
    return found


def main(out: str) -> None:
    """Draw a panel for each: CPUs, memory, tasks."""
    seen = watch(["python3", "/in/load.py"], {"/in/load.py": PROGRAM})
    times = seen.pop("seconds")
    curves = {"CPUs": cpus(times, seen.pop("CPU time"))} | seen
    figure, panels = pyplot.subplots(len(curves), sharex=True, layout="constrained")
    for panel, (name, values) in zip(panels, curves.items(), strict=True):
        panel.plot(times, values)
        panel.set_ylabel(name)
        print(f"{name}: up to {max(values):.1f}")
    panels[-1].set_xlabel("seconds")
    figure.savefig(out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
