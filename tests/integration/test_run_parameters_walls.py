"""What network, namespaces and security do: the probe tries each wall from inside, with the default beside it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from probing import EACCES, ENOENT, EPERM, EROFS, Probe, capabilities, mount_at
from pycontainer import Security

parameter = pytest.mark.parameter
SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
CALLS = {
    "x86_64": {"unshare": 272, "getpid": 39, "getppid": 110},
    "aarch64": {"unshare": 97, "getpid": 172, "getppid": 173},
}
CLONE_NEWUTS, CLONE_NEWUSER = 0x04000000, 0x10000000


def inode(pid: int | str, name: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino


def shared(seen: dict[str, Any]) -> set[str]:
    return {name for name in SPACES if seen["namespaces"].get(name) == inode("self", name)}


def number(name: str) -> int:
    return CALLS[os.uname().machine][name]


@parameter("run.network")
def test_network_none_has_loopback_only_and_host_has_ours(inside: Probe) -> None:
    assert inside()["interfaces"] == {"lo": True}
    seen = inside(network="host")
    assert set(seen["interfaces"]) == set(os.listdir("/sys/class/net")) - {"bonding_masters"}
    assert shared(seen) == {"net"}
    assert shared(inside(network="none")) == set()


@parameter("run.namespaces")
@pytest.mark.parametrize("name", ["cgroup", "ipc", "time", "uts"])
def test_a_namespace_can_be_the_host_s(inside: Probe, name: str) -> None:
    seen = inside(namespaces={name: "host"})
    assert shared(seen) == {name}
    assert seen.result.enforced[f"namespace:{name}"].state == "held"


@pytest.mark.requires("pen")
def test_the_pid_namespace_of_the_host_shows_its_processes_read_only(inside: Probe) -> None:
    seen = inside(f"path=/proc/{os.getpid()}", namespaces={"pid": "host"})
    assert shared(seen) == {"pid"}
    assert seen["paths"][f"/proc/{os.getpid()}"]["kind"] == "directory"
    assert "ro" in mount_at(seen, "/proc")[5].split(",")


def test_the_uts_namespace_of_the_host_has_its_name_and_cannot_be_changed(inside: Probe, probe_root: Path) -> None:
    assert inside(namespaces={"uts": "host"})["hostname"] == os.uname().nodename
    everything = Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
    tried = pc.run(["/bin/hostname", "taken"], image=probe_root, namespaces={"uts": "host"}, security=everything)
    assert tried.returncode != 0
    assert os.uname().nodename != "taken"


@pytest.mark.requires("root")
def test_a_namespace_can_be_that_of_a_process(inside: Probe) -> None:
    ready, wait = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            import machine

            machine.unshare(CLONE_NEWUTS)
            os.write(ready[1], b"1")
            os.read(wait[0], 1)
        finally:
            os._exit(0)
    try:
        os.read(ready[0], 1)
        seen = inside(namespaces={"uts": pid})
        assert seen["namespaces"]["uts"] == inode(pid, "uts") != inode("self", "uts")
    finally:
        os.write(wait[1], b"1")
        os.waitpid(pid, 0)
        for fd in (*ready, *wait):
            os.close(fd)


@pytest.fixture
def neighbour(rootfs: Path) -> Iterator[int]:
    """The pid, here, of the command of another container of this interpreter's."""
    marker = f"neighbour-{os.getpid()}"
    read, write = os.pipe()
    argv = ["sh", "-c", "read line", marker]
    thread = threading.Thread(target=pc.run, args=(argv,), kwargs={"image": rootfs, "stdin": read, "hostname": "other"})
    thread.start()
    found: list[int] = []
    deadline = time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        found = [int(name) for name in filter(str.isdigit, os.listdir("/proc")) if marker in command_of(name)]
        time.sleep(0.02)
    assert found, "the command did not appear in /proc"
    yield found[0]
    os.close(write)
    thread.join(30)
    os.close(read)


def command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.requires("user")
@pytest.mark.refuses("run.namespaces")
@pytest.mark.parametrize("name", ["cgroup", "ipc", "pid", "time", "uts"])
def test_a_plain_user_s_keeper_goes_nowhere_from_where_it_could_not_return(
    neighbour: int, rootfs: Path, name: str
) -> None:
    """It has the power to enter: that namespace belongs to its own user namespace. Where it came from does not."""
    assert inode(neighbour, name) != inode("self", name)
    with pytest.raises(pc.NotSupported, match=r"must be able to come back.*run as root|cgroup\.kill"):
        pc.run(["true"], image=rootfs, namespaces={name: neighbour})
    if name != "pid":
        done = pc.run(["readlink", f"/proc/self/ns/{name}"], image=rootfs, namespaces={name: "host"}, text=True)
        assert done.stdout.strip() == os.readlink(f"/proc/self/ns/{name}")
    assert pc.run(["true"], image=rootfs, check=True).enforced["namespace:pid"].state == "held"


@parameter("run.security", "security.capabilities")
def test_capabilities_are_the_whole_set(inside: Probe) -> None:
    seen = inside(security=Security(capabilities={"CAP_CHOWN", "sys_ptrace"}))
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert capabilities(seen, name) == 1 << 0 | 1 << 19
    assert capabilities(seen, "CapInh") == capabilities(seen, "CapAmb") == 0
    none = inside(security=Security(capabilities=()))
    assert capabilities(none, "CapBnd") == capabilities(none) == 0
    assert none["uid"] == [0] * 3


