"""`Result.enforced`: what the kernel said of the container after exec, as rows. Reads no file."""

from __future__ import annotations

from pycontainer._causes import NATIVE
from pycontainer._result import Guarantee
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import FrozenMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from pycontainer._limits import Limits

    # What the kernel said, rows (name, state, by, why, fix) of the groups, what was asked.
    Sources: TypeAlias = tuple[dict[str, Any], list[tuple[str, ...]], dict[str, Any]]

ALL_CAPABILITIES = (1 << 41) - 1
ST_RDONLY, ST_NOSUID, ST_NODEV = 1, 2, 4
NOT_ALL_MAPPED = 2  # rust/src/wire.rs, mapped
DEFAULT_PIDS = 2048  # rust/src/spawn/plan.rs
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


class Enforced(FrozenMap[str, Guarantee]):
    """A mapping of guarantees, made of the evidence when somebody first looks: most runs end without."""

    __slots__ = ("_read", "_rows")

    def __init__(self, read: Callable[[], Sources]) -> None:
        self._read: Callable[[], Sources] | None = read
        self._rows: dict[str, Guarantee] = {}

    @property
    def _items(self) -> dict[str, Guarantee]:  # type: ignore[override]
        read = self._read
        if read is not None:
            evidence, held, asked = read()
            rows = [*_of_kernel(evidence, asked), *(Guarantee(*row) for row in held)]
            self._rows = {row.name: row for row in rows}
            self._read = None
        return self._rows


def _of_kernel(seen: dict[str, Any], asked: dict[str, Any]) -> Iterator[Guarantee]:
    status = _status(seen["status"])
    yield from _namespaces(seen, asked)
    yield _user_namespace(seen, asked)
    yield _capabilities(status, asked)
    yield _flag("no_new_privileges", status.get("NoNewPrivs") == "1", asked["no_new_privileges"])
    yield _flag("seccomp", status.get("Seccomp") == "2", asked["seccomp"])
    yield _landlock(seen["landlock"], asked)
    yield _root(seen, asked)
    yield _masks(seen["uncovered"], asked)
    yield _upper(seen, asked)
    if seen["mapped"]:
        yield _idmapped_mounts(seen["mapped"])
    if (pids := _pids(seen, asked)) is not None:
        yield pids
    if seen["group_paths"]:
        yield _cgroup(seen)
    yield from _asked_limits(seen, asked)


