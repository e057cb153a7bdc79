"""Containers that have run, and the layers and archives that are made of them, as their members."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from pace import patience
from pycontainer import Container, Image, run

Members = dict[str, tarfile.TarInfo]
# Of what `base` has in /data (tests/conftest.py).
CHANGES = """
cd /data; echo more >> file; rm gone; chmod 4711 mode; rm -r dir; echo file > dir
rm -r replaced; mkdir replaced; echo new > replaced/same; echo new > replaced/new
ln file hard; ln -s nowhere link; mkfifo fifo; mkdir -p deep/er; echo x > deep/er/x; chmod 1777 deep
"""


def ran(image: Any, script: str, **options: Any) -> Container:
    """One that has run this script to its end."""
    made = Container(["sh", "-ec", script], image=image, **options).start()
    assert made.wait(timeout=patience(20)) == 0, made.logs()
    return made


def blob(store: Path, digest: str) -> bytes:
    data = (store / "images/blobs" / digest.replace(":", "/")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest.partition(":")[2]
    return data


def top(store: Path, image: Image) -> bytes:
    """The tar of its highest layer."""
    return gzip.decompress(blob(store, json.loads(blob(store, str(image.digest)))["layers"][-1]["digest"]))


def members(tar: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {member.name: member for member in opened.getmembers()}


def kinds(tar: bytes) -> list[str]:
    letters = {b"0": "f", b"1": "h", b"2": "l", b"3": "c", b"5": "d", b"6": "p"}
    return [f"{letters[member.type]} {name}" for name, member in members(tar).items()]


def printed(image: Image, script: str) -> bytes:
    """What it prints in a container of the image."""
    return run(["sh", "-c", script], image=image, check=True, timeout=patience(20)).stdout
