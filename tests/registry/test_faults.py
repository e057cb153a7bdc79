"""A registry that does wrong in each of many ways: a pull ends in time, in success or in a typed error; the store stays
sound, and with the next, honest answer the image is there.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pace
import pycontainer
from pycontainer import _core
from registry import faults, layouts
from registry.faults import KINDS, PATIENCE, Kind, Registry, serving

# Attempts, each as long as the longest wait; and a machine that does other things too.
BOUND = 20.0


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[faults.Server, faults.Server]]:
    """One for all kinds; and another origin."""
    with faults.server() as one, faults.server() as other:
        yield one, other


@pytest.fixture
def place() -> Iterator[Path]:
    """In memory: what is asked here is not whether the disk is fast."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="pycontainer-faults-", dir=memory if os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


def struck(kind: Kind, seed: int, servers: tuple[faults.Server, faults.Server], store: Path) -> None:
    rng = random.Random(f"{kind.name}-{seed}")
    picture = layouts.picture(seed, layers=rng.choice([1, 2, 3]), size=rng.choice([1, 3000, 100_000]))
    server, other = servers
    other.takes(Registry(picture))
    registry = server.takes(Registry(kind.change(picture), kind.strike, rng.randrange(1 << 20)))
    registry.elsewhere = f"http://127.0.0.1:{other.server_address[1]}"
    name = f"{registry.host}/a/b:1"
    start = time.monotonic()
    if kind.raises:
        errors = tuple(getattr(pycontainer, error) for error in kind.raises)
        with pytest.raises(errors) as caught:
            _core.image_pull(store, name, patience=PATIENCE)
        assert type(caught.value) in errors
        text = str(caught.value)
        assert any(word in text for word in (registry.host, "manifest", "digest"))
        assert len(text) < 1000
    else:
        assert _core.image_pull(store, name, patience=PATIENCE) == picture.digest
    assert time.monotonic() - start < pace.patience(BOUND)
    if store.exists():
        layouts.assert_sound(store)
    # Afterwards, from an honest one.
    server.takes(Registry(picture))
    assert _core.image_pull(store, name, patience=PATIENCE) == picture.digest
    layouts.assert_sound(store)
    assert all(blob in layouts.blobs_of(store) for blob in picture.blobs)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_fault(
    kind: Kind, servers: tuple[faults.Server, faults.Server], place: Path, request: pytest.FixtureRequest
) -> None:
    count = 1 if request.config.getoption("--quick") else 10 if kind.is_slow else 50
    for seed in range(count):
        struck(kind, seed, servers, place / str(seed))


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 30
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_a_cut_layer_is_resumed_where_it_was_cut(tmp_path: Path) -> None:
    picture = layouts.picture(5, layers=1, size=100_000)
    with serving(Registry(picture, faults.first("layer", 2, faults.cut), point=60_000)) as registry:
        _core.image_pull(tmp_path / "store", f"{registry.host}/a/b", patience=PATIENCE)
        ranges = [seen.headers.get("range") for seen in registry.seen if picture.layers[0] in seen.path]
    # Where it was the second time nothing new came: the same place again.
    assert ranges == [None, "bytes=60000-", "bytes=60000-"]


def test_without_the_check_of_content_wrong_bytes_would_be_seen(tmp_path: Path) -> None:
    """The control of `assert_sound`: a store with such a blob is not sound."""
    picture = layouts.picture(6)
    with serving(Registry(picture)) as registry:
        _core.image_pull(tmp_path, f"{registry.host}/a/b", patience=PATIENCE)
    layouts.assert_sound(tmp_path)
    path = tmp_path / "images/blobs/sha256" / picture.layers[0].removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AssertionError):
        layouts.assert_sound(tmp_path)


def test_a_signal_ends_a_stalled_pull(tmp_path: Path) -> None:
    import signal
    import threading

    def stall(handler: faults.Handler, what: str) -> bool:
        if what == "layer":
            time.sleep(10)
        return False

    with serving(Registry(layouts.picture(7), stall)) as registry:
        timer = threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            _core.image_pull(tmp_path / "store", f"{registry.host}/a/b")
        assert time.monotonic() - start < pace.patience(3)
    layouts.assert_sound(tmp_path / "store")