@parameter("security.seccomp")
def test_seccomp_is_the_default_none_or_the_caller_s(inside: Probe) -> None:
    call = f"{number('unshare')},{CLONE_NEWUSER}"
    assert inside(f"call={call}")["calls"][call] == f"errno {EPERM}"
    open_ = inside(f"call={call}", security=Security(seccomp="unconfined"))
    assert (open_["seccomp"], open_["status"]["Seccomp_filters"]) == (0, "0")
    assert open_["calls"][call] == "ok"
    own = pc.Seccomp(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}],
        }
    )
    seen = inside(f"call={number('getppid')}", f"call={number('getpid')}", security=Security(seccomp=own))
    assert seen["calls"] == {str(number("getppid")): "errno 99", str(number("getpid")): "ok"}
    assert seen["seccomp"] == 2


@parameter("security.no_new_privileges")
def test_no_new_privileges_can_be_left_out(inside: Probe) -> None:
    on, off = inside(), inside(security=Security(no_new_privileges=False))
    assert (on["no_new_privs"], off["no_new_privs"]) == (1, 0)
    assert "nosuid" in mount_at(on, "/")[5].split(",")
    assert "nosuid" not in mount_at(off, "/")[5].split(",")
    assert off["seccomp"] == 2, "the filter is there all the same"
    assert capabilities(off, "CapBnd") == capabilities(on, "CapBnd")


@parameter("security.user_namespace")
@pytest.mark.requires("root")
def test_user_namespace_is_a_range_the_host_s_or_the_caller_s(inside: Probe) -> None:
    first, base, count = map(int, inside()["uid_map"][0].split())
    assert (first, count) == (0, 65536)
    assert base >= 0x70000000
    host = inside(security=Security(user_namespace="host"))
    assert shared(host) == {"user"}
    assert host["uid_map"] == Path("/proc/self/uid_map").read_text().splitlines()
    seen = inside(security=Security(user_namespace=pc.IdMap(0, 3_000_000, 2000)))
    assert [line.split() for line in seen["uid_map"]] == [["0", "3000000", "2000"]]
    assert [line.split() for line in seen["gid_map"]] == [["0", "3000000", "2000"]]


@parameter("security.landlock")
@pytest.mark.requires("landlock>=2")
def test_landlock_is_a_wall_around_a_descriptor_that_leads_out(inside: Probe, tmp_path: Path) -> None:
    """A directory of the host, passed as a descriptor: beneath it everything could be opened."""
    (tmp_path / "outside").write_text("x")
    tmp_path.chmod(0o755)
    (tmp_path / "outside").chmod(0o644)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        word = f"{fd}:outside"
        opened = {
            landlock: inside(f"open={word}", pass_fds=[fd], security=Security(landlock=landlock))["opens"][word]
            for landlock in (None, True, False)
        }
    finally:
        os.close(fd)
    assert opened == {None: EACCES, True: EACCES, False: 0}


@parameter("security.masked_paths")
def test_masked_paths_are_what_is_said(inside: Probe) -> None:
    words = [f"path={path}" for path in ("/etc/passwd", "/bin", "/proc/version")]
    masked = Security(masked_paths=["/etc/passwd", "/var", "/not/there"])
    seen = inside(*words, "path=/var", security=masked)["paths"]
    assert (seen["/etc/passwd"]["kind"], seen["/etc/passwd"]["major"], seen["/etc/passwd"]["minor"]) == (
        "character",
        1,
        3,
    )
    assert (seen["/var"]["entries"], seen["/var"]["write"]) == (0, EROFS)
    assert seen["/proc/keys"]["kind"] == "file", "the list is the whole list"
    plain = inside(*words, "path=/var")["paths"]
    assert (plain["/etc/passwd"]["kind"], plain["/var"]["write"]) == ("file", 0)
    assert plain["/proc/keys"]["kind"] == "character"


@parameter("security.readonly_paths")
def test_readonly_paths_are_what_is_said(inside: Probe) -> None:
    seen = inside("path=/var", "path=/etc/passwd", security=Security(readonly_paths=["/var", "/etc/passwd", "/no"]))[
        "paths"
    ]
    assert (seen["/var"]["write"], seen["/etc/passwd"]["write"]) == (EROFS, EROFS)
    assert (seen["/etc/passwd"]["read"], seen["/tmp"]["write"]) == (0, 0)
    assert seen["/proc/sys"]["flags"] & 1 == 0, "the list is the whole list"
    assert inside()["paths"]["/proc/sys"]["flags"] & 1 == 1


@parameter("security.devices")
@pytest.mark.requires("path:/dev/fuse")
def test_devices_of_this_machine_can_be_given(inside: Probe) -> None:
    host = os.stat("/dev/fuse")
    seen = inside(security=Security(devices=["/dev/fuse"]))["devices"]
    assert (seen["fuse"]["major"], seen["fuse"]["minor"]) == (os.major(host.st_rdev), os.minor(host.st_rdev))
    if host.st_mode & 0o006 == 0o006:
        assert seen["fuse"]["open"] == 0
    assert "fuse" not in inside()["devices"]
    assert set(seen) - {"fuse"} == set(inside()["devices"])


@pytest.mark.requires("path:/dev/net/tun")
def test_a_device_can_lie_in_a_directory(inside: Probe) -> None:
    seen = inside("path=/dev/net/tun", security=Security(devices=["/dev/net/tun"]))["paths"]["/dev/net/tun"]
    host = os.stat("/dev/net/tun").st_rdev
    assert (seen["kind"], seen["major"], seen["minor"]) == ("character", os.major(host), os.minor(host))


def test_strict_is_no_capability_no_network_and_a_read_only_root(inside: Probe) -> None:
    seen = inside(security=Security.strict())
    assert capabilities(seen, "CapBnd") == 0
    assert seen["interfaces"] == {"lo": True}
    assert seen["paths"]["/"]["write"] == EROFS
    assert seen["paths"]["/dev/console"] == {"missing": ENOENT}
