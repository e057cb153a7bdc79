"""user=, groups= and hostile account files: who the command becomes, against a table, and in bounded time."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile import attacks
from hostile.attacks import put_link, shell

# What the image says: among honest lines a user whose name is a number and whose uid is 0 (CVE-2016-3697).
PASSWD = """root:x:0:0:root:/root:/bin/sh
1000:x:0:0:sly:/:/bin/sh
+4:x:0:0:sly:/:/bin/sh
app:x:12:34:app:/home/app:/bin/sh
big:x:4294967296:0:wraps:/:/bin/sh
last:x:4294967295:0:minus one:/:/bin/sh
negative:x:-1:0:minus one:/:/bin/sh
empty:x::0:no uid:/:/bin/sh
short:x:0
text:x:0x0:0:hex:/:/bin/sh
# comment:x:0:0::/:/bin/sh
"""
GROUP = "root:x:0:\n1000:x:0:\nstaff:x:50:app,root\nwheel:x:10:app\nbroken:x:4294967296:app\nwheel2:x:11:apple,xapp\n"
SEVERAL_IDS = ["root", "subuid"]

# user -> (uid, gid), or the exception. Never uid 0 unless it is 0 or root.
ORACLE: dict[str, tuple[int, int] | type[Exception]] = {
    "0": (0, 0), "1": (1, 0), "01": (1, 0), "1:2": (1, 2), "root": (0, 0), "root:1": (0, 1), "app": (12, 34),
    "app:staff": (12, 50), "12": (12, 34), "12:0": (12, 0), "1000": (1000, 0), "1000:1000": (1000, 1000),
    "00001000": (1000, 0), "65534": (65534, 0),
    "1:": ValueError, ":2": ValueError, "": ValueError, "1:2:3": ValueError, "-1": ValueError, "+1": pc.SetupError,
    " 1": ValueError, "1 ": ValueError, "1\n": ValueError, "0\0": ValueError, "4294967295": ValueError,
    "4294967296": ValueError, "18446744073709551616": ValueError, "1a": pc.SetupError, "0x0": pc.SetupError,
    "1e3": pc.SetupError, "٣": pc.SetupError, "+4": (0, 0), "short": pc.SetupError, "text": pc.SetupError,
    "big": pc.SetupError, "last": pc.SetupError, "negative": pc.SetupError, "empty": pc.SetupError,
    "nobody-here": pc.SetupError,
    "2147483648": pc.NotSupported, "4294967294": pc.NotSupported, "70000": pc.NotSupported,
    "app:nothing": pc.SetupError,
    "1:4294967294": pc.NotSupported, "root:70000": pc.NotSupported,
}  # fmt: skip


@pytest.fixture
def accounts(fresh_rootfs: Path) -> Path:
    (fresh_rootfs / "etc").mkdir(exist_ok=True)
    (fresh_rootfs / "etc/passwd").write_text(PASSWD)
    (fresh_rootfs / "etc/group").write_text(GROUP)
    return fresh_rootfs


@pytest.mark.parametrize("user", ORACLE)
def test_cve_2026_30892_user_strings(accounts: Path, user: str) -> None:
    """Also CVE-2016-3697, CVE-2024-40635, CVE-2026-46680: digits are a number, everything else a name that must be
    there.

    The control is the passwd file itself: it has a line that makes root of "1000", as glibc's getpwnam would find it.
    """
    expected = ORACLE[user]
    one_id = one_id_only()
    if isinstance(expected, tuple) and one_id and expected != (0, 0):
        expected = pc.NotSupported
    if isinstance(expected, type):
        with pytest.raises(expected):
            shell(accounts, "id", user=user)
        return
    done = shell(accounts, "id -u; id -g; id -ru; id -rg", user=user, check=True)
    assert tuple(map(int, done.stdout.split())) == expected * 2


def one_id_only() -> bool:
    import requirements

    return requirements.missing("ids") is not None


@pytest.mark.parametrize("user", [-1, 2**32 - 1, 2**32, 2**64, True, 1.0, b"root", ["root"]])
def test_cve_2026_30892_user_values(rootfs: Path, user: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        shell(rootfs, "id", user=user)


def groups_of(root: Path, **options: object) -> set[int]:
    done = shell(root, "grep Groups /proc/self/status", check=True, **options)
    return set(map(int, done.stdout.split()[1:]))


@pytest.mark.requires("ids")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0, 50}), ({"user": "app"}, {34, 50, 10}), ({"user": "12"}, {34, 50, 10}), ({"user": "app:1"}, {1}),
        ({"user": "1"}, {0}), ({"user": "1:7"}, {7}), ({"user": "app", "groups": ["wheel", 77]}, {34, 50, 10, 77}),
        ({"user": "1:7", "groups": ["staff"]}, {7, 50}), ({"user": "0:0"}, {0}),
    ],
)  # fmt: skip
def test_cve_2022_36109_supplementary_groups(accounts: Path, options: dict[str, object], expected: set[int]) -> None:
    """Also CVE-2023-25173 and CVE-2022-2989: exactly these, the primary one among them; none of the host's."""
    assert groups_of(accounts, **options) == expected


