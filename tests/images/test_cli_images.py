"""`pycontainer images | pull | load | save | run REFERENCE`, as a shell sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pycontainer as pc


def call(*words: str, code: int = 0, stdin: Any = None) -> str:
    """What it printed; on stderr where it is to fail."""
    command = [sys.executable, "-m", "pycontainer", *words]
    done = subprocess.run(command, stdin=stdin, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr if code and "json" not in words else done.stdout


def test_an_image_goes_through_files_and_is_run(image: pc.Image, store: Path, tmp_path: Path) -> None:
    assert call("run", "base:1", "echo", "hello") == "hello\n"
    header, row = call("images").splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert row.split()[:2] == ["base", "1"]
    assert call("images", "-q", "--no-trunc").strip() == image.id
    assert [one["digest"] for one in json.loads(call("images", "--format", "json", "base"))] == [image.digest]
    assert json.loads(call("images", "--format", "json", "other")) == []
    path = tmp_path / "base.tar"
    call("save", "-o", str(path), "base:1")
    image.remove()
    assert call("images").splitlines()[1:] == []
    assert call("load", "-q", "-i", str(path)) == "Loaded image: base:1\n"
    image.remove()
    with path.open("rb") as file:
        assert call("load", stdin=file) == "Loaded image: base:1\n"
    command = [sys.executable, "-m", "pycontainer", "save", "--oci", "base:1"]
    oci = subprocess.run(command, capture_output=True, check=True).stdout
    assert b"manifest.json" not in oci
    (tmp_path / "oci.tar").write_bytes(oci)
    (loaded,) = pc.Image.load(tmp_path / "oci.tar")
    assert loaded == image


def test_what_cannot_be_had_is_said_in_a_line(store: Path, tmp_path: Path) -> None:
    assert "no image absent:1" in call("save", "absent:1", code=125)
    assert "No such file" in call("load", "-i", str(tmp_path / "absent"), code=125)
    assert "no reference" in call("pull", "A:b", code=125)
    answer = json.loads(call("run", "--format", "json", "Not/A/Reference", "true", code=125))
    assert (answer["error"], answer["exit_code"]) == ("InvalidReference", 125)
