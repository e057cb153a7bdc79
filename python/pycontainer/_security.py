"""What a container may do: capabilities, system calls, ids, masks, as frozen values. Checks only; sets nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from pycontainer._seccomp import Seccomp
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import ID_MAX, Frozen, container_path, is_sequence, parse_bool, parse_int, within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, Self

# include/uapi/linux/capability.h
CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "LINUX_IMMUTABLE": 9,
    "NET_BIND_SERVICE": 10,
    "NET_BROADCAST": 11,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "IPC_LOCK": 14,
    "IPC_OWNER": 15,
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_CHROOT": 18,
    "SYS_PTRACE": 19,
    "SYS_PACCT": 20,
    "SYS_ADMIN": 21,
    "SYS_BOOT": 22,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "SYS_TIME": 25,
    "SYS_TTY_CONFIG": 26,
    "MKNOD": 27,
    "LEASE": 28,
    "AUDIT_WRITE": 29,
    "AUDIT_CONTROL": 30,
    "SETFCAP": 31,
    "MAC_OVERRIDE": 32,
    "MAC_ADMIN": 33,
    "SYSLOG": 34,
    "WAKE_ALARM": 35,
    "BLOCK_SUSPEND": 36,
    "AUDIT_READ": 37,
    "PERFMON": 38,
    "BPF": 39,
    "CHECKPOINT_RESTORE": 40,
}

# Podman's set: docker's without MKNOD, NET_RAW and AUDIT_WRITE. containers/common, pkg/config/default.go
DEFAULT_CAPABILITIES = frozenset(
    {
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
    }
)

# Docker's (moby, daemon/pkg/oci/defaults.go) and podman's (containers/common, pkg/config/default.go) together.
DEFAULT_MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
# The same sources; podman's /proc/asound is masked above, which is more.
DEFAULT_READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

MAP_LINES_MAX = 340  # UID_GID_MAP_MAX_EXTENTS, Linux 4.15


class IdMap(Frozen):
    """A range of ids: `count` uids and gids from `inside` on are those of this machine from `outside` on.

    Raises:
        ValueError: a range that leaves 0 to 2**32-2, or is empty.
        TypeError: a number that is no int.
    """

    __slots__ = ("inside", "outside", "count")  # noqa: RUF023 - the order of the parameters, and so of the repr
    inside: int
    outside: int
    count: int

    def __init__(self, inside: int, outside: int, count: int) -> None:
        first, host = parse_int(inside, "inside", 0, ID_MAX), parse_int(outside, "outside", 0, ID_MAX)
        size = parse_int(count, "count", 1, ID_MAX + 1 - max(first, host))
        self._fill({"inside": first, "outside": host, "count": size})


class Security(Frozen):
    """What a container may do. Frozen and hashable; the defaults are the engine's, and none is ever skipped.

    Args:
        capabilities: the whole set, with or without "CAP_"; `DEFAULT_CAPABILITIES | {"SYS_PTRACE"}` adds one.
        seccomp: "default", "unconfined", or a Seccomp profile.
        no_new_privileges: whether execve may add privileges (set-id bits, file capabilities) no more.
        user_namespace: "auto" (its own, mapped to an unprivileged range), "host" (none of its own), an IdMap or a
            sequence of them, which must map id 0.
        landlock: True needs it, False leaves it out, None does what this kernel can. Beside SYS_ADMIN, which could
            mount nothing under it, None leaves it out, and True is NotSupported when a container starts.
        masked_paths: what is hidden in /proc and /sys; the default is docker's list and podman's together.
        readonly_paths: what cannot be written there; the default is docker's.
        devices: paths below /dev of this machine that the container gets as well, such as "/dev/fuse".

    Raises:
        ValueError: an unknown name, a path that is relative or has "..", ranges that overlap.
        TypeError: an argument of another type.
    """

    __slots__ = (
        "_network",
        "_read_only",
        "capabilities",
        "devices",
        "landlock",
        "masked_paths",
        "no_new_privileges",
        "readonly_paths",
        "seccomp",
        "user_namespace",
    )
    capabilities: frozenset[str]
    seccomp: str | Seccomp
    no_new_privileges: bool
    user_namespace: str | IdMap | tuple[IdMap, ...]
    landlock: bool | None
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    devices: tuple[str, ...]
    # What strict() says for run()'s parameters of these names. run() refuses another network, and takes the root as
    # read-only if either says so.
    _network: str | None
    _read_only: bool

    def __init__(
        self,
        *,
        capabilities: Iterable[str] = DEFAULT_CAPABILITIES,
        seccomp: Literal["default", "unconfined"] | Seccomp = "default",
        no_new_privileges: bool = True,
        user_namespace: Literal["auto", "host"] | IdMap | Sequence[IdMap] = "auto",
        landlock: bool | None = None,
        masked_paths: Sequence[str] = DEFAULT_MASKED_PATHS,
        readonly_paths: Sequence[str] = DEFAULT_READONLY_PATHS,
        devices: Sequence[str] = (),
    ) -> None:
        self._fill(
            {
                "_network": None,
                "_read_only": False,
                "capabilities": _capabilities(capabilities),
                "seccomp": _seccomp(seccomp),
                "no_new_privileges": parse_bool(no_new_privileges, "no_new_privileges"),
                "user_namespace": _user_namespace(user_namespace),
                "landlock": None if landlock is None else parse_bool(landlock, "landlock"),
                "masked_paths": _paths(masked_paths, "masked_paths"),
                "readonly_paths": _paths(readonly_paths, "readonly_paths"),
                "devices": _devices(devices),
            }
        )

    @classmethod
    def strict(cls) -> Self:
        """For code that nobody trusts: no capabilities, no network, a read-only root.

        The last two are run()'s parameters; this says them for it, and any other `network` beside it is a ValueError.
        """
        made = cls(capabilities=())
        made._fill({"_network": "none", "_read_only": True})
        return made

    def __repr__(self) -> str:
        if self._read_only:  # only strict() says it
            return "Security.strict()"
        return super().__repr__()

    def _id_maps(self) -> tuple[IdMap, ...]:
        """The caller's own ranges; () for "auto" and "host"."""
        if isinstance(self.user_namespace, IdMap):
            return (self.user_namespace,)
        return self.user_namespace if isinstance(self.user_namespace, tuple) else ()

    def _capability_mask(self) -> int:
        """The set as the kernel writes it in CapBnd: bit n is capability n."""
        return sum(1 << CAPABILITIES[name] for name in self.capabilities)