def _status(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _row(name: str, held: bool, by: str, why: str, fix: str = "") -> Guarantee:
    return Guarantee(name, "held", by) if held else Guarantee(name, "missing", "", why, fix)


def _namespaces(seen: dict[str, Any], asked: dict[str, Any]) -> Iterator[Guarantee]:
    for name in NAMESPACES:
        inode, own = seen[f"ns:{name}"], asked["own_namespaces"].get(name, 0)
        wanted = asked["namespaces"].get(name, "new")
        if name == "user" and asked["user_namespace"] == "host":
            wanted = "host"
        key = f"namespace:{name}"
        if not inode:
            yield Guarantee(key, "missing", "", "it could not be read after exec")
        elif wanted == "host":
            yield _row(key, inode == own, "shared with the host, as asked", "it is not the host's")
        elif wanted != "new":
            yield _row(key, inode != own, f"that of process {wanted}, as asked", "it is the host's")
        elif inode == own:
            why = "it is the host's" if name != "time" else "this kernel has none to give"
            yield Guarantee(key, "missing", "", why)
        else:
            yield Guarantee(key, "held", f"{name}:[{inode}]")


def _user_namespace(seen: dict[str, Any], asked: dict[str, Any]) -> Guarantee:
    fields = seen["uid_map"].split()
    if asked["user_namespace"] == "host":
        return Guarantee("user_namespace", "held", "the host's, as asked")
    if len(fields) < 3:
        return Guarantee("user_namespace", "missing", "", "its map could not be read after exec")
    firsts, counts = [int(field) for field in fields[1::3]], [int(field) for field in fields[2::3]]
    if seen["rootless"]:
        return Guarantee("user_namespace", "held", f"this user's, {_ids(sum(counts))}")
    by = ", ".join(f"{_ids(count)} from {first}" for first, count in zip(firsts, counts, strict=False))
    return _row("user_namespace", 0 not in firsts, by, "an id inside is root outside")


def _ids(count: int) -> str:
    return f"{count} id{'s' if count > 1 else ''}"


def _capabilities(status: dict[str, str], asked: dict[str, Any]) -> Guarantee:
    wanted = asked["capabilities"]
    sets = {name: int(status.get(name, "0") or "0", 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    exact = bool(status) and sets["CapBnd"] & ALL_CAPABILITIES == wanted and not sets["CapInh"] and not sets["CapAmb"]
    beyond = (sets["CapPrm"] | sets["CapEff"]) & ~wanted
    return _row("capabilities", exact and not beyond, f"CapBnd {sets['CapBnd']:016x}", f"the kernel says {sets}")


def _flag(name: str, on: bool, asked: bool) -> Guarantee:
    if not asked:
        return Guarantee(name, "held", "off, as asked")
    return _row(name, on, "the kernel", "it is off after exec")


def _landlock(abi: int, asked: dict[str, Any]) -> Guarantee:
    if asked["landlock"] is False:
        return Guarantee("landlock", "held", "off, as asked")
    if asked["capabilities"] >> 21 & 1:
        return Guarantee("landlock", "missing", "", "left out, since CAP_SYS_ADMIN could not mount under it")
    return _row("landlock", abi >= 2, f"ABI {abi}", *NATIVE["no_landlock"])


def _root(seen: dict[str, Any], asked: dict[str, Any]) -> Guarantee:
    if (of := _view(asked)) is not None:
        return Guarantee("root", "missing", "", f"the mount namespace is {of}, as asked: there is no root of its own")
    flags = seen["mount_flags"]
    wanted = ST_NODEV | (ST_NOSUID if asked["no_new_privileges"] else 0) | (ST_RDONLY if asked["read_only"] else 0)
    by = "nodev" + (",nosuid" if flags & ST_NOSUID else "") + (",ro" if flags & ST_RDONLY else "")
    if not seen["is_root"]:
        return Guarantee("root", "missing", "", "paths do not begin at it, or the old root is still there")
    return _row("root", flags & wanted == wanted, by, f"its mount flags are {flags:#x}")


def _view(asked: dict[str, Any]) -> str | None:
    """Whose mounts the command has, if not its own."""
    whose = asked["namespaces"].get("mnt", "new")
    return None if whose == "new" else "the host's" if whose == "host" else f"that of process {whose}"


def _masks(uncovered: list[str], asked: dict[str, Any]) -> Guarantee:
    if (of := _view(asked)) is not None:
        return Guarantee("masked_paths", "missing", "", f"the mount namespace is {of}, where nothing is mounted")
    return _row("masked_paths", not uncovered, "mounts", f"not covered: {', '.join(uncovered)}")


_COPIED = (
    "the storage driver here copies, and bounds nothing of what is written",
    'pycontainer.doctor()["storage"] says why; upper="disk" takes it as it is',
)


_BY_PROGRAM = "by fuse-overlayfs"
_SERVED = (
    "a process outside of the container's group writes the layer: it has its size, and is not in limits.memory",
    'pycontainer.doctor()["storage"] says why; upper="disk" takes it from there',
)


def _upper(seen: dict[str, Any], asked: dict[str, Any]) -> Guarantee:
    if (of := _view(asked)) is not None:
        return Guarantee("upper", "missing", "", f"the mount namespace is {of}: what is written is written there")
    if seen["copied"]:
        by = "a copy of the image in the store"
        if asked["upper"] == "disk":
            return Guarantee("upper", "held", by)
        return Guarantee("upper", "degraded", by, *_COPIED)
    if seen["upper_in_memory"]:
        if seen["served"]:
            return Guarantee("upper", "degraded", f"tmpfs, {_BY_PROGRAM}", *_SERVED)
        return Guarantee("upper", "held", "tmpfs")
    if seen["served"] and (asked["upper"] == "disk" or seen["disk_bound"]):
        where = "a file system of its own" if seen["disk_bound"] == "loop file" else "a directory"
        return Guarantee("upper", "held", f"{where} in the store, {_BY_PROGRAM}")
    if seen["disk_bound"] == "loop file":
        return Guarantee("upper", "held", "a file system of its own in the store")
    if asked["upper"] == "disk":
        return Guarantee("upper", "held", "a directory in the store")
    by = f"a directory in the store, {_BY_PROGRAM}" if seen["served"] else "a directory in the store"
    return Guarantee("upper", "degraded", by, "a rootless tmpfs layer needs Linux 6.6", "Linux 6.6")


def _idmapped_mounts(mapped: int) -> Guarantee:
    """Of read-only binds; an image or a writable bind that cannot be mapped ends the start."""
    if mapped == NOT_ALL_MAPPED:
        by = "a read-only bind whose files keep the owners that they have outside"
        return Guarantee("idmapped_mounts", "degraded", by, *NATIVE["no_idmap"])
    return Guarantee("idmapped_mounts", "held", "mount_setattr")


def _pids(seen: dict[str, Any], asked: dict[str, Any]) -> Guarantee | None:
    if asked["pids"] is not None and asked["pids_by_group"]:
        return None  # a row of the control group
    if asked["pids"] is not None and asked["pids"] == float("inf"):
        return Guarantee("pids", "held", "lifted, as asked")
    wanted = DEFAULT_PIDS if asked["pids"] is None else asked["pids"]
    beside = seen["served"] and not seen["rootless"]
    bounded = seen["nproc"] <= wanted + 1 + beside  # our own PID 1, and the program that shows the root
    return _row("pids", bounded, "the user namespace's own task limit", "no bound on tasks is in force")


def _cgroup(seen: dict[str, Any]) -> Guarantee:
    text = seen["cgroup"].decode("utf-8", "replace")
    names = {path.rsplit("/", 1)[-1] for path in seen["group_paths"]}
    joined = sum(line.rsplit("/", 1)[-1] in names for line in text.splitlines())
    return _row("cgroup", joined >= len(seen["group_paths"]), ", ".join(seen["group_paths"]), f"it is in {text!r}")


def _asked_limits(seen: dict[str, Any], asked: dict[str, Any]) -> Iterator[Guarantee]:
    """Limits without a group: what the kernel keeps is compared with it, the rest is our own doing."""
    broken = {"rlimits": _rlimits_beyond, "oom_score_adj": _other_score, "disk": _larger_than_asked}
    for name, by in asked["kept"].items():
        why = broken[name](seen, asked["said"]) if name in broken else ""
        yield _row(name, not why, (name == "disk" and seen["disk_bound"]) or by, why)


# /proc/PID/limits, fs/proc/base.c: lnames
_LIMITS = {
    "cpu": "Max cpu time", "fsize": "Max file size", "data": "Max data size", "stack": "Max stack size",
    "core": "Max core file size", "rss": "Max resident set", "nproc": "Max processes", "nofile": "Max open files",
    "memlock": "Max locked memory", "as": "Max address space", "locks": "Max file locks",
    "sigpending": "Max pending signals", "msgqueue": "Max msgqueue size", "nice": "Max nice priority",
    "rtprio": "Max realtime priority", "rttime": "Max realtime timeout",
}  # fmt: skip


def _rlimits_beyond(seen: dict[str, Any], said: Limits) -> str:
    """Hard limits only: below them a command may set its own, and may have done so before we looked."""
    lines = seen["rlimits"].decode("ascii", "replace").splitlines()
    hard = {line[:26].rstrip(): line[26:].split()[1:2] for line in lines}
    for name, (_, most) in (said.rlimits or {}).items():
        found = hard.get(_LIMITS[name], [])
        number = float("inf") if found == ["unlimited"] else float(found[0]) if found else None
        if number is None or number > most:
            return f"{name} is {found[0] if found else 'unknown'} after exec"
    return ""


def _other_score(seen: dict[str, Any], said: Limits) -> str:
    found = seen["oom_score_adj"].decode("ascii", "replace").strip()
    return "" if found == str(said.oom_score_adj) else f"it is {found or 'unknown'} after exec"


def _larger_than_asked(seen: dict[str, Any], said: Limits) -> str:
    """The size of the layer: in memory of whole pages; on the disk with our own directories, and the 2 % of ext4."""
    if said.disk is None or not (seen["upper_in_memory"] or seen["disk_bound"]):
        return ""
    most = said.disk + 65536 if seen["upper_in_memory"] else said.disk * 1.03 + (1 << 20)
    return "" if seen["size"] < most else f"the writable layer has {seen['size']} bytes"
