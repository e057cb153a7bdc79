"""/proc, /sys and /dev of an image on mounts of their own, swapped during the start, full of decoys: ours are ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pycontainer as pc
import worlds
from hostile.attacks import RENAMEAT2, put_link, shell
from hostile.careless import led_astray

OWN = ["proc", "sys", "dev"]
SYSCTLS = ["net/ipv4/ping_group_range", "net/ipv4/ip_unprivileged_port_start"]
# What the engine writes to, and what attackers have had written to, as the host sees them.
HOST = [*SYSCTLS, "kernel/core_pattern", "kernel/sysrq", "kernel/hostname", "kernel/printk_ratelimit_burst"]


@pytest.fixture(autouse=True)
def host_s_sysctls() -> Iterator[None]:
    """They are after the test as they were before."""
    here = [path for path in (Path("/proc/sys", name) for name in HOST) if path.exists()]
    before = {path: path.read_text() for path in here}
    yield
    assert {path: path.read_text() for path in here} == before


# ---- row 6: on another mount -------------------------------------------------------------------------------------

LOOK = """
import json, sys
import pycontainer as pc
script = "stat -f -c %T /proc /sys; cat /proc/keys /proc/timer_list | wc -c; cat /proc/1/comm"
script += "; grep -c canary /proc/self/mountinfo; true"
try:
    done = pc.run(["sh", "-c", script], image=sys.argv[1], text=True)
    print(json.dumps([done.returncode, done.stdout.split(), {row.name: row.state for row in done.enforced.values()}]))
except pc.SetupError as error:
    print(json.dumps([error.errno, [], {}]))
"""


def in_world(change: str, root: Path, canary: Path) -> list[object]:
    """LOOK in a mount namespace of its own, after a shell has mounted something into the image."""
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {worlds.package_path()!r})\n{LOOK}", str(root)]
    world = ["unshare", "-m", "--propagation", "private", "sh", "-ec", f'root=$0 canary=$1; shift; {change}; exec "$@"']
    argv = [*world, str(root), str(canary), *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.requires("root")
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "what",
    ['mount --bind "$canary" "$root/{0}"', 'mount -t tmpfs canary "$root/{0}"', 'mount --rbind /{0} "$root/{0}"',
     'mount --bind / "$root/{0}"'],
    ids=["canary", "tmpfs", "host's own", "host's root"],
)  # fmt: skip
def test_cve_2023_27561_on_another_mount(fresh_rootfs: Path, canary: Path, name: str, what: str) -> None:
    """Only the image's own file system is a layer: what is mounted into it on the host stays on the host."""
    code, seen, rows = in_world(what.format(name), fresh_rootfs, canary)
    assert (code, seen) == (0, ["proc", "sysfs", "0", "pycontainer", "0"])
    assert set(rows.values()) == {"held"}  # type: ignore[attr-defined]


@pytest.mark.requires("root")
def test_control_of_cve_2023_27561_a_recursive_bind_brings_it_along(fresh_rootfs: Path, canary: Path) -> None:
    change = f'mount --bind "{canary}" "{fresh_rootfs}/proc"; mount --rbind "{fresh_rootfs}" /mnt; cat /mnt/proc/file'
    done = subprocess.run(["unshare", "-m", "sh", "-ec", change], check=True, capture_output=True, text=True)
    assert done.stdout == "secret of the host\n"


@pytest.mark.parametrize("name", OWN)
def test_cve_2016_9962_decoys_below_it_are_covered(fresh_rootfs: Path, name: str) -> None:
    """An image with files where procfs has them: nothing is written to or read from those."""
    for path in ("sys/net/ipv4/ping_group_range", "self/uid_map", "self/attr/exec", "1/status", "self/ns/pid"):
        (fresh_rootfs / name / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh_rootfs / name / path).write_text("decoy\n")
    done = shell(fresh_rootfs, f"cat /proc/{SYSCTLS[0]} /proc/sys/{SYSCTLS[0]} /proc/self/uid_map 2>/dev/null")
    assert "decoy" not in done.stdout
    assert {row.state for row in done.enforced.values()} == {"held"}
    decoys = [path for path in (fresh_rootfs / name).rglob("*") if path.is_file()]
    assert {path.read_text() for path in decoys} == {"decoy\n"}


# ---- row 12: a sibling swaps it during the start -----------------------------------------------------------------

SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
root, name, goal = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
os.chdir(root)
done = 0
while done < goal:
    for _ in range(100):
        if libc.syscall({number}, -100, name, -100, b"other", 2):
            sys.exit(os.strerror(ctypes.get_errno()))
    done += 100
