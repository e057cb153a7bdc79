"""What builds keep: directories of RUN --mount=type=cache, and the steps that were carried out, until they are pruned.

Each directory is locked while a step uses it. One that is pruned is set aside first, as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from contextlib import contextmanager, suppress

from pycontainer import _stored as stored
from pycontainer._build.instructions import Sharing
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

_PLACE = "caches"
_NAME = re.compile("[0-9a-f]{64}(-[0-9]+)?")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PAUSE_MAX = 0.05


@contextmanager
def cache(name: str, sharing: Sharing, owner: tuple[int, int, int], check: Callable[[], None]) -> Iterator[str]:
    """Yield the directory of a cache mount, made on first use; its name never is a path (CVE-2024-9675).

    Args:
        name: any text.
        sharing: how steps use it at the same time.
        owner: uid, gid and mode of a new one.
        check: raises where the build is to end.
    """
    parent = stored.private(_PLACE)
    base = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    number, pause = 0, 0.001
    while True:
        path = os.path.join(parent, f"{base}-{number}" if number else base)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            fd = os.open(path, _DIRECTORY)
        except FileNotFoundError:  # somebody prunes
            continue
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if sharing is Sharing.SHARED else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            check()
            if sharing is Sharing.PRIVATE:
                number += 1
            else:
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE_MAX)
            continue
        if not _is_at(path, fd):  # it was pruned before the lock was ours
            os.close(fd)
            continue
        try:
            os.utime(fd)
            yield _data(fd, path, owner)
        finally:
            os.utime(fd)
            os.close(fd)
        return


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _data(fd: int, path: str, owner: tuple[int, int, int]) -> str:
    """The directory that is mounted, below the one that is locked: nobody else can come to it."""
    if not _has_data(fd):
        # One at a time: a rename would replace one that is still empty, and that somebody has mounted.
        making = os.open("making", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            fcntl.flock(making, fcntl.LOCK_EX)
            if not _has_data(fd):
                _make_data(fd, owner)
        finally:
            os.close(making)
    return os.path.join(path, "data")


def _has_data(fd: int) -> bool:
    try:
        os.stat("data", dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_data(fd: int, owner: tuple[int, int, int]) -> None:
    """Under its name it is complete."""
    uid, gid, mode = owner
    beside = f"new-{os.urandom(8).hex()}"
    os.mkdir(beside, 0o700, dir_fd=fd)
    made = os.open(beside, _DIRECTORY, dir_fd=fd)
    try:
        os.fchmod(made, mode)
    finally:
        os.close(made)
    if uid or gid:
        core().give_owner(fd, beside.encode(), uid, gid)
    os.rename(beside, "data", src_dir_fd=fd, dst_dir_fd=fd)


def prune(older_than: float | timedelta | None) -> int:
    """Forget steps and remove caches that no build has used for `older_than` seconds; return how many bytes that was.

    What is in use stays, and so do layers while somebody builds, loads or pulls: the next removal takes them.
    """
    age = 0.0 if older_than is None else parse_duration(older_than, "older_than")
    core().step_forget(stored.store(), age)
    freed = stored.collect()
    parent = stored.private(_PLACE)
    with os.scandir(parent) as found:
        names = [entry.name for entry in found if _NAME.fullmatch(entry.name)]
    return freed + sum(_remove(os.path.join(parent, name), age) for name in sorted(names))


def _remove(path: str, age: float) -> int:
    """Remove a cache that nobody uses; return its bytes."""
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:  # no directory, or none any more
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(path, fd) or time.time() - os.fstat(fd).st_mtime < age:
            return 0
        size: int = core().cache_size(path)
        core().cache_remove(path)
        return size
    except BlockingIOError:  # in use
        return 0
    finally:
        os.close(fd)
