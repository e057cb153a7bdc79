"""From a parsed command line to parameters of the public package: docker's meanings in ours."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pycontainer as pc
from pycontainer._cli_words import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACE_OPTIONS = ("cgroupns", "ipc", "pid", "uts")


def run_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a command line says, as parameters of `pycontainer.run`."""
    as_json = arguments.format == "json"
    entrypoint = arguments.entrypoint
    shared = {name.removesuffix("ns"): "host" for name in NAMESPACE_OPTIONS if getattr(arguments, name) == "host"}
    return {
        "image": _image(arguments.image),
        "entrypoint": None if entrypoint is None else [entrypoint] if entrypoint else [],
        "stdin": pc.INHERIT if arguments.interactive else None,
        "capture_output": as_json,
        "text": as_json or None,
        "limits": limits(arguments),
        "env": environment(arguments),
        "cwd": arguments.workdir,
        "user": arguments.user,
        "groups": [int(group) if group.isdecimal() else group for group in arguments.group_add],
        "hostname": arguments.hostname,
        "mounts": [*arguments.volume, *arguments.tmpfs],
        "network": arguments.network,
        "ports": ports(arguments.publish),
        "namespaces": shared or None,
        "security": security(arguments),
        "read_only": arguments.read_only,
        "tty": arguments.tty,
    }


def _image(name: str) -> pc.Image:
    if name == "host":
        return pc.Image.host()
    if name.startswith(("/", "./", "../")) or name in (".", ".."):
        return pc.Image.from_directory(name)
    return pc.Image(name)


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    """The files first, then -e; a name alone takes this process's value, if there is one."""
    lines: list[str] = []
    for name in arguments.env_file:
        stripped = (line.lstrip() for line in Path(name).read_text().splitlines())
        lines += [line for line in stripped if line and not line.startswith("#")]
    made: dict[str, str] = {}
    for line in (*lines, *arguments.env):
        name, equals, value = line.partition("=")
        if equals:
            made[name] = value
        elif name in os.environ:
            made[name] = os.environ[name]
    return made


def limits(arguments: argparse.Namespace) -> pc.Limits:
    """The Limits of a command line. docker's --memory-swap is the sum, ours comes on top of memory."""
    swap = arguments.memory_swap
    if isinstance(swap, int):
        if arguments.memory is None:
            raise ValueError("--memory-swap: it is memory and swap together, so --memory is needed too")
        if swap < arguments.memory:
            raise ValueError("--memory-swap: it is memory and swap together, and less than --memory")
        swap -= arguments.memory
    return pc.Limits(
        memory=arguments.memory, swap=swap, memory_high=arguments.memory_high, cpus=arguments.cpus,
        cpuset=arguments.cpuset_cpus, pids=arguments.pids_limit, wall_time=arguments.timeout,
        rlimits=dict(arguments.ulimit) or None, oom_score_adj=arguments.oom_score_adj,
    )  # fmt: skip


def security(arguments: argparse.Namespace) -> pc.Security:
    """The Security of a command line."""
    options: dict[str, Any] = {"capabilities": capabilities(arguments.cap_add, arguments.cap_drop)}
    if arguments.userns == "host":
        options["user_namespace"] = "host"
    for word in arguments.security_opt:
        name, equals, value = word.partition("=") if "=" in word else word.partition(":")
        if name == "seccomp" and value:
            options["seccomp"] = value if value in ("unconfined", "default") else pc.Seccomp(Path(value))
        elif name == "no-new-privileges" and (not equals or value in ("true", "false")):
            options["no_new_privileges"] = value != "false"
        else:
            raise ValueError(f"--security-opt: {word!r} is none of seccomp=... and no-new-privileges")
    return pc.Security(**options)


def capabilities(added: list[str], dropped: list[str]) -> frozenset[str]:
    """docker's meaning: what is dropped goes first, then what is added comes; to drop ALL leaves what is added.

    moby, daemon/pkg/oci/caps/utils.go, TweakCapabilities.
    """
    add, drop = ({name.upper().removeprefix("CAP_") for name in names} for names in (added, dropped))
    if "ALL" in add:
        raise ValueError("--cap-add: ALL is not taken; name the capabilities that the command needs")
    kept = frozenset() if "ALL" in drop else pc.DEFAULT_CAPABILITIES - drop
    return kept | add