def sparse(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 2 << 30)


def one_line(path: Path) -> None:
    """A gigabyte without a newline; sparse behind its beginning, as the reader cannot know."""
    path.write_bytes(b"a" * 65536)
    os.truncate(path, 1 << 30)


def many_lines(path: Path) -> None:
    path.write_bytes(b"u:x:1:1::/:\n" * 10_000_000)


def directory(path: Path) -> None:
    attacks.remove(path)
    path.mkdir()


def endless(path: Path) -> None:
    put_link(path, "/dev/zero")


def kernel_log(path: Path) -> None:
    put_link(path, "/proc/kmsg")


def loop(path: Path) -> None:
    put_link(path, path.name)


def missing(path: Path) -> None:
    attacks.remove(path)


def unreadable_link(path: Path) -> None:
    put_link(path, "/proc/self/fd/0")


def fifo(path: Path) -> None:
    attacks.put_fifo(path, "")


def unix_socket(path: Path) -> None:
    attacks.put_socket(path, "")


def device(path: Path) -> None:
    attacks.put_device(path, "")


GIANTS: list[Callable[[Path], None]] = [sparse, one_line, many_lines]
STRANGE: list[Callable[[Path], None]] = [
    directory, endless, kernel_log, loop, missing, unreadable_link, fifo, unix_socket, device,
]  # fmt: skip


def bounded(root: Path, **options: object) -> None:
    """A name that is not there: a typed error, soon, and the memory of this process does not grow."""
    before = Path("/proc/self/statm").read_text().split()[1]
    began = time.monotonic()
    with pytest.raises(pc.SetupError):
        shell(root, "id", **options)
    took = time.monotonic() - began
    after = Path("/proc/self/statm").read_text().split()[1]
    assert took < 2
    assert int(after) - int(before) < (16 << 20) // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("giant", GIANTS)
def test_cve_2026_47262_giant_account_files(accounts: Path, giant: Callable[[Path], None], name: str) -> None:
    giant(accounts / "etc" / name)
    bounded(accounts, user="ghost" if name == "passwd" else "0:ghost")
    assert shell(accounts, "grep -c Uid /proc/self/status", user=0).stdout == "1\n"  # a number needs no file


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("strange", STRANGE)
def test_cve_2024_9676_strange_account_files(accounts: Path, strange: Callable[[Path], None], name: str) -> None:
    """A FIFO would hang a reader that opens it; the control: opening it here, without O_NONBLOCK, would wait for a
    writer.
    """
    strange(accounts / "etc" / name)
    bounded(accounts, user="ghost" if name == "passwd" else "0:ghost")


def test_control_of_cve_2024_9676_a_fifo_hangs_its_reader(accounts: Path) -> None:
    import subprocess

    fifo(accounts / "etc/passwd")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["cat", str(accounts / "etc/passwd")], timeout=0.3, check=False)


def test_cve_2024_9676_account_files_that_lead_to_the_host(accounts: Path, canary: Path) -> None:
    """Links are resolved beneath the root: the host's file is never the one that is read."""
    outer = canary.parent / "outer-passwd"
    outer.write_text("intruder:x:0:0::/:/bin/sh\n")
    try:
        for target in attacks.links_out(outer).values():
            put_link(accounts / "etc/passwd", target)
            with pytest.raises(pc.SetupError):
                shell(accounts, "id", user="intruder")
    finally:
        outer.unlink()


