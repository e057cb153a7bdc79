"""The defaults of a container, written down by hand and proved twice: by the probe inside, by the host's /proc outside.

The sources are docker's and podman's tables (moby daemon/pkg/oci, containers/common pkg/config).
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
import requirements
from probing import ENOENT, ENOSYS, EPERM, EROFS, Probe, Seen, capabilities, mount_at, read

pytestmark = pytest.mark.vm
TMPFS, PROC, SYSFS, OVERLAY, DEVPTS, MQUEUE = 0x01021994, 0x9FA0, 0x62656572, 0x794C7630, 0x1CD1, 0x19800202
SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
ELEVEN = 0x800405FB  # chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot setfcap
PIDS = 2048

# (mount point, type, flags that must be there, flags that may not be)
MOUNTS = [
    ("/", "overlay", "rw nosuid nodev", ""),
    ("/proc", "proc", "rw nosuid nodev noexec", ""),
    ("/sys", "sysfs", "ro nosuid nodev noexec", ""),
    ("/dev", "tmpfs", "rw nosuid noexec", "nodev"),
    ("/dev/pts", "devpts", "rw nosuid noexec", ""),
    ("/dev/shm", "tmpfs", "rw nosuid nodev noexec", ""),
    ("/dev/mqueue", "mqueue", "rw nosuid nodev noexec", ""),
]
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware", "/sys/fs/selinux", "/sys/devices/system/cpu/cpu0/thermal_throttle",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2", "/dev/ptmx": "pts/ptmx", "/dev/core": "/proc/kcore",
}  # fmt: skip
# What no container without CAP_SYS_ADMIN may call, by purpose; x86_64's numbers.
DENIED = {
    "mounts": [165, 166, 155, 428, 429, 430, 431, 432, 433, 442, 467],
    "namespaces": [272, 308],
    "keyrings": [248, 249, 250],
    "io_uring": [425, 426, 427],
    "kernel code and memory": [175, 176, 313, 246, 320, 321, 298, 323],
    "clocks, swap, power, accounting": [164, 227, 167, 168, 169, 163, 179, 443],
    "handles and foreign memory": [304, 312, 438, 440],
    "numa": [237, 238, 239, 256, 279, 450],
    "ports": [172, 173],
    "obsolete": [134, 136, 139, 156, 174, 177, 178, 180, 212],
}
# Arguments decide: (call with its arguments, what it must come to).
BY_ARGUMENT = {
    "41,38,5,0": f"errno {EPERM}",  # socket(AF_ALG)
    "41,40,1,0": f"errno {EPERM}",  # AF_VSOCK
    "41,17,3,0": f"errno {EPERM}",  # AF_PACKET
    "41,16,3,9": "errno 22",  # NETLINK_AUDIT: what a kernel without audit says
    "41,1,1,0": "ok",
    "41,2,1,0": "ok",
    "41,10,1,0": "ok",
    "41,16,3,0": "ok",
    "135,0x40000": f"errno {EPERM}",  # personality(ADDR_NO_RANDOMIZE)
    "135,0xffffffff": "ok",
    "16,0,0x5412,0": f"errno {EPERM}",  # ioctl(TIOCSTI)
    "16,0,0x541c,0": f"errno {EPERM}",  # TIOCLINUX
    "56,0x10000000": f"errno {EPERM}",  # clone(CLONE_NEWUSER)
    "56,0x20000": f"errno {EPERM}",  # CLONE_NEWNS
    "435,0,0": f"errno {ENOSYS}",  # clone3: its flags are behind a pointer
    "39": "ok",
}


@pytest.fixture(scope="module")
def seen(probe_root: Path) -> Seen:
    extra = [f"path={path}" for path in LINKS]
    return read(pc.run(["/bin/probe", "syscalls", *extra, *(f"call={call}" for call in BY_ARGUMENT)], image=probe_root))


# ---- from inside -------------------------------------------------------------------------------------------------


def test_every_guarantee_is_held(seen: Seen) -> None:
    rows = dict(seen.result.enforced)
    expected = dict.fromkeys(rows, "held")
    if requirements.missing("tmpfs-upper"):
        expected["upper"] = "degraded"
    assert {name: row.state for name, row in rows.items()} == expected, rows
    wanted = {f"namespace:{name}" for name in SPACES}
    wanted |= {"user_namespace", "capabilities", "no_new_privileges", "seccomp", "landlock", "root", "masked_paths"}
    wanted |= {"upper", "pids"}
    assert wanted <= set(rows)


def test_identity(seen: Seen) -> None:
    assert (seen["uid"], seen["gid"], set(seen["groups"]) - {0}) == ([0] * 3, [0] * 3, set())
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert capabilities(seen, name) == ELEVEN, name
    assert capabilities(seen, "CapInh") == capabilities(seen, "CapAmb") == 0
    assert (seen["no_new_privs"], seen["seccomp"], seen["securebits"]) == (1, 2, 0)
    for name in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(seen["status"][name], 16) == 0, name


def test_session(seen: Seen) -> None:
    assert (seen["pid"], seen["ppid"]) == (2, 1)
    assert seen["sid"] == seen["pgid"] == seen["pid"], "its own session, so that no terminal is near"
    assert seen["terminal"] == 6
    assert set(seen["fds"]) == {"0", "1", "2"}
    assert (seen["umask"], seen["cwd"], seen["hostname"], seen["domainname"]) == (0o022, "/", "container", "(none)")
    assert {entry.split("=")[0] for entry in seen["env"]} == {"PATH", "HOME", "HOSTNAME"}
    assert seen["interfaces"] == {"lo": True}


def test_keyring(seen: Seen) -> None:
    assert seen["keyring"] == [-1, EPERM]


def test_namespaces_are_all_new(seen: Seen) -> None:
    ours = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in SPACES}
    assert {name for name in SPACES if seen["namespaces"][name] == ours[name]} == set()
    assert len(set(seen["namespaces"].values())) == len(SPACES)


@pytest.mark.parametrize(("target", "kind", "flags", "without"), MOUNTS)
def test_mounts(seen: Seen, target: str, kind: str, flags: str, without: str) -> None:
    row = mount_at(seen, target)
    assert row[row.index("-") + 1] == kind
    have = set(row[5].split(","))
    assert set(flags.split()) <= have
    assert not set(without.split()) & have


def test_no_other_mount_and_no_word_of_the_host(seen: Seen) -> None:
    known = {row[0] for row in MOUNTS} | set(MASKED) | set(READ_ONLY) | {f"/dev/{name}" for name in DEVICES}
    targets = {line.split()[4] for line in seen["mountinfo"]}
    assert {path for path in targets - known if "thermal_throttle" not in path} - {"/sys/fs/cgroup"} == set()
    assert not [line for line in seen["mountinfo"] if os.uname().nodename + "/" in line or "/var/tmp" in line]
    assert (seen["paths"]["/dev/shm"]["fs_size"], seen["paths"]["/dev"]["fs_size"]) == (64 << 20, 64 << 10)
    assert all("shared:" not in line and "master:" not in line for line in seen["mountinfo"])


def test_masked_paths(seen: Seen) -> None:
    for path in MASKED:
        look = seen["paths"][path]
        if look.get("missing") == ENOENT:
            assert not os.path.lexists(path) or path.startswith("/proc/kcore"), path
        elif look["kind"] == "directory":
            assert (look["entries"], look["write"], look["fs_type"]) == (0, EROFS, TMPFS), path
        else:
            assert (look["kind"], look["major"], look["minor"]) == ("character", 1, 3), path


def test_read_only_paths(seen: Seen) -> None:
    present = [path for path in READ_ONLY if "missing" not in seen["paths"][path]]
    assert "/proc/sys" in present
    for path in present:
        assert seen["paths"][path]["flags"] & 1, path
    assert {errno for _, errno in seen["sysctls"].values()} <= {EROFS, 13, ENOENT}
    assert seen["sysctls"]["net/ipv4/ip_unprivileged_port_start"][0] == "0"


def test_devices(seen: Seen) -> None:
    found = {name: (device["major"], device["minor"]) for name, device in seen["devices"].items()}
    assert found == DEVICES
    for name, device in seen["devices"].items():
        assert (device["mode"], device["open"]) == (0o666, 6 if name == "tty" else 0), name
    assert seen["mknod"] == EPERM
    for path in LINKS:
        assert seen["paths"][path]["kind"] == "link", path


def test_limits(seen: Seen) -> None:
    assert seen["rlimits"]["core"] == [0, 0]
    assert seen["rlimits"]["nofile"][0] == 1024
    # Our PID 1 is one of them; a plain user's keeper is another.
    assert seen["rlimits"]["nproc"][0] in (PIDS, PIDS + 1, PIDS + 2)
    assert int(seen["oom_score_adj"]) >= int(Path("/proc/self/oom_score_adj").read_text())


def test_pid_1_is_closed_to_the_container(seen: Seen) -> None:
    for name in ("/proc/1/environ", "/proc/1/mem"):
        assert seen["paths"][name]["read"] == 13


@pytest.mark.requires("arch:x86_64")
def test_denied_calls(seen: Seen) -> None:
    found = {
        purpose: {number: seen["syscalls"][str(number)] for number in numbers} for purpose, numbers in DENIED.items()
    }
    assert found == {purpose: dict.fromkeys(numbers, f"errno {EPERM}") for purpose, numbers in DENIED.items()}
    # Beyond the table: 469 is younger than what the profile knows, 336 to 423 were never given out.
    assert seen["syscalls"]["400"] == f"errno {ENOSYS}"


@pytest.mark.requires("arch:x86_64")
def test_calls_by_argument(seen: Seen) -> None:
    assert seen["calls"] == BY_ARGUMENT


@pytest.mark.requires("arch:x86_64")
def test_what_the_filter_refuses_is_what_differs_without_it(seen: Seen, inside: Probe) -> None:
    """The control of the map: without the filter none of the denied calls is EPERM for the filter's sake."""
    bare = inside("syscalls", security=pc.Security(seccomp="unconfined"))["syscalls"]
    differ = {int(number) for number, answer in seen["syscalls"].items() if answer != bare[number]}
    denied = {number for numbers in DENIED.values() for number in numbers}
    assert differ - denied - {41, 53, 56, 435} - {181, 182, 183, 184, 185, 236, 459, 460, 461} == set()
    assert len(differ) > 40
    for number in differ:
        assert seen["syscalls"][str(number)] in (f"errno {EPERM}", f"errno {ENOSYS}")


