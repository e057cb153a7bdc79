"""RUN --mount: what a step sees of the context, of other stages and images, of caches, memory and secrets."""

from __future__ import annotations

import os
from contextlib import ExitStack

from pycontainer._build import caches, scratch
from pycontainer._build.commands import join_workdir
from pycontainer._build.instructions import Mount as Written, MountKind
from pycontainer._build.source import Mistake, quoted
from pycontainer._native import core
from pycontainer._container import Container
from pycontainer._errors import SetupError
from pycontainer._mounts import Mount
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pycontainer._build.context import Context
    from pycontainer._build.files import Taken
    from pycontainer._image import Image

    Secret = bytes | os.PathLike[str]

# docker's bound.
SECRET_MAX = 500 << 10
_SECRET_MODE, _CACHE_MODE = 0o400, 0o755
# Beyond that an image is copied: a container has room for 256 mounts.
_LAYERS_MOUNTED = 60


class Mounts:
    """The mounts of one RUN.

    Args:
        written: of the instruction, expanded.
        workdir: which targets are relative to.
        context: of the build, or None.
        origin: gives (image, diff ids) of what from= names; None for "scratch".
        secrets: of the build.
        check: raises where the build is to end.

    Raises:
        Mistake: a source that is not there, a secret that was not given.
    """

    def __init__(
        self,
        written: tuple[Written, ...],
        workdir: str,
        context: Context | None,
        origin: Callable[[Any], tuple[Image, list[str]] | None],
        secrets: Mapping[str, Secret],
        check: Callable[[], None],
    ) -> None:
        self._written, self._workdir, self._context = written, workdir, context
        self._secrets, self._check = secrets, check
        self._origins = {id(mount): origin(mount.from_) for mount in written if mount.from_}
        self._taken = {id(mount): self._take(mount) for mount in written if _is_of_context(mount)}
        for mount in written:
            self._refuse(mount)

    def _refuse(self, mount: Written) -> None:
        if mount.kind is MountKind.CACHE and (mount.from_ or mount.source):
            raise Mistake("a cache that begins with files (from=, source=) is not supported", mount.text)
        if (mount.uid or mount.gid) and not core().can_own(mount.uid or 0, mount.gid or 0):
            need = "uid= and gid= of a mount need a build by root, or by a user in whose range of ids they are"
            raise Mistake(need, mount.text, "leave them out; `pycontainer doctor` tells of the range (row subuid)")
        if mount.kind is MountKind.SECRET and mount.required and mount.id not in self._secrets:
            raise Mistake(f"the build was not given the secret {quoted(mount.id or '')}", mount.text, "see secrets=")

    def _take(self, mount: Written) -> Taken:
        if self._context is None:
            raise Mistake("there is no context that it could be of", mount.text, "give context= a directory")
        found = self._context.find(mount.source or "")
        path = "" if found is None else self._context.relative(found)
        if found is None or self._context.files().kind(path) is None:
            raise Mistake(f"the context has no {quoted(mount.source or '')}", mount.text)
        return self._context.files().whole(path)

    def facts(self) -> list[Any]:
        """What the step depends on: contents of what is bound, and what the others say. No secret is among it."""
        found: list[Any] = []
        for mount in self._written:
            said: list[Any] = [str(mount.kind), self._target(mount), mount.read_only]
            if mount.kind is MountKind.BIND:
                origin = self._origins.get(id(mount))
                taken = self._taken.get(id(mount))
                if taken is not None and self._context is not None:
                    said += [self._context.files().digest([taken])]
                else:
                    said += [mount.source, origin[1] if origin else None]
            elif mount.kind is MountKind.CACHE:
                said += [mount.id]
            elif mount.kind is MountKind.SECRET:
                said += [mount.id, mount.env, mount.mode, mount.uid, mount.gid]
            else:
                said += [mount.size]
            found.append(said)
        return found

    def _target(self, mount: Written) -> str | None:
        return None if mount.target is None else join_workdir(self._workdir, mount.target)

    def make(self, stack: ExitStack) -> tuple[list[Mount], dict[str, str]]:
        """Return mounts and variables for the container. The stack holds what they stand on."""
        place = scratch.Scratch()
        stack.callback(place.close)
        mounts: list[Mount] = []
        env: dict[str, str] = {}
        for mount in self._written:
            target = self._target(mount)
            if mount.kind is MountKind.SECRET:
                self._secret(mount, target, place, mounts, env)
                continue
            assert target is not None
            if mount.kind is MountKind.TMPFS:
                mounts.append(Mount.tmpfs(target, size=mount.size or None))
            elif mount.kind is MountKind.CACHE:
                mounts.append(self._cache(mount, target, stack))
            elif (whole := self._whole_image(mount)) is not None:
                mounts.append(Mount.image(whole, target))
            else:
                mounts.append(self._bind(mount, target, place))
        return mounts, env

    def _secret(
        self, mount: Written, target: str | None, place: scratch.Scratch, mounts: list[Mount], env: dict[str, str]
    ) -> None:
        assert mount.id is not None
        if mount.id not in self._secrets:
            return
        value = read_secret(self._secrets[mount.id], mount.id)
        if mount.env is not None:
            try:
                env[mount.env] = value.decode("utf-8", "surrogateescape")
            except ValueError:
                raise Mistake("a secret with a NUL byte fits no variable", mount.text) from None
        if target is not None:
            mode = _SECRET_MODE if mount.mode is None else mount.mode
            file = place.secret(value, mode, mount.uid or 0, mount.gid or 0)
            mounts.append(Mount.bind(file, target, read_only=True))

    def _cache(self, mount: Written, target: str, stack: ExitStack) -> Mount:
        mode = _CACHE_MODE if mount.mode is None else mount.mode
        owner = (mount.uid or 0, mount.gid or 0, mode)
        path = stack.enter_context(caches.cache(mount.id or target, mount.sharing, owner, self._check))
        if mount.read_only:
            return Mount.bind(path, target, read_only=True)
        return Mount._make("cache", target, path)

    def _whole_image(self, mount: Written) -> Image | None:
        """What needs no copy: an image that is only read, from its root on."""
        origin = self._origins.get(id(mount))
        if origin is None or not mount.read_only or join_workdir("/", mount.source or "/") != "/":
            return None
        image, layers = origin
        return image if len(layers) <= _LAYERS_MOUNTED else None

    def _bind(self, mount: Written, target: str, place: scratch.Scratch) -> Mount:
        taken = self._taken.get(id(mount))
        if taken is not None and self._context is not None:
            path, is_directory = self._of_context(self._context, taken, place)
        else:
            path, is_directory = self._of_image(mount, place)
        if mount.read_only:
            return Mount.bind(path, target, read_only=True)
        if is_directory:  # what is written goes nowhere (CVE-2025-4953)
            return Mount.overlay(path, target)
        with open(path, "rb") as file:
            copy = place.file(file.read(), os.stat(path).st_mode & 0o777)
        return Mount.bind(copy, target, owner=os.geteuid())

    @staticmethod
    def _of_context(context: Context, taken: Taken, place: scratch.Scratch) -> tuple[str, bool]:
        """The place itself, or a copy of what is not left out."""
        name, kept = taken
        path = os.path.join(context.root, os.fsdecode(name)) if name else context.root
        if kept is not None:
            copy = os.path.join(place.directory(), "context")
            scratch.copy_tree(path, copy, [os.fsdecode(one) for one in kept])
            return copy, True
        return path, os.path.isdir(path)

    def _of_image(self, mount: Written, place: scratch.Scratch) -> tuple[str, bool]:
        """A copy of what is at the source, as a container of that image would see it: links never lead out."""
        origin = self._origins[id(mount)]
        path = os.path.join(place.directory(), "source")
        if origin is None:
            os.mkdir(path, 0o755)
            return path, True
        source = join_workdir("/", mount.source or "/")
        container = Container(["true"], image=origin[0])
        try:
            container.copy_out(f"{source}/" if source != "/" else "/", path)
        except SetupError as error:
            if error.errno == 20 and source != "/":
                container.copy_out(source, path)
            elif error.errno == 2:
                raise Mistake(f"{quoted(str(mount.from_))} has no {quoted(source)}", mount.text) from None
            else:
                raise
        finally:
            container.close()
        return path, os.path.isdir(path)


def _is_of_context(mount: Written) -> bool:
    return mount.kind is MountKind.BIND and not mount.from_


def read_secret(secret: Secret, name: str) -> bytes:
    """Return the content of a secret.

    Raises:
        SetupError: its file cannot be read.
        ValueError: it is too long.
    """
    if isinstance(secret, bytes):
        content = secret
    else:
        try:
            with open(secret, "rb") as file:
                content = file.read(SECRET_MAX + 1)
        except OSError as error:
            raise SetupError(
                error.errno or 5, error.strerror, os.fspath(secret), step=f"read the secret {name} from"
            ) from None
    if len(content) > SECRET_MAX:
        raise ValueError(f"secrets: {name} has more than {SECRET_MAX} bytes")
    return content
