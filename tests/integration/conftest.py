"""What the tests that start containers share: the root file system with the probe in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import probing


@pytest.fixture(scope="session")
def probe_root(rootfs: Path, probe: Path, scratch: Path) -> Path:
    """`rootfs` with /bin/probe; treat it as read-only."""
    return probing.root_with_probe(rootfs, probe, scratch / "probe-root")


@pytest.fixture
def inside(probe_root: Path) -> probing.Probe:
    """Runs the probe: inside(*words, **parameters of run) is its report."""
    return probing.Probe(probe_root)
