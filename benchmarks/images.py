"""The figures of images, side by side: layers, loads, pulls, builds, many layers; with tar, docker, podman, skopeo.

    images.py [--quick] [--json FILE] [--only WORD] [--cache DIRECTORY]      also reached by run.py --only images

Cold means: the engine has nothing of the image. The page cache is as it is (the input was read before, for everyone),
and the disk is at rest (sync) before each clock starts. What is ours is durable when the clock stops. Ratios are of
times, ours by theirs; the other reading of the bounds, of throughputs, is printed below the table. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import image_inputs as inputs
import image_peers as engines_module
from image_peers import Peer, Registry, empty, without
from peers import quietly
from tables import Bound, Figures, Missing, verdicts

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pycontainer-benchmarks"
NAME = "bench/base:1"
LAYERS = 60
PULL_AGAIN = 30.0  # milliseconds
PEAK = 64 * 1024.0  # KiB

BOUNDS = (
    Bound("images: gzip layer to tmpfs, verified", "unpack", "tar -xzf", 0.5),
    Bound("images: load of docker save, cold", "load", "docker load", 0.6),
    Bound("images: load of docker save, cold", "load", "podman load", 0.6),
    Bound("images: pull from loopback, cold", "pull", "skopeo + umoci", 0.6),
    Bound("images: pull from loopback, cold", "pull", "podman pull", 0.6),
    Bound("images: pull of what is there", "pull again", None, PULL_AGAIN),
    Bound("images: requests of such a pull (HEAD)", "requests", None, 1, ""),
    Bound("images: requests with policy missing", "requests, missing", None, 0, ""),
    Bound("images: build of 6 steps, all cached", "build cached", "docker build cached", 0.1),
    Bound("images: build of 6 steps, all cached", "build cached", "buildah bud cached", 0.1),
    Bound("images: the same, nothing cached", "build", "docker build", 0.3),
    Bound("images: the same, nothing cached", "build", "buildah bud", 0.3),
    Bound(f"images: run on {LAYERS} layers", f"run, {LAYERS} layers", "run, 1 layer", 1.3),
    Bound("images: a second container: bytes copied", "second container", None, 0, "B"),
    Bound("images: peak memory of a load", "load memory", None, PEAK, "KiB"),
    Bound("images: peak memory of a pull", "pull memory", None, PEAK, "KiB"),
    Bound("images: the same load, a big layer", "load memory, big", None, PEAK, "KiB"),
    Bound("images: the same pull, a big layer", "pull memory, big", None, PEAK, "KiB"),
)
Source = tuple[tuple[str, ...], Callable[[], list[float]]]


class Images:
    """One run: its inputs, engines and registry, below one scratch directory on the disk."""

    def __init__(self, options: argparse.Namespace, scratch: Path, stack: ExitStack) -> None:
        self.options, self.scratch, self.stack = options, scratch, stack
        self.rounds = 2 if options.quick else 5
        self.figures = Figures()
        self.base, note = inputs.base(options.cache)
        self.layout = inputs.of_base(scratch / "base", NAME, self.base)
        self.engines = engines_module.find(scratch, stack)
        self.notes = [note, *self.engines.notes]
        self.registry = Registry(scratch / "registry", stack)
        self.remote = f"{self.registry.host}/{NAME}"
        inputs.skopeo(["--dest-tls-verify=false", self.layout, f"docker://{self.remote}"])
        self.archive = self.docker_archive()
        self.tmpfs = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        self.warm = scratch / "store"  # with the base in it

    def docker_archive(self) -> Path:
        """By `docker save` where there is a docker."""
        path, written = self.scratch / "saved.tar", self.scratch / "skopeo.tar"
        inputs.skopeo([self.layout, f"docker-archive:{written}:{NAME}"])
        if docker := self.engines.docker:
            subprocess.run([*docker, "load", "-i", str(written)], check=True, capture_output=True)
            subprocess.run([*docker, "save", "-o", str(path), NAME], check=True, capture_output=True)
            written.unlink()
        else:
            written.rename(path)
            self.notes.append("the archive is skopeo's: no docker")
        return path

    # ---- readings ----

    def ours(self, store: Path, **request: Any) -> list[float]:
        """One reading of image_worker.py in a fresh interpreter."""
        store.mkdir(parents=True, exist_ok=True)
        os.sync()
        words = [sys.executable, str(HERE / "image_worker.py"), json.dumps(request)]
        env = {**os.environ, "PYCONTAINER_ROOT": str(store)}
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=env, cwd="/")
        if done.returncode:
            raise Missing(done.stderr.strip().splitlines()[-1])
        reply = json.loads(done.stdout.splitlines()[-1])
        if "error" in reply:
            raise Missing(reply["error"])
        if reply["weak"]:
            raise Missing("not held: " + "; ".join(f"{name} {why}" for name, why in reply["weak"].items()))
        values: list[float] = reply["values"]
        return values

    def cold(self, **request: Any) -> list[float]:
        """The same with a store on the disk that is empty before and gone after."""
        store = self.scratch / "cold"
        shutil.rmtree(store, ignore_errors=True)
        try:
            return self.ours(store, **request)
        finally:
            shutil.rmtree(store, ignore_errors=True)

    def unpack(self) -> list[float]:
        store = self.tmpfs / "store"
        try:
            self.ours(store, do="nothing")
            inputs.skopeo([self.layout, f"oci:{store}/images:{NAME}"])
            return self.ours(store, do="unpack", reference=NAME)
        finally:
            shutil.rmtree(store, ignore_errors=True)

    def tar(self) -> list[float]:
        packed, place = self.tmpfs / "base.tar.gz", self.tmpfs / "tree"
        shutil.copyfile(self.base, packed)
        place.mkdir()
        try:
            return [Peer((("tar", "-xzf", str(packed), "-C", str(place)),)).time()]
        finally:
            shutil.rmtree(place)
            packed.unlink()

    def counted(self, name: str, policy: str, n: int) -> Source:
        """Of an image that is there: milliseconds, and requests of each."""

        def read() -> list[float]:
            before = len(self.registry.requests())
            times = self.ours(self.warm, do="again", reference=self.remote, policy=policy, n=n)
            methods = self.registry.requests()[before:]
            if set(methods) - {"HEAD"}:
                raise Missing(f"not HEAD alone: {sorted(set(methods))}")
            return [*times, len(methods) / n]

        return (("pull again", "requests") if policy == "always" else (name, "requests, missing")), read

    def peer(self, name: str, peer: Peer | None) -> Iterator[Source]:
        if not peer:
            engine = name.split(maxsplit=1)[0]
            self.figures.missing[name] = self.engines.skipped.get(engine, f"{engine} is not installed")
            return

        def read() -> list[float]:
            try:
                return [peer.time()]
            except (RuntimeError, OSError) as error:
                raise Missing(str(error)) from None

        yield (name,), read

    # ---- what is read in rounds ----

    def transfers(self) -> Iterator[Source]:
        docker, podman, archive = self.engines.docker, self.engines.podman, str(self.archive)
        yield ("unpack",), self.unpack
        yield ("tar -xzf",), self.tar
        yield ("load", "load memory"), lambda: self.cold(do="load", path=archive)
        there = without(docker, NAME)
        yield from self.peer("docker load", Peer(((*docker, "load", "-i", archive),), there) if docker else None)
        loaded = Peer(((*podman, "load", "-i", archive),), empty(podman)) if podman else None
        yield from self.peer("podman load", loaded)
        yield ("pull", "pull memory"), lambda: self.cold(do="pull", reference=self.remote)
        yield from self.peer("skopeo + umoci", self.skopeo_and_umoci())
        words = ("pull", "-q", "--tls-verify=false", self.remote)
        yield from self.peer("podman pull", Peer(((*podman, *words),), empty(podman)) if podman else None)

    def skopeo_and_umoci(self) -> Peer | None:
        if not (shutil.which("skopeo") and shutil.which("umoci")):
            return None
        place = self.scratch / "umoci"

        def before() -> None:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()

        copy = ("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{self.remote}")
        unpack = ("umoci", "unpack", "--image", f"{place}/layout:base", f"{place}/bundle")
        return Peer(((*copy, f"oci:{place}/layout:base"), unpack), before)

    def builds(self) -> Iterator[Source]:
        """All with the base there, and for the cached ones with one build done."""
        context = inputs.context(self.scratch / "context", NAME)
        n = 5 if self.options.quick else 20
        build = {"do": "build", "context": str(context)}
        yield ("build",), lambda: self.ours(self.warm, **build, cache=False, n=1)
        yield ("build cached",), lambda: self.ours(self.warm, **build, cache=True, n=n)
        docker = buildah = None
        if self.engines.docker:
            subprocess.run([*self.engines.docker, "load", "-i", str(self.archive)], check=True, capture_output=True)
            docker, env = [*self.engines.docker, "build", "--network", "none"], engines_module.docker_env()
            self.notes += [f"docker build: {'BuildKit' if not env else 'the classic builder'}"]
        if self.engines.buildah:
            pulled = [*self.engines.buildah, "pull", "-q", f"docker-archive:{self.archive}"]
            subprocess.run(pulled, check=True, capture_output=True)
            buildah, note = engines_module.buildah_isolation(self.engines.buildah, context)
            self.notes += [note] if note else []
        for engine, words in (("docker build", docker), ("buildah bud", buildah)):
            tag, where = ("-t", "bench/built:1"), str(context)
            new = Peer(((*words, "--no-cache", *tag, where),), env=env if words is docker else {}) if words else None
            yield from self.peer(engine, new)
            old = Peer(((*words, *tag, where),), env=env if words is docker else {}) if words else None
            yield from self.peer(f"{engine} cached", old)

    def runs(self) -> Iterator[Source]:
        names = [NAME, f"bench/layers:{LAYERS}"]
        layout = inputs.of_base(self.scratch / "layers", names[1], self.base, LAYERS - 1)
        inputs.skopeo([layout, f"oci:{self.warm}/images:{names[1]}"])
        n = 30 if self.options.quick else 100
        keys = ("run, 1 layer", f"run, {LAYERS} layers")
        yield keys, lambda: self.ours(self.warm, do="run", references=names, n=n)
        yield ("second container",), self.second

    def second(self) -> list[float]:
        """On a file system of its own: on the machine's, others write too."""
        disk, store = self.scratch / "disk", self.scratch / "mounted"
        with disk.open("wb") as file:
            file.truncate(2 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True, capture_output=True)
        store.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", str(disk), str(store)], check=True)
        try:
            self.ours(store, do="load", path=str(self.archive))
            return self.ours(store, do="second", reference=NAME)
        finally:
            quietly("umount", str(store))
            disk.unlink()

    def big(self) -> Iterator[Source]:
        mib = 128 if self.options.quick else 1024
        name, path = f"{self.registry.host}/bench/big:1", self.scratch / "big.tar"
        layout = inputs.big(self.scratch / "big", "big", mib)
        inputs.skopeo([layout, f"docker-archive:{path}:bench/big:1"])
        inputs.skopeo(["--dest-tls-verify=false", layout, f"docker://{name}"])
        self.notes.append(f"the big layer has {mib} MiB")
        yield ("load memory, big",), lambda: self.cold(do="load", path=str(path), witness="/big")[1:]
        yield ("pull memory, big",), lambda: self.cold(do="pull", reference=name, witness="/big")[1:]

    # ---- the run ----

    def wanted(self, names: tuple[str, ...]) -> bool:
        bounds = chosen(self.options.only)
        return bool({name for bound in bounds for name in (bound.ours, bound.yard)} & set(names))

    def take(self, sources: Iterator[Source], rounds: int) -> None:
        """One reading of each, in turn, so that each ratio holds within one minute."""
        kept = [source for source in sources if self.wanted(source[0])]
        for number in range(rounds):
            for names, read in kept:
                self.figures.take(names, read)
                last = [self.figures.samples.get(name, ["-"])[-1] for name in names]
                print(f"round {number + 1} of {rounds}: {', '.join(names)}: {last}", file=sys.stderr, flush=True)

    def run(self) -> None:
        self.take(self.transfers(), self.rounds)
        self.ours(self.warm, do="load", path=str(self.archive))
        self.ours(self.warm, do="pull", reference=self.remote)
        n = 10 if self.options.quick else 50
        self.take(iter([self.counted("pull again", "always", n), self.counted("", "missing", n)]), 1)
        if any(self.wanted((bound.ours,)) for bound in BOUNDS if "build" in bound.ours):
            self.take(self.builds(), self.rounds)
        self.take(self.runs(), 1)
        if self.wanted(("load memory, big", "pull memory, big")):
            self.take(self.big(), 1)


