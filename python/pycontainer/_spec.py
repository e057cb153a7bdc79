"""What run() was asked, checked and put into the plain values that cross into the native module once."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterable, Mapping

from pycontainer import _arguments
from pycontainer._errors import NotSupported, SetupError
from pycontainer._host_names import host_names
from pycontainer._image import Image
from pycontainer._limits import Limits
from pycontainer._mounts import File, Mount, plan_files, plan_mounts
from pycontainer._native import core
from pycontainer._ports import ports
from pycontainer._security import Security
from pycontainer._spaces import SPACES, check_view, namespaces, network
from pycontainer._streams import output, pass_fds, stream, streams_of_handle, window
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import (
    container_path,
    parse_bool,
    parse_duration,
    parse_int,
    within,
)

if TYPE_CHECKING:
    from typing import Any

RLIMITS = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "locks": 10,
    "sigpending": 11,
    "msgqueue": 12,
    "nice": 13,
    "rtprio": 14,
    "rttime": 15,
}
RLIM_INFINITY = (1 << 64) - 1
# Unlike None, which is the engine's default, it leaves the layer's size to the kernel.
DISK_LIFTED = (1 << 64) - 1
# The keys of `enforced` that a caller may give up; the rest is never skipped.
DEGRADABLE = frozenset(
    {
        "memory", "swap", "memory_high", "oom_group", "cpus", "cpu_weight", "cpuset", "cpu_time", "pids", "disk", "io",
        "io_weight", "oom_score_adj", "rlimits", "landlock",
    }
)  # fmt: skip


class Spec:
    """One run, as the native module reads it: an attribute per field of its `Spec`."""

    # The socket on which who listens to events hears that the command of a run() runs; the caller's.
    news = -1
    # Images that are mounted, by their targets; who found a container knows of none, and mounts none.
    images: Mapping[str, Image] = {}

    def __init__(self, given: dict[str, Any], *, handle: bool = False) -> None:
        self.handle, self.hold = handle, False
        self.image: Image = image(given["image"])
        self._is_view = False
        self.security: Security = _typed(given["security"], Security, "security")
        self.said: Limits = _typed(given["limits"], Limits, "limits")
        self.degrade = degrade(given["degrade"])
        self.pid1 = parse_bool(given["pid1"], "pid1")
        self.tty = parse_bool(given["tty"], "tty")
        self.read_only = parse_bool(given["read_only"], "read_only") or self.security._read_only
        self.upper_on_disk = _upper(given["upper"])
        self._command(given)
        self._account(given)
        self._files(given)
        self._spaces(given)
        if self.choices.get("mnt", "new") != "new":
            check_view(self, given)
            self._is_view = True
        elif self.image._user_site:
            self._user_site(*self.image._user_site)
        self._security(self.security)
        self._limits(self.said)
        self._environment(given)
        self._streams(given)
        self.timeout = None if given["timeout"] is None else parse_duration(given["timeout"], "timeout", signed=True)

    @property
    def root(self) -> tuple[str, str, list[str], bool]:
        """Its root file system; an image's layers are unpacked here, where they were not."""
        image = self.image
        if self._is_view:
            return "view", "", [], False
        directories = image._roots() if image._kind == "layers" else list(image._directories)
        return image._kind, image._directory, directories, image._writable

    @property
    def mounted(self) -> dict[str, tuple[str, list[str]]]:
        """Of images that are mounted, by target, a directory or else layers; unpacked here, as those of its root."""
        return {target: (image._directory, image._roots()) for target, image in self.images.items()}

    @property
    def provided(self) -> list[tuple[str, bytes]]:
        """What a container of an image has in place of the image's own: names of hosts, and who answers for others."""
        if self.image._kind != "layers" or self._is_view:
            return []
        said = {path for path, *_ in self.files} | {path for _, path, *_ in self.mounts}
        found = host_names(self.name, self.network == "host")
        return [(path, content) for path, content in found if path not in said]

    @property
    def directory(self) -> str | None:
        """The image's WORKDIR, which is made where its layers have none."""
        is_said = self.image._kind != "layers" or self._is_view or self.cwd == b"/"
        return None if is_said else os.fsdecode(self.cwd)

    def _command(self, given: dict[str, Any]) -> None:
        entrypoint, says = given["entrypoint"], self.image._says
        own = says.entrypoint or ()
        first = own if entrypoint is None else _arguments.command(entrypoint, "entrypoint", empty=True)
        # As in docker, another ENTRYPOINT leaves nothing of the CMD, which was written for the image's.
        rest = () if first is not own and first else says.command or ()
        if given["args"] is not None:
            rest = _arguments.command(given["args"])
        if not first + rest:
            raise ValueError("args is required: this image says no command of its own")
        self.argv = list(first + rest)

    def _account(self, given: dict[str, Any]) -> None:
        says = self.image._says
        user = says.user if given["user"] is None else _arguments.user(given["user"])
        self.stop_signal = says.stop_signal or signal.SIGTERM
        name, _, group = (user or "").partition(":")
        self.user, self.group = name or None, group or None
        self.groups = list(_arguments.groups(given["groups"]))
        self.umask = parse_int(given["umask"], "umask", 0, 0o777)
        self.cwd = os.fsencode(container_path((says.cwd or "/") if given["cwd"] is None else given["cwd"], "cwd"))

    def _files(self, given: dict[str, Any]) -> None:
        mounts = plan_mounts(given["mounts"])
        self.mounts = [_mount(mount) for mount in mounts]
        self.images = {mount.target: _mounted_image(mount) for mount in mounts if mount.kind == "image"}
        self.files = [_file(target, content) for target, content in plan_files(given["files"], mounts)]

    def _user_site(self, source: str, target: str) -> None:
        """Show the caller's own packages where they are looked for, unless something else is asked for there."""
        asked = [path for path, *_ in self.files] + [path for _, path, *_ in self.mounts]
        if not any(within(target, path) or within(path, target) for path in asked):
            self.mounts.append(_mount(Mount.bind(source, target, read_only=True)))

    def _spaces(self, given: dict[str, Any]) -> None:
        self.choices = namespaces(given["namespaces"])
        self.network = network(given["network"], self.security)
        if self.network == "host":
            self.choices["net"] = "host"
        self.ports = ports(given["ports"], self.network)
        self.port_keys = tuple(given["ports"] or ())
        code = {"new": 0, "host": -1}
        self.namespaces = tuple(code.get(self.choices.get(name, "new"), self.choices.get(name)) for name in SPACES)
        if given["hostname"] is not None and self.choices.get("uts", "new") != "new":
            raise ValueError("hostname: the uts namespace is not the container's own; namespaces says so")
        self.name = "container" if given["hostname"] is None else _arguments.hostname(given["hostname"])
        self.hostname = self.name.encode()

    def _security(self, security: Security) -> None:
        self.capabilities = security._capability_mask()
        self.no_new_privileges = security.no_new_privileges
        self.landlock = security.landlock
        self.masked_paths, self.readonly_paths = list(security.masked_paths), list(security.readonly_paths)
        self.devices = list(security.devices)
        self.seccomp = _filter(security)
        self.user_namespace = _user_namespace(security)

    def _limits(self, limits: Limits) -> None:
        for name in ("memory", "swap", "memory_high", "pids"):
            value = getattr(limits, name)
            setattr(self, name, None if value is None else float(value))
        for name in ("cpus", "cpu_weight", "cpuset", "io_weight", "oom_group", "oom_score_adj"):
            setattr(self, name, getattr(limits, name))
        for name in ("cpu_time", "wall_time", "output"):
            value = getattr(limits, name)
            setattr(self, name, None if value == math.inf else value)
        self.disk = DISK_LIFTED if limits.disk == math.inf else limits.disk
        self.output_kills = limits.output_mode != "truncate"
        self.rlimits = [_rlimit(name, pair) for name, pair in (limits.rlimits or {}).items()]
        self.io = [_io(device, limit) for device, limit in (limits.io or {}).items() if not _lifted(limit)]
        if limits.network is not None:
            raise NotSupported("limits.network", "rates and delays of a network are not built yet", "leave it out")

    def _environment(self, given: dict[str, Any]) -> None:
        variables: dict[bytes, bytes | None] = {b"PATH": None, b"HOSTNAME": self.hostname}
        if self.tty:
            variables[b"TERM"] = b"xterm"
        variables.update(self.image._says.env)
        variables.update(_arguments.environment(given["env"]))
        self.set_home = b"HOME" not in variables
        self.env = [name + b"=" + value for name, value in variables.items() if value is not None]
        path = variables.get(b"PATH")
        self.path = (path if path is not None else b"/usr/local/bin:/usr/bin:/bin").split(b":")

    def _streams(self, given: dict[str, Any]) -> None:
        if self.handle:
            return self._streams_of_handle(given)
        capture = parse_bool(given["capture_output"], "capture_output")
        self.input = given["input"]
        if self.input is not None and given["stdin"] is not None:
            raise ValueError("stdin and input: both were given")
        self.stdin = ("null", -1) if given["stdin"] is None else stream(given["stdin"], "stdin")
        self.stdout = output(given["stdout"], "stdout", capture)
        self.stderr = output(given["stderr"], "stderr", capture)
        if self.tty and given["stderr"] is not None:
            raise ValueError("stderr: with tty=True there is one stream, and its output is stdout")
        if self.tty and given["stdin"] is not None and self.stdin[0] == "null":
            self.input = b""  # what is said ends; what is not said is silent
        self.window = window(self.stdout, self.stdin) if self.tty else (0, 0)
        self.pass_fds = pass_fds(given["pass_fds"])

    def _streams_of_handle(self, given: Mapping[str, Any]) -> None:
        """Output that is not given is logged; nobody of this process copies for a terminal."""
        self.input = None
        self.stdin, self.stdout, self.stderr = streams_of_handle(given, "log", self.tty)
        self.window = (24, 80) if self.tty else (0, 0)
        self.pass_fds = pass_fds(given["pass_fds"])


