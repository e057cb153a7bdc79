"""One Dockerfile of the corpus, and the images that it can stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import layouts

BASE = "localhost/corpus-base:1"
CHARGED = "localhost/corpus-charged:1"  # with something in each field of the config, and triggers
FIRST = f"FROM {BASE}\n"
BUILDERS = ("docker", "buildah")
_MADE = "2026-01-02T03:04:05Z"
_SEARCH = ["PATH=/bin"]
_CONFIGS: dict[str, dict[str, Any]] = {
    BASE: {"Env": _SEARCH, "Cmd": ["sh"]},
    CHARGED: {
        "Env": [*_SEARCH, "KEPT=base", "CHANGED=base"], "Cmd": ["cmd"], "Entrypoint": ["entry"], "User": "worker",
        "WorkingDir": "/home", "Labels": {"kept": "base", "changed": "base"}, "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/mnt": {}}, "StopSignal": "SIGINT", "OnBuild": ["COPY a /triggered", "ENV TRIGGERED=$CHANGED"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5000000000}, "Shell": ["/bin/ash", "-c"],
    },
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file of a context that is not of mode 644."""

    content: bytes | str
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Content = str | bytes | File | Link


@dataclass(frozen=True)
class Case:
    """A build.

    Attributes:
        name: of the case.
        text: the Dockerfile; FROM the base is written before one that has no FROM. {url} is the address of a server
            that has /file, "fetched", and /tar.
        files: the context, by path; a path that ends with "/" is an empty directory.
        by: who is asked too: the builders whose releases of 2023 (docker 20.10, buildah 1.28) know all that is in it.
        rows: what has to come of it where nobody is asked, written by hand: a tree's rows, and "config.NAME".
        refused: words of the error that it is with us (docs/dockerfile.md).
        by_root: a plain user without a range of ids is told that it needs a build by root.
        by_user: rows that are other ones where a plain user without a range of ids builds.
    """

    name: str
    text: str
    files: Mapping[str, Content] = field(default_factory=lambda: {"a": "a\n", "b": "b\n", "d/c": "c\n"})
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    target: str | None = None
    by: tuple[str, ...] = BUILDERS
    rows: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    by_root: bool = False
    by_user: Mapping[str, str] = field(default_factory=dict)

    @property
    def dockerfile(self) -> str:
        lines = [line for line in self.text.lstrip("\ufeff").splitlines() if line.strip() and not line.startswith("#")]
        has_from = any(line.upper().startswith("FROM ") for line in lines)
        return self.text if has_from else FIRST + self.text

    @property
    def fetches(self) -> bool:
        return "{url}" in self.text

    def write(self, place: Path, url: str = "") -> tuple[Path, Path]:
        """Make `place` with its context and Dockerfile; those."""
        context = place / "context"
        context.mkdir(parents=True)
        context.chmod(0o755)
        for name, content in self.files.items():
            _write(context / name, name, content)
        for path in sorted(context.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        file = place / "Dockerfile"
        file.write_text(self.dockerfile.replace("{url}", url))
        return context, file


def _write(path: Path, name: str, content: Content) -> None:
    if name.endswith("/"):
        path.mkdir(parents=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Link):
        path.symlink_to(content.target)
        return
    given = content if isinstance(content, File) else File(content)
    path.write_bytes(given.content.encode() if isinstance(given.content, str) else given.content)
    path.chmod(given.mode)


def bases(place: Path, root: Path) -> Path:
    """Write the bases as a layout at `place`, of the small root file system at `root`."""
    layout = layouts.Layout(place)
    layer = layouts.tree(root)
    for name, config in _CONFIGS.items():
        layout.image(name, [layer], config, created=_MADE, history=[{"created": _MADE, "created_by": "base"}])
    return place
