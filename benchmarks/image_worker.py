"""One reading of an image operation for images.py, in a fresh interpreter with a store of its own ($PYCONTAINER_ROOT).

    image_worker.py '{"do": NAME, ...}'      the answer is one JSON line, as worker.py's

The store is opened before the clock starts, as every engine's daemon or database is. Milliseconds are this process's,
memory is the growth of its peak (VmHWM) over what it was when it had done nothing but open its store.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from memory import status

import pycontainer as pc

TRUE = ["/bin/true"]
WITNESS = "/etc/passwd"


class Readings:
    """Each method is a reading: a list of values."""

    def __init__(self) -> None:
        self.weak: dict[str, str] = {}
        pc.Image.all()
        self.idle = status("self", "VmHWM")

    def nothing(self) -> list[float]:
        """A store with its directories, and nothing in it."""
        return []

    def once(self, work: Callable[[], pc.Image], witness: str = WITNESS) -> list[float]:
        """[milliseconds, KiB] of what brings an image, which is there afterwards."""
        begun = time.perf_counter()
        image = work()
        taken = (time.perf_counter() - begun) * 1e3
        grown = status("self", "VmHWM") - self.idle
        image.open(witness).close()
        return [taken, grown]

    def load(self, path: str, witness: str = WITNESS) -> list[float]:
        return self.once(lambda: pc.Image.load(path)[0], witness)

    def pull(self, reference: str, witness: str = WITNESS) -> list[float]:
        return self.once(lambda: pc.Image.pull(reference), witness)

    def unpack(self, reference: str) -> list[float]:
        """[milliseconds] of the layers of an image whose blobs alone are here: unpacked when a file is asked for."""
        image = pc.Image.get(reference)
        begun = time.perf_counter()
        image.open(WITNESS).close()
        return [(time.perf_counter() - begun) * 1e3]

    def again(self, reference: str, policy: Any, n: int) -> list[float]:
        """[milliseconds] of an image that is there, the median of n."""
        return [statistics.median(timed(lambda: pc.Image(reference, policy=policy), n))]

    def build(self, context: str, cache: bool, n: int) -> list[float]:
        """[milliseconds] of Image.build, the median of n."""
        return [statistics.median(timed(lambda: pc.Image.build(context, tag="bench/built:1", cache=cache), n))]

    def run(self, references: list[str], n: int) -> list[float]:
        """[milliseconds] of true on each of these images, the medians of n that take turns."""
        images = [pc.Image.get(reference) for reference in references]
        times: list[list[float]] = [[] for _ in images]
        for number in range(n + 2):
            for image, kept in zip(images, times, strict=True):
                begun = time.perf_counter()
                result = pc.run(TRUE, image=image)
                taken = (time.perf_counter() - begun) * 1e3
                self.held(result.enforced)
                if number >= 2:  # the first ones unpack, and fill what is kept
                    kept.append(taken)
        return [statistics.median(kept) for kept in times]

    def second(self, reference: str) -> list[float]:
        """[bytes] by which the store's file system is fuller with a second container on an image."""
        image = pc.Image.get(reference)
        with pc.Container(["sleep", "100"], image=image) as first:
            before = used()
            with pc.Container(["sleep", "100"], image=image) as other:
                other.exec(TRUE)
                after = used()
                self.held(first.enforced)
                self.held(other.enforced)
        return [float(after - before)]

    def held(self, enforced: Any) -> None:
        for guarantee in enforced.values():
            if guarantee.state != "held":
                self.weak[guarantee.name] = f"{guarantee.state}: {guarantee.why}"


def used() -> int:
    os.sync()
    seen = os.statvfs(os.environ["PYCONTAINER_ROOT"])
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize


def timed(work: Callable[[], object], n: int) -> list[float]:
    """Milliseconds of each of n calls."""
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def main() -> None:
    request = json.loads(sys.argv[1])
    try:
        readings = Readings()
        values = getattr(readings, request.pop("do"))(**request)
        answer = {"values": values, "weak": readings.weak}
    except Exception as error:  # the figure is missing, the others are not
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
