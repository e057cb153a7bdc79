"""What a test can ask of the machine, in one vocabulary; every answer is probed for real, none is read from a version.

A test says `@pytest.mark.requires("root", "cgroup1:memory", "kernel>=5.14")`. `missing(word)` is None where
the machine has it, else the reason that a skip prints. Imports pycontainer only to ask for its test build.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pace
from machine import CLONE_NEWUSER, idmapped, in_child, libc, mount, unshare, waiting_user_namespace
from programs.stores import project_quota

CGROUP = Path("/sys/fs/cgroup")
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
LANDLOCK_CREATE_RULESET_VERSION = 1
SYS_LANDLOCK_CREATE_RULESET = 444


# ---- words without an argument -----------------------------------------------------------------------------------


def layer_size() -> str | None:
    """Whether the driver under test holds a writable layer to its size (tests/conftest.py)."""
    driver = os.environ.get("PYCONTAINER_STORAGE_DRIVER", "overlay")
    if driver in ("overlay", "fuse-overlayfs"):
        return None
    if why := root() or loop() or at_least("kernel", ">=", "6.15"):
        return f"{driver} bounds a copy by a loop file: {why}"
    return None


def traced_root() -> str | None:
    """Whether a tracer of all that the keeper starts can read what those have in memory of the root file system."""
    served = os.environ.get("PYCONTAINER_STORAGE_DRIVER") == "fuse-overlayfs"
    return "it would wait for the program that shows the root, which waits for it" if served else None


def fuse_overlayfs() -> str | None:
    """The program where the engine looks for it, and its device."""
    if not any(os.access(f"{place}/fuse-overlayfs", os.X_OK) for place in ("/usr/bin", "/bin", "/usr/local/bin")):
        return "fuse-overlayfs is not installed"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return None


def no_btrfs() -> str | None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", scratch()], check=True, capture_output=True, text=True).stdout
    return "stores of the tests lie on one" if kind.strip() == "btrfs" else None


def root() -> str | None:
    return None if os.geteuid() == 0 else "runs as a plain user"


def user() -> str | None:
    return None if os.geteuid() else "runs as root"


def userns() -> str | None:
    return in_child(lambda: unshare(CLONE_NEWUSER))


def overlay_userns() -> str | None:
    uid, gid = os.geteuid(), os.getegid()

    def overlay() -> None:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path("/proc/self", name).write_text(text)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("tmpfs", "/tmp", "tmpfs", 0)
        for name in "luw":
            os.mkdir(f"/tmp/{name}")
        mount("overlay", "/tmp", "overlay", 0, "lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w,userxattr")

    return in_child(overlay)


def mounts_of(kind: str) -> list[tuple[Path, str]]:
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(Path(row[1]), row[3]) for row in rows if row[2] == kind]


def unified() -> str | None:
    return None if mounts_of("cgroup2") else "no cgroup2 file system is mounted"


def cgroup2() -> str | None:
    if CGROUP not in [path for path, _ in mounts_of("cgroup2")]:
        return f"{CGROUP} is not cgroup2"
    return None if (CGROUP / "cgroup.controllers").read_text().strip() else "cgroup2 has no controllers"


def hybrid() -> str | None:
    if not any("memory" in options.split(",") for _, options in mounts_of("cgroup")):
        return "the memory controller is not on cgroup v1"
    return unified()


def own_group() -> Path | None:
    """This process's group on the unified hierarchy, as a directory."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = [line[3:] for line in lines if line.startswith("0::")]
    places = mounts_of("cgroup2")
    return places[0][0] / paths[0].lstrip("/") if paths and places else None


def pen() -> str | None:
    """A group of the unified hierarchy can be made and entered: as root anywhere, else beside our own. With cgroup v2
    alone it is to hold limits too.
    """
    if os.geteuid() == 0:
        return unified()
    return delegated() if cgroup2() is None else beside_ours()


def delegated() -> str | None:
    """A group above ours that we may fill, with at least memory and pids in it; ours is a leaf of it."""
    group = own_group()
    if group is None or (reason := beside_ours()):
        return reason if group else unified()
    have = set((group.parent / "cgroup.controllers").read_text().split())
    lacking = {"memory", "pids"} - have
    return f"{group.parent} was not given {', '.join(sorted(lacking))}" if lacking else None


def beside_ours() -> str | None:
    """A group can be made beside ours, and a process of ours moved into it."""
    group = own_group()
    if group is None or not (group.parent / "cgroup.procs").exists():
        return unified() or "this process sits in the root group"
    probe = group.parent / f"probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError as error:
        return f"cannot make a group beside {group}: {error.strerror}"
    probe.rmdir()
    entered = os.access(group.parent / "cgroup.procs", os.W_OK)
    return None if entered else f"{group.parent} is not ours to move processes in"


