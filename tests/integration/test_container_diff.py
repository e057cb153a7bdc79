"""Container.diff(): what a container has changed, as docker diff tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Mount
from states import SLEEP

pytestmark = pytest.mark.requires("userns")


@pytest.mark.parametrize("state", ["running", "exited"])
def test_diff_is_docker_s(state: str, fresh_rootfs: Path) -> None:
    for path in (
        "usr/kept/a",
        "usr/gone/b",
        "usr/replaced/old",
        "usr/replaced/same",
        "etc/file",
        "etc/mode",
        "usr/d/x",
    ):
        (fresh_rootfs / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh_rootfs / path).write_text("text")
    script = """
    echo more >> /etc/file; chmod 600 /etc/mode; mkdir /new; echo x > /new/x; ln -s x /new/link
    rm -r /usr/gone; rm /usr/kept/a; touch /usr/kept/temporary; rm /usr/kept/temporary
    rm -r /usr/replaced; mkdir /usr/replaced; echo x > /usr/replaced/same; echo x > /usr/replaced/new
    rm -r /usr/d; echo file > /usr/d; chmod 700 /home; cat /bin/ls > /dev/null; touch /done
    """
    with Container(["sh", "-c", script + ("" if state == "exited" else "sleep 100")], image=fresh_rootfs) as made:
        deadline = time.monotonic() + patience(10)
        while "/done" not in [line.path for line in made.diff()]:
            assert time.monotonic() < deadline
        if state == "exited":
            made.wait(timeout=patience(10))
        lines = [f"{line.kind} {line.path}" for line in made.diff()]
    assert lines == [
        "A /done",
        "C /etc",
        "C /etc/file",
        "C /etc/mode",
        "C /home",
        "A /new",
        "A /new/link",
        "A /new/x",
        "C /usr",
        "C /usr/d",
        "D /usr/gone",
        "C /usr/kept",
        "D /usr/kept/a",
        "C /usr/replaced",
        "A /usr/replaced/new",
        "D /usr/replaced/old",
        "C /usr/replaced/same",
    ]


@pytest.mark.parametrize("upper", ["memory", "disk"])
@pytest.mark.parametrize("image", ["directory", "host"])
def test_what_the_engine_makes_does_not_show(image: str, upper: Any, rootfs: Path, tmp_path: Path) -> None:
    mounts = [Mount.tmpfs("/srv/deep/er"), Mount.bind(tmp_path, "/mnt/x", read_only=True), Mount.tmpfs("/home")]
    options = {"image": rootfs if image == "directory" else None, "mounts": mounts, "upper": upper}
    with Container(SLEEP, **options) as made:
        assert made.diff() == []
        made.write_bytes("/srv/deep/er/hidden", b"x")
        assert made.diff() == []
        made.write_bytes("/srv/deep/shown", b"x")
        assert [(line.kind, line.path) for line in made.diff()] == [
            ("C", "/srv"),
            ("C", "/srv/deep"),
            ("A", "/srv/deep/shown"),
        ]


@pytest.fixture(scope="module")
def skeleton() -> None:
    """Before the first snapshot: the engine keeps the skeleton of each kind of Image.host() that was used."""
    pc.run(["true"], image=pc.Image.host(writable=True))


@pytest.mark.usefixtures("skeleton")
@pytest.mark.requires("root", "kernel>=6.6")
def test_an_attribute_of_the_container_s_own_hides_nothing() -> None:
    """Where an overlay keeps its notes in trusted.*, those in user.* are anybody's (of a tmpfs from Linux 6.6 on)."""
    code = "import os; os.setxattr('/etc', 'user.overlay.opaque', b'y'); open('/etc/new', 'w')"
    with Container(["python3", "-c", code], image=pc.Image.host(writable=True)) as made:
        assert made.wait(timeout=patience(20)) == 0, made.logs()
        assert [(line.kind, line.path) for line in made.diff()] == [("C", "/etc"), ("A", "/etc/new")]


def test_what_is_removed_meanwhile_is_no_error(rootfs: Path, times: Callable[[int], range]) -> None:
    """Also a directory that is open here."""
    script = "while :; do mkdir -p /a/b/c /a/d; echo x > /a/b/c/x; rm -r /a; done"
    with Container(["sh", "-c", script], image=rootfs) as container:
        seen = {line.path for _ in times(1000) for line in container.diff()}
    assert seen <= {"/a", "/a/b", "/a/b/c", "/a/b/c/x", "/a/d"}
    assert seen
