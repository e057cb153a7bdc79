"""Device nodes: which can be made, and which open."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import inside, outside, shell

# (type, major, minor): memory, disks, terminals, input, sound, FUSE, KVM, tun, loop, mapper, and a spread of numbers.
GRID = [
    (kind, major, minor)
    for kind in ("c", "b")
    for major in (*range(0, 12), 13, 29, 90, 116, 136, 180, 189, 202, 226, 229, 240, 250, 252, 253, 254, 259, 511, 4095)
    for minor in (0, 1, 2, 3, 5, 8, 11, 63, 64, 128, 200, 229, 232, 237, 255, 256, 1048575)
]
MAKE = """
import itertools
opened, made, tried = [], [], 0
for place in sys.argv[2:]:
    for number, (kind, major, minor) in enumerate(json.loads(sys.argv[1])):
        tried += 1
        path = f'{place}/node-{number}'
        mode = (stat.S_IFCHR if kind == 'c' else stat.S_IFBLK) | 0o666
        if attempt(os.mknod, path, mode, os.makedev(major, minor))[0] == 'done':
            made.append([kind, major, minor])
            fd = call(257, -100, path.encode(), os.O_RDONLY | os.O_NONBLOCK)
            if fd >= 0:
                os.close(fd)
                opened.append([kind, major, minor])
            os.unlink(path)
tell([tried, made, opened])
"""


@pytest.mark.parametrize("security", [
    pc.Security(), pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"MKNOD"}),
    pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"MKNOD", "SYS_ADMIN"}),
    pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"MKNOD"}, seccomp="unconfined"),
], ids=["default", "mknod", "mknod and admin", "unconfined"])  # fmt: skip
def test_go_2022_0396_no_device_can_be_made(security: pc.Security) -> None:
    """A grid of numbers, in /dev, /tmp and /dev/shm. Only 0:0 is allowed to be made: it is overlay's whiteout, and
    opens nothing.
    """
    import json

    tried, made, opened = inside(MAKE, json.dumps(GRID), "/dev", "/tmp", "/dev/shm", security=security)
    assert tried == 3 * len(GRID)
    assert [node for node in made if node != ["c", 0, 0]] == []
    assert opened == []


@pytest.mark.requires("root")
def test_control_of_go_2022_0396_root_of_the_host_makes_and_opens(tmp_path: Path) -> None:
    import json

    harmless = [("c", 1, 3), ("c", 1, 5), ("c", 10, 229)]
    _, made, opened = outside(MAKE, json.dumps(harmless), str(tmp_path))
    assert len(made) == 3
    assert ["c", 1, 3] in opened


@pytest.mark.requires("root")
def test_go_2022_0396_nodes_of_an_image_do_not_open(fresh_rootfs: Path) -> None:
    """All that a privileged tar could have left in a layer: nodev, with and without a user namespace."""
    place = fresh_rootfs / "nodes"
    place.mkdir()
    for number, (kind, major, minor) in enumerate(GRID):
        mode = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
        os.mknod(place / str(number), mode | 0o666, os.makedev(major, minor))
        (place / str(number)).chmod(0o666)
    for user_namespace in ("auto", "host"):
        script = "cd /nodes; for f in *; do head -c 0 $f 2>/dev/null && echo $f; done; ls | wc -l"
        done = shell(fresh_rootfs, script, security=pc.Security(user_namespace=user_namespace))
        assert done.stdout.split() == [str(len(GRID) - 1)]  # c 0:0 is overlay's whiteout, so no name at all


NODES = """
found = {}
for directory, names, files in os.walk('/dev'):
    for name in files:
        facts = os.lstat(f'{directory}/{name}')
        if stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
            found[f'{directory}/{name}'] = [os.major(facts.st_rdev), os.minor(facts.st_rdev)]
tell(found)
"""


@pytest.mark.parametrize(
    "options",
    [{}, {"tty": True, "stderr": None}, {"network": "host"}, {"read_only": True}],
    ids=["plain", "tty", "net", "read-only"],
)
def test_go_2022_0396_the_nodes_that_are_there(options: dict[str, Any]) -> None:
    """An allow-list: null, zero, full, random, urandom, tty, the container's own ptmx, and its console."""
    found = inside(NODES, **options)
    expected = {
        "/dev/null": [1, 3], "/dev/zero": [1, 5], "/dev/full": [1, 7], "/dev/random": [1, 8], "/dev/urandom": [1, 9],
        "/dev/tty": [5, 0], "/dev/pts/ptmx": [5, 2],
    }  # fmt: skip
    if "tty" in options:
        assert found.pop("/dev/console")[0] == 136
        assert found.pop("/dev/pts/0")[0] == 136
    assert found == expected


def test_go_2022_0396_a_binds_device_does_not_open(shared: Path, scratch: Path) -> None:
    """A bind of the host's /dev, as tutorials have it: its nodes are names only."""
    mount = pc.Mount.bind("/dev", "/place", read_only=True)
    code = "tell([attempt(os.open, '/place/' + name, os.O_RDONLY) for name in ('null', 'zero')])"
    answer = inside(code, mounts=[mount])
    assert answer == [["refused", "EACCES"], ["refused", "EACCES"]]
