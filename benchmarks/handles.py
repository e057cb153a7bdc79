"""What worker.py times of containers that live: commands in them, looks at them, many of them at once.

A part of worker.py's Worker, which says what is held; standard library and pycontainer only.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory import available, helpers, share

import pycontainer as pc
from pycontainer import aio

TRUE = ["/bin/true"]
AT_ONCE = 200


class Handles:
    """Readings of handles."""

    image: pc.Image
    rootfs: str
    weak: dict[str, str]

    if TYPE_CHECKING:

        def check(self, result: Any, name: str) -> None: ...

    def held(self, container: Any) -> None:
        """After the clock was stopped: everything was held."""
        for guarantee in container.enforced.values():
            if guarantee.state != "held":
                self.weak[guarantee.name] = f"{guarantee.state}: {guarantee.why}"

    def exec(self, n: int, gap: float = 0) -> list[float]:
        """Milliseconds of true in a container that lives, the median of n."""
        with pc.Container(["sleep", "1000"], image=self.image) as container:
            results: list[Any] = []
            times = timed(lambda: results.append(container.exec(TRUE)), n, gap)
            for result in results:
                self.check(result, "exec")
        return [statistics.median(times) * 1e3]

    def first_line(self, n: int) -> list[float]:
        """Milliseconds from start() to the first line of a handle's output; and of run() of the same, taken in turn."""
        echo = ["/bin/echo", "x"]
        ours, runs, results = [], [], []
        for _ in range(n):
            container = pc.Container(echo, image=self.image)
            begun = time.perf_counter()
            container.start()
            next(container.lines())
            ours.append(time.perf_counter() - begun)
            container.close()
            runs += timed(lambda: results.append(pc.run(echo, image=self.image)), 1)
            self.check(results[-1], "first_line")
        return [statistics.median(ours) * 1e3, statistics.median(runs) * 1e3]

    def stats(self, n: int) -> list[float]:
        """Microseconds of one look at a live container: without limits, and with groups for three."""
        medians = []
        for limits in (pc.Limits(), pc.Limits(memory="64MiB", pids=64, cpus=0.5)):
            with pc.Container(["sleep", "100"], image=self.image, limits=limits) as container:
                times = timed(container.stats, n)
                self.held(container)
            medians.append(statistics.median(times) * 1e6)
        return medians

    def aio_rate(self, n: int) -> list[float]:
        """Containers per second, 200 at a time: on asyncio, and from 200 threads."""

        async def main() -> None:
            slots = asyncio.Semaphore(AT_ONCE)

            async def one() -> None:
                async with slots:
                    results.append(await aio.run(TRUE, image=self.image))

            async with asyncio.TaskGroup() as group:
                for _ in range(n):
                    group.create_task(one())

        def work() -> None:
            for _ in range(n // AT_ONCE):
                results.append(pc.run(TRUE, image=self.image))

        results: list[Any] = []
        begun = time.perf_counter()
        asyncio.run(main())
        ours = time.perf_counter() - begun
        threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - begun
        for result in results:
            self.check(result, "aio_rate")
        return [n / ours, n // AT_ONCE * AT_ONCE / elapsed]

    def many(self, n: int) -> list[float]:
        """Live containers that all answered an exec; seconds of the end of all of them; KiB for each of them.

        First of this process and of the engine's (Pss); then of the whole machine, with what the kernel keeps, beyond
        what the same command takes without a container.
        """
        alone, others = lacking_with(n, [f"{self.rootfs}/bin/sleep", "1000"]), helpers()
        pc.run(TRUE, image=self.image)  # what is kept from the first use on is not theirs
        machine, here = available(), share("self")
        containers = [pc.Container(["sleep", "1000"], image=self.image).start() for _ in range(n)]
        results = [container.exec(["readlink", "/proc/self/ns/pid"]) for container in containers]
        for result in results:
            self.check(result, "many")
        lacking, grown = machine - available(), share("self") - here
        engine = helpers() - others
        if len(engine) != n + 1:
            raise RuntimeError(f"{len(engine)} processes of the engine for {n} containers")
        kept = (grown + sum(map(share, engine))) / n, (lacking - alone) / n
        begun = time.perf_counter()
        for container in containers:
            container.kill()
        for container in containers:
            container.close()
        return [float(len({result.stdout for result in results})), time.perf_counter() - begun, *kept]

    def copies(self, files: int, size: int) -> list[float]:
        """MiB per second of a tree into a container and out of it; and of tar piped to tar, each way."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
            tree, mib = Path(scratch, "tree"), files * size / (1 << 20)
            for number in range(files):
                place = tree / f"d{number // 100}"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"f{number}").write_bytes(bytes([number % 251]) * size)
            limits = pc.Limits(disk=f"{64 + int(mib * 2)}MiB")
            with pc.Container(["sleep", "1000"], image=self.image, limits=limits) as container:
                seconds = timed(lambda: container.copy_in(tree, "/copied"), 1)
                seconds += timed(lambda: container.copy_out("/copied", f"{scratch}/out"), 1)
                self.held(container)
            shutil.rmtree(f"{scratch}/out", ignore_errors=True)
            Path(scratch, "tar").mkdir()
            pipe = f"tar -C {tree} -cf - . | tar -C {scratch}/tar -xf -"
            seconds += timed(lambda: subprocess.run(["sh", "-c", pipe], check=True), 1)
        into, out, tar = (mib / each for each in seconds)
        return [into, out, tar]


def lacking_with(n: int, argv: list[str]) -> float:
    """KiB that the machine lacks while n of these run."""
    before = available()
    running = [subprocess.Popen(argv) for _ in range(n)]
    lacking = before - available()
    for process in running:
        process.kill()
    for process in running:
        process.wait()
    return lacking


def timed(work: Callable[[], object], n: int, gap: float = 0) -> list[float]:
    """Seconds of each of n calls."""
    times = []
    for _ in range(n):
        time.sleep(gap)
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return times
