"""What the tests of builds share: a context, a store with a small `base:1`, and nobody to pull from."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
import ranges
from building import Builder

APPLETS = (
    "ash cat chmod chown cp date echo env false head id ln ls mkdir mv pwd rm seq sh sleep sort stat tail test touch"
    " true wc ["
)
USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
CONFIG = {"Env": ["FROM_BASE=1"], "Cmd": ["sh"]}


@pytest.fixture(scope="session")
def template(rootfs: Path, scratch: Path) -> Path:
    """A store with `base:1`: busybox and nothing else, unpacked."""
    place = Path(tempfile.mkdtemp(prefix="build-base-", dir=scratch))
    for_all = tarfile.TarInfo("tmp")
    for_all.type, for_all.mode = tarfile.DIRTYPE, 0o1777
    files: dict[str, layouts.Content] = {"bin/": None, "etc/": None, "root/": None, "run/": None, "tmp": for_all}
    files |= {"bin/busybox": (rootfs / "bin/busybox").read_bytes(), "etc/passwd": USERS.encode()}
    files |= {f"bin/{name}": "busybox" for name in APPLETS.split()}
    layouts.Layout(place / "layout").image("base:1", [layouts.tar(files)], CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCONTAINER_ROOT", str(place / "store"))
        pc.Image.load(place / "layout")
    return place / "store"


@pytest.fixture
def builder(scratch: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """An empty context, beside a store that has `base:1`."""
    place = Path(tempfile.mkdtemp(prefix="build-", dir=scratch))
    place.chmod(0o755)
    (place / "context").mkdir()
    # Nothing in it is ever written to: each has it all, at the cost of names.
    subprocess.run(["cp", "-al", str(template), str(place / "store")], check=True)
    monkeypatch.setenv("PYCONTAINER_ROOT", str(place / "store"))
    monkeypatch.setenv("PYCONTAINER_OFFLINE", "1")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    yield Builder(place / "context", place / "store")
    ranges.remove(place)
