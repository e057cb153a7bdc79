"""The directory that a build takes files from: its Dockerfile, its .dockerignore, what a RUN mounts of it.

Names in it are looked up beneath it: a link leads where it would lead if the context were the root, and never out.
"""

from __future__ import annotations

import os
import re
import stat

from pycontainer._build.ignore import SIZE_MAX as IGNORE_MAX, IgnoreFile, ignore_names
from pycontainer._build.files import Files
from pycontainer._build.source import clean
from pycontainer._errors import NotSupported, SetupError
from pycontainer._native import core
from pycontainer._text import shown
from pycontainer._types import host_path

DOCKERFILE_MAX = 4 << 20
_LINKS_MAX = 40
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|git@|github\.com/", re.IGNORECASE)


class Context:
    """A directory. `ignore` is what its .dockerignore leaves out."""

    def __init__(self, path: object) -> None:
        """Take `path`, which must be a directory.

        Raises:
            NotSupported: it is a URL, an archive or "-".
            SetupError: it is not there, or no directory.
        """
        text = host_path(path, "context")
        if isinstance(path, str) and (_REMOTE.match(path) or path == "-"):
            raise NotSupported(f"context {shown(path)}", "a context is a directory of this machine", "fetch it first")
        self.root = os.path.realpath(text)
        try:
            if not stat.S_ISDIR(os.stat(self.root).st_mode):
                if re.search(r"\.(tar|tgz|tar\.[a-z0-9]+)$", self.root):
                    raise NotSupported(f"context {shown(text)}", "a context is a directory", "unpack the archive first")
                raise SetupError(20, None, text, step="use the context")
        except OSError as error:
            if isinstance(error, SetupError):
                raise
            raise SetupError(error.errno or 5, error.strerror, text, step="use the context") from None
        self.ignore = IgnoreFile()
        self._files: Files | None = None

    def read_ignore(self, dockerfile: str | None) -> None:
        """Read what is left out: of a file beside the Dockerfile, or of the root's.

        Raises:
            BuildError: a bad pattern.
            SetupError: it is there and cannot be read, or is no regular file.
        """
        beside, own = ignore_names(dockerfile or "")
        places = [(beside, beside)] if dockerfile else []
        for path, name in (*places, (os.path.join(self.root, own), own)):
            try:
                text = read_file(path, IGNORE_MAX)
            except SetupError as error:
                if error.errno == 2:
                    continue
                raise
            self.ignore = IgnoreFile(text, file=os.path.basename(name))
            return

    def dockerfile(self) -> tuple[bytes, str]:
        """Return the context's own Dockerfile, and its path.

        Raises:
            SetupError: there is none, or it leads out of the context.
        """
        path = self.find("Dockerfile")
        if path is None:
            raise SetupError(2, None, os.path.join(self.root, "Dockerfile"), step="read the Dockerfile")
        return read_file(path, DOCKERFILE_MAX), os.path.join(self.root, "Dockerfile")

    def find(self, path: str) -> str | None:
        """Return where a path of the context leads, links followed beneath the root; None where nothing is."""
        waiting = [part for part in reversed(clean("/" + path).split("/")) if part]
        found: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del found[-1:]
                continue
            here = os.path.join(self.root, *found, part)
            try:
                seen = os.lstat(here)
                target = os.readlink(here) if stat.S_ISLNK(seen.st_mode) else None
            except OSError:
                return None
            if target is None:
                found.append(part)
                continue
            links += 1
            if links > _LINKS_MAX:
                return None
            if target.startswith("/"):
                found.clear()
            waiting += reversed(target.split("/"))
        return os.path.join(self.root, *found)

    def files(self) -> Files:
        """Return what can be taken of it."""
        if self._files is None:
            self._files = Files(core().Tree.context(self.root), self.ignore)
        return self._files

    def relative(self, path: str) -> str:
        """A path that find() gave, as .dockerignore names it."""
        return "" if path == self.root else path[len(self.root) + 1 :]


def read_file(path: str, most: int) -> bytes:
    """Read a regular file of at most so many bytes; links are not followed at the end.

    Raises:
        SetupError: it cannot be read, is no regular file, or too long.
    """
    try:
        fd = os.open(path, _FILE)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SetupError(22, "it is no regular file", path, step="read")
            content = file.read(most + 1)
    except SetupError:
        raise
    except OSError as error:
        raise SetupError(error.errno or 5, error.strerror, path, step="read") from None
    if len(content) > most:
        raise SetupError(27, f"it has more than {most} bytes", path, step="read")
    return content
