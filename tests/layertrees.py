"""Layers made at random that every unpacker has to take alike, images of them for umoci, and trees as values."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import stat
from pathlib import Path

import rawtar
from rawtar import BLOCKDEV, CHAR, DIRECTORY, FIFO, FILE, GNU, LINK, SYMLINK, USTAR

Tree = dict[bytes, tuple[object, ...]]
NAMES = [b"a", b"b", b"c", b".d", b"e f", "\u00e9".encode(), b"\xff\x01", b"wh.x", b"n" * 120, b"m" * 255]
# GNU tar makes the last two after it has restored the times of directories.
TARGETS = [b"a", b"nowhere", b"t" * 130, b"/a/b", b"../../x"]
SIZES = [0, 1, 511, 512, 513, 5000]
IDS = [0, 1000, 65534, 0o7777777]  # the last is none of a plain user's
TIMES = [b"0", b"1", b"1700000000", b"1700000000.123456789", b"1e9", b"-1", b"4294967296.5"]


class Layer:
    """A tar on the way: entries in an order in which each has what it needs."""

    def __init__(
        self, chosen: random.Random, *, devices: bool = True, names: list[bytes] = NAMES, targets: list[bytes] = TARGETS
    ) -> None:
        self.chosen, self.devices, self.names, self.targets = chosen, devices, names, targets
        self.ids = IDS if devices else IDS[:3]
        self.parts: list[bytes] = []
        self.kinds: dict[bytes, bytes] = {b"": DIRECTORY}  # what each path is by now

    def data(self) -> bytes:
        return rawtar.archive(*self.parts)

    def add(
        self, kind: bytes, path: bytes, link: bytes = b"", data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        chosen = self.chosen
        written = (
            chosen.choice([b"", b"", b"./", b"/"])
            + path
            + (b"/" if kind == DIRECTORY and chosen.random() < 0.5 else b"")
        )
        is_gnu = chosen.random() < 0.4
        time = chosen.choice([time for time in TIMES if time != b"1e9"])
        uid = chosen.choice(self.ids)
        records = []
        for key, value in ((b"path", written), (b"linkpath", link)):
            if len(value) > 100 and is_gnu:
                self.parts.append(
                    rawtar.entry(b"L" if key == b"path" else b"K", b"././@LongLink", data=value + b"\0", magic=GNU)
                )
            elif len(value) > 100:
                records.append((key, value))
        if not is_gnu:
            records.append((b"mtime", time))
            if kind in (FILE, DIRECTORY) and chosen.random() < 0.3:
                records.append((b"SCHILY.xattr.user.x", chosen.choice([b"", b"value", bytes(100)])))
            self.parts.append(rawtar.pax(*records))
        mode = chosen.choice([0o644, 0o755, 0o400, 0o4755, 0o2755, 0o1777, 0o000] if kind != LINK else [0o644])
        if os.geteuid():
            mode |= 0o700  # or the test could not look at it
        fields = {"mode": mode, "uid": uid, "device": device, "magic": GNU if is_gnu else USTAR}
        if is_gnu:
            fields["mtime"] = chosen.choice([1, 1700000000, rawtar.base256(-5, 12)])
        self.parts.append(rawtar.entry(kind, written[:100], link[:100], data, **fields))
        self.kinds[path] = kind

    def directories(self) -> list[bytes]:
        return [path for path, kind in self.kinds.items() if kind == DIRECTORY]

    def free(self) -> bytes | None:
        """A path that is free, in a directory that is there."""
        place = self.chosen.choice(self.directories())
        path = (place + b"/" if place else b"") + self.chosen.choice(self.names)
        return path if path not in self.kinds and path.count(b"/") < 5 and len(path) < 900 else None

    def step(self) -> None:
        chosen, path = self.chosen, self.free()
        kind = chosen.choice([FILE, FILE, FILE, DIRECTORY, DIRECTORY, SYMLINK, LINK, FIFO, CHAR, BLOCKDEV, b"again"])
        files = [path for path, kind in self.kinds.items() if kind == FILE]
        if kind == b"again" and files:
            self.replace(chosen.choice(files))
        elif path is None or kind == b"again" or (kind == LINK and not files):
            return
        elif kind == FILE:
            self.add(FILE, path, data=chosen.randbytes(chosen.choice(SIZES)))
        elif kind == SYMLINK:
            self.add(SYMLINK, path, chosen.choice(self.targets))
        elif kind == LINK:
            self.add(LINK, path, chosen.choice([b"", b"/", b"./"]) + chosen.choice(files))
            self.kinds[path] = FILE
        elif kind in (CHAR, BLOCKDEV):
            if self.devices:
                self.add(kind, path, device=chosen.choice([(1, 3), (8, 300), (4000, 5)]))
        else:
            self.add(kind, path)

    def replace(self, path: bytes) -> None:
        if self.chosen.random() < 0.3:
            self.add(SYMLINK, path, b"else")
        else:
            self.add(FILE, path, data=b"again")

    def hide(self, path: bytes) -> None:
        place, _, name = path.rpartition(b"/")
        self.parts.append(rawtar.entry(FILE, (place + b"/" if place else b"") + b".wh." + name))

    def mark(self, place: bytes) -> None:
        self.parts.append(rawtar.entry(FILE, (place + b"/" if place else b"") + b".wh..wh..opq"))


def some_layer(seed: int, *, devices: bool = True, targets: list[bytes] = TARGETS) -> bytes:
    """One layer by itself, some with whiteouts of what is not there."""
    chosen = random.Random(seed)
    layer = Layer(chosen, devices=devices, targets=targets)
    if chosen.random() < 0.5:
        layer.add(DIRECTORY, b".")
        layer.kinds.pop(b".")
    for _ in range(chosen.randrange(1, 15)):
        layer.step()
        if chosen.random() < 0.15:
            short = [place for place in layer.directories() if len(place) < 80]
            chosen.choice([layer.mark, lambda place: layer.hide((place + b"/" if place else b"") + b"gone")])(
                chosen.choice(short)
            )
    return layer.data()


def some_stack(seed: int) -> list[bytes]:
    """Up to four layers, the lowest first: each changes, replaces and removes what those below it have.

    Mostly as docker writes them: each directory on the way to a change is in the layer, and only what is there is
    removed. As other builders write them, some directories that are there below are in names alone.
    """
    chosen = random.Random(seed)
    names, merged, layers = [b"a", b"b", b"c"], {b"": DIRECTORY}, []
    for number in range(chosen.randrange(2, 5)):
        layer = Layer(chosen, names=names)
        gone: list[bytes] = []
        for _ in range(chosen.randrange(1, 8)):
            change(layer, merged, gone, is_lowest=number == 0)
        layers.append(layer.data())
        merged = {path: kind for path, kind in merged.items() if not any(below(path, one) for one in gone)}
        for path, kind in layer.kinds.items():
            if kind != DIRECTORY or merged.get(path) != DIRECTORY:
                merged = {other: what for other, what in merged.items() if not below(other, path)}
            merged[path] = kind
    return layers


def below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def change(layer: Layer, merged: dict[bytes, bytes], gone: list[bytes], *, is_lowest: bool) -> None:
    chosen = layer.chosen
    if chosen.random() < 0.03 and not layer.parts:
        layer.mark(b"")
        gone.extend(path for path in merged if path)
    parts = [chosen.choice(layer.names) for _ in range(chosen.randrange(1, 4))]
    paths = [b"/".join(parts[: count + 1]) for count in range(len(parts))]
    path = paths[-1]
    act = chosen.choice([b"file", b"file", b"directory", b"link", b"hide", b"mark"])
    if any(layer.kinds.get(place, DIRECTORY) != DIRECTORY for place in paths[:-1]) or path in layer.kinds:
        return  # a name beneath what this layer has as a file, or twice
    if act == b"hide":
        if is_lowest or path not in merged or any(place in layer.kinds for place in paths):
            return
        for place in paths[:-1]:
            if merged.get(place) != DIRECTORY:
                return
    for place in paths[:-1]:
        if place in layer.kinds:
            continue
        if merged.get(place) == DIRECTORY and not any(below(place, one) for one in gone) and chosen.random() < 0.3:
            layer.kinds[place] = DIRECTORY
        else:
            layer.add(DIRECTORY, place)
    if act == b"hide":
        layer.hide(path)
        gone.append(path)
        if chosen.random() < 0.3:  # and something else in its place
            layer.add(chosen.choice([FILE, DIRECTORY]), path)
    elif act == b"mark":
        layer.add(DIRECTORY, path)
        layer.mark(path)
        gone.append(path)
    elif act == b"directory":
        layer.add(DIRECTORY, path)
    elif act == b"link":
        layer.add(SYMLINK, path, chosen.choice([b"a", b"/b", b"../c"]))
    else:
        layer.add(FILE, path, data=chosen.randbytes(20))


def layout(path: Path, layers: list[bytes]) -> Path:
    """An OCI layout with one image, `image`: every second layer packed."""
    (path / "blobs/sha256").mkdir(parents=True)

    def blob(data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(data)}

    packed = [
        blob(gzip.compress(data, 1, mtime=0), "layer.v1.tar+gzip") if number % 2 else blob(data, "layer.v1.tar")
        for number, data in enumerate(layers)
    ]
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    described = blob(json.dumps(config).encode(), "config.v1+json")
    manifest = blob(
        json.dumps({"schemaVersion": 2, "config": described, "layers": packed}).encode(), "manifest.v1+json"
    )
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "image"}
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return path


def tree(root: Path, *, times: bool = True) -> Tree:
    """Everything below, and the root: kind, mode, owner, content, time, attributes of users, and which are one file."""
    top, found, first = os.fsencode(root), {}, {}
    for place, directories, files in os.walk(top):
        names = [*directories, *files, *([b"."] if place == top else [])]
        for path in (os.path.join(place, name) for name in names):
            seen = os.lstat(path)
            name = os.path.relpath(path, top)
            kind = stat.S_IFMT(seen.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    content = (seen.st_size, hashlib.sha256(file.read()).hexdigest())
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                content = seen.st_rdev
            attributes = user_attributes(path) if kind in (stat.S_IFREG, stat.S_IFDIR) else []
            one = (
                first.setdefault((seen.st_dev, seen.st_ino), name)
                if kind != stat.S_IFDIR and seen.st_nlink > 1
                else name
            )
            facts = (oct(seen.st_mode), seen.st_uid, seen.st_gid, content, attributes, one)
            found[name] = (*facts, seen.st_mtime_ns if times else 0)
    return found


def user_attributes(path: bytes) -> list[tuple[str, bytes]]:
    names = [name for name in os.listxattr(path) if name.startswith("user.") and ".overlay." not in name]
    return sorted((name, os.getxattr(path, name)) for name in names)


def differences(ours: Tree, theirs: Tree) -> list[str]:
    rows = []
    for path in sorted({*ours, *theirs}):
        if ours.get(path) != theirs.get(path):
            rows.append(f"{path!r}: here {ours.get(path)}, there {theirs.get(path)}")
    return rows
