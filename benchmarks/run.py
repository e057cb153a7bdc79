"""All figures, side by side in one run: pycontainer, the bare system calls of floor.c, and the peers of this machine.

    run.py [--quick] [--json FILE] [--rootless USER:PYTHON] [--only WORD] [--cache DIRECTORY]

Everything is taken in rounds, in turn, so that each ratio holds within one minute: machines are shared. A figure is the
median of its rounds' medians. It counts only when everything in `Result.enforced` of its runs was held. Exit code 1
where a bound is missed or could not be read. Needs root, and pycontainer installed for this interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import peers as peers_module
from tables import Bound, Figures, Missing, show, verdicts

import images as images_module

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))
import house  # noqa: E402
import rootfs as rootfs_builder  # noqa: E402

APART = 0.1  # seconds: without it the attach to a cgroup v1 group hides in the grace period of the last one
PURE_IMPORT = 15.0  # milliseconds
STRACE = ["strace", "-f", "-qq", "-e", "trace=open,openat,creat,mkdir,clone,clone3,fork,vfork"]


BOUNDS = (
    Bound("true, limits, tight", "limits", "floor limits", 1.5),
    Bound("true, limits, tight", "limits", "crun run", 0.4),
    Bound("true, limits, tight", "limits", "docker run", 0.02),
    Bound("true, limits, 100 ms apart", "limits apart", "floor limits apart", 1.3),
    Bound("true, limits, 100 ms apart", "limits apart", "crun run apart", 0.5),
    Bound("true, no limits, tight", "plain", "floor", 1.5),
    Bound("from a parent of 1 GiB", "plain, 1 GiB", "plain", 1.1),
    Bound("rootless, no limits", "rootless", "plain", 1.5),
    Bound("Image.host()", "host", "plain", 1.8),
    Bound("8 threads, no limits", "rate", "crun rate", 2.0, "1/s", least=True),
    Bound("8 threads, limits", "rate limits", "crun rate", 1.8, "1/s", least=True),
    Bound("loading the default seccomp profile", "seccomp", None, 0.2),
    Bound("1 GiB of stdout captured", "capture", "capture, subprocess", 0.8, "MiB/s", least=True),
    Bound("the host's growth with output=1 MiB", "capture capped", None, 8 * 1024, "KiB"),
    Bound("import pycontainer, beyond pass", "import", None, PURE_IMPORT),
    Bound("import: threads, fds, files, forks", "import effects", None, 0, ""),
    Bound("stats() of a live container", "stats", None, 60, "us"),
    Bound("stats(), limits", "stats limits", None, 60, "us"),
    Bound("exec in a live container, tight", "exec", "crun exec", 0.2),
    Bound("exec in a live container, tight", "exec", "docker-py exec", 0.02),
    Bound("exec in a live container, tight", "exec", "docker exec", 0.02),
    Bound("exec, 100 ms apart", "exec apart", "crun exec apart", 0.2),
    Bound("exec from a parent of 1 GiB", "exec, 1 GiB", "exec", 1.1),
    Bound("start() to the first line", "first line", "run of the same", 1.1),
    Bound("1,000 on asyncio, 200 at a time", "aio rate", "aio rate, threads", 0.9, "1/s", least=True),
    Bound("live at once, each answers an exec", "many", None, 1000, "", least=True),
    Bound("the end of 1,000 live ones", "many end", None, 5, "s"),
    Bound("each of 1,000: host and engine", "many held", None, 600, "KiB"),
    Bound("each of 1,000: the kernel's too", "many machine", None, 600, "KiB"),
    Bound("copy_in, 10,000 files of 20 KB", "copy in", "tar to tar", 0.8, "MiB/s", least=True),
    Bound("copy_out of the same", "copy out", "tar to tar", 0.8, "MiB/s", least=True),
    Bound("the helper", "helper", None, 128, "KiB"),
    Bound("what the keeper holds", "keeper", None, 300, "KiB"),
    Bound("a live container beyond its command", "alive", None, 600, "KiB"),
)
SHOWN = ("subprocess.run", "bwrap", "runc run", "podman run", "floor apart")  # without a bound: for comparison


class Worker:
    """worker.py in an interpreter of its own; it is started with its first request."""

    def __init__(self, command: list[str], stack: ExitStack) -> None:
        self.command, self.stack = command, stack
        self.process: subprocess.Popen[str] | None = None
        self.said = ""

    def ask(self, **request: Any) -> list[float]:
        """Missing: the worker did not start, or could not do it, or something was not held."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
            )
            self.stack.callback(self.end)
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Missing(self.last_words())
        reply = json.loads(line)
        if "error" in reply:
            raise Missing(reply["error"])
        if reply["weak"]:
            raise Missing("not held: " + "; ".join(f"{name} {why}" for name, why in reply["weak"].items()))
        values: list[float] = reply["values"]
        return values

    def last_words(self) -> str:
        assert self.process
        assert self.process.stderr
        self.process.wait(10)
        self.said = self.process.stderr.read().strip() or self.said
        return f"the worker ended ({self.process.returncode}): {self.said.splitlines()[-1] if self.said else ''}"

    def end(self) -> None:
        assert self.process
        assert self.process.stdin
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


