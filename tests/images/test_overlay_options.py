"""What the machine's module parameters say of overlays is not what a container gets: no redirects, no metacopy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
from layouts import Layout

PARAMETERS = Path("/sys/module/overlay/parameters")
SHOW = "grep ' / / ' /proc/self/mountinfo; mv /d /e; echo $?; chmod 600 /f; cat /f"
# As many that an old kernel, and every other one's mount(2), takes the options as one text (rust/keeper/overlay.rs).
MANY = 90


@pytest.fixture(params=[1, MANY])
def image(layout: Layout, base: bytes, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pc.Image:
    monkeypatch.setenv("PYCONTAINER_STORAGE_DRIVER", "overlay")
    more = [layouts.tar({f"n{number}": b"x"}) for number in range(request.param)]
    layout.image("options:1", [base, layouts.tar({"d/": None, "d/f": b"x", "f": b"content"}), *more])
    (loaded,) = pc.Image.load(layout.path)
    return loaded


@pytest.fixture(params=["as it is", pytest.param("turned on", marks=pytest.mark.requires("root"))])
def machine(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a distribution may have as its default."""
    names = ["redirect_dir", "metacopy"] if request.param == "turned on" else []
    before = {name: (PARAMETERS / name).read_text() for name in names}
    try:
        for name in names:
            (PARAMETERS / name).write_text("Y")
        yield request.param
    finally:
        for name, value in before.items():
            (PARAMETERS / name).write_text(value)


@pytest.mark.vm  # without layers by descriptor
def test_an_upper_layer_has_no_references_to_lower_ones(image: pc.Image, machine: str) -> None:
    with pc.Container(["sleep", "1000"], image=image) as container:
        shown, moved, content = container.exec(["sh", "-c", SHOW], text=True).stdout.splitlines()
        changes = {change.path: change.kind for change in container.diff()}
    options = dict(word.partition("=")[::2] for word in shown.rpartition(" ")[2].split(","))
    # What a machine has as its default anyway is not shown.
    assert options.get("redirect_dir", "nofollow") == "nofollow"
    assert options.get("metacopy", "off") == "off"
    assert machine == "as it is" or {"redirect_dir", "metacopy"} <= options.keys()
    # mv copies where the kernel says EXDEV.
    assert (moved, content) == ("0", "content")
    assert changes["/f"] == "C"
    assert {changes["/d"], changes["/e"]} == {"A", "D"}
