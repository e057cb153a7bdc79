"""What the tests that start containers share: the root file system with the probe in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import house
import probing
import pycontainer as pc
import worlds


@pytest.fixture(scope="session")
def probe_root(rootfs: Path, probe: Path, scratch: Path) -> Path:
    """`rootfs` with /bin/probe; treat it as read-only."""
    return probing.root_with_probe(rootfs, probe, scratch / "probe-root")


@pytest.fixture
def plain_user(scratch: Path) -> Iterator[worlds.PlainUser]:
    """Makes the words that run code as the plain user with a subuid range, with a copy of the package for him."""
    place = scratch / "for-the-plain-user"
    shutil.copytree(Path(pc.__file__).parent, place / "pycontainer", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    interpreter = house.python_for_user()
    assert interpreter, "requires plain-user"
    user = ["setpriv", "--reuid", house.USER, "--regid", house.USER, "--init-groups", "env", "-i", "PATH=/usr/bin:/bin"]
    yield lambda code: [*user, *worlds.python(code, interpreter, str(place))]
    shutil.rmtree(place)


@pytest.fixture
def inside(probe_root: Path) -> probing.Probe:
    """Runs the probe: inside(*words, **parameters of run) is its report."""
    return probing.Probe(probe_root)