print(done)
"""


@contextmanager
def swapper(root: Path, name: str, swaps: int) -> Iterator[subprocess.Popen[str]]:
    """Another process exchanges `name` with `other` so often; in the end `name` is what it was."""
    words = [sys.executable, "-c", SWAP.replace("{number}", str(RENAMEAT2)), str(root), name, str(swaps)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["link", "directory"])
@pytest.mark.parametrize("name", OWN)
def test_cve_2025_52881_swapped_while_sysctls_are_written(
    fresh_rootfs: Path, canary: Path, times: Callable[[int], range], name: str, kind: str
) -> None:
    """Also CVE-2025-62596: sysctls, maps and scores go through descriptors of our own procfs. A start sees the
    directory or is refused; never is anything written behind a link or into a decoy. The control is the next test.
    """
    if kind == "link":
        put_link(fresh_rootfs / "other", canary)
    else:
        (fresh_rootfs / "other/sys/net/ipv4").mkdir(parents=True)
        (fresh_rootfs / "other/sys/net/ipv4/ping_group_range").write_text("decoy\n")
    seen = {"ran": 0, "refused": 0}
    with swapper(fresh_rootfs, name, len(times(100_000))) as attacker:
        while attacker.poll() is None or sum(seen.values()) < 10:
            try:
                done = shell(fresh_rootfs, f"stat -f -c %T /proc; cat /proc/sys/{SYSCTLS[0]}; cat /proc/timer_list")
                kind_of_proc, *group_range = done.stdout.split()
                assert (kind_of_proc, len(group_range)) == ("proc", 2)
                assert group_range[0] == "0"
                seen["ran"] += 1
            except pc.SetupError as error:
                if error.errno not in (2, 17, 20, 40, 116):
                    raise
                seen["refused"] += 1
        assert attacker.stdout is not None
        assert int(attacker.stdout.read()) == len(times(100_000))
    assert seen["ran"], seen
    decoys = [path for path in (fresh_rootfs / "other").rglob("*") if kind == "directory" and path.is_file()]
    assert {path.read_text() for path in decoys} <= {"decoy\n"}


def test_control_of_cve_2025_52881_a_careless_peer_writes_where_the_link_leads(shared: Path, scratch: Path) -> None:
    """The same swapper, and somebody who looks at a directory and then writes a setting in it by name."""
    outside = scratch / "outside-of-52881"
    for directory in (shared / "d/x", outside / "x"):
        directory.mkdir(parents=True)
    put_link(shared / "other", outside)
    with swapper(shared, "d", 10**9):
        assert led_astray("write", shared, outside) > 0
    shutil.rmtree(outside)


# ---- row 12: who writes to a procfs, and where -------------------------------------------------------------------

RUN = """
import sys
import pycontainer as pc
limits = pc.Limits(oom_score_adj=500)
for options in ({}, {"hostname": "box", "files": {"/in/f": b"x"}, "tty": True}):
    pc.run(["/bin/true"], image=sys.argv[1], limits=limits, **options)
"""
# A descriptor as `strace -yy` shows it, with the path that the kernel gives it in the eyes of the writer.
WRITTEN = re.compile(r"\b(?:write|pwrite64|sendfile|writev)\(\d+<([^>]+)>")
EXPECTED = [
    r"/proc/\d+/(uid_map|gid_map|setgroups|oom_score_adj)",
    *(rf"(/proc)?/sys/{re.escape(name)}" for name in SYSCTLS),
]


@pytest.mark.requires("root", "program:strace", "ptrace")
def test_cve_2025_52881_procfs_is_written_where_it_is_expected_only(fresh_rootfs: Path, tmp_path: Path) -> None:
    """Maps and the score by the keeper, two sysctls by PID 1: nothing else that lies on a procfs or looks like it."""
    put_link(fresh_rootfs / "config", "/proc/sys/kernel")
    trace = tmp_path / "trace"
    code = f"import sys; sys.path.insert(0, {worlds.package_path()!r})\n{RUN}"
    calls = "trace=write,pwrite64,writev,sendfile,pwritev"
    argv = [
        "strace",
        "-f",
        "-yy",
        "-s",
        "8",
        "-o",
        str(trace),
        "-e",
        calls,
        sys.executable,
        "-c",
        code,
        str(fresh_rootfs),
    ]
    subprocess.run(argv, check=True, timeout=110, capture_output=True)
    written = set(WRITTEN.findall(trace.read_text()))
    of_proc = {path for path in written if re.match(r"(/proc)?/(sys|\d+|self|fs|sysrq)\b|/proc", path)}
    found = {pattern for pattern in EXPECTED for path in of_proc if re.fullmatch(pattern, path)}
    assert {path for path in of_proc if not any(re.fullmatch(pattern, path) for pattern in EXPECTED)} == set()
    assert found == set(EXPECTED), (found, of_proc)
