"""Layers become the trees that GNU tar and umoci make of them, and a stack of them by a real overlay is umoci's.

What is different by intent, and so is not generated or is looked at apart:
- A name through a symbolic link: here and in umoci it leads where the link leads inside the root; GNU tar makes links
  last, and until then has a file in their place.
- A directory that no entry describes, of a layer by itself: mode 0755 and root's. In a stack it is what it is below.
- A full directory that a file replaces in one layer: an error here, removed by umoci, an error of GNU tar.
- A hard link to a file of a lower layer: an error here and in docker's and containerd's overlay drivers; made by umoci.
- `.wh.` alone, `.wh..`, `.wh...`, and names beneath a whiteout: errors here; umoci removes their directory.
- The time of a directory with a symbolic link to "/" or "..", which GNU tar makes last and then forgets the time.
- An attribute with an empty value: kept here and by GNU tar; Go's reader takes it for none.
- Attributes outside of `user.`, but for file capabilities: not taken here.
- A whiteout of what no lower layer has: nothing for umoci; here a whiteout, which an overlay hides.
- Devices, owners and set-id bits of owners as a plain user: left out here.
"""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import layertrees
import ranges
from layertrees import Tree
from pycontainer import _core

STACKS = """
import os, pickle, subprocess, sys, pathlib, tempfile
sys.path[:0] = sys.argv[1:]
import layertrees
found, empty = [], tempfile.mkdtemp()
for lowers in pickle.load(sys.stdin.buffer):
    stack = [*dict.fromkeys(reversed(lowers)), empty]  # none twice: that is ELOOP; and two at least
    options = "ro,lowerdir=" + ":".join(stack)
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", "/mnt"], check=True)
    found.append(layertrees.tree(pathlib.Path("/mnt")))
    subprocess.run(["umount", "/mnt"], check=True)
os.rmdir(empty)
pickle.dump(found, sys.stdout.buffer)
"""


@pytest.fixture
def room(scratch: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="layers-", dir=scratch))
    yield path
    ranges.remove(path)


def seeds(times: Callable[[int], range], count: int) -> range:
    """So many layers, and 40 in the quick form."""
    return range(count) if len(times(10)) == 10 else range(40)


def unpacked(room: Path, layers: list[bytes]) -> list[str]:
    paths = [room / f"{number}.tar" for number in range(len(layers))]
    for path, data in zip(paths, layers, strict=True):
        path.write_bytes(data)
    return _core.unpack_layer_files([os.fsencode(path) for path in paths], os.fsencode(room / "store"))


def plain(tree: Tree) -> Tree:
    """Without whiteouts: neither the device that is one here, nor the name that GNU tar leaves."""

    def is_whiteout(path: bytes, row: tuple[object, ...]) -> bool:
        mode = int(str(row[0]), 8)
        return os.path.basename(path).startswith(b".wh.") or (stat.S_ISCHR(mode) and row[3] == 0)

    return {path: row for path, row in tree.items() if not is_whiteout(path, row)}


def as_go_reads(tree: Tree) -> Tree:
    """Without attributes of an empty value."""
    return {path: (*row[:4], [pair for pair in row[4] if pair[1]], *row[5:]) for path, row in tree.items()}  # type: ignore[attr-defined]


def agree(ours: Tree, theirs: Tree, undescribed: bool) -> None:
    """`undescribed`: the root's time is that of the unpacking where no entry describes it."""
    ours, theirs = plain(ours), plain(theirs)
    if ranges.inside() and int(str(ours[b"."][0]), 8) & 0o5 != 0o5:
        # The store has to open a layer's root: one that is closed to others stays the user's.
        ours[b"."] = (ours[b"."][0], *theirs[b"."][1:3], *ours[b"."][3:])
    if undescribed:
        ours.pop(b"."), theirs.pop(b".")
    assert layertrees.differences(ours, theirs) == []


def describes_root(data: bytes) -> bool:
    headers = (data[at : at + 512] for at in range(0, len(data), 512))
    names = (block[:100].rstrip(b"\0") for block in headers if block[257:262] == b"ustar")
    return any(name in (b".", b"./", b"/.", b"/./", b"././", b"./.") for name in names)


@pytest.mark.timeout(3600)
def test_gnu_tar_makes_the_same_trees(room: Path, times: Callable[[int], range]) -> None:
    for seed in seeds(times, 5000):
        data = layertrees.some_layer(seed, devices=os.geteuid() == 0, targets=layertrees.TARGETS[:3])
        (ours,) = unpacked(room, [data])
        target = room / "tar"
        target.mkdir(mode=0o755)
        options = [
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=user.*",
            "--same-permissions",
            "--delay-directory-restore",
        ]
        command = [*ranges.inside(), "tar", *options, "-xf", str(room / "0.tar"), "-C", str(target)]
        subprocess.run(command, check=True, capture_output=True)
        try:
            agree(ranges.tree(Path(ours)), ranges.tree(target), not describes_root(data))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
        ranges.remove(target, room / "store")


@pytest.mark.requires("root", "program:umoci")
@pytest.mark.timeout(3600)
def test_umoci_makes_the_same_trees(room: Path, times: Callable[[int], range]) -> None:
    for seed in seeds(times, 5000):
        data = layertrees.some_layer(seed)
        (ours,) = unpacked(room, [data])
        theirs = by_umoci(room, [data])
        try:
            agree(as_go_reads(layertrees.tree(Path(ours))), layertrees.tree(theirs), not describes_root(data))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
        subprocess.run(["rm", "-rf", str(theirs), str(room / "store"), str(room / "layout")], check=True)


def by_umoci(room: Path, layers: list[bytes]) -> Path:
    image = layertrees.layout(room / "layout", layers)
    target = room / "umoci"
    subprocess.run(
        ["umoci", "raw", "unpack", "--image", f"{image}:image", str(target)], check=True, capture_output=True
    )
    return target


@pytest.mark.requires("root", "program:umoci")
@pytest.mark.timeout(3600)
def test_an_overlay_of_layers_is_umoci_s_tree(room: Path, times: Callable[[int], range]) -> None:
    """Whiteouts and opaque directories mean to the kernel what they mean to umoci."""
    stacks, theirs = [], []
    for seed in seeds(times, 1000):
        layers = layertrees.some_stack(seed)
        stacks.append(unpacked(room, layers))
        tree = by_umoci(room, layers)
        theirs.append(layertrees.tree(tree))
        subprocess.run(["rm", "-rf", str(tree), str(room / "layout")], check=True)
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", STACKS, *sys.path],
        input=pickle.dumps(stacks),
        check=True,
        capture_output=True,
    )
    for seed, (ours, tree) in enumerate(zip(pickle.loads(done.stdout), theirs, strict=True)):
        try:
            agree(as_go_reads(ours), tree, undescribed=True)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
