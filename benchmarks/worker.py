"""One interpreter that times pycontainer for run.py: requests as JSON lines on stdin, answers as JSON lines on stdout.

    worker.py ROOTFS [HOLD_MIB]     HOLD_MIB: memory that this process has touched before its first container

Each answer is {"values": [...], "weak": {guarantee: state and why}}, or {"error": why}. `weak` names what was not held
in the timed runs: such a figure does not count. Standard library and pycontainer only; must run as any user.
"""

from __future__ import annotations

import importlib.resources
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from handles import Handles
from memory import available, helpers, status

import pycontainer as pc

MIB = 1 << 20
TRUE = ["/bin/true"]
WARM = 4  # runs at once before memory is looked at
Answer = dict[str, Any]


class Worker(Handles):
    """What every request needs: the image, and the guarantees that the timed runs did not hold."""

    def __init__(self, rootfs: str) -> None:
        self.rootfs = rootfs
        self.image = pc.Image.from_directory(rootfs)
        self.host = pc.Image.host()
        self.weak: dict[str, str] = {}

    def variant(self, name: str) -> Callable[[], Any]:
        """One container that runs true, in one of the compositions of the figures."""
        limits = pc.Limits(memory="64MiB", pids=64, cpus=0.5)
        unconfined = pc.Security(seccomp="unconfined")
        return {
            "limits": lambda: pc.run(TRUE, image=self.image, limits=limits),
            "plain": lambda: pc.run(TRUE, image=self.image),
            "host": lambda: pc.run(TRUE, image=self.host),
            "unconfined": lambda: pc.run(TRUE, image=self.image, security=unconfined),
        }[name]

    def check(self, result: Any, name: str) -> None:
        """After the clock was stopped: it ran, and everything was held."""
        if result.returncode:
            raise RuntimeError(f"{name}: returncode {result.returncode}, {result.stderr!r}")
        for guarantee in result.enforced.values():
            expected = name == "unconfined" and guarantee.name == "seccomp"
            if guarantee.state != "held" and not expected:
                self.weak[guarantee.name] = f"{guarantee.state}: {guarantee.why}"

    def time(self, variant: str, n: int, gap: float = 0) -> list[float]:
        """Milliseconds of n runs, one after another, `gap` seconds apart."""
        run, times = self.variant(variant), []
        for _ in range(n):
            time.sleep(gap)
            begun = time.perf_counter()
            result = run()
            times.append((time.perf_counter() - begun) * 1e3)
            self.check(result, variant)
        return times

    def rate(self, variant: str, n: int, threads: int) -> list[float]:
        """Containers per second from that many threads."""
        run, results = self.variant(variant), []

        def work() -> None:
            for _ in range(n // threads):
                results.append(run())

        begun = time.perf_counter()
        in_threads(work, threads)
        elapsed = time.perf_counter() - begun
        for result in results:
            self.check(result, variant)
        return [len(results) / elapsed]

    def seccomp(self, n: int) -> list[float]:
        """Milliseconds that the default profile adds to a run: pairs, taken in turn."""
        self.time("plain", 5)
        pairs = [(self.time("plain", 1)[0], self.time("unconfined", 1)[0]) for _ in range(n)]
        return [statistics.median(pair[0] for pair in pairs) - statistics.median(pair[1] for pair in pairs)]

    def capture(self, mib: int) -> list[float]:
        """MiB per second of stdout: through a container, and through subprocess.run."""
        argv = ["head", "-c", str(mib * MIB), "/dev/zero"]
        rates = []
        for ours in (True, False):
            begun = time.perf_counter()
            # The very same program: another head writes in other sizes.
            result = pc.run(argv, image=self.image) if ours else bare([f"{self.rootfs}/bin/{argv[0]}", *argv[1:]])
            rates.append(mib / (time.perf_counter() - begun))
            if len(result.stdout) != mib * MIB:
                raise RuntimeError(f"captured {len(result.stdout)} bytes of {mib} MiB")
            if isinstance(result, pc.Result):
                self.check(result, "capture")
            del result
        return rates

    def capture_capped(self, mib: int) -> list[float]:
        """KiB by which this process's peak grows when a container with output=1 MiB prints a thousand times that."""
        argv = ["head", "-c", str(mib * MIB), "/dev/zero"]
        self.time("plain", 1)
        before = status("self", "VmHWM")
        limits = pc.Limits(output=MIB, output_mode="truncate")
        result = pc.run(argv, image=self.image, limits=limits)
        grown = status("self", "VmHWM") - before
        if result.truncated != ("stdout",):
            raise RuntimeError(f"truncated: {result.truncated}")
        self.check(result, "capture_capped")
        return [grown]

    def sizes(self) -> list[float]:
        """KiB: the helper's file; what the keeper holds (resident and page tables)."""
        before = helpers()
        self.time("plain", 3)
        keepers = helpers() - before
        if len(keepers) != 1:
            raise RuntimeError(f"expected one new keeper, found {sorted(keepers)}")
        helper = importlib.resources.files("pycontainer") / "_bin" / "pycontainer-keeper"
        keeper = keepers.pop()
        return [len(helper.read_bytes()) / 1024, status(keeper, "VmRSS") + status(keeper, "VmPTE")]

    def alive(self, n: int) -> list[float]:
        """KiB of the machine's memory for each of n live containers, beyond what the same command takes without one."""
        sleep = ["sleep", "4"]
        results: list[Any] = []
        contained = used_by(n, lambda: results.append(pc.run(sleep, image=self.image)))
        if len(results) != n + WARM:  # an exception of a thread is nobody's
            raise RuntimeError(f"{len(results)} of {n + WARM} containers ran")
        for result in results:
            self.check(result, "alive")
        alone = used_by(n, lambda: bare(sleep))
        return [(contained - alone) / n]


def bare(argv: list[str]) -> subprocess.CompletedProcess[bytes]:
    """The same command without a container."""
    return subprocess.run(argv, check=True, capture_output=True)


def in_threads(work: Callable[[], object], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def used_by(n: int, run: Callable[[], object]) -> float:
    """KiB that the machine lacks while n of them run."""
    in_threads(run, WARM)  # what is kept from the first use on is not theirs
    before = available()
    threads = [threading.Thread(target=run) for _ in range(n)]
    for thread in threads:
        thread.start()
    time.sleep(2.5)
    used = before - available()
    for thread in threads:
        thread.join()
    return used


def answer(worker: Worker, request: Answer) -> Answer:
    worker.weak = {}
    method = getattr(worker, request.pop("do"))
    try:
        return {"values": method(**request), "weak": worker.weak}
    except Exception as error:  # the figure is missing, the others are not
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    hold = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    held = bytearray(b"\1") * (hold * MIB)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), flush=True)
    del held


if __name__ == "__main__":
    main()
