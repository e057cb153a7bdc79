"""Images that are built here, run by podman and docker; skopeo copies them out of the store, and others in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
import pycontainer as pc
from building import Builder
from drivers import VARIABLE
from engines import ULIMITS, run
from pace import patience

pytestmark = pytest.mark.requires("root")

TEXT = """FROM base:1
ENV A="from the image" B=2
RUN mkdir -m 2755 /d && echo made > /d/f && ln /d/f /d/hard && ln -s f /d/link && chown 65534:65534 /d/f
COPY --chown=7:8 --chmod=640 greeting /d/
WORKDIR /d
USER nobody
ENTRYPOINT ["sh", "-c"]
CMD ["id; pwd; env | sort; stat -c '%n %a %u %g %h' *; cat link"]
"""
# What each engine sets for itself.
OWN = (b"container=", b"TERM=", b"SHLVL=", b"HOSTNAME=")


def said(output: bytes) -> list[bytes]:
    """Without how many names a file has, where fuse-overlayfs shows each as a file of its own (docs/storage.md)."""
    lines = [line for line in output.splitlines() if not line.startswith(OWN)]
    served = os.environ.get(VARIABLE) == "fuse-overlayfs"
    return [re.sub(rb"^(\S+ \d+ \d+ \d+) \d+$", rb"\1", line) if served else line for line in lines]


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    with engines.podman() as words:
        yield words


@pytest.mark.requires("program:podman")
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


@pytest.mark.requires("program:dockerd")
@pytest.mark.leaks_by_design
def test_docker_prints_the_same_bytes_and_builds_what_we_run(builder: Builder, tmp_path: Path, scratch: Path) -> None:
    builder.write(greeting="hello\n")
    image = builder.build(TEXT, tag="corpus-run:1")
    ours = pc.run(image=image, check=True, timeout=patience(20)).stdout
    image.save(tmp_path / "image.tar", format="docker")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Dockerfile").write_text(
        'FROM corpus-run:1\nUSER root\nRUN rm link && echo docker > f\nCMD ["cat f; ls"]\n'
    )
    with engines.docker(scratch) as docker:
        run(*docker, "load", "-i", str(tmp_path / "image.tar"))
        words = ("run", "--rm", "--network", "none")
        assert said(run(*docker, *words, "corpus-run:1")) == said(ours)
        classic = {**os.environ, "DOCKER_BUILDKIT": "0"}
        run(*docker, "build", "-q", "--network", "none", "-t", "theirs:1", str(tmp_path / "empty"), env=classic)
        theirs = run(*docker, *words, "theirs:1")
        run(*docker, "save", "-o", str(tmp_path / "theirs.tar"), "theirs:1")
    (made,) = pc.Image.load(tmp_path / "theirs.tar")
    assert made.layers[: len(image.layers)] == image.layers
    assert pc.run(image=made, check=True, timeout=patience(20)).stdout == theirs


@pytest.mark.requires("program:skopeo")
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
