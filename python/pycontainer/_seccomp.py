"""Seccomp profiles in docker's and OCI's JSON form, read into plain tuples. Compiles nothing: the native module does.

The meaning is moby's: https://github.com/moby/profiles/blob/main/seccomp/seccomp_linux.go (includes and excludes) and
https://github.com/opencontainers/runc/blob/main/libcontainer/seccomp/seccomp_linux.go (conditions). A key that neither
knows is refused: a misspelt "includes" would make a filter wider without a word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pycontainer._errors import NotSupported, SetupError
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import Frozen, host_path, is_sequence, parse_int

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Verdict: TypeAlias = tuple[str, int | None]
    Condition: TypeAlias = tuple[int, str, int, int]
    Rule: TypeAlias = tuple[tuple[str, ...], str, int | None, list[Condition]]

PROFILE_MAX = 4 << 20
EPERM = 1
_ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_KILL": "kill_thread",  # libseccomp's alias
    "SCMP_ACT_KILL_PROCESS": "kill_process",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_TRAP": "trap",
}
_OPS = {f"SCMP_CMP_{op.upper()}": op for op in ("ne", "lt", "le", "eq", "ge", "gt", "masked_eq")}
_PROFILE_KEYS = {"defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags", "syscalls"}
_RULE_KEYS = {"names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"}
_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's words and Go's


class _Guarded(Frozen):
    """A rule with what it depends on: capabilities, architectures, kernel."""

    __slots__ = ("args", "excludes", "includes", "names", "verdict")
    names: tuple[str, ...]
    verdict: Verdict
    args: tuple[Condition, ...]
    includes: tuple[frozenset[str], frozenset[str], tuple[int, int] | None]
    excludes: tuple[frozenset[str], frozenset[str], tuple[int, int] | None]

    def __init__(self, **values: Any) -> None:
        self._fill(values)

    def _applies(self, capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
        caps, arches, since = self.excludes
        if caps & capabilities or arch in arches or (since is not None and kernel >= since):
            return False
        caps, arches, since = self.includes
        return caps <= capabilities and (not arches or arch in arches) and (since is None or kernel >= since)

    def _rules(self) -> list[Rule]:
        # Conditions are all to hold, but runc takes several on one argument as alternatives; profiles rely on it.
        alternatives = len({condition[0] for condition in self.args}) < len(self.args)
        split = [[condition] for condition in self.args] if alternatives else [list(self.args)]
        return [(self.names, *self.verdict, conditions) for conditions in split]


class Seccomp(Frozen):
    """A system call filter of the caller's own, in docker's or OCI's form.

    Args:
        profile: the profile as a mapping, or a PathLike to its JSON, read now. Rules apply to the native architecture
            only; every other one is refused by the engine.

    Raises:
        ValueError: a profile that is not readable or has an unknown key, action or operator.
        TypeError: a part of the profile that is of another type.
        NotSupported: SCMP_ACT_NOTIFY or flags.
        SetupError: a file that cannot be read.
    """

    __slots__ = ("default", "rules")
    default: Verdict
    rules: tuple[_Guarded, ...]

    def __init__(self, profile: Mapping[str, Any] | os.PathLike[str]) -> None:
        data = _load(profile) if isinstance(profile, os.PathLike) else profile
        if not isinstance(data, Mapping):
            raise TypeError(f"profile must be a mapping, or a Path to JSON of one, not {type(data).__name__}")
        _known(data, _PROFILE_KEYS, "profile")
        if data.get("flags"):
            raise NotSupported(
                "seccomp profile: flags", f"{shown(data['flags'])} is not implemented", "leave flags out"
            )
        default = _verdict(data.get("defaultAction"), data.get("defaultErrnoRet"), "defaultAction")
        syscalls = _list(data.get("syscalls"), "syscalls")
        rules = tuple(_rule(entry, f"syscalls[{index}]") for index, entry in enumerate(syscalls))
        self._fill({"default": default, "rules": rules})

    def __repr__(self) -> str:
        return f"<Seccomp: {len(self.rules)} rules, otherwise {self.default[0]}>"

    def _resolve(self, capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> tuple[Verdict, list[Rule]]:
        """The profile for one container.

        Args:
            capabilities: the container's set, without "CAP_".
            arch: uname's word, "x86_64" or "aarch64".
            kernel: (major, minor).

        Returns:
            The default (action, errno), and rules (names, action, errno, [(index, op, value, value_two)]) of which
            all conditions must hold.
        """
        word = _ARCHES.get(arch, arch)
        return self.default, [r for g in self.rules if g._applies(capabilities, word, kernel) for r in g._rules()]


def _load(path: os.PathLike[Any]) -> object:
    import json  # noqa: PLC0415 - a millisecond of every import, for what few use

    name = host_path(path, "profile")
    try:
        with open(name, "rb") as file:
            text = file.read(PROFILE_MAX + 1)
    except OSError as error:
        raise SetupError(error.errno or 0, error.strerror, name, step="read the seccomp profile") from None
    if len(text) > PROFILE_MAX:
        raise ValueError(f"profile {shown(name)} is larger than {PROFILE_MAX} bytes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"profile {shown(name)} is not JSON: {error}") from None


def _known(data: Mapping[str, Any], keys: set[str], where: str) -> None:
    unknown = set(data) - keys
    if unknown:
        raise ValueError(f"{where} has an unknown key {shown(sorted(map(str, unknown))[0])}")


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not is_sequence(value):
        raise TypeError(f"{where} must be a list, not {type(value).__name__}")
    return list(value)


def _strings(value: Any, where: str) -> tuple[str, ...]:
    items = _list(value, where)
    if not all(isinstance(item, str) for item in items):
        raise TypeError(f"{where} must hold strings only")
    return tuple(items)


def _verdict(action: Any, errno: Any, where: str) -> Verdict:
    if action == "SCMP_ACT_NOTIFY":
        raise NotSupported("seccomp profile: SCMP_ACT_NOTIFY", "there is no listener", "use SCMP_ACT_ERRNO")
    if not isinstance(action, str) or action not in _ACTIONS:
        raise ValueError(f"{where} must be one of {', '.join(_ACTIONS)}, not {shown(action)}")
    word = _ACTIONS[action]
    if word not in ("errno", "trace"):
        return word, None
    return word, EPERM if errno is None else parse_int(errno, f"{where}: errnoRet", 0, 4095)  # MAX_ERRNO


def _rule(entry: Any, where: str) -> _Guarded:
    if not isinstance(entry, Mapping):
        raise TypeError(f"{where} must be a mapping, not {type(entry).__name__}")
    _known(entry, _RULE_KEYS, where)
    name = entry.get("name")
    names = _strings(entry.get("names"), f"{where}.names") + (_strings([name], f"{where}.name") if name else ())
    if not names or not all(re.fullmatch(r"[a-z0-9_]{1,64}", name, re.ASCII | re.IGNORECASE) for name in names):
        raise ValueError(f"{where} must name system calls, not {shown(names)}")
    return _Guarded(
        names=names,
        verdict=_verdict(entry.get("action"), entry.get("errnoRet"), f"{where}.action"),
        args=tuple(_condition(arg, f"{where}.args") for arg in _list(entry.get("args"), f"{where}.args")),
        includes=_guard(entry.get("includes"), f"{where}.includes"),
        excludes=_guard(entry.get("excludes"), f"{where}.excludes"),
    )


def _condition(arg: Any, where: str) -> Condition:
    if not isinstance(arg, Mapping):
        raise TypeError(f"{where} must hold mappings, not {type(arg).__name__}")
    _known(arg, {"index", "op", "value", "valueTwo"}, where)
    op = arg.get("op")
    if not isinstance(op, str) or op not in _OPS:
        raise ValueError(f"{where}: op must be one of {', '.join(_OPS)}, not {shown(op)}")
    index = parse_int(arg.get("index"), f"{where}: index", 0, 5)
    value, two = (parse_int(arg.get(key, 0), f"{where}: {key}", 0, 2**64 - 1) for key in ("value", "valueTwo"))
    return index, _OPS[op], value, two


def _guard(value: Any, where: str) -> tuple[frozenset[str], frozenset[str], tuple[int, int] | None]:
    data = {} if value is None else value
    if not isinstance(data, Mapping):
        raise TypeError(f"{where} must be a mapping, not {type(value).__name__}")
    _known(data, {"caps", "arches", "minKernel"}, where)
    caps = frozenset(cap.removeprefix("CAP_") for cap in _strings(data.get("caps"), f"{where}.caps"))
    since = data.get("minKernel") or None
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", since, re.ASCII) if isinstance(since, str) else None
    if since is not None and match is None:
        raise ValueError(f"{where}.minKernel must be such as '4.8', not {shown(since)}")
    kernel = (int(match[1]), int(match[2])) if match else None
    return caps, frozenset(_strings(data.get("arches"), f"{where}.arches")), kernel