# ---- from outside ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleeper(probe_root: Path) -> Iterator[int]:
    """The pid, on the host, of a command in a container of its own."""
    token = f"token-{secrets.token_hex(8)}"

    def start() -> None:
        pc.run(["/bin/sleep", "120"], image=probe_root, limits=pc.Limits(wall_time=100), env={"T": token})

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    pid = 0
    deadline = time.monotonic() + 30
    while not pid and time.monotonic() < deadline:
        pid = with_variable(f"T={token}") or 0
        time.sleep(0.02)
    assert pid, "the command did not appear in /proc"
    yield pid
    os.kill(pid, 9)
    thread.join(30)
    assert not thread.is_alive()


def with_variable(entry: str) -> int | None:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if entry.encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                return int(name)
        except OSError:
            continue
    return None


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_outside_status(sleeper: int) -> None:
    status = status_of(sleeper)
    assert status["NSpid"].split()[-1] == "2"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {name: int(status[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {
        "CapBnd": ELEVEN, "CapPrm": ELEVEN, "CapEff": ELEVEN, "CapInh": 0, "CapAmb": 0,
    }  # fmt: skip
    uids = {int(uid) for uid in status["Uid"].split()}
    if os.geteuid() == 0:
        assert len(uids) == 1
        assert 0x70000000 <= min(uids) < 0x7FFC0000, "root inside is nobody outside"
    else:
        assert uids == {os.geteuid()}


def test_outside_namespaces(sleeper: int) -> None:
    ours = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in SPACES}
    theirs = {name: os.stat(f"/proc/{sleeper}/ns/{name}").st_ino for name in SPACES}
    assert {name for name in SPACES if ours[name] == theirs[name]} == set()


def test_outside_descriptors_and_environment(sleeper: int) -> None:
    assert sorted(os.listdir(f"/proc/{sleeper}/fd")) == ["0", "1", "2"]
    names = {entry.split(b"=")[0] for entry in Path(f"/proc/{sleeper}/environ").read_bytes().split(b"\0") if entry}
    assert names == {b"PATH", b"HOME", b"HOSTNAME", b"T"}
    assert os.readlink(f"/proc/{sleeper}/cwd") == "/"


def test_outside_keeper_and_pid_1_are_undumpable(sleeper: int) -> None:
    """Their files in /proc belong to root then, so that nobody of the container's ids can look into them."""
    from pycontainer import _core

    keeper = _core.keeper_pid()
    assert keeper is not None
    first = int(Path(f"/proc/{sleeper}/stat").read_text().rsplit(")", 1)[1].split()[1])
    assert status_of(first)["NSpid"].split()[-1] == "1"
    for pid in (keeper[0], first):
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0
        assert status_of(pid)["Name"].startswith("pycontainer")


def test_outside_the_interpreter_is_as_it_was(sleeper: int) -> None:
    status = status_of(os.getpid())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "0")
    assert not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert os.stat("/proc/self/environ").st_uid == os.geteuid(), "it is dumpable as before"