def chosen(word: str | None) -> list[Bound]:
    return [bound for bound in BOUNDS if not word or word in bound.measure]


def throughputs(figures: Figures) -> list[str]:
    """The milder reading of "at least 0.6 x": of what gets done in a second."""
    lines = []
    for bound in BOUNDS[:5]:
        ours, theirs = figures.median(bound.ours), figures.median(bound.yard or "")
        if ours and theirs:
            held = "held" if theirs / ours >= bound.at else "missed"
            lines.append(f"{bound.ours}: {theirs / ours:.2f} of {bound.yard}'s throughput (>= {bound.at}: {held})")
    return lines


def measure(options: argparse.Namespace) -> int:
    """All of it, and its table; 0 where every bound is held."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pycontainer-images-") as scratch, ExitStack() as stack:
        images = Images(options, Path(scratch), stack)
        images.run()
    for note in images.notes:
        print(f"note: {note}")
    print(
        f"Linux {os.uname().release}, {os.cpu_count()} cpus, {images.rounds} rounds, {time.monotonic() - begun:.0f} s"
    )
    name = options.json.with_stem(f"{options.json.stem}-images") if options.json else None
    code = verdicts(chosen(options.only), images.figures, images.notes, name)
    for line in throughputs(images.figures):
        print(f"read as throughput: {line}")
    return code


def add_options(parser: argparse.ArgumentParser) -> None:
    words = "where the base of the images is kept, and made with mmdebstrap where it is missing"
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIRECTORY", help=words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a smaller big layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples and the table")
    parser.add_argument("--only", metavar="WORD", help="only measures whose name contains it")
    add_options(parser)
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root: the engines that it compares with do")
    return measure(options)


if __name__ == "__main__":
    sys.exit(main())
