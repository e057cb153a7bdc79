"""Root file systems: this machine's own programs, a directory, a tar. Values; only from_archive touches the disk."""

from __future__ import annotations

import os
import site
import sys

from pycontainer._errors import NotSupported
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import Frozen, host_path, is_sequence, parse_bool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

    from pycontainer._types import Arg

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Image(Frozen):
    """An immutable root file system, from which containers start.

    `Image.host()` is this machine's programs and libraries, `Image.from_directory` a root file system in a directory,
    `Image.from_archive` a tar of one. Images by reference come with a later release.

    Raises:
        NotSupported: `Image("name")`: references cannot be resolved yet.
    """

    __slots__ = ("_directories", "_directory", "_kind", "_path", "_user_site", "_writable")
    _kind: str
    _directory: str
    _directories: tuple[str, ...]
    _path: tuple[bytes, ...]
    _user_site: tuple[str, str] | None
    _writable: bool

    def __init__(self, reference: str, **_options: Any) -> None:
        raise NotSupported(
            "image",
            f"images by reference ({reference!r}) are not built yet",
            "use Image.host(), Image.from_directory(path) or Image.from_archive(path)",
        )

    @classmethod
    def _make(cls, kind: str, directory: str = "", directories: Sequence[str] = (), writable: bool = False) -> Self:
        made = object.__new__(cls)
        search = _interpreter_path() + _SYSTEM_PATH if kind == "host" else _SYSTEM_PATH
        made._fill(
            {
                "_kind": kind,
                "_directory": directory,
                "_directories": tuple(directories),
                "_path": tuple(os.fsencode(part) for part in dict.fromkeys(search)),
                "_user_site": _user_site() if kind == "host" and os.geteuid() else None,
                "_writable": writable,
            }
        )
        return made

    @classmethod
    def host(cls, paths: Sequence[Arg] = (), writable: bool = False) -> Self:
        """Return this machine's programs and libraries: /usr /bin /sbin /lib* /opt, this interpreter, its packages.

        The packages are those of its prefix, of its venv, and what `pip install --user` put into the home of the user
        who asks: that directory alone, read-only below /root, where an interpreter inside looks for it.

        Of /etc only what programs need is there (certificates, ld.so, alternatives, locales, services, ...), with
        passwd, group and hosts of our own making. /home, /root, /var, /run and /tmp of the host are not. Host files
        belong to nobody inside: what is not world-readable stays unreadable, nothing of it can be changed.

        With `writable=True` the owners are mapped: what is root's outside belongs to the container's root, who may
        change it all in the container's own layer; the machine's files stay as they are. It then also *reads* what only
        root may read in these directories (keys with mode 0600 below /usr, /opt or `paths`): leave it out for code that
        may not see them. It needs root, and file systems that can be idmapped.

        Args:
            paths: more directories of the host, at the same place; read-only unless `writable`.
            writable: map the owners, and lay a writable layer over each directory.

        Raises:
            TypeError: `paths` is a str, or holds something that is no path.
            NotSupported: when a container starts: `writable=True` as a plain user, or on a file system that cannot be
                idmapped.
        """
        if not is_sequence(paths):
            raise TypeError(f"paths must be a sequence of directories, not {type(paths).__name__}")
        writable = parse_bool(writable, "writable")
        more = tuple(host_path(path, f"paths[{i}]") for i, path in enumerate(paths))
        return cls._make("host", directories=(*_interpreter_directories(), *more), writable=writable)

    @classmethod
    def from_directory(cls, path: Arg) -> Self:
        """Return the root file system in a directory. It is never written to; containers have a layer of their own.

        A relative path is made absolute now; the directory is opened when a container starts.

        Raises:
            TypeError: `path` is no path.
            ValueError: it is empty or has a NUL byte.
        """
        return cls._make("directory", directory=host_path(path, "path"))

    @classmethod
    def from_archive(cls, path: Arg) -> Self:
        """Return the root file system in a tar archive (plain, gzip, or zstd), as `docker import` takes it.

        It is unpacked once into the store ($PYCONTAINER_STORE), under the digest of its bytes, whoever asks and however
        many at once. Owners, devices and file capabilities are the archive's when root unpacks it; otherwise everything
        belongs to the user, and devices are left out. Names such as `.wh.x` are plain names: it is no layer.

        Raises:
            SetupError: the archive cannot be read, or the store cannot be written.
            LayerError: it is no tar, is damaged, an entry leads out of its root, or readers could take it in two ways.
            NoSpaceError: the store's file system is full, or would be but for its reserve (1 GiB or 5 %, the smaller).
        """
        return cls._make("directory", directory=core().unpack_archive(os.fsencode(host_path(path, "path"))))

    def __str__(self) -> str:
        """As the command line takes it: "host", or a directory."""
        return "host" if self._kind == "host" else self._directory

    def __repr__(self) -> str:
        if self._kind == "host":
            more = self._directories[len(_interpreter_directories()) :]
            words = [repr(list(more))] if more else []
            return f"Image.host({', '.join(words + ['writable=True'] * self._writable)})"
        return f"Image.from_directory({self._directory!r})"


def _interpreter_directories() -> tuple[str, ...]:
    """Where this interpreter, its standard library and its packages lie, outside the system's directories."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    # Root's own packages are where they are looked for inside, and with their owners, as a bind would not show them.
    own = _user_site()
    if own and own[0] == own[1] and os.geteuid() == 0:
        prefixes.append(own[0])
    real = [os.path.realpath(sys.executable)] if sys.executable else []
    prefixes += [os.path.dirname(os.path.dirname(path)) for path in real]
    wanted = dict.fromkeys(os.path.abspath(path) for path in prefixes if path and path != "/")
    return tuple(path for path in wanted if not _in_system(path) and os.path.isdir(path))


def _user_site() -> tuple[str, str] | None:
    """Where this user's own packages lie, and where an interpreter inside looks for them: the home there is /root."""
    base, found = site.USER_BASE, site.USER_SITE
    if not (site.ENABLE_USER_SITE and base and found and os.path.isdir(found)):
        return None
    below = os.path.relpath(found, base)
    return None if below.startswith("..") else (os.path.abspath(found), os.path.join("/root/.local", below))


def _in_system(path: str) -> bool:
    return any(path == root or path.startswith(root + "/") for root in _SYSTEM)


def _interpreter_path() -> tuple[str, ...]:
    return (os.path.dirname(os.path.abspath(sys.executable)),) if sys.executable else ()
