"""The other engines of this machine as command lines: each runs /bin/true of the same small root file system.

    peers.py ROOTFS [N]      times each as a Python program gets it, and prints one JSON object

Engines that are not installed, or refuse this machine, are named with their reason. What has to be changed for them (a
docker daemon, a v1 hierarchy that crun insists on) is put back at the end, and named in `Peers.notes`. Needs root.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HUGETLB = Path("/sys/fs/cgroup/hugetlb")
LIMITS = ["-m", "64m", "--pids-limit", "64", "--cpus", "0.5"]
# Without CAP_SYS_RESOURCE podman fails to raise these, and says so instead of running.
PODMAN_ULIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]


@dataclass(frozen=True)
class Command:
    """One engine's container; `{id}` in argv is replaced by a name that is used once."""

    argv: tuple[str, ...]
    cwd: str | None = None

    def run(self, name: str) -> None:
        argv = [word.replace("{id}", name) for word in self.argv]
        subprocess.run(argv, cwd=self.cwd, capture_output=True, check=True, text=True)


@dataclass(frozen=True)
class Call:
    """One engine's exec through its Python library, in this process."""

    body: Callable[[], tuple[int, bytes]]

    def run(self, name: str) -> None:
        status, output = self.body()
        if status:
            raise RuntimeError(f"ended with {status}: {output!r}")


@dataclass
class Peers:
    """What can be timed here, what cannot and why, and what was changed on the machine for it."""

    commands: dict[str, Command | Call] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def offer(self, name: str, command: Command) -> None:
        """Take it when a first run of it works."""
        try:
            command.run(f"yardstick-first-{os.getpid()}")
        except FileNotFoundError as error:
            self.skipped[name] = f"{error.filename} is not installed"
        except subprocess.CalledProcessError as error:
            self.skipped[name] = (error.stderr or error.stdout).strip()[-300:]
        else:
            self.commands[name] = command


def bundle(rootfs: str, directory: str) -> str:
    """An OCI bundle with the limits of the figures, for crun and runc."""
    subprocess.run(["crun", "spec"], cwd=directory, check=True)
    path = Path(directory, "config.json")
    spec = json.loads(path.read_text())
    spec["process"].update(terminal=False, args=["/bin/true"])
    spec["process"].pop("rlimits", None)  # without CAP_SYS_RESOURCE they cannot be raised
    spec["root"] = {"path": rootfs, "readonly": True}
    spec["linux"].setdefault("resources", {}).update(
        memory={"limit": 67108864}, pids={"limit": 64}, cpu={"quota": 50000, "period": 100000}
    )
    path.write_text(json.dumps(spec))
    return directory


def long_lived_bundle(where: str, stack: ExitStack) -> str:
    """A container of crun's that sleeps, beside the bundle: for exec."""
    name, directory = f"yardstick-live-{os.getpid()}", Path(where, "live")
    directory.mkdir()
    spec = json.loads(Path(where, "config.json").read_text())
    spec["process"]["args"] = ["/bin/sleep", "1000000"]
    Path(directory, "config.json").write_text(json.dumps(spec))
    quietly("crun", "run", "--detach", "--bundle", str(directory), name)
    stack.callback(quietly, "crun", "delete", "--force", name)
    return name


def quietly(*argv: str) -> None:
    """Through no pipe: what goes on in the background would hold it."""
    null = subprocess.DEVNULL
    subprocess.run(argv, check=False, stdin=null, stdout=null, stderr=null)


def v1_hugetlb(stack: ExitStack) -> str | None:
    """On hybrid machines crun refuses a cgroup2 that still has a controller: hugetlb goes to v1 until the end."""
    unified = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if not unified.exists() or unified.read_text().split() != ["hugetlb"]:
        return None
    made = not HUGETLB.exists()
    HUGETLB.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", str(HUGETLB)], check=True)
    if made:
        stack.callback(HUGETLB.rmdir)
    stack.callback(subprocess.run, ["umount", str(HUGETLB)], check=False)
    stack.callback(time.sleep, 1)  # groups that were removed are freed after a while, and until then they count
    stack.callback(remove_new_groups, groups())
    return f"mounted a v1 hugetlb hierarchy on {HUGETLB} for crun, unmounted at the end"


def groups() -> set[str]:
    return {f"{directory}/{name}" for directory, names, _ in os.walk("/sys/fs/cgroup") for name in names}


def remove_new_groups(before: set[str]) -> None:
    """The peers leave their parent groups; with groups in it a v1 hierarchy outlives its umount, controller and all."""
    for path in sorted(groups() - before, reverse=True):
        with suppress(OSError):  # a file system of its own, or someone else's and in use
            os.rmdir(path)


