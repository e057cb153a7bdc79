"""Other engines, each with a store of its own that is gone afterwards: podman, and a docker daemon."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pace import patience

# A plain container of podman's: its own defaults ask for more than a limited machine gives.
ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")


def run(*argv: str, **more: object) -> bytes:
    """What it prints; it has to end well."""
    done = subprocess.run(argv, check=False, capture_output=True, timeout=patience(90), **more)  # type: ignore[call-overload]
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return bytes(done.stdout)


@contextlib.contextmanager
def podman() -> Iterator[tuple[str, ...]]:
    """Its path is short: it takes no longer one."""
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/var/tmp") as place:
        command = ("podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "vfs")
        # Not every crun runs where both versions of control groups are mounted.
        runtime = ("--runtime", "runc") if shutil.which("runc") else ()
        try:
            yield (*command, *runtime, "--cgroup-manager", "cgroupfs", "--events-backend", "none")
        finally:
            subprocess.run([*command, "system", "reset", "--force"], check=False, capture_output=True)


@contextlib.contextmanager
def docker(scratch: Path) -> Iterator[tuple[str, ...]]:
    """The client's command. Debian's client beside Debian's daemon, where another one comes first on PATH.

    Its sockets have a short path: containerd takes no longer one.
    """
    client = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    short, long = (tempfile.TemporaryDirectory(prefix="docker-", dir=parent) for parent in ("/var/tmp", scratch))
    with short as place, long as data:
        words = (client, "-H", f"unix://{place}/socket")
        argv = ["dockerd", "--data-root", f"{data}/root", "--exec-root", f"{place}/exec", "-H", words[2]]
        argv += ["--pidfile", f"{place}/pid", "--iptables=false", "--ip6tables=false", "--bridge=none"]
        with open(f"{place}/log", "wb") as log:
            daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            end = time.monotonic() + patience(60)
            while subprocess.run([*words, "info"], check=False, capture_output=True).returncode:
                assert daemon.poll() is None, Path(f"{place}/log").read_text()[-1000:]
                assert time.monotonic() < end, "dockerd does not answer"
                time.sleep(0.2)
            yield words
        finally:
            daemon.terminate()
            daemon.wait(60)
            # On a btrfs it mounts that onto itself, and leaves it so.
            subprocess.run(["umount", "-R", f"{data}/root"], check=False, capture_output=True)
