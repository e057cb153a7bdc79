"""The other engines of images.py as command lines, each with storage of its own on the same disk; and a registry.

What an engine has is taken from it before each cold reading, outside the clock. Nothing is restarted in between, as
nothing of ours is slower for it: a daemon keeps running, a database keeps its file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from peers import docker_host, end, quietly

Reset = Callable[[], None]


@dataclass(frozen=True)
class Peer:
    """Commands that are one reading, one after another, and what goes before the clock."""

    commands: tuple[tuple[str, ...], ...]
    before: Reset = lambda: None
    env: dict[str, str] = field(default_factory=dict)

    def time(self) -> float:
        """Milliseconds.

        Raises RuntimeError with the last words of a command that failed.
        """
        self.before()
        os.sync()
        begun = time.perf_counter()
        for command in self.commands:
            done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **self.env})
            if done.returncode:
                raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-200:]}")
        return (time.perf_counter() - begun) * 1e3


class Registry:
    """Debian's docker-registry on loopback, with a log that counts requests."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        place.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"localhost:{probe.getsockname()[1]}"
        address = self.host.replace("localhost", "127.0.0.1")
        lines = ["version: 0.1", "log: {level: info}", f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}"]
        (place / "config.yml").write_text("\n".join([*lines, f"http: {{addr: '{address}'}}"]) + "\n")
        self.log = place / "log"
        with self.log.open("wb") as out:
            daemon = subprocess.Popen(["docker-registry", "serve", "config.yml"], cwd=place, stdout=out, stderr=out)
        stack.callback(end, daemon)
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(self.host.split(":")[1])), 1):
                return
            time.sleep(0.02)
        raise RuntimeError("docker-registry does not listen: " + self.log.read_text()[-200:])

    def requests(self) -> list[str]:
        """Methods of the requests so far."""
        time.sleep(0.2)  # what was answered is written
        parts = (line.partition('"')[2].split() for line in self.log.read_text().splitlines())
        return [words[0] for words in parts if len(words) > 1 and words[1].startswith("/v2/")]


@dataclass
class Engines:
    """docker with a daemon, podman and buildah with storage below `scratch`; [] where one is not here."""

    docker: list[str]
    podman: list[str]
    buildah: list[str]
    skipped: dict[str, str]
    notes: list[str]


def find(scratch: Path, stack: ExitStack) -> Engines:
    engines = Engines([], [], [], {}, [])
    try:
        engines.docker, note = docker_host(stack, str(scratch))
        engines.notes += [note] if note else []
    except (OSError, RuntimeError) as error:
        engines.skipped["docker"] = str(error)
    for name in ("podman", "buildah"):
        storage = ["--root", f"{scratch}/{name}", "--runroot", f"{scratch}/{name}-run", "--storage-driver", "overlay"]
        try:
            subprocess.run([name, *storage, "info"], check=True, capture_output=True, text=True)
        except FileNotFoundError:
            engines.skipped[name] = f"{name} is not installed"
        except subprocess.CalledProcessError as error:
            engines.skipped[name] = error.stderr.strip()[-200:]
        else:
            setattr(engines, name, [name, *storage])
            # A container that was not ended, or a mount of a layer, would keep the directory.
            stack.callback(quietly, "umount", "-l", f"{scratch}/{name}/overlay")
            stack.callback(quietly, name, *storage, *(["rm", "-af"] if name == "podman" else ["rm", "-a"]))
    return engines


def empty(engine: Sequence[str]) -> Reset:
    """Take all images from podman or buildah."""
    words = ["rmi", "-af"]
    return lambda: quietly(*engine, *words)


def without(docker: Sequence[str], name: str) -> Reset:
    return lambda: quietly(*docker, "image", "rm", "-f", name)


def docker_env() -> dict[str, str]:
    """BuildKit where the client has it; else its classic builder, which says that it is deprecated."""
    has = subprocess.run(["docker", "buildx", "version"], check=False, capture_output=True).returncode == 0
    return {} if has else {"DOCKER_BUILDKIT": "0"}


def buildah_isolation(buildah: Sequence[str], context: Path) -> tuple[list[str], str | None]:
    """Its own default where RUN works with that; else chroot, which does less and is quicker."""
    plain = ["bud", "--layers", "--network", "none"]
    tried = subprocess.run([*buildah, *plain, "--no-cache", str(context)], check=False, capture_output=True, text=True)
    if tried.returncode == 0:
        return [*buildah, *plain], None
    words = ["bud", "--layers", "--isolation", "chroot"]
    return [*buildah, *words], f"buildah with --isolation chroot: {tried.stderr.strip().splitlines()[-1][-120:]}"
