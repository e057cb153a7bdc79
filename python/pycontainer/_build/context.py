"""The directory that a build takes files from: its Dockerfile, its .dockerignore, what a RUN mounts of it.

Names in it are looked up beneath it: a link leads where it would lead if the context were the root, and never out.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat

from pycontainer._build.ignore import SIZE_MAX as IGNORE_MAX, IgnoreFile, ignore_names
from pycontainer._build.source import clean
from pycontainer._errors import NotSupported, SetupError
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import host_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class Tree:
    """What a bind mount takes of a context: a directory or a file, without what is left out.

    Attributes:
        path: of this machine.
        is_directory: whether it is one.
        whole: nothing of it is left out.
        digest: of names, kinds, modes and contents; no times and no owners.
    """

    def __init__(self, context: Context, path: str, check: Callable[[], None]) -> None:
        """Look at all of it."""
        self.path, self._context, self.whole = path, context, True
        self.is_directory = os.path.isdir(path)
        hash_ = hashlib.sha256()
        for name, seen in self.entries():
            check()
            kind = stat.S_IFMT(seen.st_mode)
            place = os.path.join(path, name) if name else path
            hash_.update(f"{name}\0{kind:o} {stat.S_IMODE(seen.st_mode):o}\0".encode("utf-8", "surrogateescape"))
            if stat.S_ISREG(kind):
                hash_.update(_digest_of(place))
            elif stat.S_ISLNK(kind):
                hash_.update(os.fsencode(os.readlink(place)) + b"\0")
        self.digest = hash_.hexdigest()

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (path below, what it is), in order, each directory before what is in it."""
        ignore = self._context.ignore
        base = self._context.relative(self.path)
        waiting = [""]
        while waiting:
            name = waiting.pop()
            place = os.path.join(self.path, name) if name else self.path
            seen = os.lstat(place)
            said = "/".join(filter(None, (base, name)))
            is_directory = stat.S_ISDIR(seen.st_mode)
            if said and ignore.excludes(said) and (not is_directory or ignore.prunes(said)):
                self.whole = False
                continue
            yield name, seen
            if is_directory:
                waiting += ("/".join(filter(None, (name, one))) for one in sorted(os.listdir(place), reverse=True))

    def copy_to(self, place: str) -> None:
        """Copy it to a path that is not there."""
        import shutil

        for name, seen in self.entries():
            source, target = (os.path.join(path, name) if name else path for path in (self.path, place))
            if stat.S_ISDIR(seen.st_mode):
                os.makedirs(target, exist_ok=True)
                os.chmod(target, stat.S_IMODE(seen.st_mode) | 0o700)
            elif stat.S_ISLNK(seen.st_mode):
                os.symlink(os.readlink(source), target)
            elif stat.S_ISREG(seen.st_mode):
                fd = os.open(source, _FILE)
                with os.fdopen(fd, "rb") as file, open(target, "xb") as copy:
                    shutil.copyfileobj(file, copy)
                os.chmod(target, stat.S_IMODE(seen.st_mode))


def _digest_of(path: str) -> bytes:
    fd = os.open(path, _FILE)
    with os.fdopen(fd, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
