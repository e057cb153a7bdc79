"""Fixtures of the attacks: something on this machine that no container may touch, and a root file system to be
poisoned.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
import requirements
from hostile.attacks import signature
from hostile.unpacking import Unpack
from pycontainer import _core


@pytest.fixture
def canary(scratch: Path) -> Iterator[Path]:
    """A directory of this machine with files in it; the test fails if anything there was made, changed, covered or
    removed.
    """
    path = Path(tempfile.mkdtemp(prefix="canary-", dir=scratch))
    path.chmod(0o755)
    (path / "ptmx").write_text("do not touch\n")
    (path / "file").write_text("secret of the host\n")
    (path / "file").chmod(0o644)
    (path / "directory").mkdir()
    before = signature(path)
    yield path
    after = signature(path)
    shutil.rmtree(path)
    assert after == before, "the container reached the host"


@pytest.fixture
def shared(scratch: Path) -> Iterator[Path]:
    """A directory that containers share, owned by someone who is not root."""
    path = Path(tempfile.mkdtemp(prefix="shared-", dir=scratch))
    path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(path, 1000, 1000)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def arena(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Memory with a store in it, so that hard links from the store to the canary beside it would be possible."""
    memory = Path("/dev/shm")
    # Before Linux 6.6 a tmpfs holds no attribute with which a plain user marks an opaque directory.
    usable = os.access(memory, os.W_OK) and requirements.missing("tmpfs-upper") is None
    place = memory if usable else requirements.scratch()
    path = Path(tempfile.mkdtemp(prefix="pycontainer-arena-", dir=place))
    monkeypatch.setenv("PYCONTAINER_ROOT", str(path / "store"))
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.fixture
def unpack(arena: Path) -> Unpack:
    """The root directory that an archive of these bytes becomes."""

    def body(data: bytes) -> Path:
        path = arena / "archive.tar"
        path.write_bytes(data)
        return Path(pc.Image.from_archive(path)._directory)

    return body


@pytest.fixture
def unpack_layer(arena: Path) -> Unpack:
    """The root directory that a layer of these bytes becomes."""

    def body(data: bytes) -> Path:
        path = arena / "layer.tar"
        path.write_bytes(data)
        (found,) = _core.unpack_layer_files([os.fsencode(path)], os.fsencode(arena / "store"))
        return Path(found)

    return body


@pytest.fixture(params=["archive", "layer"])
def either(request: pytest.FixtureRequest) -> Unpack:
    """What holds for a root file system in an archive and for a layer."""
    return request.getfixturevalue("unpack" if request.param == "archive" else "unpack_layer")