def _capabilities(names: Any) -> frozenset[str]:
    if isinstance(names, (str, bytes, Mapping)) or not isinstance(names, Iterable):
        raise TypeError(f"capabilities must be a set of names, not {type(names).__name__}")
    return frozenset(_capability(name) for name in names)


def _capability(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"capabilities must hold names, not {type(name).__name__}")
    word = name.upper().removeprefix("CAP_")
    if word not in CAPABILITIES:
        raise ValueError(f"capabilities has no {shown(name)}; see capabilities(7)")
    return word


def _seccomp(value: Any) -> str | Seccomp:
    if isinstance(value, Seccomp) or (isinstance(value, str) and value in ("default", "unconfined")):
        return value
    if isinstance(value, str):
        raise ValueError(f"seccomp must be 'default', 'unconfined' or a Seccomp, not {shown(value)}")
    raise TypeError(f"seccomp must be 'default', 'unconfined' or a Seccomp, not {type(value).__name__}")


def _user_namespace(value: Any) -> str | IdMap | tuple[IdMap, ...]:
    if isinstance(value, str):
        if value not in ("auto", "host"):
            raise ValueError(f"user_namespace must be 'auto', 'host' or an IdMap, not {shown(value)}")
        return value
    maps = (value,) if isinstance(value, IdMap) else tuple(value) if is_sequence(value) else None
    if maps is None or not all(isinstance(item, IdMap) for item in maps):
        raise TypeError(f"user_namespace must be 'auto', 'host' or IdMap, not {type(value).__name__}")
    if not 0 < len(maps) <= MAP_LINES_MAX:
        raise ValueError(f"user_namespace must have 1 to {MAP_LINES_MAX} ranges, not {len(maps)}")
    _check_ranges(maps)
    return value if isinstance(value, IdMap) else maps


def _check_ranges(maps: tuple[IdMap, ...]) -> None:
    if not any(item.inside == 0 for item in maps):
        raise ValueError("user_namespace must map id 0: the container is set up by its own root")
    for side in ("inside", "outside"):
        ordered = sorted(maps, key=lambda item: int(getattr(item, side)))
        for one, two in itertools.pairwise(ordered):
            if getattr(one, side) + one.count > getattr(two, side):
                raise ValueError(f"user_namespace has ranges that overlap {side}: {one!r} and {two!r}")


def _paths(value: Any, argument: str) -> tuple[str, ...]:
    if not is_sequence(value):
        raise TypeError(f"{argument} must be a sequence of paths, not {type(value).__name__}")
    made = tuple(dict.fromkeys(container_path(path, f"{argument}[{i}]") for i, path in enumerate(value)))
    if "/" in made:
        raise ValueError(f"{argument} must not have the root itself")
    return made


def _devices(value: Any) -> tuple[str, ...]:
    made = _paths(value, "devices")
    for path in made:
        if path == "/dev" or not within(path, "/dev"):
            raise ValueError(f"devices must be paths below /dev, not {shown(path)}")
    return made


Security._defaults = Security()._values()