class Bench:
    """One run: where its things lie, whom it asks, how often."""

    def __init__(self, options: argparse.Namespace, scratch: Path, stack: ExitStack) -> None:
        self.options, self.scratch, self.stack = options, scratch, stack
        self.rounds, self.batch, self.apart = (3, 10, 5) if options.quick else (15, 20, 10)
        self.mib = 128 if options.quick else 1024
        self.figures = Figures()
        self.rootfs = str(rootfs_builder.build(scratch / "rootfs"))
        for name in ("worker.py", "handles.py", "memory.py"):
            shutil.copy(HERE / name, scratch)
        self.floor = str(scratch / "floor")
        subprocess.run(["cc", "-O2", "-o", self.floor, str(HERE / "floor.c")], check=True)
        self.peers = peers_module.find(self.rootfs, str(scratch), stack)
        self.figures.missing.update(self.peers.skipped)
        self.small, self.big, self.rootless = self.worker(), self.worker("1024"), self.plain_user()

    def worker(self, *words: str) -> Worker:
        return Worker([sys.executable, str(self.scratch / "worker.py"), self.rootfs, *words], self.stack)

    def plain_user(self) -> Worker | None:
        if not self.options.rootless:
            self.figures.missing["rootless"] = "no --rootless USER:PYTHON"
            return None
        user, _, python = self.options.rootless.partition(":")
        return Worker(house.as_user([python, str(self.scratch / "worker.py"), self.rootfs], user=user), self.stack)

    # ---- what is read in rounds: (names, reading), in the order in which they take turns ----

    def sources(self) -> Iterator[tuple[tuple[str, ...], Callable[[], list[float]]]]:
        n, apart = self.batch, self.apart
        yield ("floor limits",), lambda: self.bare(n, "limits")
        yield ("limits",), lambda: self.timed(self.small, "limits", n)
        yield from self.peer("crun run", n)
        yield from self.peer("docker run", 3)
        yield ("floor",), lambda: self.bare(n)
        yield ("plain",), lambda: self.timed(self.small, "plain", n)
        yield ("plain, 1 GiB",), lambda: self.timed(self.big, "plain", n)
        yield ("host",), lambda: self.timed(self.small, "host", n)
        if rootless := self.rootless:
            yield ("rootless",), lambda: self.timed(rootless, "plain", n)
        yield ("floor limits apart",), lambda: self.bare(apart, "limits", f"gap={APART * 1000:.0f}")
        yield ("limits apart",), lambda: self.timed(self.small, "limits", apart, APART)
        yield from self.peer("crun run", apart, APART)
        yield ("floor apart",), lambda: self.bare(apart, f"gap={APART * 1000:.0f}")
        yield ("exec",), lambda: self.small.ask(do="exec", n=n)
        yield ("exec, 1 GiB",), lambda: self.big.ask(do="exec", n=n)
        yield from self.peer("crun exec", n)
        yield from self.peer("docker-py exec", 3)
        yield from self.peer("docker exec", 3)
        yield ("exec apart",), lambda: self.small.ask(do="exec", n=apart, gap=APART)
        yield from self.peer("crun exec", apart, APART)
        yield ("first line", "run of the same"), lambda: self.small.ask(do="first_line", n=n)
        yield from self.crun_rate()
        yield ("rate",), lambda: self.small.ask(do="rate", variant="plain", n=n * 8, threads=8)
        yield ("rate limits",), lambda: self.small.ask(do="rate", variant="limits", n=n * 8, threads=8)
        for name, count in (("subprocess.run", n), ("bwrap", n), ("runc run", 5), ("podman run", 3)):
            yield from self.peer(name, count)
        yield ("import",), lambda: [import_cost(7)]

    def bare(self, n: int, *words: str) -> list[float]:
        done = subprocess.run(
            [self.floor, self.rootfs, str(n), "default", *words, "keeper"], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise Missing(done.stderr.strip()[-200:])
        return [json.loads(done.stdout)["p50"]]

    def timed(self, worker: Worker, variant: str, n: int, gap: float = 0) -> list[float]:
        return [statistics.median(worker.ask(do="time", variant=variant, n=n, gap=gap))]

    def peer(self, name: str, n: int, gap: float = 0) -> Iterator[tuple[tuple[str, ...], Callable[[], list[float]]]]:
        key = f"{name} apart" if gap else name
        if command := self.peers.commands.get(name):
            yield (key,), lambda: [statistics.median(peers_module.timed(command, n, gap))]
        else:
            self.figures.missing[key] = self.peers.skipped.get(name, "not installed")

    def crun_rate(self) -> Iterator[tuple[tuple[str, ...], Callable[[], list[float]]]]:
        if command := self.peers.commands.get("crun run"):
            yield ("crun rate",), lambda: [peers_module.rate(command, self.batch * 2, 4)]
        else:
            self.figures.missing["crun rate"] = self.peers.skipped.get("crun run", "not installed")

    # ---- what is read once, or a few times, each in a fresh interpreter ----

    def single(self) -> Iterator[tuple[tuple[str, ...], Callable[[], list[float]]]]:
        pairs = 60 if self.options.quick else 600
        yield ("seccomp",), lambda: self.worker().ask(do="seccomp", n=pairs)
        for _ in range(3):
            yield ("capture", "capture, subprocess"), lambda: self.worker().ask(do="capture", mib=self.mib)
        yield ("capture capped",), lambda: self.worker().ask(do="capture_capped", mib=self.mib)
        yield ("import effects",), lambda: [float(len(import_effects()))]
        looks = 500 if self.options.quick else 5000
        for _ in range(3):
            yield ("stats", "stats limits"), lambda: self.worker().ask(do="stats", n=looks)
        some = 400 if self.options.quick else 1000
        for _ in range(3):
            yield ("aio rate", "aio rate, threads"), lambda: self.worker().ask(do="aio_rate", n=some)
            yield (
                ("copy in", "copy out", "tar to tar"),
                lambda: self.worker().ask(do="copies", files=10_000, size=20_000),
            )
        yield ("many", "many end", "many held", "many machine"), lambda: self.worker().ask(do="many", n=1000)
        yield ("helper", "keeper"), lambda: self.worker().ask(do="sizes")
        for _ in range(3):
            yield ("alive",), lambda: self.worker().ask(do="alive", n=40 if self.options.quick else 100)

    def wanted(self, names: tuple[str, ...]) -> bool:
        only = self.options.only
        used = {name for bound in chosen(only) for name in (bound.ours, bound.yard)}
        return bool(used & set(names)) or (not only and bool(set(SHOWN) & set(names)))

    def run(self) -> None:
        sources = [source for source in self.sources() if self.wanted(source[0])]
        for number in range(self.rounds):
            print(f"round {number + 1} of {self.rounds}", file=sys.stderr)
            for names, read in sources:
                self.figures.take(names, read)
        for names, read in self.single():
            if self.wanted(names):
                self.figures.take(names, read)


# ---- import ------------------------------------------------------------------------------------------------------


def import_cost(n: int) -> float:
    """Milliseconds that `import pycontainer` adds to an interpreter's start and end."""
    must_run("import pycontainer")
    times: dict[str, list[float]] = {"pass": [], "import pycontainer": []}
    for _ in range(n):
        for code in times:
            times[code] += peers_module.timed(peers_module.Command((sys.executable, "-c", code)), 1)
    bare, imported = (statistics.median(kept) for kept in times.values())
    return imported - bare


def must_run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Missing(done.stderr.strip().splitlines()[-1])


EFFECTS = """
import os
def now():
    return {name: len(os.listdir(f"/proc/self/{name}")) for name in ("task", "fd")}
before = now()
import pycontainer
print(*[name for name, count in now().items() if count != before[name]])
"""


def import_effects() -> list[str]:
    """What importing starts or leaves: threads and fds counted inside, new files and processes seen by strace."""
    must_run("import pycontainer")
    done = subprocess.run([sys.executable, "-c", EFFECTS], check=True, capture_output=True, text=True)
    return done.stdout.split() + sorted(traced("import pycontainer") - traced("pass"))


def traced(code: str) -> set[str]:
    """The calls of an interpreter that make a process or a file, without their addresses and results."""
    if not shutil.which("strace"):
        raise Missing("strace is not installed")
    with tempfile.NamedTemporaryFile("r") as log:
        subprocess.run([*STRACE, "-o", log.name, sys.executable, "-c", code], check=True, capture_output=True)
        lines = [line.split(None, 1)[1] for line in log.read().splitlines()]
    return {line for line in lines if not line.startswith(("open(", "openat(")) or "O_CREAT" in line}


# ---- the table ---------------------------------------------------------------------------------------------------


def report(bench: Bench) -> int:
    options, figures = bench.options, bench.figures
    for note in bench.peers.notes:
        print(f"note: {note}")
    print(f"Linux {os.uname().release}, {os.cpu_count()} cpus, {bench.rounds} rounds, medians of their medians")
    code = verdicts(chosen(options.only), figures, bench.peers.notes, options.json)
    for name in SHOWN if not options.only else ():
        print(f"beside: {name}: {show(figures.median(name), 'ms')} {figures.missing.get(name, '')}".rstrip())
    return code


def chosen(word: str | None) -> list[Bound]:
    return [bound for bound in BOUNDS if not word or word in bound.measure]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds, half of each batch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples and the table")
    parser.add_argument("--rootless", metavar="USER:PYTHON", help="who runs the rootless row, with which interpreter")
    parser.add_argument("--only", metavar="WORD", help="only measures whose name contains it: images, exec, ...")
    images_module.add_options(parser)
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root: floor.c and the peers make namespaces and groups as root does")
    codes = []
    if chosen(options.only):
        with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pycontainer-bench-") as scratch, ExitStack() as stack:
            os.chmod(scratch, 0o755)
            bench = Bench(options, Path(scratch), stack)
            bench.run()
            codes.append(report(bench))
    if images_module.chosen(options.only):
        codes.append(images_module.measure(options))
    return max(codes, default=2)


if __name__ == "__main__":
    sys.exit(main())
