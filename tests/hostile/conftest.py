"""Fixtures of the attacks: something on this machine that no container may touch, and a root file system to be
poisoned.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.attacks import signature


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
