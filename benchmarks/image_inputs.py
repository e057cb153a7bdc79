"""What images.py measures with: a base of Debian with python3, images of it in OCI layouts, a context, a big layer.

Everything is written with the standard library, mmdebstrap and skopeo, so that no engine gets what another one made.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20
TAR, TAR_GZIP = (f"application/vnd.oci.image.layer.v1.tar{suffix}" for suffix in ("", "+gzip"))
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
SIX_STEPS = """\
FROM {base}
WORKDIR /app
COPY app.py /app/
RUN echo one > /app/one
RUN echo two > /app/two
CMD ["python3", "/app/app.py"]
"""


def base(cache: Path) -> tuple[Path, str]:
    """A gzipped root file system of about 10,000 entries, made once; and a note of where it is from."""
    made = cache / "base.tar.gz"
    if made.exists():
        return made, f"the base is {made}"
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f"part-{os.getpid()}.tar.gz"
    # A mirror that stands still gives as good a tree to measure with.
    words = ["--variant=minbase", "--include=python3", "--mode=root", '--aptopt=Acquire::Check-Valid-Until "false"']
    words += ["stable", str(part)]
    done = subprocess.run(["mmdebstrap", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        part.unlink(missing_ok=True)
        raise RuntimeError("mmdebstrap: " + done.stderr.strip()[-200:])
    part.rename(made)
    return made, f"made the base with mmdebstrap, for this run and later ones: {made}"


class Layout:
    """An OCI layout with one image in it."""

    def __init__(self, place: Path, name: str) -> None:
        self.place, self.name = place, name
        self.blobs = place / "blobs/sha256"
        self.blobs.mkdir(parents=True)
        self.layers: list[dict[str, Any]] = []
        self.diff_ids: list[str] = []

    def layer(self, packed: Path, media_type: str) -> None:
        opened: Callable[[Path, str], Any] = gzip.open if media_type == TAR_GZIP else open
        with opened(packed, "rb") as plain, packed.open("rb") as raw:
            self.diff_ids.append(digest(plain))
            name = digest(raw)
        shutil.copyfile(packed, self.blobs / name.partition(":")[2])
        self.layers.append({"mediaType": media_type, "digest": name, "size": packed.stat().st_size})

    def files(self, content: dict[str, bytes]) -> None:
        """A small layer, uncompressed."""
        path = self.place / "layer.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        self.layer(path, TAR)
        path.unlink()

    def finish(self) -> str:
        """As skopeo calls it."""
        machine = platform.machine()
        config: dict[str, Any] = {"architecture": MACHINES.get(machine, machine), "os": "linux"}
        config["config"] = {"Cmd": ["/bin/sh"]}
        config["rootfs"] = {"type": "layers", "diff_ids": self.diff_ids}
        config["history"] = [{"created_by": "benchmarks"} for _ in self.layers]  # buildah counts them
        kinds = [f"application/vnd.oci.image.{kind}.v1+json" for kind in ("config", "manifest")]
        manifest = {"schemaVersion": 2, "mediaType": kinds[1], "config": self.blob(config, kinds[0])}
        manifest["layers"] = self.layers
        named = {**self.blob(manifest, kinds[1]), "annotations": {"org.opencontainers.image.ref.name": self.name}}
        (self.place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        (self.place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return f"oci:{self.place}:{self.name}"

    def blob(self, document: dict[str, Any], media_type: str) -> dict[str, Any]:
        data = json.dumps(document).encode()
        name = digest(io.BytesIO(data))
        (self.blobs / name.partition(":")[2]).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data)}


def digest(file: IO[bytes]) -> str:
    hashed = hashlib.sha256()
    while data := file.read(CHUNK):
        hashed.update(data)
    return f"sha256:{hashed.hexdigest()}"


def of_base(place: Path, name: str, packed: Path, more: int = 0) -> str:
    """The base, and so many small layers on it."""
    layout = Layout(place, name)
    layout.layer(packed, TAR_GZIP)
    for number in range(more):
        layout.files({f"opt/layer-{number}": str(number).encode() * 100, "opt/top": str(number).encode()})
    return layout.finish()


def big(place: Path, name: str, mib: int) -> str:
    """One layer of one file that no compression makes smaller."""
    layout, path, source = Layout(place, name), place / "big.tar", random.Random(mib)
    info = tarfile.TarInfo("big")
    info.size = mib * CHUNK
    with tarfile.open(path, "w") as tar:
        tar.addfile(info, Repeated(source.randbytes(CHUNK)))
    layout.layer(path, TAR)
    path.unlink()
    return layout.finish()


class Repeated(io.RawIOBase):
    """The same bytes again and again, for tarfile."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read(self, size: int = -1) -> bytes:
        part = self.data[self.at : self.at + size]
        self.at = (self.at + len(part)) % len(self.data)
        return part


def context(place: Path, base_name: str) -> Path:
    place.mkdir()
    (place / "app.py").write_text("print('hello')\n")
    (place / "Dockerfile").write_text(SIX_STEPS.format(base=base_name))
    return place


def skopeo(words: Sequence[str]) -> None:
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *words], check=True, capture_output=True, text=True)
