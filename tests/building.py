"""Builds of tests: a context, a store with the small root file system in it, and what a build told."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycontainer as pc


class Builder:
    """One context. `events` are those of the last build."""

    def __init__(self, context: Path, store: Path) -> None:
        self.context, self.store = context, store
        self.events: list[Any] = []

    def write(self, **files: str | bytes) -> None:
        """Files by name; "__" in a name is a slash."""
        for name, content in files.items():
            path = self.context / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def build(self, text: str, context: bool = True, **options: Any) -> pc.Image:
        """Build this Dockerfile; FROM base:1 is written before one that has no FROM."""
        head = "" if re.search("^FROM", text, re.MULTILINE) else "FROM base:1\n"
        file = self.context.parent / "Dockerfile"
        file.write_text(head + text)
        self.events = []
        options.setdefault("progress", self.events.append)
        return pc.Image.build(self.context if context else None, dockerfile=file, **options)

    def kinds(self, keyword: str = "RUN") -> list[str]:
        """What became of the steps of this kind: "done" (carried out) or "cached"."""
        begun = {(one.stage, one.number): one.text for one in self.events if one.kind == "begun"}
        ended = [one for one in self.events if one.kind in ("done", "cached")]
        return [one.kind for one in ended if begun[one.stage, one.number].upper().startswith(keyword)]

    def output(self) -> str:
        """What RUNs have printed."""
        return "".join(one.text for one in self.events if one.kind in ("stdout", "stderr"))


def failing(call: Callable[[], Any]) -> pc.BuildError:
    try:
        call()
    except pc.BuildError as error:
        return error
    raise AssertionError("it was built")


def layer(store: Path, digest: str) -> dict[str, tarfile.TarInfo]:
    """The entries of a layer, by the digest of its blob."""
    data = (store / "images/blobs/sha256" / digest.partition(":")[2]).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        return {member.name: member for member in tar.getmembers()}


def everything(store: Path) -> list[bytes]:
    """The content of each file of a store, and of each layer's tar."""
    found = []
    for directory, _, names in os.walk(store):
        for name in names:
            path = Path(directory) / name
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found.append(data)
                if data[:2] == b"\x1f\x8b":
                    found.append(gzip.decompress(data))
    return found
