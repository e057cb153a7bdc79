"""libseccomp by ctypes, as an oracle: profiles to BPF, names to numbers."""

from __future__ import annotations

import ctypes
import functools
import os
from collections import Counter
from collections.abc import Iterable

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # SCMP_ARCH_* are the audit values
OPS = {"ne": 1, "lt": 2, "le": 3, "eq": 4, "ge": 5, "gt": 6, "masked_eq": 7}
ACTIONS = {
    "allow": 0x7FFF0000,
    "log": 0x7FFC0000,
    "trap": 0x00030000,
    "kill_thread": 0,
    "kill_process": 0x80000000,
}

Arg = tuple[int, str, int, int]
Rule = tuple[list[str], str, int | None, list[Arg]]


class ArgCmp(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


@functools.cache
def library() -> ctypes.CDLL:
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_release.argtypes = [ctypes.c_void_p]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    ]
    lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return lib


def number(arch: str, name: str) -> int | None:
    """The number of a call, or None where the architecture has none or this release does not know it."""
    found = library().seccomp_syscall_resolve_name_arch(AUDIT_ARCH[arch], name.encode())
    return found if found >= 0 else None


def value(action: str, errno: int | None) -> int:
    return 0x00050000 | (1 if errno is None else errno) if action == "errno" else ACTIONS[action]


def clauses(args: list[Arg]) -> list[list[Arg]]:
    """The rules that runc makes of one: if two comparisons look at one argument, each is a rule of its own."""
    repeated = max(Counter(index for index, *_ in args).values(), default=0) > 1
    return [[arg] for arg in args] if repeated else [args]


def compile_rules(arch: str, default: tuple[str, int | None], rules: Iterable[Rule]) -> bytes:
    """The program for this architecture; the rules are given to the library in the way of runc."""
    lib = library()
    context = lib.seccomp_init(value(*default))
    for names, action, errno, args in rules:
        if value(action, errno) == value(*default):
            continue  # the library refuses these, and runc leaves them out
        numbers = [nr for name in names if (nr := number(arch, name)) is not None]
        for nr in numbers:
            for clause in clauses(args):
                array = (ArgCmp * max(1, len(clause)))(*[ArgCmp(i, OPS[op], one, two) for i, op, one, two in clause])
                result = lib.seccomp_rule_add_array(context, value(action, errno), nr, len(clause), array)
                assert result == 0, f"seccomp_rule_add_array: {result}"
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        assert lib.seccomp_export_bpf(context, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
        lib.seccomp_release(context)