def _typed(value: Any, kind: type[Any], argument: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be {kind.__name__}, not {type(value).__name__}")
    return value


def image(value: Any) -> Image:
    """Take None (this machine), an Image, a directory (a Path, or a str that begins with /, ./ or ../), a reference."""
    if value is None:
        return _HOST or _host()
    if isinstance(value, Image):
        return value
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.startswith(("/", "./", "../"))):
        return Image.from_directory(value)
    if isinstance(value, str):
        return Image(value)
    raise TypeError(f"image must be an Image, a reference, a directory or None, not {type(value).__name__}")


_HOST: Image | None = None


def _host() -> Image:
    global _HOST
    _HOST = Image.host()
    return _HOST


def degrade(value: Any) -> list[str]:
    """Check `degrade`: keys of `enforced` that may be held worse than asked, in any iterable but one text."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"degrade must be a collection of names, not {type(value).__name__}")
    names = list(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"degrade must hold names, not {type(name).__name__}")
        if name not in DEGRADABLE:
            raise ValueError(f"degrade has no {shown(name)}; it takes {', '.join(sorted(DEGRADABLE))}")
    return names


def _upper(value: Any) -> bool:
    if value not in ("memory", "disk"):
        raise ValueError(f"upper must be 'memory' or 'disk', not {shown(value)}")
    return bool(value == "disk")


def _mounted_image(mount: Mount) -> Image:
    found = image(mount.source)
    if found._kind == "host":
        raise ValueError(f"mounts: {shown(mount)}: Image.host() is this machine; Mount.bind for its directories")
    return found


def _mount(mount: Mount) -> tuple[Any, ...]:
    if mount.kind == "volume":
        raise NotSupported("Mount.volume", "it is not built yet", "Mount.bind or Mount.overlay of a directory")
    source = b"" if mount.kind == "image" or not mount.source else os.fsencode(mount.source)
    size = None if mount.size in (None, math.inf) else int(mount.size)
    mode = mount.mode if mount.mode is not None else 0o1777
    return mount.kind, mount.target, os.fsdecode(source), bool(mount.read_only), mount.owner, size, mode


def _file(target: str, content: File | str) -> tuple[Any, ...]:
    if isinstance(content, File):
        return target, bytes(content.data), None, content.mode
    return target, None, content, None


def _filter(security: Security) -> bytes | None:
    if security.seccomp == "default":
        return None
    if security.seccomp == "unconfined":
        return b""
    machine, release = os.uname().machine, os.uname().release.split(".")
    kernel = int(release[0]), int(release[1].split("-")[0])
    default, rules = security.seccomp._resolve(security.capabilities, machine, kernel)  # type: ignore[union-attr]
    program, _ignored = core().seccomp_compile(default, [(list(n), a, e, list(c)) for n, a, e, c in rules])
    return bytes(program)


def _user_namespace(security: Security) -> list[tuple[int, int, int]] | None:
    if security.user_namespace == "auto":
        return None
    return [(line.inside, line.outside, line.count) for line in security._id_maps()]


def _rlimit(name: str, pair: tuple[float, float]) -> tuple[int, int, int]:
    soft, hard = (RLIM_INFINITY if value == math.inf else int(value) for value in pair)
    return RLIMITS[name], soft, hard


def _io(device: str, limit: Any) -> tuple[Any, ...]:
    rates = (limit.read_bps, limit.write_bps, limit.read_iops, limit.write_iops)
    return (_device_number(device), *(None if rate in (None, math.inf) else int(rate) for rate in rates))


def _lifted(limit: Any) -> bool:
    rates = [rate for rate in limit._values().values() if rate is not None]
    return bool(rates) and all(rate == math.inf for rate in rates)


def _device_number(device: str) -> tuple[int, int]:
    """(major, minor) of "8:0", of a block device's path, or of the file system that a path lies on."""
    if not device.startswith("/"):
        major, _, minor = device.partition(":")
        return int(major), int(minor)
    try:
        seen = os.stat(device)
    except OSError as error:
        raise SetupError(error.errno or 2, error.strerror, device, step="limits.io: find the device") from error
    number = seen.st_rdev if seen.st_rdev else seen.st_dev
    return _whole_disk(os.major(number), os.minor(number))


def _whole_disk(major: int, minor: int) -> tuple[int, int]:
    """The disk that a partition is a part of: the kernel bounds disks only. Whatever else it is, itself."""
    place = os.path.realpath(f"/sys/dev/block/{major}:{minor}")
    if os.path.exists(f"{place}/partition"):
        with open(f"{os.path.dirname(place)}/dev") as file:
            disk, _, part = file.read().strip().partition(":")
        return int(disk), int(part)
    return major, minor
