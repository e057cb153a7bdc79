"""Controls by an old peer: what Debian 12's runc does with an image that ours refuses or is not led by."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostile.attacks import put_link, shell

NAME = "pycontainer-test-peer"
# Neither reads what it writes: a peer that sends the output into the image would feed itself.
SCRIPT = "head -c 40 /proc/timer_list >/seen; echo written >/proc/timer_list; echo captured"


@pytest.fixture
def peer(fresh_rootfs: Path, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Runs a shell by runc in the image, with nothing mounted on /dev; its output, at most a megabyte of it."""
    subprocess.run(["runc", "spec", "--bundle", str(tmp_path)], check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"]["terminal"] = config["root"]["readonly"] = False
    config["root"]["path"] = str(fresh_rootfs)
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] == "/proc"]
    config["linux"].pop("resources", None)
    state = ["runc", "--root", str(tmp_path / "state")]

    def run(script: str) -> str:
        config["process"]["args"] = ["sh", "-c", script]
        (tmp_path / "config.json").write_text(json.dumps(config))
        bounded = ["sh", "-c", 'ulimit -f 2048; exec timeout -k 1 20 "$@"', "sh"]
        argv = [*bounded, *state, "run", "--bundle", str(tmp_path), NAME]
        done = subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return done.stdout

    yield run
    subprocess.run([*state, "delete", "--force", NAME], check=False, capture_output=True, timeout=30)


@pytest.fixture
def poisoned(fresh_rootfs: Path) -> Path:
    """/dev/null of the image leads to a file of the image."""
    put_link(fresh_rootfs / "dev/null", "/secret")
    (fresh_rootfs / "secret").write_text("of the image\n")
    return fresh_rootfs


@pytest.mark.requires("root", "program:runc")
def test_control_of_cve_2025_31133_the_old_peer_masks_with_what_the_image_says(
    poisoned: Path, peer: Callable[[str], str]
) -> None:
    """And CVE-2026-88265: it opens /dev/null by name, so the command's own output goes into the image's file too."""
    assert peer(SCRIPT) == ""
    assert (poisoned / "seen").read_text() == "of the image\n"
    assert (poisoned / "secret").read_text() == "captured\n"


def test_cve_2025_31133_the_same_image_leads_nobody_here(poisoned: Path) -> None:
    done = shell(poisoned, f"({SCRIPT}) 2>/dev/null; cat /seen /secret")
    assert done.stdout == "captured\nof the image\n"
    assert (poisoned / "secret").read_text() == "of the image\n"
    assert not (poisoned / "seen").exists()