def members(count: int, first: int = 100) -> str:
    """So many groups of app's in an /etc/group; the primary one, 34, is none of them."""
    return "".join(f"g{number}:x:{number}:app\n" for number in range(first, first + count))


@pytest.mark.requires("ids")
@pytest.mark.parametrize("count", [256, 1023])
def test_cve_2022_36109_the_primary_group_stays_beside_many(accounts: Path, count: int) -> None:
    """As many as there is room for. What the kernel says of the command is read all the same."""
    (accounts / "etc/group").write_text(members(count))
    assert groups_of(accounts, user="app") == {34, *range(100, 100 + count)}
    done = shell(accounts, "true", user="app")
    assert [row.name for row in done.enforced.values() if row.state != "held"] == []


@pytest.mark.parametrize("count", [1024, 10_000])
def test_rustsec_2021_0119_more_groups_than_there_is_room_for(accounts: Path, count: int) -> None:
    """Nothing is overrun, and none is left out without a word."""
    (accounts / "etc/group").write_text(members(count))
    with pytest.raises(pc.SetupError, match=r"the groups of user \"app\" /etc/group: .* at most 1024") as caught:
        shell(accounts, "true", user="app")
    assert caught.value.errno == errno.E2BIG


@pytest.mark.requires("ids")
def test_as_many_groups_as_can_be_said(accounts: Path) -> None:
    said = list(range(1000, 2023))
    assert groups_of(accounts, user="1:7", groups=said) == {7, *said}
    with pytest.raises(ValueError, match="groups has more than 1023"):
        shell(accounts, "true", user="1:7", groups=[*said, 5])
    (accounts / "etc/group").write_text(members(2))
    with pytest.raises(pc.SetupError, match=r"add groups\[1021\], 2021, /etc/group: .* at most 1024"):
        shell(accounts, "true", user="app", groups=said)


@pytest.mark.requires("ids")
@pytest.mark.parametrize(
    ("options", "requirement", "cause"),
    [
        ({"user": "1:70000"}, "group", "70000 has"),
        ({"user": "far"}, "user", "the group that the container's /etc/passwd gives far has"),
        ({"user": "member"}, "groups", "a group of which the container's /etc/group makes member a member has"),
        ({"user": "70000"}, "user", "70000 has"),
        ({"groups": [5, 70000]}, "groups", "groups[1], 70000, has"),
        ({"user": "1:2", "groups": ["staff", "distant"]}, "groups", "groups[1], distant, has"),
        ({"groups": [70000], "files": {"/a": b""}}, "groups", "groups[0], 70000, has"),
    ],
)  # fmt: skip
def test_an_id_that_the_container_does_not_have_is_named(
    accounts: Path, options: dict[str, Any], requirement: str, cause: str
) -> None:
    with open(accounts / "etc/passwd", "a") as passwd:
        passwd.write("far:x:3:70000::/:/bin/sh\nmember:x:4:4::/:/bin/sh\n")
    with open(accounts / "etc/group", "a") as group:
        group.write("distant:x:80000:member\n")
    with pytest.raises(pc.NotSupported) as caught:
        shell(accounts, "true", **options)
    assert caught.value.requirement == requirement
    assert caught.value.cause.startswith(f"{cause} no id in the container's user namespace: ")
    # A cure: something to say or to do, and no second cause.
    assert ("IdMap" if os.geteuid() == 0 else "/etc/subuid") in caught.value.fix


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"user": "0:nothing"}, 'unknown group "nothing" /etc/group'),
        ({"groups": ["root", "nothing"]}, 'groups[1]: unknown group "nothing" /etc/group'),
        ({"user": "nobody-here"}, 'unknown user "nobody-here" /etc/passwd'),
    ],
)
@pytest.mark.parametrize("beside", [{}, {"files": {"/a": b""}}, {"tty": True}], ids=["", "files", "tty"])
def test_a_name_that_is_not_there_is_named(
    accounts: Path, options: dict[str, Any], said: str, beside: dict[str, Any]
) -> None:
    """Whichever step asked first: the owner of a file, of a terminal, or the command itself."""
    with pytest.raises(pc.SetupError) as caught:
        shell(accounts, "true", **options, **beside)
    assert str(caught.value).startswith(f"{said}: No such file or directory")
    assert caught.value.errno == errno.ENOENT
