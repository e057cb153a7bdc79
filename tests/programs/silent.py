"""A file system with one file, `silent`, whose open is never answered: who tries it waits in the kernel, even killed.

Serves what is mounted at argv[1], in the protocol of /dev/fuse (linux/fuse.h), until its stdin ends; the kernel then
lets everybody go.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 26, 36, 42
UNANSWERED = (FORGET, OPEN, INTERRUPT, BATCH_FORGET)
ENOENT, ENOSYS = 2, 38
ROOT, FILE = 1, 2
NEVER = 10**9


def attributes(node: int) -> bytes:
    mode = 0o40755 if node == ROOT else 0o100644
    return struct.pack("=6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(kind: int, node: int, body: bytes) -> tuple[int, bytes]:
    """(errno, payload)"""
    if kind == INIT:
        return 0, struct.pack("=4I2H2I2HI7I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0, *[0] * 7)
    if kind == GETATTR:
        return 0, struct.pack("=QII", NEVER, 0, 0) + attributes(node)
    if kind == LOOKUP and body.rstrip(b"\0") == b"silent":
        return 0, struct.pack("=4Q2I", FILE, 0, NEVER, NEVER, 0, 0) + attributes(FILE)
    return (ENOENT if kind == LOOKUP else ENOSYS), b""


def serve(device: int) -> None:
    while True:
        ready, _, _ = select.select([device, 0], [], [])
        if 0 in ready:
            return
        request = os.read(device, 1 << 17)
        _, kind, unique, node = struct.unpack_from("=IIQQ", request)
        if kind not in UNANSWERED:
            errno, payload = answer(kind, node, request[40:])
            os.write(device, struct.pack("=IiQ", 16 + len(payload), -errno, unique) + payload)


def main(target: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", target.encode(), b"fuse.silent", ctypes.c_ulong(0), options) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    serve(device)


main(sys.argv[1])
