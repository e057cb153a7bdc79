"""Calls that the probes of tests/requirements.py make in a forked child: libc's, and one's failure as text."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

OPEN_TREE_CLONE, AT_EMPTY_PATH, MOUNT_ATTR_IDMAP = 1, 0x1000, 0x100000
# The same on every architecture: these were added to the shared table.
SYS_OPEN_TREE, SYS_MOUNT_SETATTR = 428, 442
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def called(result: int, name: str) -> int:
    """The result of a libc call, or its errno as an OSError."""
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


def in_child(body: Callable[[], object]) -> str | None:
    """Run `body` in a forked child; None when it returned, else what it raised."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            body()
            os._exit(0)
        except BaseException as error:
            os.write(write, str(error).encode()[:4000])
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        message = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status == 0 else message or f"the probe ended with {status}"


def unshare(flags: int) -> None:
    called(libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [word if word is None else word.encode() for word in (source, target, kind)]
    called(libc.mount(*words, ctypes.c_ulong(flags), data if data is None else data.encode()), f"mount {kind}")


class waiting_user_namespace:
    """The pid of a child in a new user namespace, until the block ends."""

    def __enter__(self) -> int:
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                unshare(CLONE_NEWUSER)
                os.write(write, b"1")
                signal.pause()
            finally:
                os._exit(1)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            pipe.read(1)
        return self.pid

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def idmapped(source: bytes, namespace: int) -> None:
    fd = called(libc.syscall(SYS_OPEN_TREE, -100, source, OPEN_TREE_CLONE | os.O_CLOEXEC), "open_tree")
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_IDMAP, 0, 0, namespace)
    called(libc.syscall(SYS_MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, attributes, 32), "mount_setattr")
