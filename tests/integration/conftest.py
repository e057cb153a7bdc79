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
from pycontainer import _causes


@pytest.fixture(scope="session")
def probe_root(rootfs: Path, probe: Path, scratch: Path) -> Path:
    """`rootfs` with /bin/probe; treat it as read-only."""
    return probing.root_with_probe(rootfs, probe, scratch / "probe-root")


@pytest.fixture(scope="session")
def healthy() -> pc.Report:
    """What doctor() says of this machine as it is."""
    return pc.doctor()


@pytest.fixture(autouse=True)
def what_is_taken(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test with the mark `takes` has seen each row that it names in two states, and heard its cause."""
    marks = list(request.node.iter_markers("takes"))
    worlds.SEEN.clear()
    if not marks:
        yield
        return
    reports = [request.getfixturevalue("healthy").to_dict()]
    yield
    reports += worlds.SEEN
    for mark in marks:
        unchanged = [name for name in mark.args if len({report[name]["state"] for report in reports}) == 1]
        assert not unchanged, f"no world of this test changed {unchanged}"
        if cause := mark.kwargs.get("cause"):
            said = {row["why"] for report in reports for name, row in report.items() if name in (mark.args or report)}
            assert any(_causes.CAUSES[cause][0] in why for why in said), (cause, said)


@pytest.fixture
def plain_user(scratch: Path) -> Iterator[worlds.PlainUser]:
    """Makes the words that run code as the plain user with a subuid range, with a copy of the package for him."""
    place, store = scratch / "for-the-plain-user", scratch / "store-of-the-plain-user"
    store.mkdir()  # his home may lie on an overlay, which carries no layers
    shutil.chown(store, house.USER)
    shutil.copytree(Path(pc.__file__).parent, place / "pycontainer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(worlds.__file__, place)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    interpreter = house.python_for_user()
    assert interpreter, "requires plain-user"
    user = ["setpriv", "--reuid", house.USER, "--regid", house.USER, "--init-groups"]
    user += ["env", "-i", "PATH=/usr/bin:/bin", f"PYCONTAINER_ROOT={store}"]
    yield lambda code: [*user, *worlds.python(code, interpreter, str(place))]
    shutil.rmtree(place)
    shutil.rmtree(store)


@pytest.fixture
def inside(probe_root: Path) -> probing.Probe:
    """Runs the probe: inside(*words, **parameters of run) is its report."""
    return probing.Probe(probe_root)
