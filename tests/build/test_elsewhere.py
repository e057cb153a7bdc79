"""Images that are built here, run by podman; skopeo copies them out of the store, and others in."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from building import Builder
from pace import patience

pytestmark = pytest.mark.requires("root", "program:podman", "program:skopeo")

TEXT = """FROM base:1
ENV A="from the image" B=2
RUN mkdir -m 2755 /d && echo made > /d/f && ln /d/f /d/hard && ln -s f /d/link && chown 65534:65534 /d/f
COPY --chown=7:8 --chmod=640 greeting /d/
WORKDIR /d
USER nobody
ENTRYPOINT ["sh", "-c"]
CMD ["id; pwd; env | sort; stat -c '%n %a %u %g %h' *; cat link"]
"""
# A plain container of podman's: its own defaults ask for more than a limited machine gives.
ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
# What each engine sets for itself.
OWN = (b"container=", b"TERM=", b"SHLVL=", b"HOSTNAME=")


def said(output: bytes) -> list[bytes]:
    return [line for line in output.splitlines() if not line.startswith(OWN)]


def run(*argv: str) -> bytes:
    done = subprocess.run(argv, check=False, capture_output=True, timeout=patience(60))
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    """podman, with a store of its own."""
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/var/tmp") as place:
        command = ("podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "vfs")
        yield (*command, "--cgroup-manager", "cgroupfs", "--events-backend", "none")
        subprocess.run([*command, "system", "reset", "--force"], check=False, capture_output=True)


@pytest.mark.parametrize("format", ["docker", "oci"])
def test_podman_prints_the_same_bytes(builder: Builder, podman: tuple[str, ...], tmp_path: Path, format: str) -> None:
    builder.write(greeting="hello\n")
    image = builder.build(TEXT, tag="corpus-run:1")
    ours = pc.run(image=image, check=True, timeout=patience(20)).stdout
    assert b"A=from the image" in ours
    image.save(tmp_path / "image.tar", format=format)
    run(*podman, "load", "-i", str(tmp_path / "image.tar"))
    words = ("run", "--rm", "--network", "none", *ULIMITS, "docker.io/library/corpus-run:1")
    assert said(run(*podman, *words)) == said(ours)


def test_skopeo_copies_out_of_the_store_and_into_it(builder: Builder, tmp_path: Path) -> None:
    builder.write(greeting="hello\n")
    image = builder.build(TEXT, tag="corpus-run:1")
    place = f"oci:{builder.store / 'images'}"
    run("skopeo", "--insecure-policy", "copy", f"{place}:docker.io/library/corpus-run:1", f"oci:{tmp_path / 'out'}:it")
    (described,) = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    assert described["digest"] == image.digest
    run("skopeo", "--insecure-policy", "copy", f"oci:{tmp_path / 'out'}:it", f"{place}:docker.io/library/copied:2")
    copied = pc.Image.get("copied:2")
    assert copied.digest == image.digest
    copied.verify()
    assert pc.run(image=copied, check=True, timeout=patience(20)).stdout == pc.run(image=image, check=True).stdout
