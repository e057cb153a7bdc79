"""An interpreter for the classic BPF of seccomp filters, with the kernel's checks on what it loads."""

from __future__ import annotations

import errno as errno_names
import struct
from collections.abc import Callable, Sequence

Program = list[tuple[int, int, int, int]]

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, LOG, TRAP, KILL_THREAD, KILL_PROCESS = 0x7FFF0000, 0x7FFC0000, 0x00030000, 0, 0x80000000
LOAD, AND, JUMP, RETURN = 0x20, 0x54, 0x05, 0x06
TESTS: dict[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}


def errno(number: int) -> int:
    return 0x00050000 | number


def parse(program: bytes) -> Program:
    """The instructions of an array of `struct sock_filter`; ValueError for what seccomp(2) would refuse."""
    insns = list(struct.iter_unpack("=HBBI", program))
    if not 0 < len(insns) <= 4096 or insns[-1][0] != RETURN:
        raise ValueError(f"{len(insns)} instructions, the last is {insns[-1:]}")
    for at, (code, jt, jf, k) in enumerate(insns):
        reach = k if code == JUMP else max(jt, jf) if code in TESTS else 0
        if code not in {LOAD, AND, JUMP, RETURN, *TESTS} or at + reach + 1 > len(insns) - (code != RETURN):
            raise ValueError(f"instruction {at}: {code:#x} {jt} {jf} {k:#x}")
        if code == LOAD and (k % 4 or k >= 64):
            raise ValueError(f"instruction {at} loads at {k}")
    return insns


def run(program: Program, arch: int, number: int, args: Sequence[int] = ()) -> int:
    """The value that the filter returns for this call."""
    six = [*args, *[0] * (6 - len(args))]
    data = struct.pack("=IIQ6Q", number, arch, 0x7FFF12345678, *six)
    accumulator = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == RETURN:
            return k
        if code == LOAD:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == AND:
            accumulator &= k
        elif code == JUMP:
            at += k
        else:
            at += jt if TESTS[code](accumulator, k) else jf


def word(value: int) -> str:
    """A verdict for people: "allow", "EPERM", ..."""
    plain = {ALLOW: "allow", LOG: "log", TRAP: "trap", KILL_THREAD: "kill_thread", KILL_PROCESS: "kill_process"}
    return plain.get(value) or errno_names.errorcode.get(value & 0xFFFF, hex(value))
