"""Private directories for the time of a build: scripts of heredocs, secrets, filtered contexts.

A directory is locked while it is used: what a process leaves that dies is removed by the next build.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time

from pycontainer import _stored as stored
from pycontainer._native import core

_MEMORY = "/dev/shm"
_SECRETS = "pycontainer-secrets-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Scratch:
    """Files that are mounted into one step; gone when it is closed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, int]] = {}

    def _place(self, parent: str, prefix: str) -> str:
        if parent not in self._made:
            sweep(parent, prefix)
            path = tempfile.mkdtemp(prefix=prefix, dir=parent)
            fd = os.open(path, _DIRECTORY)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._made[parent] = path, fd
        return self._made[parent][0]

    def directory(self) -> str:
        """Return a new directory in the store."""
        return tempfile.mkdtemp(dir=self._place(stored.private("builds"), "build-"))

    def file(self, content: bytes, mode: int) -> str:
        """Return a new file in the store, for what is no secret."""
        return _write(os.path.join(self.directory(), "file"), content, mode)

    def secret(self, content: bytes, mode: int, uid: int, gid: int) -> str:
        """Return a new file that lies in memory, of these owners inside; root is whoever builds."""
        memory = _MEMORY if _is_memory(_MEMORY) else tempfile.gettempdir()
        place = tempfile.mkdtemp(dir=self._place(memory, _SECRETS))
        path = _write(os.path.join(place, "secret"), content, mode)
        if uid or gid:
            fd = os.open(place, _DIRECTORY)
            try:
                core().give_owner(fd, b"secret", uid, gid)
            finally:
                os.close(fd)
        return path

    def close(self) -> None:
        """Remove all of it."""
        while self._made:
            _, (path, fd) = self._made.popitem()
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)


def _is_memory(path: str) -> bool:
    return os.path.ismount(path) and os.access(path, os.W_OK | os.X_OK)


def _write(path: str, content: bytes, mode: int) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, mode)
    return path


def copy_tree(source: str, target: str, names: list[str]) -> None:
    """Copy these of what is in a directory, each directory before what is in it; modes and times, no owners."""
    os.mkdir(target, 0o700)
    made = [(source, target)]
    for name in names:
        one, copy = os.path.join(source, name), os.path.join(target, name)
        seen = os.lstat(one)
        if stat.S_ISDIR(seen.st_mode):
            os.makedirs(copy, exist_ok=True)
            made.append((one, copy))
        elif stat.S_ISLNK(seen.st_mode):
            os.symlink(os.readlink(one), copy)
        elif stat.S_ISREG(seen.st_mode):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            fd = os.open(one, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file, open(copy, "xb") as out:
                shutil.copyfileobj(file, out)
            os.utime(copy, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
            os.chmod(copy, stat.S_IMODE(seen.st_mode))
    for one, copy in reversed(made):
        seen = os.stat(one)
        os.chmod(copy, stat.S_IMODE(seen.st_mode) | 0o700)
        os.utime(copy, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def sweep(parent: str, prefix: str) -> None:
    """Remove what nobody has locked: whoever made it has died."""
    for entry in os.scandir(parent):
        if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            fd = os.open(entry.path, _DIRECTORY)
        except OSError:
            continue
        try:
            if os.fstat(fd).st_uid == os.geteuid() and time.time() - os.fstat(fd).st_mtime > 1:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(fd)