def subuid() -> str | None:
    """newuidmap writes a range for this user: the set-id bit or capability, /etc/subuid and the kernel agree."""
    if not shutil.which("newuidmap"):
        return "newuidmap is not installed"
    import pwd

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()} has no account, and so no range"
    rows = [row.split(":") for row in Path("/etc/subuid").read_text().split()] if Path("/etc/subuid").exists() else []
    mine = [row for row in rows if row[0] in (name, str(os.geteuid()))]
    if not mine:
        return f"/etc/subuid has no range for {name}"
    with waiting_user_namespace() as pid:
        argv = ["newuidmap", str(pid), "0", str(os.geteuid()), "1", "1", mine[0][1], "10"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else f"newuidmap: {done.stderr.strip()}"


def ids() -> str | None:
    """A container can have more ids than one: as root, or with a range of subordinate ids."""
    return None if os.geteuid() == 0 else subuid()


def postgresql_programs() -> str | None:
    """Where Debian and Ubuntu have the server and its tools, the newest of them."""
    return max((str(path.parent) for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")), default=None)


def postgresql() -> str | None:
    return None if postgresql_programs() else "the package postgresql is not installed"


def one_id() -> str | None:
    """About a plain user without a range: everything inside belongs to one id."""
    return None if ids() else "a container has more ids than one here"


def plain_user() -> str | None:
    """The account that tests of a plain user's side run as, started by root, with a Python that it can use."""
    import house

    if not house.user_exists(house.USER):
        return f"there is no user {house.USER}"
    return None if house.python_for_user() else f"no Python here can be started by {house.USER}"


def disk() -> str | None:
    """The scratch directory lies on a disk, or a part of one: not in memory, not on an overlay."""
    number = os.stat(scratch()).st_dev
    device = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    return None if os.path.exists(device) else f"{scratch()} lies on no disk"


def no_swap() -> str | None:
    lines = Path("/proc/swaps").read_text().splitlines()
    return None if len(lines) < 2 else "this machine has swap"


def tmpfs_upper() -> str | None:
    """The writable layer can lie in memory: as root always, for a plain user from Linux 6.6."""
    return None if os.geteuid() == 0 else at_least("kernel", ">=", "6.6")


def idmap() -> str | None:
    """The file system of the tests' scratch directory can be mounted with shifted ids (root only)."""
    with tempfile.TemporaryDirectory(dir=scratch()) as source:
        return idmap_of(source)


def idmap_of(source: str) -> str | None:
    if os.geteuid():
        return "an idmapped mount needs root"
    with waiting_user_namespace() as pid:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 1879048192 65536")
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return in_child(lambda: idmapped(source.encode(), namespace))
        finally:
            os.close(namespace)


def landlock() -> str | None:
    return at_least("landlock", ">=", "1")


def ptrace() -> str | None:
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "/bin/true"], check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace: {done.stderr.strip()[-200:]}"


def loop() -> str | None:
    try:
        with open("/dev/loop-control", "rb"):
            return None
    except OSError as error:
        return f"/dev/loop-control: {error.strerror}"


def swap() -> str | None:
    """Swap can be limited: v1 swap accounting, or the memory.swap.max of a cgroup2 group that has memory."""
    if (CGROUP / "memory" / "memory.memsw.limit_in_bytes").exists():
        return None
    if reason := cgroup_v2("memory"):
        return reason
    group = own_group()
    if os.geteuid() and group is not None:
        return existing(str(group.parent / "memory.swap.max"))
    (CGROUP / "cgroup.subtree_control").write_text("+memory")  # as the engine does it
    probe = CGROUP / f"probe-{os.getpid()}"
    probe.mkdir()
    try:
        return existing(str(probe / "memory.swap.max"))
    finally:
        probe.rmdir()


def docker() -> str | None:
    if not shutil.which("docker"):
        return "docker is not installed"
    done = subprocess.run(["docker", "info"], check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else "no docker daemon answers"


def seams() -> str | None:
    """The installed extension was built with the feature `test-seams`."""
    try:
        from pycontainer import _core
    except ImportError as error:
        return f"pycontainer is not installed: {error}"
    return None if getattr(_core, "TEST_SEAMS", False) else "pycontainer was built without its test seams"


# ---- words with an argument --------------------------------------------------------------------------------------


def cgroup_v1(controller: str) -> str | None:
    """A v1 hierarchy with this controller, in which we can make a group."""
    for path, options in mounts_of("cgroup"):
        if controller in options.split(","):
            probe = path / f"probe-{os.getpid()}"
            try:
                probe.mkdir()
            except OSError as error:
                return f"{path}: {error.strerror}"
            probe.rmdir()
            return None
    return f"no cgroup v1 hierarchy has {controller}"


def cgroup_v2(controller: str) -> str | None:
    """A unified group that we make can have it: below the root of the hierarchy as root, else beside our own group."""
    if reason := unified():
        return reason
    if os.geteuid() and (reason := delegated()):
        return reason
    group = own_group()
    place = mounts_of("cgroup2")[0][0] if os.geteuid() == 0 or group is None else group.parent
    have = (place / "cgroup.controllers").read_text().split()
    return None if controller in have else f"{place} does not have {controller}"


def controller(name: str) -> str | None:
    """A group that we make can have it, in whichever version."""
    reason = cgroup_v1("blkio" if name == "io" else name)
    return None if reason is None else cgroup_v2(name)


def program(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not installed"


def module(name: str) -> str | None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the package that it would be in is not there
        found = None
    return None if found else f"the Python module {name} is not installed"


def library(name: str) -> str | None:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return None


def existing(path: str) -> str | None:
    return None if os.path.exists(path) else f"{path} does not exist"


def architecture(name: str) -> str | None:
    return None if platform.machine() == name else f"this machine is {platform.machine()}"


def emulated() -> str | None:
    """The machine is thrown away after the run, so its settings are ours to change."""
    return None if pace.PACE > 1 else "this machine's settings are not ours to change"


def scheduler(name: str) -> str | None:
    """Every disk can have this I/O scheduler, and may: only an emulated machine's are ours to change."""
    if reason := emulated():
        return reason
    files = [path for path in Path("/sys/block").glob("vd*/queue/scheduler")]
    return None if files and all(name in path.read_text() for path in files) else f"no disk can have {name}"


CAPABILITIES = {"DAC_READ_SEARCH": 2, "NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_RESOURCE": 24}


def capability(name: str) -> str | None:
    held = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    if held and int(held[1], 16) >> CAPABILITIES[name] & 1:
        return None
    return f"this process lacks CAP_{name}"


def figures() -> dict[str, tuple[int, ...]]:
    """What the words with a comparison are compared with."""
    release = re.findall(r"\d+", platform.release())
    abi = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return {
        "kernel": tuple(int(part) for part in release[:2]),
        "python": sys.version_info[:2],
        "landlock": (max(abi, 0),),
        "cpus": (len(os.sched_getaffinity(0)),),
        "memory_mib": (memory,),
        "nofile": (resource.getrlimit(resource.RLIMIT_NOFILE)[1],),
    }


def at_least(name: str, sign: str, wanted: str) -> str | None:
    have, want = figures()[name], tuple(int(part) for part in wanted.split("."))
    holds = have[: len(want)] >= want if sign == ">=" else have[: len(want)] < want
    return None if holds else f"{name} is {'.'.join(map(str, have))}, wanted {sign}{wanted}"


PLAIN: dict[str, Callable[[], str | None]] = {
    "root": root, "user": user, "userns": userns, "overlay-userns": overlay_userns, "unified": unified,
    "cgroup2": cgroup2, "hybrid": hybrid, "delegated": delegated, "subuid": subuid, "idmap": idmap, "ids": ids,
    "landlock": landlock, "ptrace": ptrace, "loop": loop, "swap": swap, "docker": docker, "seams": seams,
    "tmpfs-upper": tmpfs_upper, "one-id": one_id, "plain-user": plain_user, "disk": disk, "no-swap": no_swap,
    "pen": pen, "layer-size": layer_size, "no-btrfs": no_btrfs, "emulated": emulated, "postgresql": postgresql,
    "fuse-overlayfs": fuse_overlayfs, "traced-root": traced_root,
    "seccomp.json": lambda: existing("/usr/share/containers/seccomp.json"),
}  # fmt: skip
WITH_ARGUMENT: dict[str, Callable[[str], str | None]] = {
    "cgroup1": cgroup_v1, "cgroup2": cgroup_v2, "controller": controller, "program": program, "module": module,
    "library": library, "path": existing, "arch": architecture, "cap": capability, "project-quota": project_quota,
    "idmap": idmap_of,
    "scheduler": scheduler,
}  # fmt: skip
COMPARISON = re.compile(r"(kernel|python|landlock|cpus|memory_mib|nofile)(>=|<)(\d+(?:\.\d+)?)")


def known(word: str) -> bool:
    """Whether it is a word of this vocabulary; any argument will do."""
    name, _, argument = word.partition(":")
    with_argument = argument and name in WITH_ARGUMENT and (name != "cap" or argument in CAPABILITIES)
    return word in PLAIN or bool(with_argument or COMPARISON.fullmatch(word))


@functools.cache
def missing(word: str) -> str | None:
    """None where this machine has `word`; else why not. LookupError: no such word."""
    if not known(word):
        raise LookupError(f"unknown requirement {word!r}; the words are in tests/requirements.py")
    if word in PLAIN:
        return PLAIN[word]()
    if compared := COMPARISON.fullmatch(word):
        return at_least(*compared.groups())
    name, _, argument = word.partition(":")
    return WITH_ARGUMENT[name](argument)


def scratch() -> str:
    """Where tests put layers: in the emulated kernel / is an overlay, and this a real file system."""
    return os.environ.get("PYCONTAINER_TEST_TMP", "/var/tmp")


def kind() -> str:
    """The kind of this run, as the list of skips names it: who runs it, and the machine's cgroups."""
    groups = "v2" if cgroup2() is None else "hybrid" if hybrid() is None else "v1"
    if os.geteuid() == 0:
        return f"root-{groups}"
    return f"{'delegated' if pen() is None else 'user'}-{groups}"
