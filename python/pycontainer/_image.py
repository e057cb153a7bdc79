"""Root file systems: this machine's programs, a directory, a tar, images of layers. Values, which keep nothing open."""

from __future__ import annotations

import os

from pycontainer import _image_config as config_of, _stored as stored
from pycontainer._errors import ImageNotFound, StateError
from pycontainer._host_image import interpreter_directories, interpreter_path, user_site
from pycontainer._image_facts import Facts
from pycontainer._limits import Limits
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import host_path, is_sequence, parse_bool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from typing import Any, BinaryIO, Literal, Self

    from pycontainer._dockerfile import Dockerfile
    from pycontainer._types import Arg

_SEARCH = tuple(config_of.SEARCH)
_DEFAULT_LIMITS = Limits()


class Image(Facts):
    """An immutable root file system, from which containers start, with what its config says of them.

    `Image("alpine:3.20")` is an image of layers by its reference, as docker writes one: resolved when the object is
    made, and fixed to its digest from then on. `Image.host()` is this machine's programs and libraries,
    `Image.from_directory` a root file system in a directory, `Image.from_archive` a tar of one. Images of layers are
    equal if their manifests and platforms are.

    Args:
        reference: `[host/]path[:tag][@sha256:...]`; without a host it is Docker Hub's, without a tag `latest`.
        policy: "missing" pulls what the store lacks, "always" asks the registry whether the tag has moved (one request
            where it has not), "never" asks nobody.
        platform: "linux/arm64" and the like; this machine's by default.
        progress: True draws on a terminal, a callable gets events in the calling thread.
        auth: (user, password) for the registry, instead of what the files of docker and podman say.

    Attributes:
        reference: the name in full, or None of what has none.
        digest: of its manifest, or None of what is no image of layers.
        id: of its config, as docker's image id; or None.
        config: the image's config: "Env", "Cmd", "Entrypoint", "WorkingDir", ... (OCI image specification, config.md).
        history: how it was made: a mapping for each instruction.
        layers: the digests of its layers' tars (diff ids), the lowest first.
        size: bytes of all its blobs, compressed as they are; 0 of what is no image of layers.
        labels: its labels.
        platform: "os/architecture[/variant]", or None.

    Raises:
        InvalidReference: it breaks the grammar of references.
        ImageNotFound: neither the store nor the registry has it.
        RegistryError, AuthError, DigestMismatch, LayerError, NoSpaceError: the pull failed; nothing of it is listed.
    """

    __slots__ = ("_directories", "_directory", "_kind", "_user_site", "_writable", "digest", "reference")
    _kind: str
    _directory: str
    _directories: tuple[str, ...]
    _user_site: tuple[str, str] | None
    _writable: bool
    reference: str | None
    digest: str | None

    def __init__(
        self,
        reference: str,
        *,
        policy: Literal["missing", "always", "never"] = "missing",
        platform: str | None = None,
        progress: bool | Callable[[Any], object] = False,
        auth: tuple[str, str] | None = None,
    ) -> None:
        row = stored.resolve(reference, policy, platform, progress, auth)
        self._fill(_stored_values(row))

    @classmethod
    def _make(cls, kind: str, directory: str = "", directories: Sequence[str] = (), writable: bool = False) -> Self:
        made = object.__new__(cls)
        search = tuple(dict.fromkeys((*interpreter_path(), *_SEARCH))) if kind == "host" else _SEARCH
        values = {
            "_kind": kind,
            "_directory": directory,
            "_directories": tuple(directories),
            "_user_site": user_site() if kind == "host" and os.geteuid() else None,
            "_writable": writable,
            "_search": tuple(os.fsencode(part) for part in search),
        }
        made._fill({**_NOT_STORED, **values})
        return made

    @classmethod
    def _of(cls, *values: object) -> Self:
        """Make one of what the store says: (reference, digest, manifest, config, size)."""
        made = object.__new__(cls)
        made._fill(_stored_values(values))
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
        return cls._make("host", directories=(*interpreter_directories(), *more), writable=writable)

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

        It is unpacked once into the store, under the digest of its bytes, whoever asks and however many at once.
        Owners, devices and file capabilities are the archive's when root unpacks it; otherwise everything belongs to
        the user, and devices are left out. Names such as `.wh.x` are plain names: it is no layer.

        Raises:
            SetupError: the archive cannot be read, or the store cannot be written.
            LayerError: it is no tar, is damaged, an entry leads out of its root, or readers could take it in two ways.
            NoSpaceError: the store's file system is full, or would be but for its reserve (1 GiB or 5 %, the smaller).
        """
        return cls._make("directory", directory=core().unpack_archive(os.fsencode(host_path(path, "path"))))

    # Images of layers.

    @classmethod
    def pull(
        cls,
        reference: str,
        *,
        platform: str | None = None,
        progress: bool | Callable[[Any], object] = False,
        auth: tuple[str, str] | None = None,
    ) -> Self:
        """Return the image that the registry has now: `Image(reference, policy="always")`."""
        return cls(reference, policy="always", platform=platform, progress=progress, auth=auth)

    @classmethod
    def get(cls, reference: str, *, platform: str | None = None) -> Self:
        """Return an image of the store. Nobody else is asked.

        Raises:
            InvalidReference: it breaks the grammar of references.
            ImageNotFound: the store has none of this name, or not for this platform.
        """
        return cls(reference, policy="never", platform=platform)

    @classmethod
    def all(cls) -> list[Self]:
        """Return the images of the store, one for each name, in the order of their names."""
        return [cls._of(*row) for row in sorted(stored.rows(), key=lambda row: row[0] or "")]

    @classmethod
    def load(cls, path: Arg, progress: bool | Callable[[Any], object] = False) -> list[Self]:
        """Load what `docker save`, `podman save` or skopeo wrote: a docker archive, an OCI archive, an OCI layout.

        Raises:
            SetupError: it cannot be read, or the store cannot be written.
            ImageError: it holds no image, is damaged, or names what it lacks.
            DigestMismatch: content is not what its digest says.
            NoSpaceError: the store's file system is full.
        """
        made = []
        for names, row in stored.load(host_path(path, "path"), progress):
            named: list[str | None] = [*names] or [None]
            made += [cls._of(name, *row[1:]) for name in named]
        return made

    @classmethod
    def build(
        cls,
        context: Arg | None = None,
        *,
        dockerfile: Arg | Dockerfile | None = None,
        target: str | None = None,
        tag: str | None = None,
        args: Mapping[str, str] | None = None,
        secrets: Mapping[str, bytes | os.PathLike[str]] | None = None,
        cache: bool = True,
        network: Literal["none", "host"] = "none",
        limits: Limits = _DEFAULT_LIMITS,
        progress: bool | Callable[[Any], object] = False,
    ) -> Self:
        """Build an image from a Dockerfile, as `docker build` does, with no daemon.

        Each RUN is a container of its own on the layers before it, without a network unless `network` says otherwise.
        Stages that do not need each other are built at the same time; those that the target does not need, never.
        What a step came to is kept in the store under the digest of all that it depends on, for any process.

        Args:
            context: the directory that COPY and ADD take files from; None is a build without one.
            dockerfile: a path, or a Dockerfile value; None is `context`/Dockerfile.
            target: the name or number of the stage that is wanted; None is the last.
            tag: the image's name in the store; without one it stays there as long as steps of builds are kept.
            args: values for ARG; one that no ARG names is a warning.
            secrets: {id: bytes or Path} for RUN --mount=type=secret: in no layer, history or cache.
            cache: take what was carried out before; False carries every step out, and keeps what it came to.
            network: of RUN: "none" (loopback only) or "host". An instruction can ask for less, never for more.
            limits: of each RUN by itself.
            progress: True writes lines to stderr, a callable gets events, in the calling thread.

        Raises:
            BuildError: a mistake in the Dockerfile, or a step that failed: with `step`, `line`, and `log`, the last
                output of a RUN.
            SetupError, NotSupported: the context or the Dockerfile cannot be read, or is no directory or file.
            RegistryError, AuthError: a base image could not be pulled.
            NoSpaceError: the store's file system is full.
            ValueError, TypeError: an argument is wrong; nothing was done.
        """
        given = dict(locals())
        return cls._of(*builder().build(given))

    @classmethod
    def _build(cls, handle: Any, context: Arg | None = None, **options: Any) -> Self:
        """Build, by whom another thread can end."""
        function: Any = cls.build
        unsaid: dict[str, Any] = function.__func__.__kwdefaults__
        if unknown := options.keys() - unsaid.keys():
            raise TypeError(f"build() has no argument {shown(min(unknown))}")
        return cls._of(*builder().build({**unsaid, **options, "context": context}, handle))

    @classmethod
    def prune(
        cls,
        older_than: float | timedelta | None = None,
        unused: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Remove images that all of this is true of, and whatever no image needs any more. Return their names.

        What builds keep is not touched (prune_cache), but for steps that no build has asked for in 30 days.

        Args:
            older_than: seconds since they were made, as their configs say; None: of any age.
            unused: leave those that a container of this user stands on.
            labels: only those that have these labels, with these values ("" for any).
        """
        return stored.prune(older_than, parse_bool(unused, "unused"), labels)

    @classmethod
    def prune_cache(cls, older_than: float | timedelta | None = None) -> int:
        """Remove what builds keep, as `docker builder prune --all`; return how many bytes of blobs and caches that was.

        Steps, caches of RUN, images that a build gave no name: all that no build used for `older_than` seconds.
        """
        from pycontainer._build import caches  # noqa: PLC0415 - only who asks for it

        return caches.prune(older_than)

    def tag(self, reference: str) -> Self:
        """Give it another name, and return it under that name. The name is taken from whatever had it."""
        name = stored.tag(self._stored(), reference)
        return self._of(name, self.digest, self._manifest, self._config, self._size)

    def remove(self) -> None:
        """Take its name out of the store, and with the last name whatever no other image needs.

        What containers stand on stays until they have ended. An Image object of it can start no more containers.

        Raises:
            ImageNotFound: the store has no such name.
        """
        self._stored()
        if self.reference is None or not stored.untag(self.reference):
            raise ImageNotFound(f"the store has no image {self.reference or self.digest}")

    def verify(self) -> None:
        """Compute the digests of its manifest, config and layers again, compressed and not.

        Raises:
            DigestMismatch: something is not what its digest says; it is named.
            ImageError: something is missing.
        """
        stored.verify(self._stored())

    def save(self, path: Arg, format: Literal["oci", "docker"] = "oci") -> None:
        """Write it to a tar: an OCI archive, or what `docker load` of any age takes (which is an OCI archive too).

        Raises:
            SetupError: the file cannot be written.
            NoSpaceError: its file system is full; nothing is left.
        """
        if format not in ("oci", "docker"):
            raise ValueError(f"format must be 'oci' or 'docker', not {shown(format)}")
        stored.save(self._stored(), self.reference, host_path(path, "path"), format)

    def push(
        self,
        reference: str | None = None,
        *,
        progress: bool | Callable[[Any], object] = False,
        auth: tuple[str, str] | None = None,
    ) -> None:
        """Send it to a registry: layers that are there are not sent again.

        Args:
            reference: where to; its own by default.
        """
        target = reference if reference is not None else self.reference
        if target is None:
            raise ValueError("reference is required: this image has no name of its own")
        stored.push(self._stored(), target, progress, auth)

    def open(self, path: Arg) -> BinaryIO:
        """Open a regular file of it for reading, without a container. Links lead where they lead inside.

        Raises:
            SetupError: there is no such file, or it is no regular one.
        """
        return stored.open_file(self._roots(), path)

    def files(self) -> Iterator[str]:
        """Yield the absolute paths of all that is in it, directories too, each before what is in it."""
        return stored.walk(self._roots())

    def _stored(self) -> str:
        if self.digest is None:
            raise StateError(f"{self!r} is no image of layers: it is in no store")
        return self.digest

    def _roots(self) -> list[str]:
        """Directories whose union is its root file system, the lowest first; unpacked now where they were not."""
        if self._kind == "host":
            raise StateError("Image.host() is this machine: open its files themselves")
        return [self._directory] if self.digest is None else stored.layers(self.digest)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Image) and self.digest is not None:
            return self.digest == other.digest
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.digest) if self.digest is not None else super().__hash__()

    def __str__(self) -> str:
        """As the command line takes it: "host", a directory, or a reference."""
        if self.digest is not None:
            return self.reference or self.digest
        return "host" if self._kind == "host" else self._directory

    def __repr__(self) -> str:
        if self.digest is not None:
            return f"<Image {self.reference or ''}@{self.digest}>"
        if self._kind == "host":
            more = self._directories[len(interpreter_directories()) :]
            words = [repr(list(more))] if more else []
            return f"Image.host({', '.join(words + ['writable=True'] * self._writable)})"
        return f"Image.from_directory({self._directory!r})"


def builder() -> Any:
    """What starts containers stands above what they are started from: the one import that goes up, at its first use."""
    return __import__("pycontainer._build.build", fromlist=("build",))


_NOT_STORED = {"reference": None, "digest": None, "_manifest": b"", "_config": b"", "_size": 0}


def _stored_values(row: Sequence[Any]) -> dict[str, object]:
    reference, digest, manifest, config, size = row
    values = {"reference": reference, "digest": digest, "_manifest": manifest, "_config": config, "_size": size}
    empty = {"_kind": "layers", "_directory": "", "_directories": (), "_user_site": None, "_writable": False}
    return {**empty, **values, "_search": ()}
