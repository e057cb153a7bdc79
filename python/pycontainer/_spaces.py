"""Which namespaces a container has of its own, and which it shares: run()'s `namespaces` and `network`. Checks only."""

from __future__ import annotations

from collections.abc import Mapping

from pycontainer._errors import NotSupported
from pycontainer._security import DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS, Security
from pycontainer._text import TYPE_CHECKING, shown

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._spec import Spec

SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "uts")


def namespaces(value: Any) -> dict[str, Any]:
    """Check `namespaces`: cgroup ipc mnt pid time uts to "host", "new" or the pid of a process."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"namespaces must be a mapping, not {type(value).__name__}")
    made: dict[str, Any] = {}
    for name, choice in value.items():
        if name in ("net", "user"):
            where = "network" if name == "net" else "security=Security(user_namespace=...)"
            raise ValueError(f"namespaces: {name} is said by {where}, not here")
        if name not in SPACES:
            raise ValueError(f"namespaces has no {shown(name)}; it takes cgroup, ipc, mnt, pid, time and uts")
        made[name] = _choice(name, choice)
    return made


def _choice(name: str, choice: Any) -> Any:
    if isinstance(choice, int) and not isinstance(choice, bool):
        if choice < 1:
            raise ValueError(f"namespaces[{name!r}] must be the pid of a process, not {choice}")
    elif choice not in ("host", "new"):
        raise ValueError(f"namespaces[{name!r}] must be 'host', 'new' or a pid, not {shown(choice)}")
    return choice


def network(value: Any, security: Security) -> str:
    """Check `network`: "none" or "host"; what else api.md names is not built yet."""
    if value == "private":
        raise NotSupported("network='private'", "it is not built yet", "network='none' or network='host'")
    if value not in ("none", "host"):
        raise ValueError(f"network must be 'none', 'host' or 'private', not {shown(value)}")
    if security._network is not None and value != security._network:
        raise ValueError(f"network: Security.strict() says {security._network!r}, and this says {value!r}")
    return str(value)


def check_view(spec: Spec, given: Mapping[str, Any]) -> None:
    """Refuse what would need a mount, where the mounts are another's: nothing is mounted among them."""
    said = {
        "image": given["image"] is not None,
        "mounts": bool(spec.mounts),
        "files": bool(spec.files),
        "read_only": spec.read_only,
        "upper": spec.upper_on_disk,
        "tty": spec.tty,
        "limits.disk": spec.said.disk is not None,
        "security.devices": bool(spec.security.devices),
        "security.masked_paths": spec.security.masked_paths != DEFAULT_MASKED_PATHS,
        "security.readonly_paths": spec.security.readonly_paths != DEFAULT_READONLY_PATHS,
    }
    for name, contradicts in said.items():
        if contradicts:
            raise ValueError(f"{name}: namespaces['mnt'] shares another's mounts, and nothing is mounted there")
    if spec.security.user_namespace != "host":
        raise NotSupported(
            "namespaces['mnt']",
            "the kernel lets nobody into a mount namespace who has no power over the user namespace that it belongs to",
            "as root security=Security(user_namespace='host'), or Mount.bind for its files",
        )
