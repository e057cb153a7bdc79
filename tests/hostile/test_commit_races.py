"""Layers and archives of a container that works against them: names that change while they are read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.test_container_files_races import SECRET, swapping, swaps
from pace import patience
from pycontainer import Container, Image, SetupError
from tars import top

pytestmark = pytest.mark.requires("userns")

ROUNDS = 200


@pytest.mark.parametrize("stands_still", [True, False])
def test_cve_2023_0778_an_export_follows_nothing(
    stands_still: bool, canary: Path, shared: Path, store: Path, times: Callable[[int], range],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Files and directories against links to the host's. Also where nothing can be stopped meanwhile."""
    if not stands_still:
        monkeypatch.setattr(Container, "_still", lambda *_: contextlib.nullcontext())
    done = 0
    with swapping(str(canary), "layer", shared) as made:
        for _ in times(ROUNDS):
            # A name may be of another kind at each of several looks: that is an error, and nothing is left half done.
            with contextlib.suppress(SetupError):
                made.export(store / "raced.tar")
                done += 1
                assert SECRET not in (store / "raced.tar").read_bytes()
        assert swaps(made) > 100
    assert done > len(times(ROUNDS)) // 10


@pytest.mark.requires("root")
def test_control_of_cve_2023_0778_a_careless_export_is_led_astray(canary: Path, shared: Path) -> None:
    """It looks at the container's names on this machine, and then opens them: the same container."""
    with swapping(str(canary), "layer", shared) as made:
        deadline = time.monotonic() + patience(60)
        name = Path(f"/proc/{made.pid}/root/share/w/f")
        while True:
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError):
                if not name.is_symlink() and name.read_bytes() == SECRET:
                    return


@pytest.mark.parametrize("stands_still", [True, False])
def test_cve_2023_0778_a_layer_follows_nothing(
    stands_still: bool, canary: Path, base: Image, store: Path, times: Callable[[int], range],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Kinds of what a name is come and go: directory, link, fifo, file."""
    if not stands_still:
        monkeypatch.setattr(Container, "_still", lambda *_: contextlib.nullcontext())
    script = f"""
    mkdir -p /data/w /k; ln -s {canary} /k/d; ln -s {canary}/file /k/f; cd /data/w
    while :; do
        mkdir d; echo mine > d/file; echo mine > f; mv d e; mv f g; cp -P /k/d d; cp -P /k/f f
        rm -r d e f g; mkfifo f; mkdir d; rm f; rmdir d
    done
    """
    done = 0
    with Container(["sh", "-c", script], image=base) as made:
        for _ in times(ROUNDS):
            with contextlib.suppress(SetupError):
                layer = top(store, made.commit("raced"))
                done += 1
                assert SECRET not in layer
        assert made.poll() is None, made.logs()
    assert done > len(times(ROUNDS)) // 10
