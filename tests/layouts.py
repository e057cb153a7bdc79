"""OCI layouts written by hand, so that a test knows every byte of them: layers, a config, an index."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "org.opencontainers.image.ref.name"

# A directory (None), a file (its bytes), a link (its target), or a whole tar header.
Content = None | bytes | str | tarfile.TarInfo


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(entries: Mapping[str, Content]) -> bytes:
    """A layer. A name with a trailing slash is a directory, a str a symbolic link, bytes a file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
                continue
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755
            if isinstance(content, bytes):
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
                continue
            info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
            info.linkname = content or ""
            file.addfile(info)
    return out.getvalue()


def tree(root: Path) -> bytes:
    """A directory as one layer, of root's."""

    def of_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.add(root, ".", filter=of_root)
    return out.getvalue()


class Layout:
    """A layout on the disk, to which images are added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.manifests: list[dict[str, Any]] = []
        self._write()

    def _write(self) -> None:
        whole = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(whole))

    def blob(self, data: bytes) -> dict[str, Any]:
        name = digest(data)
        (self.path / "blobs/sha256" / name.partition(":")[2]).write_bytes(data)
        return {"digest": name, "size": len(data)}

    def image(
        self,
        name: str | None,
        layers: Sequence[bytes],
        config: Mapping[str, Any] | None = None,
        *,
        compress: bool = True,
        **more: Any,
    ) -> str:
        """Add an image; return the digest of its manifest. `more` goes into the config beside `config`."""
        whole = {
            "architecture": "amd64", "os": "linux", "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}, **more,
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self.blob(json.dumps(whole).encode())},
            "layers": [self._layer(layer, compress) for layer in layers],
        }  # fmt: skip
        return self.add(name, json.dumps(manifest).encode())

    def _layer(self, data: bytes, compress: bool) -> dict[str, Any]:
        if not compress:
            return {"mediaType": LAYER, **self.blob(data)}
        return {"mediaType": f"{LAYER}+gzip", **self.blob(gzip.compress(data, 1, mtime=0))}

    def add(self, name: str | None, manifest: bytes, kind: str = MANIFEST) -> str:
        described: dict[str, Any] = {"mediaType": kind, **self.blob(manifest)}
        if name is not None:
            described["annotations"] = {NAME: name}
        self.manifests.append(described)
        self._write()
        return str(described["digest"])
