"""What was built, as values that can be compared: the fields of a config, and a row for each path of the tree."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import stat
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Rows = dict[str, str]
_KINDS = {
    tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b",
}  # fmt: skip
_SHOWN = 60
_OPAQUE = ".wh..wh..opq"


def rows(config: Mapping[str, Any], layers: Iterable[bytes], below: Mapping[str, str] | None = None) -> Rows:
    """A row for each field that is set, and for each path; of `below` those that it has no more, or otherwise."""
    found = {f"config.{name}": json.dumps(value, sort_keys=True) for name, value in _fields(config)}
    tree = tree_of(layers)
    if below is not None:
        gone = {path: "gone" for path in below if path not in tree}
        tree = {path: row for path, row in tree.items() if below.get(path) != row} | gone
    return found | dict(sorted(tree.items()))


def _fields(config: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name in ("architecture", "os", "variant", "author"):
        if config.get(name):
            yield name, config[name]
    for name, value in sorted((config.get("config") or {}).items()):
        if value and name not in ("Hostname", "Image"):  # these two are of the container that a builder used
            yield name, value


def tree_of(layers: Iterable[bytes]) -> Rows:
    """Paths, without a leading slash, and "kind mode owner what": of layers, the lowest first."""
    tree: Rows = {}
    for layer in layers:
        _apply(tree, layer)
    return tree


def _apply(tree: Rows, layer: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        members = tar.getmembers()
        names = {member: member.name.removeprefix("./").strip("/") for member in members}
        for name in names.values():  # what lies below goes before anything of this layer comes
            place, _, last = name.rpartition("/")
            if last == _OPAQUE:
                _remove(tree, place, itself=False)
            elif last.startswith(".wh."):
                _remove(tree, f"{place}/{last[4:]}" if place else last[4:])
        for member, name in names.items():
            if name in ("", ".") or name.rpartition("/")[2].startswith(".wh."):
                continue
            row = _row(tar, member, tree)
            if not member.isdir() or not tree.get(name, "").startswith("d "):
                _remove(tree, name)
            tree[name] = row


def _remove(tree: Rows, path: str, *, itself: bool = True) -> None:
    for known in [known for known in tree if known.startswith(f"{path}/") or (itself and known == path)]:
        del tree[known]


def _row(tar: tarfile.TarFile, member: tarfile.TarInfo, tree: Rows) -> str:
    if member.islnk():
        return tree[member.linkname.removeprefix("./").strip("/")]
    kind = _KINDS.get(member.type, "f")
    row = f"{kind} {stat.S_IMODE(member.mode):o} {member.uid}:{member.gid}"
    if kind == "f":
        file = tar.extractfile(member)
        assert file is not None
        row += f" {_content(file.read())}"
    elif kind == "l":
        row = f"l {member.uid}:{member.gid} {member.linkname}"
    elif kind in "cb":
        row += f" {member.devmajor}:{member.devminor}"
    for name, value in sorted(member.pax_headers.items()):
        if name.startswith("SCHILY.xattr."):
            row += f" {name[13:]}={value!r}"
    return row


def _content(data: bytes) -> str:
    if len(data) <= _SHOWN and all(byte == 10 or 32 <= byte < 127 for byte in data):
        return repr(data.decode())
    return f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"


def of_layout(place: Path, digest: str) -> tuple[dict[str, Any], list[bytes]]:
    """Config and layers of an image in a layout, by the digest of its manifest."""

    def blob(name: str) -> bytes:
        return (place / "blobs" / name.replace(":", "/")).read_bytes()

    manifest = json.loads(blob(digest))
    return json.loads(blob(manifest["config"]["digest"])), [_plain(blob(one["digest"])) for one in manifest["layers"]]


def _plain(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        import gzip

        return gzip.decompress(data)
    return data


def of_archive(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """Config and layers of the one image in a docker save archive."""
    with tarfile.open(path) as tar:

        def member(name: str) -> bytes:
            info = tar.getmember(name)
            while info.issym():  # of a layer that is in it twice
                info = tar.getmember(posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname)))
            file = tar.extractfile(info)
            assert file is not None
            return _plain(file.read())

        (image,) = json.loads(member("manifest.json"))
        return json.loads(member(image["Config"])), [member(name) for name in image["Layers"]]