def docker_host(stack: ExitStack, scratch: str) -> tuple[list[str], str | None]:
    """`docker` with a daemon that answers: the machine's, or one of our own below `scratch`, ended at the end."""
    # Debian's client beside Debian's daemon, where another client comes first on PATH.
    client = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    if subprocess.run([client, "info"], check=False, capture_output=True).returncode == 0:
        return [client], None
    socket = f"unix://{scratch}/docker.sock"
    argv = ["dockerd", "--data-root", f"{scratch}/docker", "--exec-root", f"{scratch}/docker-exec", "-H", socket]
    argv += ["--pidfile", f"{scratch}/docker.pid", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    with open(f"{scratch}/dockerd.log", "w") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    stack.callback(end, daemon)
    for _ in range(150):
        if subprocess.run([client, "-H", socket, "info"], check=False, capture_output=True).returncode == 0:
            return [client, "-H", socket], "started a docker daemon of our own, ended at the end"
        if daemon.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError("dockerd: " + Path(f"{scratch}/dockerd.log").read_text().strip()[-200:])


def end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def from_image(peers: Peers, name: str, engine: list[str], rootfs: str, extra: list[str]) -> None:
    """Offer an engine that runs images: import the root file system first, and again nothing else."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as tar:
        subprocess.run(["tar", "-C", rootfs, "-cf", tar.name, "."], check=True)
        subprocess.run([*engine, "import", tar.name, "yardstick:latest"], check=False, capture_output=True)
    argv = [*engine, "run", "--rm", "--network", "none", *extra, *LIMITS, "yardstick:latest", "/bin/true"]
    peers.offer(name, Command(tuple(argv)))


def docker_py(peers: Peers, client: list[str], name: str, stack: ExitStack) -> None:
    """exec_run of docker's Python library (docker on PyPI), in the container in which docker exec is timed."""
    try:
        docker: Any = importlib.import_module("docker")
    except ImportError:
        peers.skipped["docker-py exec"] = "the Python module docker is not installed"
        return
    try:
        daemon = docker.DockerClient(base_url=client[2]) if len(client) > 2 else docker.from_env()
        stack.callback(daemon.close)
        container = daemon.containers.get(name)
        call = Call(lambda: container.exec_run(["/bin/true"]))
        call.run("first")
    except Exception as error:  # whatever the library raises, it is no figure
        peers.skipped["docker-py exec"] = f"{type(error).__name__}: {error}"[-300:]
    else:
        peers.commands["docker-py exec"] = call


def find(rootfs: str, scratch: str, stack: ExitStack) -> Peers:
    """Everything on this machine that can be compared with; undone when `stack` ends."""
    peers = Peers()
    stack.callback(remove_new_groups, groups())
    peers.offer("subprocess.run", Command((f"{rootfs}/bin/true",)))
    view = ("--unshare-all", "--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev")
    peers.offer("bwrap", Command(("bwrap", *view, "/bin/true")))
    if shutil.which("crun"):
        if note := v1_hugetlb(stack):
            peers.notes.append(note)
        where = bundle(rootfs, scratch)
        peers.offer("crun run", Command(("crun", "run", "{id}"), where))
        live = long_lived_bundle(where, stack)
        peers.offer("crun exec", Command(("crun", "exec", live, "/bin/true")))
        peers.offer("runc run", Command(("runc", "run", "{id}"), where))
    if shutil.which("podman"):
        from_image(peers, "podman run", ["podman"], rootfs, PODMAN_ULIMITS)
    if shutil.which("dockerd") or shutil.which("docker"):
        try:
            client, started = docker_host(stack, scratch)
        except (OSError, RuntimeError) as error:
            peers.skipped["docker run"] = str(error)
        else:
            peers.notes += [started] if started else []
            from_image(peers, "docker run", client, rootfs, [])
            sleep = ["--network", "none", "yardstick:latest", "/bin/sleep", "1000000"]
            made = subprocess.run([*client, "run", "-d", "--rm", *sleep], check=False, capture_output=True, text=True)
            name = made.stdout.strip()
            stack.callback(quietly, *client, "kill", name)
            peers.offer("docker exec", Command((*client, "exec", name, "/bin/true")))
            docker_py(peers, client, name, stack)
    for name in ("crun run", "runc run", "podman run", "docker run"):
        if name not in peers.commands:
            peers.skipped.setdefault(name, "not installed")
    return peers


def timed(command: Command | Call, n: int, gap: float = 0) -> list[float]:
    """Milliseconds of `n` runs, one after another, each after a sleep of `gap` seconds."""
    times = []
    for i in range(n):
        time.sleep(gap)
        begun = time.perf_counter()
        command.run(f"yardstick-{os.getpid()}-{i}")
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def rate(command: Command | Call, n: int, at_once: int) -> float:
    """Containers per second with `at_once` threads that run n // at_once each."""

    def work(thread: int) -> None:
        for i in range(n // at_once):
            command.run(f"yardstick-{os.getpid()}-{thread}-{i}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(at_once)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (n // at_once) * at_once / (time.perf_counter() - begun)


def main() -> None:
    rootfs, n = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        peers = find(rootfs, scratch, stack)
        result: dict[str, object] = {"notes": peers.notes, "skipped": peers.skipped}
        for name, command in peers.commands.items():
            count = max(n // 5, 5) if name in {"podman run", "docker run"} else n
            result[name] = {"p50_ms": round(statistics.median(timed(command, count)), 3), "n": count}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
