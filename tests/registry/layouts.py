"""Images as OCI layouts, written byte by byte; and what a store has to be."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rawtar

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def described(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


@dataclass
class Picture:
    """One image in memory: its documents and blobs by digest."""

    manifest: bytes
    kind: str = MANIFEST
    blobs: dict[str, bytes] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    @property
    def descriptor(self) -> dict[str, Any]:
        return described(self.kind, self.manifest)


def picture(seed: int = 0, layers: int = 2, size: int = 20_000, architecture: str = "amd64", **config: Any) -> Picture:
    """An image whose layers have a file each, of bytes that do not compress; the same seed is the same image."""
    rng = random.Random(seed)
    blobs, ids, rows = {}, [], []
    for number in range(layers):
        data = rng.randbytes(size)
        tar = rawtar.archive(rawtar.entry(rawtar.FILE, b"file-%d" % number, data=data, mode=0o644))
        packed = gzip.compress(tar, 1, mtime=0)
        blobs[digest(packed)] = packed
        ids.append(digest(tar))
        rows.append(described(LAYER, packed))
    about = {"os": "linux", "architecture": architecture, "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
    about |= config
    text = json.dumps(about).encode()
    blobs[digest(text)] = text
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, text), "layers": rows}
    return Picture(json.dumps(manifest).encode(), MANIFEST, blobs, [row["digest"] for row in rows])


def index(pictures: dict[str, Picture]) -> Picture:
    """Of several platforms ("linux/arm/v7")."""
    rows = []
    for name, one in pictures.items():
        system, architecture, *variant = name.split("/")
        platform = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        rows.append(one.descriptor | {"platform": platform})
    whole = Picture(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode(), INDEX)
    for one in pictures.values():
        whole.blobs |= one.blobs | {one.digest: one.manifest}
    return whole


def write(place: Path, name: str, one: Picture) -> Path:
    blobs = place / "blobs/sha256"
    blobs.mkdir(parents=True)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    for key, data in (one.blobs | {one.digest: one.manifest}).items():
        (blobs / key.removeprefix("sha256:")).write_bytes(data)
    row = one.descriptor | {"annotations": {REF_NAME: name}}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    return place


def blobs_of(store: Path) -> dict[str, bytes]:
    """All of a store's, each under the digest that it really has."""
    found = {}
    for path in (store / "images/blobs/sha256").iterdir():
        data = path.read_bytes()
        assert digest(data) == f"sha256:{path.name}", f"{path.name} is not what it says"
        found[digest(data)] = data
    return found


def assert_sound(store: Path) -> None:
    """Every blob is whole, every name has all that it needs, nothing unfinished lies about."""
    found = blobs_of(store)
    assert [path.name for path in (store / "partial").iterdir() if path.suffix == ".tmp"] == []
    if not (store / "images/index.json").exists():
        return
    for row in json.loads((store / "images/index.json").read_text())["manifests"]:
        manifest = json.loads(found[row["digest"]])
        for needed in [manifest["config"], *manifest["layers"]]:
            assert len(found[needed["digest"]]) == needed["size"]


def content(picture: Picture) -> bytes:
    """The file in the first layer of a `picture()`."""
    tar = gzip.decompress(picture.blobs[picture.layers[0]])
    return tar[512 : 512 + int(tar[124:135], 8)]
